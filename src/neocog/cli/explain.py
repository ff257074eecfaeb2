"""`neocog explain RUN IMAGE`: one page from pixels to decision."""

from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.explain_unit import explain_unit
from neocog.cli.out import JSON, as_json, line
from neocog.cli.sheets import new_file
from neocog.cli.weights import CLASSES, WEIGHTS
from neocog.core.errors import UsageError


def add(app: typer.Typer, text: str) -> None:
    app.command("explain", help=text)(explain)


def explain(
    run: Annotated[Path, typer.Argument(help="A run folder of a classifier; with --weights a network's name.")],
    image: Annotated[Path | None, typer.Argument(help="A picture.")] = None,
    mistakes: Annotated[
        int | None, typer.Option(min=1, max=100, help="A page for each of so many of the surest wrong test answers.")
    ] = None,
    target: Annotated[str | None, typer.Option("--class", help="The class to explain (default: the answer).")] = None,
    layer: Annotated[
        str | None, typer.Option(help="The layer of Grad-CAM and of the patches (default: the last with a grid).")
    ] = None,
    weights: WEIGHTS = None,
    classes: CLASSES = None,
    unit: Annotated[
        str | None,
        typer.Option(
            help="One number taken apart, LAYER:CHANNEL:ROW,COLUMN (default: the layer's or channel's largest)."
        ),
    ] = None,
    training: Annotated[bool, typer.Option(help="Look at training pictures too.")] = True,
    out: Annotated[Path | None, typer.Option(help="The page, or with --mistakes a new folder for the pages.")] = None,
    json: JSON = False,
) -> None:
    from neocog.app.explaining import explain as explained
    from neocog.app.explaining_mistakes import explain_mistakes

    if unit is not None:
        if image is None or mistakes is not None or target is not None or layer is not None:
            clash = "needs a picture" if image is None else "and --mistakes, --class, --layer exclude each other"
            raise UsageError(f"--unit {clash}", "give it as `neocog explain RUN IMAGE --unit LAYER:CHANNEL:ROW,COLUMN`")
        explain_unit(run, image, unit, weights=weights, out=out, json=json)
        return
    if (image is None) == (mistakes is None):
        cause = "there is nothing to explain" if image is None else "a picture and --mistakes exclude each other"
        raise UsageError(cause, "give a picture, or --mistakes 10")
    if mistakes is not None:
        if weights is not None or classes is not None:
            raise UsageError("a network with weights from elsewhere has made no mistakes here", "give a picture")
        found = explain_mistakes(run, mistakes, out=out, layer=layer, training=training)
        if json:
            as_json({"pages": [{"file": one.page.file, "answer": one.page.answers[0].name, "truth": one.page.truth,
                                "page": one.path} for one in found.pages], "index": found.index})  # fmt: skip
            return
        line("mistakes", f"the {len(found.pages)} surest wrong answers" if found.pages else "no answer is wrong")
        line("pages", str(found.index))
        return
    assert image is not None
    out = new_file(out, run, "explained", ".html")
    one = explained(
        run, image, out=out, target=target, layer=layer, training=training, weights=weights, classes=classes
    )
    page = one.page
    best = page.answers[0]
    if json:
        looks = {look.name: {"deletion": look.deletion, "insertion": look.insertion} for look in page.looks}
        as_json({"file": image, "answer": best.name, "probability": best.said, "calibrated": best.calibrated,
                 "temperature": page.temperature, "class": page.target, "layer": page.layer, "looks": looks,
                 "smallest_epsilon": page.flip.epsilon, "page": one.path})  # fmt: skip
        return
    line("answer", f"{best.name}, {best.calibrated:.1%}" + (" calibrated" if page.temperature is not None else ""))
    change = "no small change" if page.flip.epsilon is None else f"a change of {255 * page.flip.epsilon:.1f} of 255"
    becomes = "" if page.flip.epsilon is None else f" makes it {page.flip.answer}"
    line("changes", f"{change}{becomes or ' makes it another'}")
    line("page", str(one.path))
