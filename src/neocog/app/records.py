"""`run.json`: under what conditions a run was made, sitting by sitting, and how it ended.

command, seed, versions     what was asked, and with what
manifest                    the sha256 of split.csv, which holds every file's class, set and sha256
sittings                    start (UTC), machine, threads, processes, torch; where it began and how it ended
exact                       whether a run of one sitting would have given the same bits
results, weights            the numbers of predictions.csv and the sha256 of the weights, for `val --verify`
"""

import json
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import PIL
import torch

import neocog
from neocog.app.machine import Machine, device_name
from neocog.core.errors import ModelFileError
from neocog.core.files import sha256_of, write_atomic
from neocog.training.world import World

NAME = "run.json"
FORMAT = 1


@dataclass
class Sitting:
    """One process's, or one job's, stretch of work on a run. The first six decide the bits of the result."""

    torch: str
    device: str
    threads: int
    processes: int
    bf16: bool
    channels_last: bool
    started: str = ""
    from_batch: int = 0
    ended: str = "running"  # finished, or the exit code's meaning
    exit_code: int | None = None

    def conditions(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("torch", "device", "threads", "processes", "bf16",
                                                       "channels_last")}  # fmt: skip


@dataclass
class Record:
    command: str
    seed: int
    manifest: str
    config: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    sittings: list[Sitting] = field(default_factory=list)
    exact: bool = True
    weights: str = ""
    results: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def sit_down(self, machine: Machine, world: World, from_batch: int) -> list[str]:
        """Adds a sitting, and says in what it differs from the one before it so that other bits follow."""
        sitting = Sitting(
            torch.__version__, device_name(machine.device), torch.get_num_threads(), world.size, machine.bf16,
            machine.channels_last, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", from_batch,
        )  # fmt: skip
        changed = []
        if self.sittings:
            before, now = self.sittings[-1].conditions(), sitting.conditions()
            changed = [f"{name} was {before[name]} and is {now[name]}" for name in now if before[name] != now[name]]
        self.sittings.append(sitting)
        self.exact = self.exact and not changed
        return changed

    def get_up(self, ended: str, exit_code: int) -> None:
        self.sittings[-1].ended, self.sittings[-1].exit_code = ended, exit_code

    def is_whole(self, folder: Path) -> bool:
        """What the run left is as it was left; else it can be written again from the checkpoint."""
        weights = folder / "model" / "model.safetensors"
        results = any((folder / name).is_file() for name in ("predictions.csv", "reconstructions.csv"))
        rest = (folder / name for name in ("model/model.json", "report.html"))
        return (
            results
            and all(path.is_file() for path in rest)
            and weights.is_file()
            and sha256_of(weights) == self.weights
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    def write(self, folder: Path) -> None:
        write_atomic(folder / NAME, self.to_json())


def versions() -> dict[str, str]:
    return {
        "neocog": neocog.__version__, "torch": torch.__version__, "numpy": numpy.__version__,
        "Pillow": PIL.__version__, "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }  # fmt: skip


def manifest_of(folder: Path) -> str:
    return sha256_of(folder / "split.csv")


def read(folder: Path) -> Record:
    """ModelFileError where the file is missing, damaged or of a newer neocog."""
    path = folder / NAME
    try:
        values = json.loads(path.read_bytes())
        if values["format"] > FORMAT:
            newer = values.get("versions", {}).get("neocog", "a newer version")
            raise ModelFileError(
                f"{path} was written by neocog {newer}: it needs that or a later one", "upgrade neocog"
            )
        return _record(values)
    except FileNotFoundError:
        raise ModelFileError(f"{path} does not exist", "give a folder that `neocog train` made") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} is damaged ({error or type(error).__name__})", "restore it from a copy") from None


def parse(text: str) -> Record:
    """What `to_json` gave."""
    return _record(json.loads(text))


def _record(values: dict[str, Any]) -> Record:
    sittings = [Sitting(**one) for one in values.pop("sittings")]
    if not sittings or not isinstance(values["results"], dict) or not isinstance(values["weights"], str):
        raise ValueError("a field is missing or of another kind")
    return Record(**values, sittings=sittings)
