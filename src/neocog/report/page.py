"""A run's report as one HTML file that needs nothing else: no network, no script, no second file.

The page is a Jinja2 template with autoescape; whatever was read from names, paths or messages is text to it. The
content security policy in its head forbids everything but inline styles and pictures held in the page itself.
"""

import base64
import math
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from neocog.core.errors import one_line
from neocog.core.words import counted
from neocog.report import charts, watch_charts
from neocog.report.model import (
    Choices,
    ConfusedPair,
    Epoch,
    Evaluation,
    Picture,
    ReconstructionFacts,
    Report,
    Scores,
)
from neocog.report.rates import curve
from neocog.report.scatter import colours_of, scatter
from neocog.report.watch_model import WatchFacts

HEAT_ALL = 20  # classes up to which the confusion matrix is shown whole
HEAT_PART = 12  # classes shown of a larger one
LONG = 24  # rows of a table before the rest folds away
PNG = b"\x89PNG"  # how such a file begins
SMALL = 64  # pixels: narrower pictures are shown as their pixels, unsmoothed


def render(report: Report) -> str:
    """The HTML of a report."""
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            r=report,
            curves=_curves(report.history, report.kept_epoch),
            rates=_rates(report.choices),
            e=report.evaluation,
            result=_result(report.evaluation) if report.evaluation else None,
            c=_reconstruction(report.reconstruction) if report.reconstruction else None,
            inside=_inside(report.watch) if report.watch else None,
            LONG=LONG,
        )
    )


@dataclass(frozen=True)
class Cell:
    count: int
    strength: float  # 0..1, depth of the colour
    hit: bool


@dataclass(frozen=True)
class Heat:
    """The confusion matrix, or the part of it where the mistakes are."""

    classes: list[str]
    rows: list[list[Cell]]
    whole: bool


def _result(evaluation: Evaluation) -> dict[str, Any]:
    """What the template shows of an evaluation beyond its plain numbers."""
    scores = evaluation.scores
    ranked = sorted(
        (row for row in scores.per_class if row["support"]), key=lambda row: (row["recall"], -row["support"])
    )
    result: dict[str, Any] = {
        "digits": 1 if scores.pictures < 1000 else 2,
        "right": sum(row[i] for i, row in enumerate(scores.confusion)),
        "heat": heat(scores),
        "ranked": ranked,
        "absent": [row["class"] for row in scores.per_class if not row["support"]],
        "support": {row["class"]: row["support"] for row in scores.per_class},
        "pairs": evaluation.pairs or tuple(ConfusedPair(**pair) for pair in scores.most_confused),
    }
    if scores.top1 is not None and scores.top1_interval is not None and scores.baseline is not None:
        low, high = scores.top1_interval
        result["interval"] = charts.interval(scores.top1, low, high, scores.baseline)
        result["reliability"] = charts.reliability(scores.reliability)
        result["confidences"] = charts.confidences(scores.reliability)
    return result


def _reconstruction(facts: ReconstructionFacts) -> dict[str, Any]:
    """What the template shows of an autoencoder."""
    return vars(facts) | {
        "set_name": {"val": "validation"}.get(facts.split, facts.split),
        "chart": scatter(facts.scatter),
        "legend": list(colours_of(facts.scatter.classes).items()),
    }


def _inside(facts: WatchFacts) -> dict[str, Any]:
    """What the template shows of a training seen from inside."""
    drawn = [(stage, watch_charts.histograms(stage)) for stage in facts.stages]
    plane = watch_charts.plane(facts.plane) if facts.plane else Markup()
    return {
        "gradients": watch_charts.gradient_map(facts.layers, facts.epochs),
        "updates": watch_charts.update_map(facts.layers, facts.epochs),
        "histograms": [
            (stage.name.removeprefix("stages."), chart, stage.not_finite)
            for stage, chart in drawn if chart or stage.not_finite
        ],
        "plane": plane,
        "lowest": watch_charts.lowest_words(facts.plane) if facts.plane and plane else "",
    }  # fmt: skip


def heat(scores: Scores) -> Heat:
    """Up to HEAT_ALL classes whole; of more, HEAT_PART classes: the pairs most often taken for each other."""
    k = len(scores.classes)
    matrix = scores.confusion
    keep = list(range(k))
    if k > HEAT_ALL:
        mixed = {(i, j): matrix[i][j] + matrix[j][i] for i in keep for j in keep[:i]}
        worst = sorted((pair for pair in mixed if mixed[pair]), key=lambda pair: -mixed[pair])
        keep = sorted(list(dict.fromkeys([*chain(*worst), *keep]))[:HEAT_PART])
    rows = []
    for i in keep:
        total = sum(matrix[i]) or 1
        # The root lifts rare mistakes above the white of the paper.
        rows.append([Cell(matrix[i][j], round(math.sqrt(matrix[i][j] / total), 2), i == j) for j in keep])
    return Heat([scores.classes[i] for i in keep], rows, k <= HEAT_ALL)


def _curves(history: tuple[Epoch, ...], kept: int | None) -> list[tuple[str, Markup]]:
    def line(name: str, field: str) -> charts.Series:
        return charts.Series(name, [(epoch.epoch, getattr(epoch, field)) for epoch in history])

    rates = [line("learning rate", "learning_rate")]
    if any(epoch.first_rate is not None for epoch in history):
        rates = [line("classifier", "learning_rate"), line("first layers that learn", "first_rate")]
    drawn = [
        ("Loss", charts.curves("Loss", [line("training", "train_loss"), line("validation", "val_loss")], kept=kept)),
        (
            "Accuracy",
            charts.curves(
                "Accuracy",
                [line("training", "train_accuracy"), line("validation", "val_accuracy")],
                kept=kept,
                form=charts.percent,
                most=1.0,
            ),
        ),
        ("Learning rate", charts.curves("Learning rate", rates, kept=kept)),
    ]
    parts = [name for name, _ in history[-1].parts] if history else []
    drawn.append(("PSNR", charts.curves("PSNR, dB", [line("validation", "val_psnr")], kept=kept)))
    gap = line("of validation less of training pictures", "free_energy_gap")
    drawn.append(("Free energy", charts.curves("Free energy", [gap], kept=kept)))
    if len(parts) > 1:
        drawn += [(f"Loss: {part}", charts.curves(part, [_part(history, part)], kept=kept)) for part in parts]
    return [(name, chart) for name, chart in drawn if chart]


def _part(history: tuple[Epoch, ...], name: str) -> charts.Series:
    return charts.Series("training", [(epoch.epoch, dict(epoch.parts).get(name)) for epoch in history])


def _rates(choices: Choices | None) -> Markup:
    if choices is None or choices.rates is None:
        return Markup()
    found = choices.rates
    return curve(found.rates, found.losses, found.smoothed, found.suggestion)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("neocog.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: one_line(value) if type(value) is str else value,
    )
    environment.filters |= {
        "percent": percent,
        "count": count,
        "counted": counted,
        "large": large,
        "duration": duration,
        "shape": shape,
        "field": field,
        "path": path,
        "data_uri": data_uri,
        "png_uri": png_uri,
        "image_uri": image_uri,
        "sum_counts": lambda classes: [sum(column) for column in zip(*(c.counts for c in classes), strict=True)],
    }
    environment.tests["small"] = lambda picture: picture.width <= SMALL
    environment.tests["png"] = lambda picture: picture.startswith(PNG)
    return environment


def percent(share: float | None, digits: int = 1) -> str:
    """0.8312 -> "83.1%"; None -> a dash."""
    return "–" if share is None else f"{100 * share:.{digits}f}%"


def count(number: int | None) -> str:
    """11181642 -> "11,181,642"."""
    return "–" if number is None else f"{number:,}"


def large(number: int) -> str:
    """1819066368 -> "1.82 billion"."""
    for size, name in ((10**9, "billion"), (10**6, "million")):
        if number >= size:
            return f"{number / size:.3g} {name}"
    return f"{number:,}"


def duration(seconds: float) -> str:
    """222.4 -> "3 min 42 s"."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def shape(sizes: tuple[int, ...]) -> str:
    """(3, 224, 224) -> "3 × 224 × 224"."""
    return " × ".join(str(size) for size in sizes)


def field(sizes: tuple[int | str, ...]) -> str:
    """(43, 43) -> "43 × 43"; the whole picture is named; nothing known is a dash."""
    if not sizes:
        return "–"
    return "whole" if set(sizes) == {"whole"} else " × ".join(str(size) for size in sizes)


def path(name: str) -> Markup:
    """A file name that breaks after its slashes first."""
    return Markup("/<wbr>").join(escape(part) for part in one_line(name).split("/"))


def data_uri(picture: Picture) -> str:
    return png_uri(picture.png)


def png_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def image_uri(picture: bytes) -> str:
    """Of a PNG or a JPEG."""
    return png_uri(picture) if picture.startswith(PNG) else png_uri(picture).replace("png", "jpeg", 1)
