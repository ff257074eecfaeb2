"""What `neocog cost` writes: rows as CSV, a page, and pictures for slides."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from neocog import report
from neocog.app.costing import Cost, TrainingCost
from neocog.app.zoo import describe_models
from neocog.costs.table import flat

Format = Literal["svg", "png"]


def to_html(answers: Sequence[Cost], command: str = "") -> str:
    """A page; `command` is what it says to repeat."""
    names = [answer.table.name for answer in answers]
    return report.render_cost(report.CostPage(
        title=f"The cost of {', '.join(names[:-1]) + ' and ' + names[-1] if len(names) > 1 else names[0]}",
        networks=tuple(network(answer) for answer in answers), zoo=zoo_points(),
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", command=command,
    ))  # fmt: skip


def bars(answers: Sequence[Cost], form: Format) -> bytes:
    """Memory, parameters and MACs per layer."""
    return report.bars_picture([network(answer) for answer in answers], form)


def zoo(answers: Sequence[Cost], form: Format) -> bytes:
    """Published accuracy against MACs, these networks highlighted."""
    return report.zoo_picture(zoo_points(), [answer.spec.name for answer in answers], form)


def zoo_points() -> tuple[report.ZooPoint, ...]:
    """Networks of the zoo with a published top-1 accuracy on ImageNet."""
    return tuple(
        report.ZooPoint(row["name"], row["macs"], row["params"], row["top1"], row["year"])
        for row in describe_models()
        if row["top1"] is not None
    )


def network(answer: Cost) -> report.CostNetwork:
    found, spec = answer.table, answer.spec
    wanted = report.CostRow.__dataclass_fields__
    rows = (report.CostRow(**{k: v for k, v in flat(row).items() if k in wanted}) for row in found.rows)
    return report.CostNetwork(
        name=found.name, input_shapes=found.input_shapes, dtype=found.dtype, params=found.params, macs=found.macs,
        memory_kib=found.memory_kib, rows=tuple(rows), receptive_field=found.receptive_field,
        other_ops=found.other_ops, unused_params=found.unused_params, partial=found.partial, notes=found.notes,
        training=None if answer.training is None else _training(answer.training), idea=spec.idea, paper=spec.title,
        year=spec.year, link=spec.link,
    )  # fmt: skip


def _training(step: TrainingCost) -> report.CostTraining:
    m = step.memory
    notes = (f"Attention is assumed to run as {name}." for name in m.kernels)
    return report.CostTraining(
        batch=m.batch, optimizer=step.optimizer, precision=step.precision, parameters=m.parameters,
        gradients=m.gradients, optimizer_state=m.optimizer_state, saved_activations=m.saved, inputs=m.inputs,
        rest=m.rest, limit=step.limit, limit_name=f"memory {step.limit_name}", largest_batch=step.largest_batch,
        seconds_per_epoch=step.seconds_per_epoch, pictures=step.pictures, notes=tuple(notes),
    )  # fmt: skip
