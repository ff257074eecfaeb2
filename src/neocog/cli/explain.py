"""`neocog explain RUN`: what a network has learned; `neocog explain RUN IMAGE`: one page from pixels to decision."""

from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.explain_network import network
from neocog.cli.explain_pages import mistaken, picture
from neocog.cli.explain_unit import explain_unit
from neocog.cli.out import JSON
from neocog.cli.weights import CLASSES, WEIGHTS
from neocog.core.errors import UsageError

# Which options a page takes besides --weights, --out and --json.
TAKES = {
    "a picture": {"--class", "--layer", "--classes", "--no-training", "--made"},
    "--unit": {"--classes"},
    "--mistakes": {"--layer", "--no-training", "--made"},
    "the page of the network": {"--classes", "--no-training", "--made", "--map"},
}


def add(app: typer.Typer, text: str) -> None:
    app.command("explain", help=text)(explain)


def explain(
    run: Annotated[
        Path, typer.Argument(help="A run folder (an autoencoder's with --unit); with --weights a network's name.")
    ],
    image: Annotated[Path | None, typer.Argument(help="A picture; without one, the page is about the network.")] = None,
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
    made: Annotated[
        int | None,
        typer.Option(
            min=0, max=32, help="Pictures to make that excite channels: of so many of each stage (default: up to 3), "
                                "or of the picture's (default: none).",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--map", metavar="pca|tsne", help="How the map of the test pictures is drawn (default: pca)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page, or with --mistakes a new folder for the pages.")] = None,
    json: JSON = False,
) -> None:  # fmt: skip
    given = {"--class": target, "--layer": layer, "--classes": classes, "--made": made, "--map": method,
             "--no-training": None if training else True}  # fmt: skip
    what = page_of(image, unit, mistakes, weights)
    if wrong := [option for option, value in given.items() if value is not None and option not in TAKES[what]]:
        where = next(page for page in TAKES if wrong[0] in TAKES[page])
        both = where == "a picture" and what.startswith("--")  # the picture is given: the page is another
        leave = "leave one of them out" if both else f"leave it out; it goes with {where}"
        raise UsageError(f"{wrong[0]} does not go with {what}", leave)
    match what:
        case "--unit":
            assert unit is not None
            assert image is not None
            explain_unit(run, image, unit, weights=weights, classes=classes, out=out, json=json)
        case "--mistakes":
            assert mistakes is not None
            mistaken(run, mistakes, out=out, layer=layer, training=training, made=made or 0, json=json)
        case "a picture":
            assert image is not None
            picture(run, image, out, json, target=target, layer=layer, training=training, made=made, weights=weights,
                    classes=classes)  # fmt: skip
        case _:
            network(run, out, json, training=training, made=made, method=method, weights=weights, classes=classes)


def page_of(image: Path | None, unit: str | None, mistakes: int | None, weights: str | None) -> str:
    """A key of TAKES. UsageError where two pages are asked for."""
    if unit is not None:
        if image is None or mistakes is not None:
            clash = "needs a picture" if image is None else "and --mistakes exclude each other"
            raise UsageError(f"--unit {clash}", "give it as `neocog explain RUN IMAGE --unit LAYER:CHANNEL:ROW,COLUMN`")
        return "--unit"
    if mistakes is None:
        return "the page of the network" if image is None else "a picture"
    if image is not None:
        raise UsageError("a picture and --mistakes exclude each other", "give a picture, or --mistakes 10")
    if weights is not None:
        raise UsageError("a network with weights from elsewhere has made no mistakes here", "give a picture")
    return "--mistakes"
