"""The page's section on a training that was looked at from inside, from what the run's folder holds."""

from pathlib import Path
from typing import Any

from neocog import report
from neocog.app.watching import read


def watch_facts(folder: Path) -> report.WatchFacts:
    """Errors: as `neocog.app.watching.read`."""
    found = read(folder)
    rows = found.rows
    learned = [row for row in rows if any(layer["steps"] for layer in row["layers"])]
    return report.WatchFacts(
        findings=tuple((one.text, one.grave) for one in found.diagnosis().findings),
        pictures=rows[-1]["pictures"],
        epochs=tuple(row["epoch"] for row in learned),
        layers=tuple(
            report.LayerCourse(name, *(
                tuple(row["layers"][number][key] for row in learned)
                for key in ("gradient_norm_mean", "gradient_norm_largest", "update_ratio_mean")
            ))
            for number, name in enumerate(layer["layer"] for layer in rows[-1]["layers"])
        ),
        stages=tuple(stage_course(rows, stage["stage"]) for stage in rows[-1]["stages"]),
        rectifiers=tuple(rectifier_course(rows, one) for one in rows[-1]["rectifiers"]),
        plane=plane_of(found.surface) if found.surface is not None else None,
        last=rows[-1]["epoch"],
    )  # fmt: skip


def stage_course(rows: list[dict[str, Any]], name: str) -> report.StageCourse:
    """At its first time, its last, and the one between them."""
    all_times = [(row["epoch"], one) for row in rows for one in row["stages"] if one["stage"] == name]
    finite = [(epoch, one) for epoch, one in all_times if one["histogram_counts"]]
    chosen = [finite[i] for i in sorted({0, len(finite) // 2, len(finite) - 1})] if finite else []
    spreads = tuple(
        report.Spread(
            epoch, one["mean"], one["standard_deviation"], one["histogram_from"], one["histogram_to"],
            tuple(one["histogram_counts"]),
        )
        for epoch, one in chosen
    )  # fmt: skip
    return report.StageCourse(name, spreads, sum(one["not_finite"] for _, one in all_times))


def rectifier_course(rows: list[dict[str, Any]], last: dict[str, Any]) -> report.RectifierCourse:
    name = last["rectifier"]
    first = next(one for row in rows for one in row["rectifiers"] if one["rectifier"] == name)
    return report.RectifierCourse(
        name, last["channels"], (first["channels_dead"], last["channels_dead"]), last["units"],
        (first["units_dead"], last["units_dead"]),
    )  # fmt: skip


def plane_of(found: dict[str, Any]) -> report.LossPlane:
    return report.LossPlane(
        tuple(found["places"]), tuple(tuple(row) for row in found["losses"]), found["pictures"]
    )  # fmt: skip
