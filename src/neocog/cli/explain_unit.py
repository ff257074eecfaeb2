"""`neocog explain RUN IMAGE --unit LAYER:CHANNEL:ROW,COLUMN`: the page of one number."""

from pathlib import Path

from neocog.cli.out import in_rows, line
from neocog.cli.sheets import new_file


def explain_unit(
    run: Path, image: Path, unit: str, *, weights: str | None, classes: Path | None, out: Path | None, json: bool
) -> None:
    from neocog.app.explaining_unit import explain_unit as explained

    found = explained(run, image, unit, out=new_file(out, run, "unit", ".html"), weights=weights, classes=classes)
    if json:
        in_rows(found.to_dict())
        return
    one = found.unit
    place = f" at {', '.join(map(str, one.position))}" if one.position else ""
    ending = found.ending
    name = f", {ending.name}" if ending is not None and ending.name != str(one.channel) and not ending.pixel else ""
    line("unit", f"{one.layer}, channel {one.channel}{name}{place}" + (f": {found.chosen}" if found.chosen else ""))
    line("sum", f"{one.products.numel():,} products and the bias {one.bias:.5g} make {one.sum:.5g}")
    line("layer", f"gives {one.output:.5g}, {abs(one.output - one.sum):.1e} off")
    line("then", ", ".join(one.then) or "no batch norm, activation or pooling")
    line("page", str(found.path))
