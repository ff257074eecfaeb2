"""A classifier of the zoo with weights from elsewhere: what a run gives, but for the records of training."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from neocog.app.published import bundle_in
from neocog.app.run import Run
from neocog.app.zoo import Loaded, list_models, load_model
from neocog.core.config import TrainConfig
from neocog.core.contracts import Network
from neocog.core.errors import DataError, UsageError
from neocog.core.registry import lookup
from neocog.evaluate import Predictions
from neocog.export.bundle import ModelCard

DATA = "none"  # such a network has no pictures of its own


@dataclass(frozen=True)
class Pretrained(Run):
    """`folder` is the network's name. `weights` as `create_model` takes them; `names`: of the classes in the order of
    the outputs, by default their numbers. UsageError for an unknown name, ModelFileError for a file that does not fit
    or has another number of classes."""

    weights: str
    names: tuple[str, ...] | None = None

    @cached_property
    def loaded(self) -> Loaded:
        classes = None if self.names is None else len(self.names)
        return load_model(str(self.folder), weights=self.weights, num_classes=classes, whole=True)

    @cached_property
    def card(self) -> ModelCard:
        loaded, name = self.loaded, lookup(str(self.folder)).spec.name
        network = loaded.network
        if not network.num_classes:
            raise UsageError(f"{name} classifies nothing", "give a network of `neocog models`, not an autoencoder")
        assert loaded.preprocessing is not None  # it has weights
        return ModelCard(
            model=name, knobs=loaded.knobs, in_channels=network.in_channels, background=self.config.background,
            classes=list(self.names or map(str, range(network.num_classes))), preprocessing=loaded.preprocessing,
            head=loaded.head, provenance=loaded.provenance,
        )  # fmt: skip

    @cached_property
    def config(self) -> TrainConfig:
        return TrainConfig.model_validate({"data": DATA, "model": str(self.folder), "weights": self.weights})

    @property
    def origin(self) -> str:
        return f"weights {self.weights}"

    def predictions(self, split: str = "test") -> Predictions:
        raise DataError(f"{self.folder} with weights from elsewhere has no {split} pictures", "give pictures by name")

    def has(self, split: str) -> bool:
        return False

    def network(self) -> Network:
        return self.loaded.network.eval()


def open_run(run: str | Path, weights: str | None = None, classes: str | Path | Sequence[str] | None = None) -> Run:
    """A finished run's folder; with `weights` the name of a network. `classes`: a file of class names or the names
    themselves. UsageError where the two do not go together."""
    if weights is not None:
        if bundle_in(weights) is not None:
            raise UsageError(f"{weights} is a run", f"give it in the place of {run}, without --weights")
        names = read_classes(classes) if isinstance(classes, (str, Path)) else classes
        opened: Run = Pretrained(Path(run), weights, None if names is None else tuple(names))
        assert opened.card  # read and checked now rather than later
        return opened
    if classes is not None:
        raise UsageError("a run knows its classes", "leave --classes out, or give a network's name and --weights")
    if not Path(run).exists() and str(run) in list_models():
        raise UsageError(f"{run} is a network, not a run", "say which weights it has: --weights imagenet, or a file")
    return Run.open(run)


def read_classes(file: str | Path) -> list[str]:
    """A name a line; or JSON: a list of names, or Keras's index, {"0": ["n01440764", "tench"], ...}. DataError."""
    path = Path(file)
    try:
        text = path.read_text("utf-8")
        if path.suffix != ".json":
            return distinct(text.splitlines(), path)
        found = json.loads(text)
        if isinstance(found, dict):
            found = [found[str(i)] for i in range(len(found))]
        names = [one[-1] if isinstance(one, list) else one for one in found]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the class names in {path} cannot be read ({error})", "give a text file, a name a line"
        ) from None
    except (ValueError, KeyError, TypeError, IndexError):
        names = []
    if not names or not all(isinstance(name, str) for name in names):
        hint = 'give a list of names, or numbers with names: {"0": ["n01440764", "tench"], ...}'
        raise DataError(f"{path} is no list of class names", hint)
    return distinct(names, path)


def distinct(names: Sequence[str], path: Path) -> list[str]:
    """Without empty lines at the end. Of two classes of one name (ImageNet has two cranes and two maillots) the second
    and further are numbered, so that each can be asked for."""
    found: dict[str, None] = {}
    for number, name in enumerate(map(str.strip, names)):
        if not name and any(map(str.strip, names[number:])):
            raise DataError(f"{path} has no name for class {number}", "give each class a name")
        if name:
            found[name if name not in found else f"{name} ({number})"] = None
    if not found:
        raise DataError(f"{path} holds no class names", "give a text file, a name a line")
    return list(found)
