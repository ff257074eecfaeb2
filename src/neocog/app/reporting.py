"""A run's page, filled in from what the run left behind."""

import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from neocog import report
from neocog.app.announcing import describe_answers
from neocog.app.building import evaluation_loader, training_loader
from neocog.app.choosing import Evidence
from neocog.app.codes import Size
from neocog.app.folder import CHOICES
from neocog.app.machine import device_name
from neocog.app.pictures import png
from neocog.app.records import Record
from neocog.app.selecting import Candidate
from neocog.app.watch_report import watch_facts
from neocog.core.autoencoder import Autoencoder
from neocog.core.config import TrainConfig
from neocog.core.contracts import Network
from neocog.core.files import read_json_lines, write_atomic
from neocog.core.head import CLOSED
from neocog.core.registry import lookup
from neocog.core.spec import Preprocessing
from neocog.costs.cost import cost
from neocog.costs.table import Row
from neocog.data.preprocess import denormalise
from neocog.data.scan import Duplicates
from neocog.evaluate import Predictions, summarise

if TYPE_CHECKING:
    from neocog.app.session import Session

THUMBNAIL = 112  # pixels
SAMPLES = 16
MISTAKES = 24
PAIRS, EXAMPLES = 6, 4

REGIMES = {
    "scratch": "Every weight was learned from these pictures alone.",
    "probe": "Only the new classifier was learned; the pretrained backbone stayed frozen, batch norm included.",
    "partial": "The new classifier was learned first, then the last {stages} stages as well, at a smaller rate; the "
    "others stayed frozen, batch norm included.",
    "full": "The new classifier was learned first, then everything together at a smaller rate.",
    "gradual": "The new classifier was learned first, then one stage more after the other, at a smaller rate.",
}
FEATURES = {
    head: f"The pretrained network stayed as it was and embedded {{views}} training pictures once; {what} on these."
    for head, what in (
        ("linear", "a linear classifier was learned"),
        ("mlp", "a classifier with a hidden layer was learned"),
        ("svm", "a linear support vector machine was fitted"),
        ("knn", "a picture is given the class of its nearest"),
        ("prototype", "a picture is given the class whose mean is nearest, based"),
    )
}


def write_report(
    session: "Session", record: Record, reconstruction: report.ReconstructionFacts | None = None
) -> None:  # fmt: skip
    """`report.html` in the run's folder."""
    write_atomic(session.folder / "report.html", report.render(make_report(session, record, reconstruction)))


def make_report(
    session: "Session", record: Record, reconstruction: report.ReconstructionFacts | None = None
) -> report.Report:  # fmt: skip
    """`reconstruction`: what an autoencoder's page shows in the place of a classifier's predictions."""
    config, progress = session.config, session.trainer.progress
    judged, warnings = None, [*session.dataset.warnings, *(reconstruction.shortfalls if reconstruction else ())]
    if reconstruction is None:
        predictions = Predictions.read(session.folder / "predictions.csv")
        split = "test" if "test" in predictions.split else "val"
        judged = evaluation(session, predictions.of(split), split)
        warnings = [*warnings, *describe_answers(predictions)]
    history = read_json_lines(session.folder / "metrics.jsonl")
    return report.Report(
        model=lookup(config.model).spec.name,
        regime=config.regime,
        data_name=session.dataset.name,
        done=done_by(session),
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        warnings=tuple(warnings),
        data=data_facts(session),
        samples=samples(session),
        network=network_facts(session),
        history=() if config.head in CLOSED else tuple(epoch_of(row) for row in history),
        kept_epoch=progress.best_epoch + 1 if progress.best_epoch >= 0 else None,
        evaluation=judged,
        reconstruction=reconstruction,
        training=training_facts(session, history, record),
        choices=choices_of(session),
        watch=watch_facts(session.folder) if session.watching is not None else None,
        settings=settings_of(config),
        command=f"neocog train --config {shlex.quote(str(session.folder / 'config.toml'))}",
    )


def done_by(session: "Session") -> str:
    """What was learned, in one sentence."""
    config, trainer = session.config, session.trainer
    if config.task == "reconstruction":
        noise = "" if config.noise in (None, "none") else f", from pictures made worse ({config.noise}),"
        assert isinstance(session.loaded.network, Autoencoder)
        size = Size.of(session.loaded.network, session.preprocessing.size)
        return f"It learned to give back these pictures{noise} through a code of {size}{size.excess}."
    later = config.regime in ("partial", "full", "gradual")
    if later and trainer.progress.done <= config.head_epochs * len(trainer.loader):
        return "Only the new classifier was learned: the run ended before the rest of the network began to."
    if config.regime == "features":
        return FEATURES[config.head].format(views=f"{config.views} augmented views of each" if config.views else "the")
    return REGIMES[config.regime].format(stages=config.unfreeze)


def choices_of(session: "Session") -> report.Choices | None:
    """What the run's first sitting measured, from the file it left."""
    path = session.folder / CHOICES
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    evidence = Evidence(**found["regime"]) if "regime" in found else None
    candidates = [Candidate(**one).line() for one in found.get("models", ())]
    rates = found.get("rate") or None  # there was no time to look
    return report.Choices(
        evidence=(*candidates, *(evidence.lines() if evidence else ())),
        rule=evidence.table() if evidence else (),
        rates=rates and report.RateSearch(
            tuple(rates["rates"]), tuple(rates["losses"]), tuple(rates["smoothed"]), rates["suggestion"]
        ),
        rate_words=rates["why"] if rates else "",
    )  # fmt: skip


def data_facts(session: "Session") -> report.DataFacts:
    data, config = session.dataset, session.config
    splits = tuple(name for name in ("train", "val", "test") if len(data.rows(name)))
    per_split = [np.bincount(data.labels[data.rows(name)], minlength=len(data.classes)).tolist() for name in splits]
    counts = (report.ClassCount(name, tuple(row[i] for row in per_split)) for i, name in enumerate(data.classes))
    return report.DataFacts(
        source=config.data,
        splits=splits,
        classes=tuple(counts),
        unlabelled=data.unlabelled,
        how_split=session.dataset.how_split,
        excluded=tuple((e.file, f"{e.reason}: {e.detail}") for e in data.scan.excluded),
        duplicates=duplicates_of(data.scan.duplicates) + duplicates_of(data.scan.near, "nearly "),
        modes=tuple(data.scan.modes.items()),
        notes=tuple(f"{name}: {number}" for name, number in data.scan.notes.items()),
    )


def duplicates_of(found: Duplicates, how: str = "") -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(what it means, the files that are `how` equal) of every group of them, the gravest first."""
    kinds = (
        (f"{how}one picture, several classes", found.across_classes),
        (f"{how}a leak between sets", found.across_splits),
        (f"{how}copies within a class", found.within_class),
    )
    return tuple((meaning, tuple(files)) for meaning, groups in kinds for files in groups)


def network_facts(session: "Session") -> report.NetworkFacts:
    network, pre, spec = session.loaded.network, session.preprocessing, lookup(session.config.model).spec
    shape = (network.in_channels, pre.size, pre.size)
    total = cost(network, shape)
    learned = sum(
        p.numel() for _, parameters in session.trainer.regime.parts(session.trainer.network) for p in parameters
    )
    mean, std = (", ".join(f"{v:.3f}" for v in values) for values in (pre.mean, pre.std))
    return report.NetworkFacts(
        name=spec.name,
        input_shape=shape,
        params=total.params,
        macs=total.macs,
        idea=spec.idea,
        trained_params=learned if learned != total.params else None,
        stages=stages_of(network, shape),
        preprocessing=(
            f"short side to {pre.resize} pixels ({pre.interpolation}, antialiased), centre {pre.size} x {pre.size}, "
            f"0..1, minus ({mean}), divided by ({std})"
        ),
        weights=(
            *((key, str(value)) for key, value in session.loaded.provenance.items()),
            *(("changed", note) for note in session.loaded.notes),
        ),
        paper=spec.title,
        year=spec.year,
        link=spec.link,
    )


def stages_of(network: Network, shape: tuple[int, ...]) -> tuple[report.Stage, ...]:
    """Stem, stages and head, one row each."""
    parts: dict[str, list[Row]] = {}
    for row in cost(network, shape).rows:
        first, _, rest = row.name.partition(".")
        parts.setdefault(rest.partition(".")[0] if first == "stages" else first, []).append(row)
    return tuple(
        report.Stage(
            name,
            rows[-1].out_shape,
            sum(row.params for row in rows),
            sum(row.macs for row in rows),
            rows[-1].receptive_field or (),
        )
        for name, rows in parts.items()
    )


def evaluation(session: "Session", predictions: Predictions, split: str) -> report.Evaluation:
    scores = summarise(predictions)
    row_of = {file: row for row, file in enumerate(session.dataset.files)}
    mistakes = predictions.mistakes()
    shown = mistakes[:MISTAKES].tolist()
    names = predictions.classes
    examples: list[list[int]] = []
    for pair in scores["most_confused"][:PAIRS]:
        truth, guess = names.index(pair["truth"]), names.index(pair["predicted"])
        alike = (predictions.labels[mistakes] == truth) & (predictions.predicted[mistakes] == guess)
        examples.append(mistakes[alike][:EXAMPLES].tolist())
    wanted = [*shown, *(i for numbers in examples for i in numbers)]
    pictures = dict(zip(wanted, thumbnails(session, [row_of[predictions.files[i]] for i in wanted]), strict=True))
    return report.Evaluation(
        split=split,
        scores=report.Scores(**scores),
        pairs=tuple(
            report.ConfusedPair(pair["truth"], pair["predicted"], pair["count"], tuple(pictures[i] for i in numbers))
            for pair, numbers in zip(scores["most_confused"], examples, strict=False)
        ),
        mistakes=tuple(
            report.Mistake(
                pictures[i], names[predictions.labels[i]], names[predictions.predicted[i]],
                float(predictions.confidence[i]),
            )
            for i in shown
        ),
    )  # fmt: skip


def training_facts(session: "Session", history: list[dict[str, Any]], record: Record) -> report.TrainingFacts:
    machine = session.machine
    # While only the head learns, pictures pass faster; what counts is the rest.
    head = session.config.head_epochs if session.config.regime in ("partial", "full", "gradual") else 0
    rates = [row["images_per_second"] for row in history[head:] or history]
    fitted: tuple[tuple[str, str], ...] = ()
    if session.config.head in CLOSED:
        row = history[-1]
        fitted = (("fitted at once", row["fitted"]), ("right without having seen it", f"{row['train_accuracy']:.1%}"))
    return report.TrainingFacts(
        seconds=session.trainer.progress.seconds,
        epochs=len(history) if not fitted else None,
        images_per_second=float(np.median(rates)) if not fitted else None,
        device=device_name(machine.device),
        precision="bf16" if machine.bf16 else "fp32",
        layout="channels_last" if machine.channels_last else "contiguous",
        versions=tuple(record.versions.items()),
        more=(*fitted, *sittings_of(record)),
    )


def sittings_of(record: Record) -> Iterator[tuple[str, str]]:
    """What a careful reader must know of a run that was not made in one go by one process."""
    last = record.sittings[-1]
    if last.processes > 1:
        yield "processes", str(last.processes)
    if len(record.sittings) > 1:
        same = "the same bits as one sitting" if record.exact else "not exactly what one sitting would have given"
        yield "sittings", f"{len(record.sittings)}; {same} (run.json)"


def settings_of(config: TrainConfig) -> tuple[report.Setting, ...]:
    fields = TrainConfig.model_fields
    return tuple(
        report.Setting(name, str(value), changed=value != fields[name].default)
        for name, value in config.model_dump(exclude_none=True).items()
    )


def epoch_of(row: dict[str, Any]) -> report.Epoch:
    rates = list(row.get("rates", {"all": row["lr"]}).values())
    return report.Epoch(
        row["epoch"], row["train_loss"], row.get("val_loss"), row.get("train_accuracy"), row.get("val_accuracy"),
        rates[0], rates[-1] if len(rates) > 1 else None, row.get("val_psnr"), parts_of(row),
        row.get("val_free_energy_gap"),
    )  # fmt: skip


def parts_of(row: dict[str, Any]) -> tuple[tuple[str, float], ...]:
    """The parts of the training loss."""
    names = (key.removeprefix("train_") for key in row if key.startswith("train_"))
    return tuple((name, row[f"train_{name}"]) for name in names if name not in ("loss", "accuracy"))


def samples(session: "Session") -> tuple[report.Picture, ...]:
    """Training pictures as the first epoch showed them to the network."""
    batch = next(training_loader(session.config, session.dataset, session.preprocessing, session.machine).epoch(0))
    data = session.dataset
    return tuple(
        report.Picture(to_png(image, session.preprocessing), data.files[row], data.classes[data.labels[row]])
        for image, row in zip(batch.images[:SAMPLES].cpu(), batch.indices[:SAMPLES].tolist(), strict=True)
    )


def thumbnails(session: "Session", rows: list[int]) -> list[report.Picture]:
    """The pictures as the network saw them in evaluation, in the order of `rows`."""
    loader = evaluation_loader(
        session.dataset, np.array(rows, np.int64), session.preprocessing, session.machine, session.config.threads
    )
    data = session.dataset
    return [
        report.Picture(to_png(image, session.preprocessing), data.files[row])
        for batch in loader.epoch(0)
        for image, row in zip(batch.images.cpu(), batch.indices.tolist(), strict=True)
    ]


def to_png(image: Tensor, preprocessing: Preprocessing) -> bytes:
    """(C, S, S) normalised -> PNG bytes, at most THUMBNAIL pixels a side."""
    return png(denormalise(image, preprocessing), THUMBNAIL)
