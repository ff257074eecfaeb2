"""What a comparison found: the order of its candidates, how the best two differ, a table and a page.

The order is that of the validation pictures, of finished candidates first. The test pictures decide nothing: the best
of many on them would look better than it is.
"""

import shlex
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from neocog.app.compare_folder import Row, State
from neocog.app.machine import choose_machine
from neocog.app.reporting import settings_of
from neocog.app.run import Run
from neocog.core.cells import to_cell
from neocog.core.config import TrainConfig
from neocog.core.files import write_atomic
from neocog.evaluate import evaluating
from neocog.metrics.paired import mcnemar, verdict
from neocog.report.compare import ComparePage, CompareRow, RungRow, render_compare

FIRST, CALLS, SECONDS = 3, 30, 1.0  # unmeasured calls, measured ones, and the time after which five are enough
PLACES = {"finished": 0, "shortened": 0, "dropped": 1, "paused": 2, "waiting": 3, "failed": 4}
CHOSEN = "The order is by validation accuracy; the test pictures were only looked at afterwards, for the report."


def ordered(rows: list[Row]) -> list[Row]:
    """Trained to the end first, then those that were dropped, the latest first, then failed ones; within each by the
    validation accuracy of the weights that were kept, ties by their loss, then as they were given."""

    def place(row: Row) -> tuple[int, int, float, float]:
        late = -row.dropped if row.state == "dropped" and row.dropped is not None else 0
        return PLACES[row.state], late, -(row.val or 0.0), row.val_loss or 0.0

    return sorted(rows, key=place)


def trained(row: Row) -> str:
    """How far, in words: 3.2 of 9 epochs, dropped after rung 1."""
    if row.state == "failed":
        return "failed"
    at_once = row.regime == "features" and row.planned == 1
    far = "fitted at once" if at_once else f"{tenths(row.epochs)} of {row.planned} epochs"
    if row.state == "finished":
        return far if row.epochs >= row.planned else f"{far}, then its patience ended"
    if row.state == "dropped" and row.dropped is not None:
        return f"{far}, dropped after rung {row.dropped + 1}"
    return f"{far}, stopped for lack of time" if row.state == "shortened" else far


def tenths(epochs: float) -> str:
    """4.0 -> 4, 3.217 -> 3.2, 0.02 -> less than 0.1"""
    return f"{epochs:.1f}".removesuffix(".0") if epochs >= 0.05 or epochs == 0 else "less than 0.1"


def conclude(folder: Path, config: TrainConfig, state: State) -> None:
    """Latencies, the paired test, compare.csv and compare.html; compare.json says last that all is complete."""
    for row in state.rows:
        if row.val is not None and row.latency is None:
            row.latency = latency(Run.open(folder / row.name))
    state.paired = paired(folder, [row for row in ordered(state.rows) if row.state in ("finished", "shortened")])
    write_atomic(folder / "compare.csv", to_csv(state.rows))
    write_atomic(folder / "compare.html", render_compare(page_of(folder, config, state)))
    state.complete = True
    state.write(folder)


def latency(run: Run) -> float:
    """Milliseconds of one picture by itself, already decoded and resized: the median of several."""
    machine, size = choose_machine(run.config), run.card.preprocessing.size
    network = run.network()
    machine.place(network)
    picture = torch.zeros(1, run.card.in_channels, size, size, device=machine.device)
    if machine.channels_last:
        picture = picture.to(memory_format=torch.channels_last)
    took: list[float] = []
    autocast = torch.autocast(machine.device.type, torch.bfloat16, enabled=machine.bf16)
    with evaluating(network), torch.inference_mode(), autocast:
        while len(took) < FIRST + CALLS and (len(took) < FIRST + 5 or sum(took) < SECONDS):
            began = time.perf_counter()
            network(picture).float().cpu()  # which waits for the device
            took.append(time.perf_counter() - began)
    return 1000 * median(took[FIRST:])


def paired(folder: Path, best: list[Row]) -> dict[str, Any] | None:
    """McNemar's test of the first two on the test pictures; None where there are none, or one candidate only."""
    if len(best) < 2 or best[0].test is None or best[1].test is None:
        return None
    first, second = (Run(folder / row.name).predictions("test") for row in best[:2])
    assert first.files == second.files  # the same split.csv
    known = first.labels >= 0
    right = [(one.predicted == one.labels)[known] for one in (first, second)]
    found = mcnemar(*right)
    names = (best[0].name, best[1].name)
    return asdict(found) | {"a": names[0], "b": names[1], "verdict": verdict(found, names)}


def sentence(state: State) -> str:
    """What can be said of the best two, or why nothing can."""
    if state.paired is None:
        return "there are no two candidates with test pictures to compare"
    p = state.paired
    alone = f"{p['a']} alone is right on {p['a_only']:,}, {p['b']} alone on {p['b_only']:,}"
    said = f"{p['a']} and {p['b']}: {p['verdict']}; of {p['n']:,} test pictures {alone}"
    short = [row.name for row in state.rows if row.name in (p["a"], p["b"]) and row.state == "shortened"]
    if short:
        said += f" ({' and '.join(short)} had no time to be trained to the end)"
    if p["verdict"].startswith(f"{p['b']} is better"):
        said += ". The validation pictures, which chose, say otherwise: do not take the first place for granted"
    return said


def values(row: Row) -> dict[str, Any]:
    """A row of the table; None where there is no number."""
    low, high = row.test_interval or (None, None)
    has = row.val is not None
    return {
        "candidate": row.name, "model": row.model, "regime": row.regime, "state": row.state,
        "test_accuracy": row.test, "test_low": low, "test_high": high, "test_pictures": row.test_pictures,
        "val_accuracy": row.val, "epochs": row.epochs, "epochs_planned": row.planned, "trained": trained(row),
        "params": row.params, "macs": row.macs, "training_seconds": row.seconds if has else None,
        "latency_ms": row.latency, "training_step_bytes": row.memory,
        "dropped_in_rung": None if row.dropped is None else row.dropped + 1, "note": row.error or row.note,
    }  # fmt: skip


def to_csv(rows: list[Row]) -> str:
    table = [values(row) for row in ordered(rows)]
    lines = [",".join(table[0]), *(",".join(cell(value) for value in row.values()) for row in table)]
    return "".join(line + "\n" for line in lines)


def cell(value: object) -> str:
    if value is None:
        return ""
    return to_cell(value) if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else str(value)


def page_of(folder: Path, config: TrainConfig, state: State) -> ComparePage:
    rows = ordered(state.rows)
    best = rows[0]
    return ComparePage(
        data_name=Path(config.data).name or config.data,
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        how=how(state),
        chosen=CHOSEN,
        verdict=sentence(state),
        baseline=best_baseline(folder, best),
        rows=tuple(
            CompareRow(
                name=row.name, model=row.model, regime=row.way, state=row.state, trained=trained(row), val=row.val,
                test=row.test, interval=None if row.test_interval is None else tuple(row.test_interval),
                params=row.params, macs=row.macs, seconds=row.seconds if row.val is not None else None,
                latency=row.latency, memory=row.memory, note=row.error or row.note,
            )
            for row in rows
        ),
        rungs=tuple(rungs(state)),
        notes=tuple(state.notes),
        facts=tuple((key, str(value)) for key, value in state.facts.items()),
        settings=tuple(one for one in settings_of(config) if one.name not in ("model", "regime", "weights", "time")),
        command=state.command or f"neocog compare {shlex.quote(config.data)} --models "
        + ",".join(f"{row.model}:{row.regime}" for row in state.rows),
        test_pictures=best.test_pictures,
    )  # fmt: skip


def best_baseline(folder: Path, best: Row) -> float:
    if best.test is None:
        return 0.0
    return float(Run.open(folder / best.name).metrics("test")["baseline"])


def rungs(state: State) -> Iterator[RungRow]:
    """Rung by rung, the best first."""
    for number in range(len(state.sizes)):
        here = [row for row in state.rows if len(row.rungs) > number and (row.dropped is None or row.dropped >= number)]
        for row in sorted(here, key=lambda row: (-row.rungs[number]["val_accuracy"], row.rungs[number]["val_loss"])):
            one = row.rungs[number]
            end = "stays" if number + 1 < len(row.rungs) else trained(row)
            if row.dropped == number:
                end = "dropped" if row.state == "dropped" else "trained to the end"
            yield RungRow(
                number + 1, row.name, one["epochs"], one["val_accuracy"], one["val_loss"], one["seconds"], end
            )


def how(state: State) -> str:
    """What was done, in a few sentences."""
    number = len(state.rows)
    same = (
        f"{number} candidates learned from the same training pictures with the same seed and settings, and were "
        "evaluated in the same way."
        if number > 1
        else "One candidate was trained."
    )
    if not state.shares or len(state.sizes) < 2:
        return same
    sizes = ", ".join(str(size) for size in state.sizes)
    return (
        f"{same} After each rung the better half by validation accuracy stayed ({sizes}), and the last two learned to "
        "the end: successive halving."
    )
