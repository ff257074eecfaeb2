"""The cost of networks as pictures for slides: where memory, parameters and MACs sit, and the zoo on one plane.

Drawn by Matplotlib's canvas without pyplot, so that no window and no global figure exists; the same input gives the
same bytes. Numbers are printed at the bars: a slide is read from the last row.
"""

import io
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from neocog.core.errors import one_line
from neocog.report.cost_model import CostNetwork, CostRow, Folded, ZooPoint, fold
from neocog.report.cost_zoo import (
    KIB,
    NUMBER,
    Unit,
    circles,
    cut,
    macs_axis,
    place,
    radius,
    short,
    sizes,
    top1_axis,
    unit,
)

Format = Literal["svg", "png"]

RADIUS = 26.0  # of the zoo's widest circle, in points
BARS = 30  # rows that a slide can hold
INK, SOFT, RULE, PAPER = "#1c2127", "#5c646e", "#dfe0dc", "#ffffff"
MEMORY, PARAMS, MACS = "#1f5fa8", "#b4530f", "#2f7d4f"
SETTINGS = {
    "svg.hashsalt": "neocog",  # element ids are drawn at random otherwise
    "svg.fonttype": "path",  # a slide looks the same where the font is missing
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
}


@dataclass(frozen=True)
class Panel:
    """One of the three numbers of a row that the bars show."""

    key: str
    title: str
    colour: str
    of: Callable[[Any], float]  # a CostRow's or a CostNetwork's
    units: Sequence[Unit]


def written(x: CostRow | CostNetwork) -> float:
    """KiB: views and layers that work in place write nothing."""
    return x.memory_kib if isinstance(x, CostNetwork) else x.written_kib


PANELS = (
    Panel("memory", "Memory written", MEMORY, written, KIB),
    Panel("params", "Parameters", PARAMS, lambda x: float(x.params), NUMBER),
    Panel("macs", "MACs", MACS, lambda x: float(x.macs), NUMBER),
)


def bars_picture(networks: Sequence[CostNetwork], format: Format) -> bytes:
    """Three panels per network, one bar per layer: memory, parameters, MACs. Deep networks are folded to modules."""
    limit = max(12, BARS // max(1, len(networks)))
    drawn = [(network, fold(network.rows, limit)) for network in networks]
    heights = [1.5 + 0.2 * max(4, len(folded.rows)) for _, folded in drawn]
    with settings():
        from matplotlib.figure import Figure

        total = max(4.5, sum(heights))
        figure = Figure(figsize=(13.33, total), facecolor=PAPER)
        top = 1.0
        for (network, folded), height in zip(drawn, heights, strict=True):
            share = height / sum(heights)
            _bars(figure, network, folded, top, share, total)
            top -= share
        return saved(figure, format)


def _bars(figure: Any, network: CostNetwork, folded: Folded, top: float, share: float, inches: float) -> None:
    """One network's panels in the figure's band from `top` down by `share` (both 0..1 of its height)."""
    rows = folded.rows
    names = [cut(row.name or row.kind, 30) for row in rows]
    inch = 1 / inches
    bottom = top - share
    figure.text(0.012, top - 0.42 * inch, safe(cut(network.name, 60)), size=17, weight="bold", parse_math=False)
    figure.text(0.012, bottom + 0.18 * inch, _footnote(network, folded), size=8.5, color=SOFT, parse_math=False)
    names_end = 0.012 + 0.0062 * max(map(len, names), default=0)
    width = (0.985 - names_end) / 3
    for i, panel in enumerate(PANELS):
        values = [panel.of(row) for row in rows]
        scale = unit(max(values, default=0), panel.units)
        axes = figure.add_axes(
            (names_end + i * width + 0.01, bottom + 0.45 * inch, width - 0.045, share - 1.5 * inch), frameon=False
        )
        axes.barh(range(len(rows)), values, height=0.72, color=panel.colour)
        axes.set_xlim(0, max(values, default=0) * 1.02 or 1)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.axvline(0, color=RULE, linewidth=1)
        whole = panel.of(network)
        whole_unit = unit(whole, panel.units)
        figure.text(
            axes.get_position().x0, top - 0.72 * inch, panel.title, size=11.5, weight="bold", color=panel.colour
        )
        said = f"{whole_unit.text(whole) or '0'} {whole_unit.name} in all".replace("  ", " ")
        said += f", bars in {scale.name}" if scale.name and scale != whole_unit else ""
        figure.text(axes.get_position().x0, top - 0.93 * inch, said, size=9.5, color=SOFT)
        size = 9 if len(rows) > 12 else 10
        for y, value in enumerate(values):
            at = (value, y)
            axes.annotate(scale.text(value), at, (4, 0), textcoords="offset points", va="center", size=size)
            if i == 0:
                axes.annotate(
                    safe(names[y]), (0, y), (-6, 0), textcoords="offset points",
                    ha="right", va="center", size=size, parse_math=False,
                )  # fmt: skip


def _footnote(network: CostNetwork, folded: Folded) -> str:
    shapes = ", ".join(" × ".join(map(str, shape)) for shape in network.input_shapes)
    words = [f"One picture of {shapes}, {cut(network.dtype, 20)}. A MAC (multiply-accumulate) is two FLOPs."]
    if folded.how:
        words.append(folded.how)
    if network.partial:
        words.append(f"MACs are a lower bound: no formula for {cut(', '.join(network.partial), 50)}.")
    return safe(" ".join(words))


def zoo_picture(points: Sequence[ZooPoint], highlighted: Collection[str], format: Format) -> bytes:
    """ImageNet top-1 against MACs of published networks, circles by parameters; `highlighted` names stand out."""
    with settings():
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullLocator

        figure = Figure(figsize=(13.33, 7.5), facecolor=PAPER)
        left, below, across, up = 0.045, 0.1, 0.935, 0.75
        axes = figure.add_axes((left, below, across, up))
        figure.text(0.012, 0.935, "Accuracy against cost", size=17, weight="bold")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xlabel("MACs of one picture (a MAC is two FLOPs)", size=11)
        figure.text(0.012, 0.885, "ImageNet top-1, %", size=11, color=SOFT)
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        axes.set_axisbelow(True)
        if not points:
            axes.text(0.5, 0.5, "no published networks to compare with", transform=axes.transAxes, ha="center")
            return saved(figure, format)
        low, high, marks = macs_axis([p.macs for p in points], most=10)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(marks, [short(mark) for mark in marks])
        bottom, top, percents = top1_axis([p.top1 for p in points])
        axes.set_ylim(bottom, top)
        axes.set_yticks(percents, [f"{p:.0f}" for p in percents])
        axes.tick_params(length=0, labelsize=10.5)
        # Labels are placed in points of the page, with y downwards.
        wide, tall = 13.33 * 72 * across, 7.5 * 72 * up
        spots = circles(
            points, highlighted, RADIUS,
            lambda macs: wide * math.log(macs / low) / math.log(high / low),
            lambda top1: tall * (top - top1) / (top - bottom),
        )  # fmt: skip
        _size_legend(axes, points, wide, tall)
        for spot in sorted(spots, key=lambda spot: (spot.bold, -spot.r)):
            axes.scatter(
                [spot.x / wide], [1 - spot.y / tall], s=(2 * spot.r) ** 2, transform=axes.transAxes,
                color=PARAMS if spot.bold else MEMORY, alpha=0.85 if spot.bold else 0.35, linewidths=0, clip_on=False,
            )  # fmt: skip
        for p in place(spots, 10, (0, -20, wide, tall), most=18):
            if p.lead:
                x1, y1, x2, y2 = p.lead
                xs, ys = [x1 / wide, x2 / wide], [1 - y1 / tall, 1 - y2 / tall]
                axes.plot(xs, ys, transform=axes.transAxes, color=SOFT, linewidth=0.8)
            anchor, x = p.anchor
            axes.text(
                x / wide, 1 - p.base / tall, safe(p.label.text), transform=axes.transAxes, size=10,
                ha={"start": "left", "middle": "center", "end": "right"}[anchor],
                weight="bold" if p.label.bold else "normal", parse_math=False,
            )  # fmt: skip
        return saved(figure, format)


def _size_legend(axes: Any, points: Sequence[ZooPoint], wide: float, tall: float) -> None:
    """Circles of round numbers of parameters, above the plane on the right."""
    x, y = wide, tall + 40
    for params in reversed(sizes([p.params for p in points])):
        r = radius(params, points, RADIUS)
        word = f"{short(params)} parameters"
        axes.text(x / wide, y / tall, word, transform=axes.transAxes, size=9.5, color=SOFT, ha="right", va="center")
        x -= 5.2 * len(word) + r
        axes.scatter(
            [x / wide], [y / tall], s=(2 * r) ** 2, transform=axes.transAxes, color=SOFT, alpha=0.35, linewidths=0,
            clip_on=False,
        )  # fmt: skip
        x -= r + 18


def safe(text: str) -> str:
    """Characters that the font lacks become escapes, not empty boxes and a warning."""
    from matplotlib.font_manager import findfont, get_font

    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(c if ord(c) in known else c.encode("unicode_escape").decode("ascii") for c in one_line(text))


def settings() -> Any:
    """Matplotlib's own defaults and ours for the time of one picture, whatever style the caller has set."""
    import matplotlib

    # The backend stays as it is: changing it would close the caller's windows.
    kept = ("backend", "interactive", "toolbar", "webagg", "tk.", "date.")
    defaults: Any = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith(kept)}
    return matplotlib.rc_context(defaults | SETTINGS)


def saved(figure: Any, format: Format) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": "neocog"} if format == "svg" else {"Software": "neocog"}
    figure.savefig(buffer, format=format, dpi=150, metadata=metadata)
    return buffer.getvalue()
