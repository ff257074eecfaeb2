"""The folder of a comparison, and what is remembered in it, so that a repeated command goes on where one stopped.

OUT/compare.json          what was asked, the plan, and where each candidate stands; rewritten as a whole
OUT/resnet18-full/ ...    an ordinary run for each candidate
OUT/compare.csv, compare.html
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import neocog
from neocog.app import folder as run_folder
from neocog.app.compare_plan import Measured
from neocog.app.compare_run import FREE
from neocog.core.config import TrainConfig
from neocog.core.errors import ModelFileError, UsageError
from neocog.core.files import write_atomic
from neocog.training.budget import Pace

NAME = "compare.json"
FORMAT = 1


@dataclass
class Row:
    """A candidate. `state`: waiting, paused, dropped, finished, shortened or failed."""

    name: str  # of its folder
    model: str
    regime: str
    weights: str | None
    state: str = "waiting"
    settings: dict[str, Any] = field(default_factory=dict)  # decided beside those that all share: epochs, views, regime
    targets: list[int] = field(default_factory=list)  # epochs after each rung
    measured: dict[str, Any] | None = None
    rungs: list[dict[str, Any]] = field(default_factory=list)  # epochs, seconds, val_accuracy, val_loss after each
    dropped: int | None = None  # the rung after which it was not among the better half
    error: str = ""
    error_code: int = 0
    note: str = ""
    epochs: float = 0.0  # learned
    seconds: float = 0.0  # of training, with embedding
    val: float | None = None  # accuracies of the weights that were kept
    val_loss: float | None = None
    test: float | None = None
    test_interval: list[float] | None = None
    test_pictures: int = 0
    params: int | None = None
    macs: int | None = None
    memory: int | None = None  # bytes of a training step at its peak
    latency: float | None = None  # milliseconds

    @property
    def planned(self) -> int:
        """Epochs."""
        return self.targets[-1] if self.targets else 0

    @property
    def way(self) -> str:
        """Its regime, and whether it was chosen for it."""
        return f"{self.regime} (auto)" if self.name.endswith("-auto") and self.regime != "auto" else self.regime

    @property
    def alive(self) -> bool:
        return self.dropped is None and self.state != "failed"

    @property
    def pace(self) -> Measured:
        assert self.measured is not None
        return Measured(**self.measured | {"pace": Pace(**self.measured["pace"])})

    def config(self, shared: TrainConfig) -> TrainConfig:
        """The settings of its run."""
        own = {"model": self.model, "regime": self.regime, "weights": self.weights, "time": None}
        return shared.model_copy(update=own | dict.fromkeys(foreign(self.regime)) | self.settings)


def foreign(regime: str) -> set[str]:
    """Shared settings that are for another regime than this one."""
    return {name for name, own in (("views", "features"), ("unfreeze", "partial")) if regime != own}


@dataclass
class State:
    """compare.json. `asked`: everything that decides the result; `manifest`: the sha256 of the candidates' split."""

    asked: dict[str, Any]
    rows: list[Row]
    command: str = ""
    sizes: list[int] = field(default_factory=list)  # candidates in each rung
    shares: list[float] = field(default_factory=list)  # seconds of training for each
    rung: int = 0  # rungs that are over
    seconds: float = 0.0  # of all sittings
    manifest: str = ""
    facts: dict[str, Any] = field(default_factory=dict)  # of the pictures and the machine
    notes: list[str] = field(default_factory=list)
    paired: dict[str, Any] | None = None
    complete: bool = False
    written_by: str = neocog.__version__
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        write_atomic(folder / NAME, json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")


def read(folder: Path) -> State:
    """ModelFileError where the file is missing, damaged or of a newer neocog."""
    path = folder / NAME
    try:
        values = json.loads(path.read_bytes())
        if values["format"] > FORMAT:
            raise ModelFileError(f"{path} was written by a newer neocog ({values['written_by']})", "upgrade neocog")
        return State(**values | {"rows": [Row(**one) for one in values["rows"]]})
    except FileNotFoundError:
        raise ModelFileError(f"{folder} holds no comparison", "give a folder that `neocog compare` made") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "compare again with another --out; the runs in the folder are whole"
        raise ModelFileError(f"{path} is damaged ({error or type(error).__name__})", hint) from None


def asked(config: TrainConfig, rows: list[Row], time: str | None) -> dict[str, Any]:
    """What two commands must agree on to be the same comparison."""
    own = {"model", "regime", "weights", "time"}
    settings = {name: value for name, value in config.model_dump().items() if name not in own}
    candidates = {row.name: row.weights for row in rows}
    return {"candidates": candidates, "time": time, "settings": json.loads(json.dumps(settings))}


def choose(out: str | Path | None, data: str, wanted: dict[str, Any], *, again: bool) -> tuple[Path, State | None]:
    """The folder, and the comparison that lies there already. UsageError where it is another one, or something else."""
    folder = None if out is None else Path(out)
    if folder is None or not (folder / NAME).is_file():
        return run_folder.choose_folder(folder, "compare", data), None
    if not again:
        hint = "leave out --resume never to go on with it, or give another --out"
        raise UsageError(f"{folder} holds a comparison already", hint)
    state = read(folder)
    before, now = _flat(state.asked), _flat(wanted)
    names = [name for name in {**before, **now} if name not in FREE and before.get(name) != now.get(name)]
    if names:
        said = ", ".join(f"{name} was {before.get(name)!r} and is {now.get(name)!r}" for name in names)
        raise UsageError(f"the comparison in {folder} was begun with other settings: {said}", "give another --out")
    return folder, state


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    return {"candidates": values["candidates"], "time": values["time"], **values["settings"]}
