"""The numbers of a run on its own pictures again, or on others with the same classes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from neocog.app.building import evaluation_loader
from neocog.app.comparing import compare_split
from neocog.app.machine import choose_machine
from neocog.app.preparing import open_data
from neocog.app.reconstructing import reconstruct
from neocog.app.run import Run
from neocog.core.autoencoder import Autoencoder
from neocog.core.errors import DataError, UsageError
from neocog.core.events import Events
from neocog.data.split import read_split
from neocog.evaluate import Predictions, predict, summarise
from neocog.evaluate.reconstructions import Reconstructions, summarise_reconstructions


def validate(
    run_folder: str | Path, data: str | None = None, *, split: str = "test", out: Path | None = None,
    events: Events | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Runs the network over the `split` ("val", "test" or "all") of the run's own data, or of `data`, and
    returns every number (`neocog.evaluate.summarise`). `data` without a split of its own is taken whole. Of an
    autoencoder, `neocog.evaluate.reconstructions`; pictures of classes that it does not know count as anomalies. Also
    `trained_on`: how many of the pictures, by their content, the run was trained on.

    UsageError where the run's own data are no longer those it was started on, DataError where `data` has classes that
    the run does not know.
    """
    if split not in ("val", "test", "all"):
        raise UsageError(f"there is no set called {split!r}", "use val, test or all")
    run = Run.open(run_folder)
    config, card = run.config, run.card
    autoencoder = card.task == "reconstruction"
    if data is not None:
        config = config.model_copy(update={"data": data, "folds": None, "repeats": None, "fold": None})
    dataset = open_data(config, card.preprocessing.resize, card.in_channels, events or Events())
    if data is None:
        compare_split(dataset.split_rows(), run.folder)
    unknown = [name for name in dataset.classes if name not in card.classes]
    if unknown and not autoencoder:
        names = ", ".join(repr(name) for name in unknown[:5])
        raise DataError(f"{dataset.name} has classes that the run does not know: {names}", "rename or remove them")
    whole = split == "all" or (data is not None and not dataset.has_official_split)
    rows = np.arange(len(dataset.files)) if whole else dataset.rows(split)
    if len(rows) == 0:
        raise DataError(f"{dataset.name} has no {split} pictures", "use --split all")
    taught = {row.sha256 for row in read_split(run.folder / "split.csv") if row.set == "train"}
    trained_on = sum(dataset.sha256[row] in taught for row in rows.tolist())
    if trained_on:
        text = f"{trained_on:,} of {len(rows):,} pictures are ones that it was trained on: of new ones it knows less"
        (events or Events()).emit("note", label="warning", text=text)
    machine = choose_machine(config)
    network = run.network()
    machine.place(network)
    if isinstance(network, Autoencoder) and autoencoder:
        found = reconstruct(network, dataset, rows, card.preprocessing, machine, config).found
        if out is not None:
            found.write(out)
        return summarise_reconstructions(found) | anomalies(found, card.classes) | {"trained_on": trained_on}
    loader = evaluation_loader(dataset, rows, card.preprocessing, machine, config.threads)
    outcome = predict(network, loader.epoch(0), autocast=torch.bfloat16 if machine.bf16 else None)
    numbers = outcome.indices.tolist()
    # The run's class numbers, not those of the other data, which may hold only some of the classes.
    labels = np.array([card.classes.index(dataset.classes[i]) for i in dataset.labels[outcome.indices].tolist()])
    predictions = Predictions(
        [dataset.files[i] for i in numbers], [str(dataset.splits[i]) for i in numbers], card.classes, labels,
        outcome.probabilities,
    )  # fmt: skip
    if out is not None:
        predictions.write(out)
    return summarise(predictions) | {"trained_on": trained_on}


def anomalies(found: Reconstructions, known: list[str]) -> dict[str, Any]:
    """How well the squared error tells pictures of classes that the run does not know from those of the others: the
    area under the ROC curve, and how many there are; nothing where there are none of either."""
    from sklearn.metrics import roc_auc_score

    strange = np.array([name not in known for name in found.classes], bool)
    if strange.all() or not strange.any():
        return {}
    return {"anomalies": int(strange.sum()), "anomaly_auroc": float(roc_auc_score(strange, found.measures["mse"]))}
