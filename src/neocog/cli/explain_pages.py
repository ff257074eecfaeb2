"""`neocog explain RUN IMAGE` and `neocog explain RUN --mistakes N`."""

from pathlib import Path
from typing import Any

from neocog.cli.out import as_json, line
from neocog.cli.sheets import new_file


def mistaken(
    run: Path, most: int, *, out: Path | None, layer: str | None, training: bool, made: int, json: bool
) -> None:  # fmt: skip
    from neocog.app.explaining_mistakes import explain_mistakes

    found = explain_mistakes(run, most, out=out, layer=layer, training=training, made=made)
    if json:
        as_json({"pages": [{"file": one.page.file, "answer": one.page.answers[0].name, "truth": one.page.truth,
                            "page": one.path} for one in found.pages], "index": found.index})  # fmt: skip
        return
    line("mistakes", f"the {len(found.pages)} surest wrong answers" if found.pages else "no answer is wrong")
    line("pages", str(found.index))


def picture(run: Path, image: Path, out: Path | None, json: bool, **given: Any) -> None:
    from neocog.app.explaining import explain

    one = explain(run, image, out=new_file(out, run, "explained", ".html"), **given)
    page = one.page
    best = page.answers[0]
    if json:
        looks = {look.name: {"deletion": look.deletion, "insertion": look.insertion} for look in page.looks}
        as_json({"file": image, "answer": best.name, "probability": best.said, "calibrated": best.calibrated,
                 "temperature": page.temperature, "class": page.target, "layer": page.layer, "looks": looks,
                 "smallest_epsilon": page.flip.epsilon, "smallest_levels": page.flip.levels,
                 "set": page.kept or None, "page": one.path})  # fmt: skip
        return
    line("answer", f"{best.name}, {best.calibrated:.1%}" + (" calibrated" if page.temperature is not None else ""))
    if page.kept == "train":
        line("picture", "one of those that the network was trained on: how sure it is here says little of new ones")
    flip = page.flip
    if flip.epsilon is None:
        line("changes", "no small change along the gradient makes it another")
    elif flip.levels is None:
        line("changes", f"a change of {255 * flip.epsilon:.2g} of 255, no whole level, makes it {flip.answer}")
    else:
        line("changes", f"a change of {flip.levels} of 255 makes it {flip.answer}")
    line("page", str(one.path))
