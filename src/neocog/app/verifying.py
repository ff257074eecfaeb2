"""`neocog val RUN --verify`: is everything that a run says still so?

Each check has a verdict of its own. What can be compared is compared exactly: files by their sha256, numbers as they
stand in run.json. Only the network, run again under other conditions than it was, may answer a little differently.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from neocog.app import folder as run_folder
from neocog.app import folds, records
from neocog.app.building import evaluation_loader
from neocog.app.folding import quieter
from neocog.app.machine import Machine, choose_machine, device_name
from neocog.app.opened import Opened
from neocog.app.preparing import open_data
from neocog.app.recomputing import columns, differences, leaves, places
from neocog.app.reconstructing import reconstruct
from neocog.app.run import FOLDS, RECONSTRUCTIONS, Run
from neocog.app.watching import read_rows
from neocog.core.autoencoder import Autoencoder
from neocog.core.config import TrainConfig
from neocog.core.errors import DataError, ModelFileError, NeocogError, UsageError
from neocog.core.events import Events
from neocog.core.files import read_json_lines, sha256_of
from neocog.core.head import CLOSED
from neocog.data.source import Item, open_source
from neocog.data.split import read_split
from neocog.data.threads import ordered_map
from neocog.evaluate import Predictions, predict, summarise
from neocog.evaluate.folds import join
from neocog.evaluate.reconstructions import Reconstructions, summarise_reconstructions
from neocog.export.bundle import WEIGHTS, read_card
from neocog.training.checkpoint import FOLDER, Checkpoints
from neocog.training.watched import FILE

Verdict = Literal["ok", "failed", "skipped"]
DATA_CHANGED, DAMAGED = DataError.exit_code, ModelFileError.exit_code
# Largest difference of a probability under other conditions than the run's: sums in another order round otherwise.
TOLERANCE, TOLERANCE_BF16 = 1e-3, 5e-2


@dataclass(frozen=True)
class Check:
    """`code`: the exit code that a failure leaves. `items`: every file or number that is not as it was."""

    name: str
    verdict: Verdict
    text: str
    code: int = 0
    items: tuple[str, ...] = ()


def exit_code(checks: list[Check]) -> int:
    """0 where all is well; 4 where a file of the run is damaged; else 3: the data are others."""
    return max((check.code for check in checks if check.verdict == "failed"), default=0)


def verify(folder: str | Path, events: Events | None = None) -> list[Check]:
    """All checks of a run; of a folder of folds those of each, and of what they say together. UsageError where it is
    neither, or not finished."""
    place, events = Path(folder), events or Events()
    if not run_folder.is_run(place):
        raise UsageError(f"{place} is not a run folder (it has no config.toml)", "give one that `neocog train` made")
    if not (place / FOLDS).is_file():
        return list(verify_run(place, events))
    whole = folds.Folds.open(place)
    checks = [
        replace(check, name=f"{run.name} {check.name}")
        for run in (place / one["folder"] for one in whole.numbers["runs"])
        for check in verify_run(run, events)
    ]
    return [*checks, attempt("folds", lambda: check_folds(whole))]


def verify_run(folder: Path, events: Events) -> Iterator[Check]:
    try:
        config = Run(folder).config
    except UsageError as error:
        yield Check(run_folder.MARK, "failed", error.cause, DAMAGED)
        return
    record: records.Record | None = None
    try:
        record = records.read(folder)
        if not record.weights:
            raise UsageError(f"{folder} is not finished", f"`neocog resume {folder}` goes on")
        yield Check(records.NAME, "ok", f"sittings: {len(record.sittings)}, {exactness(record)}")
        same = sha256_of(folder / run_folder.MARK) == record.config
        yield verdict(run_folder.MARK, [] if same else [run_folder.MARK], "the sha256 of run.json",
                      "its sha256 is not the one of run.json")  # fmt: skip
    except ModelFileError as error:
        yield Check(records.NAME, "failed", error.cause, DAMAGED)
    table = attempt("split.csv", lambda: check_table(folder, record))
    pictures = attempt("pictures", lambda: check_pictures(folder, config, events), DATA_CHANGED)
    weights = attempt("weights", lambda: check_weights(folder, record))
    checkpoints = attempt("checkpoints", lambda: check_checkpoints(folder, config))
    autoencoder = config.task == "reconstruction"
    results = RECONSTRUCTIONS if autoencoder else "predictions.csv"
    consistent = check_reconstructions if autoencoder else check_predictions
    predictions = attempt(results.removesuffix(".csv"), lambda: consistent(folder))
    yield from (table, pictures, weights, checkpoints, predictions)
    if record is None or predictions.verdict != "ok":
        yield Check("results", "skipped", f"run.json or {results} is damaged")
    else:
        yield attempt("results", lambda: check_results(folder, record, results))
    if record is None or any(check.verdict != "ok" for check in (table, pictures, weights, predictions)):
        yield Check("network", "skipped", "not run again: what it needs is not as it was")
    else:
        again = check_decoder if autoencoder else check_network
        yield attempt("network", lambda: again(folder, config, record, events))


def attempt(name: str, check: Callable[[], Check], code: int = DAMAGED) -> Check:
    """A check that cannot even be made has failed."""
    try:
        return check()
    except NeocogError as error:
        return Check(name, "failed", error.cause, DAMAGED if isinstance(error, ModelFileError) else code)
    except OSError as error:
        return Check(name, "failed", f"{error.filename} cannot be read ({error.strerror})", code)
    except ValueError as error:
        return Check(name, "failed", f"a file is damaged ({error})", code)


def verdict(name: str, wrong: list[str], well: str, ill: str, code: int = DAMAGED) -> Check:
    return Check(name, "failed", ill, code, tuple(wrong)) if wrong else Check(name, "ok", well)


def exactness(record: records.Record) -> str:
    return "exact" if record.exact else "not exactly what a single one would have given"


def check_table(folder: Path, record: records.Record | None) -> Check:
    rows = read_split(folder / "split.csv")
    if record is None:
        return Check("split.csv", "skipped", "run.json, which has its sha256, is damaged")
    same = records.manifest_of(folder) == record.manifest
    return verdict("split.csv", [] if same else ["split.csv"], f"{len(rows):,} pictures, the sha256 of run.json",
                   "its sha256 is not the one of run.json")  # fmt: skip


def check_pictures(folder: Path, config: TrainConfig, events: Events) -> Check:
    """Every file's content now, against split.csv."""
    before = {row.file: row.sha256 for row in read_split(folder / "split.csv")}
    try:
        excluded = {str(one["file"]) for one in _json(folder / "scan.json")["excluded"]}
    except (KeyError, TypeError):
        raise ModelFileError(f"{folder}/scan.json is damaged", "restore it from a copy") from None
    now = hashes(config, events)
    kinds = (
        ("changed_since_scan", sorted(f for f in before.keys() & now.keys() if before[f] != now[f])),
        ("gone", sorted(before.keys() - now.keys())),
        ("new", sorted(now.keys() - before.keys() - excluded)),
    )
    wrong = [f"{kind}: {file}" for kind, files in kinds for file in files]
    ill = ", ".join(f"{len(files):,} {kind}" for kind, files in kinds if files)
    well = f"all {len(before):,} have the sha256 of split.csv"
    return verdict("pictures", wrong, well, f"{ill}, of {len(before):,}", DATA_CHANGED)


def hashes(config: TrainConfig, events: Events) -> dict[str, str]:
    """File name -> sha256 as it is now, of the data's files; empty where one cannot be read."""
    source = open_source(
        config.data, follow_links=config.follow_links, allow_empty_classes=config.allow_empty_classes,
        unlabelled=config.task == "reconstruction",
    )  # fmt: skip
    if source.arrays is not None:
        data = open_data(config, 256, None, events)
        return dict(zip(data.files, data.sha256, strict=True))
    found = {}
    for item, digest in zip(source.items, ordered_map(_hash, source.items, threads=config.threads), strict=True):
        found[item.file] = digest
        events.emit("progress", what="checking", done=len(found), total=len(source.items))
    return found


def _hash(item: Item) -> str:
    try:
        return sha256_of(item.path) if item.path is not None else ""
    except OSError:
        return ""


def check_weights(folder: Path, record: records.Record | None) -> Check:
    path = folder / "model" / WEIGHTS
    digest = sha256_of(path)
    wrong = [] if read_card(folder / "model").sha256 == digest else ["model.json names another sha256"]
    if record is not None and record.weights != digest:
        wrong.append("run.json names another sha256")
    well = f"model.safetensors has the sha256 of model.json and run.json, {digest[:12]}"
    return verdict("weights", wrong, well, f"model.safetensors: {' and '.join(wrong)}")


def check_checkpoints(folder: Path, config: TrainConfig) -> Check:
    if config.head in CLOSED:
        return verdict("checkpoints", [], f"none: head {config.head} is fitted at once", "")
    paths = sorted((folder / FOLDER).glob("*.safetensors"))
    states = Checkpoints(folder)
    wrong = [path.name for path in paths if not is_whole(states, path.name)]
    if not wrong:
        state = states.load()
        if state.note:
            return verdict("checkpoints", [state.note], "", state.note)
        progress = state.facts["progress"]
        best = progress["best_file"]
        if best is not None and not (folder / FOLDER / best).is_file():
            return verdict("checkpoints", [best], "", f"{best}, the best weights, is missing")
        if read_json_lines(folder / "metrics.jsonl") != progress["history"]:
            return verdict("checkpoints", ["metrics.jsonl"], "", "metrics.jsonl is not what the checkpoint remembers")
        if config.watch and read_rows(folder) != progress["watched"]:
            return verdict("checkpoints", [FILE], "", f"{FILE} is not what the checkpoint remembers")
    logs = f"metrics.jsonl and {FILE} are" if config.watch else "metrics.jsonl is"
    well = f"{len(paths)} files have the sha256 of their names, and {logs} what they remember"
    return verdict("checkpoints", wrong, well, f"{len(wrong)} of {len(paths)} files are not what their names say")


def is_whole(states: Checkpoints, name: str) -> bool:
    try:
        states.check(name)
    except ModelFileError:
        return False
    return True


def check_predictions(folder: Path) -> Check:
    """The columns agree with each other, and with split.csv."""
    path = folder / "predictions.csv"
    found = Predictions.read(path)
    kept = {row.file: row for row in read_split(folder / "split.csv") if row.set in ("val", "test")}
    wrong = [*columns(path, found), *places(found, kept)]
    well = f"{len(found.files):,} rows, each with the class and set of split.csv and the label of its probabilities"
    return verdict(
        "predictions", wrong, well, f"predictions.csv contradicts itself or split.csv in {len(wrong):,} places"
    )


def check_reconstructions(folder: Path) -> Check:
    """The rows agree with split.csv, and codes.npy has as many."""
    found = Reconstructions.read(folder / RECONSTRUCTIONS)
    kept = {row.file: row for row in read_split(folder / "split.csv") if row.set in ("val", "test")}
    rows = dict(zip(found.files, zip(found.classes, found.split, strict=True), strict=True))
    where = {file: (row.label, row.set) for file, row in kept.items()}
    wrong = sorted(file for file in where.keys() | rows.keys() if where.get(file) != rows.get(file))
    codes = Opened.of(folder).codes
    if len(codes) != len(found.files):
        wrong.append(f"codes.npy has {len(codes):,} rows")
    well = f"{len(found.files):,} rows, each with the class and set of split.csv and a code"
    return verdict("reconstructions", wrong, well, f"{RECONSTRUCTIONS} contradicts split.csv in {len(wrong):,} places")


def check_results(folder: Path, record: records.Record, source: str) -> Check:
    """Every number of run.json again from what the run left."""
    again: dict[str, Any]
    if source == RECONSTRUCTIONS:
        back = Reconstructions.read(folder / source)
        again = {name: summarise_reconstructions(back.of(name)) for name in dict.fromkeys(back.split)}
    else:
        found = Predictions.read(folder / source)
        again = {name: summarise(found.of(name)) for name in dict.fromkeys(found.split)}
    return compare("results", again, record.results, "run.json", source)


def compare(name: str, again: Any, before: Any, where: str, source: str = "predictions.csv") -> Check:
    wrong = list(differences(json.loads(json.dumps(again)), before))
    number = sum(1 for _ in leaves(before))
    well = f"all {number:,} numbers of {where} follow from {source}"
    return verdict(name, wrong, well, f"of {number:,} numbers of {where} {len(wrong):,} do not follow from {source}")


def check_network(folder: Path, config: TrainConfig, record: records.Record, events: Events) -> Check:
    """The network's probabilities again, on every picture that was kept from training."""
    run, machine = Run(folder), choose_machine(config)
    card, before = run.card, Predictions.read(folder / "predictions.csv")
    data = open_data(config, card.preprocessing.resize, card.in_channels, quieter(events, set(), whole=False))
    row_of = {file: row for row, file in enumerate(data.files)}
    rows = np.array([row_of[file] for file in before.files], np.int64)
    network = run.network()
    machine.place(network)
    loader = evaluation_loader(data, rows, card.preprocessing, machine, config.threads)
    outcome = predict(network, loader.epoch(0), autocast=torch.bfloat16 if machine.bf16 else None)
    largest = float(np.abs(outcome.probabilities - before.probabilities).max())
    return close(record, machine, largest, f"{before.probabilities.size:,} probabilities")


def check_decoder(folder: Path, config: TrainConfig, record: records.Record, events: Events) -> Check:
    """What the network gives back again, of every picture that was kept from training: its squared errors."""
    run, machine = Run(folder), choose_machine(config)
    card, before = run.card, Reconstructions.read(folder / RECONSTRUCTIONS)
    data = open_data(config, card.preprocessing.resize, card.in_channels, quieter(events, set(), whole=False))
    row_of = {file: row for row, file in enumerate(data.files)}
    rows = np.array([row_of[file] for file in before.files], np.int64)
    network = run.network()
    assert isinstance(network, Autoencoder)
    machine.place(network)
    found = reconstruct(network, data, rows, card.preprocessing, machine, config).found
    # The file has nine digits.
    largest = float(np.abs(found.measures["mse"] - before.measures["mse"]).max())
    return close(record, machine, largest if largest > 1e-9 else 0.0, f"{len(rows):,} squared errors")


def close(record: records.Record, machine: Machine, largest: float, what: str) -> Check:
    """Whether the network's answers differ by no more than the conditions let expect."""
    last = record.sittings[-1].conditions()
    now = {
        "torch": torch.__version__, "device": device_name(machine.device), "threads": torch.get_num_threads(),
        "bf16": machine.bf16, "channels_last": machine.channels_last,
    }  # fmt: skip
    changed = [f"{name} was {last[name]} and is {value}" for name, value in now.items() if last[name] != value]
    exact = not changed and machine.device.type == "cpu"
    allowed = 0.0 if exact else TOLERANCE_BF16 if machine.bf16 or last["bf16"] else TOLERANCE
    under = "the same conditions" if not changed else f"other conditions ({'; '.join(changed)})"
    text = f"largest difference of {what} {largest:.3g}, at most {allowed:g} "
    text += f"expected under {under}"
    return verdict("network", [] if largest <= allowed else [f"{largest:.9g}"], text, text)


def check_folds(whole: folds.Folds) -> Check:
    """predictions.csv is that of the runs, and folds.json follows from it."""
    tests = [run.predictions("test") for run in whole.runs]
    together, kept = join(tests), whole.predictions()
    same = (together.files, together.split) == (kept.files, kept.split) and np.array_equal(
        together.probabilities, kept.probabilities
    )
    if not same or not np.array_equal(together.labels, kept.labels):
        return Check(
            "folds", "failed", "predictions.csv is not what those of the runs say", DAMAGED, ("predictions.csv",)
        )
    again = folds.numbers_of(whole.folder, [run.folder.name for run in whole.runs])[0]
    return compare("folds", again, {name: whole.numbers[name] for name in again}, FOLDS)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged ({error})", "restore it from a copy") from None
