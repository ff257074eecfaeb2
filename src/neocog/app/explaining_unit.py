"""One number of a run's network for one picture: `neocog explain RUN IMAGE --unit LAYER:CHANNEL:ROW,COLUMN`."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neocog import report
from neocog.app.explaining import scaled_map
from neocog.app.opened import Opened
from neocog.app.pictures import png
from neocog.app.pretrained import open_run
from neocog.core.errors import UsageError
from neocog.core.files import write_atomic
from neocog.data.preprocess import denormalise
from neocog.evaluate import probabilities_of
from neocog.explaining.arithmetic import Unit, layer_of, unit
from neocog.explaining.ends import end_of
from neocog.explaining.maps import grid
from neocog.explaining.patches import Box, box_of, field_of
from neocog.explaining.plain import plain
from neocog.explaining.pools import Index, taken_from
from neocog.explaining.strongest import channels_of, strongest_unit

COLOURS = "red", "green", "blue"
SIDE = 320  # pixels of the picture, at most
FORM = re.compile(r"([^:]+)(?::(\d+)(?::(\d+(?:,\d+)*))?)?")


class Wanted(NamedTuple):
    layer: str
    channel: int | None
    position: Index | None

    @classmethod
    def of(cls, text: str) -> "Wanted":
        """ "conv1:3:5,7", "conv1:3" or "conv1"; of a dense layer "fc:3", or "fc:3:TOKEN". UsageError otherwise."""
        found = FORM.fullmatch(text.replace(" ", ""))
        if not found:
            raise UsageError(
                f"--unit {text!r} names no unit", "write LAYER:CHANNEL:ROW,COLUMN, such as stem.conv:3:5,7"
            )
        layer, channel, position = found.groups()
        place = None if position is None else tuple(map(int, position.split(",")))
        return cls(layer, None if channel is None else int(channel), place)


@dataclass(frozen=True)
class ExplainedUnit:
    """`box`: (top, left, bottom, right) of the network's input that the unit can see, None where that is not known.
    `map`: all numbers of its channel by row and column, of tokens too; None where they lie on no grid. `chosen`: in
    words, what was not asked for. `ending`: of the last layer, what of the network's answer the number is."""

    file: Path
    unit: Unit
    box: Box | None
    map: Tensor | None
    chosen: str
    ending: report.Ending | None
    path: Path

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the keys of neocog.explaining.plain, and file, box, map (rows of numbers), chosen, page, and ends,
        null or {class, score, probability} or {colour, row, column, value}."""
        return plain(self.unit) | {
            "file": str(self.file), "box": self.box and list(self.box),
            "map": None if self.map is None else self.map.tolist(), "chosen": self.chosen, "ends": ends(self.ending),
            "page": str(self.path),
        }  # fmt: skip


def explain_unit(
    run: str | Path, image: str | Path, which: str, *, out: str | Path | None = None, weights: str | None = None,
    classes: str | Path | Sequence[str] | None = None,
) -> ExplainedUnit:  # fmt: skip
    """Writes the page of one number, by default beside the run as RUN-unit.html. `which`: LAYER:CHANNEL:ROW,COLUMN;
    without the place the channel's strongest for this picture, without a channel the layer's. The run may be an
    autoencoder's. UsageError for what there is not, DataError where the file is no picture."""
    wanted = Wanted.of(which)
    opened = Opened.of(open_run(run, weights, classes))
    network, card = opened.network, opened.run.card
    layer = layer_of(network, wanted.layer)
    x = opened.one(image)
    maps = channels_of(network, x, layer)
    channel, position, chosen = wanted.channel, wanted.position, ""
    if channel is None or position is None:
        channel, position = strongest_unit(maps, layer, channel)
        chosen = (
            "" if maps.dim() == 1 and wanted.channel is not None else "the channel's largest number for this picture"
        )
        chosen = "the layer's largest number for this picture" if wanted.channel is None else chosen
    found = unit(network, x, layer, channel, position)
    if not math.isfinite(found.sum):
        raise UsageError(
            f"the layer {layer} gives {found.output} there, which no arithmetic explains", "train it again"
        )
    box = seen_by(network, tuple(x.shape[1:]), layer, position)
    own, place = map_around(maps[channel], position)
    first = reads_picture(found, x)
    path = Path(out) if out is not None else Path(f"{Path(run)}-unit.html")
    ending = ending_of(opened, x, found)
    page = report.UnitPage(
        file=str(image), origin=opened.run.origin, model=card.model,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seen=png(denormalise(x, card.preprocessing)[0].cpu().clamp(0, 1), SIDE), size=(x.shape[2], x.shape[3]),
        box=box, unit=plain(found), map=None if own is None else png(scaled_map(own), None),
        map_size=(1, 1) if own is None else (own.shape[0], own.shape[1]),
        map_range=(0.0, 0.0) if own is None else (float(own.min()), float(own.max())), place=place, chosen=chosen,
        normalised=first, colours=COLOURS if first and x.shape[1] == 3 else (), ending=ending,
        classes=len(card.classes),
    )  # fmt: skip
    write_atomic(path, report.render_unit(page))
    return ExplainedUnit(Path(image), found, box, own, chosen, ending, path)


def ending_of(opened: Opened, x: Tensor, found: Unit) -> report.Ending | None:
    """Of a layer behind which a number is mixed with no other: the class, or the value of a pixel given back."""
    end = end_of(opened.network, x, found)
    if end is None:
        return None
    index, output = end
    value, classes = float(output[index]), opened.run.card.classes
    if opened.run.card.task == "classification":
        if index != (found.channel,) or len(output) != len(classes):
            return None
        logits = opened.network.scores == "logits"
        probability = (
            float(probabilities_of(opened.network, output[None].float())[0, found.channel]) if logits else None
        )
        return report.Ending(classes[found.channel], value, probability)
    if output.dim() != 3:
        return None
    channel, row, column = index
    named = COLOURS[channel] if len(output) == 3 else "grey" if len(output) == 1 else f"channel {channel}"
    return report.Ending(named, value, pixel=(row, column))


def ends(ending: report.Ending | None) -> dict[str, Any] | None:
    if ending is None:
        return None
    if ending.pixel is None:
        return {"class": ending.name, "score": ending.value, "probability": ending.probability}
    return {"colour": ending.name, "row": ending.pixel[0], "column": ending.pixel[1], "value": ending.value}


def map_around(numbers: Tensor, position: Index) -> tuple[Tensor | None, tuple[int, int] | None]:
    """(*places) of one channel -> the map (h, w) that the position lies in, and its row and column there. Tokens that
    make a square are one too, in which a class token has no place; (None, None) for others and for a single number."""
    if len(position) > 1:
        return numbers[position[:-2]], (position[-2], position[-1])
    if not position:
        return None, None
    try:
        side, first = grid(len(numbers))
    except UsageError:
        return None, None
    place = divmod(position[0] - first, side) if position[0] >= first else None
    return numbers[first:].reshape(side, side), place


def seen_by(network: nn.Module, shape: tuple[int, ...], layer: str, position: Index) -> Box | None:
    """The pixels of pictures of `shape` (C, H, W) that the unit can see; None where that cannot be followed."""
    field = field_of(network, shape, layer)
    if field is None or len(position) not in (0, 2):
        return None
    row, column = position or (0, 0)
    return box_of(field, (row, column), shape)


def reads_picture(found: Unit, x: Tensor) -> bool:
    """Whether what the kernel meets are numbers of the picture (1, C, H, W) itself, where they stand in it."""
    if found.window is None or found.first_channel or len(found.patch) != x.shape[1]:
        return False
    met, inside = taken_from(x[0].cpu().double(), found.rows, found.columns, 0.0)
    return torch.equal(inside, found.inside) and torch.equal(met[:, inside], found.patch[:, inside])
