"""What a search may change, as one table: between which values, under which regimes, and why these.

A setting that is given on the command line is no part of the search. Under regime features the pictures' augmentation
is not either: each other one would embed every picture anew. What can change there at no cost is how many of the kept
views are learned from, and MixUp, which mixes embeddings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from neocog.core.config import TrainConfig
from neocog.core.errors import UsageError
from neocog.core.head import CLOSED

if TYPE_CHECKING:
    from optuna.trial import Trial

PIXELS = ("scratch", "probe", "partial", "full", "gradual")
TUNED = ("partial", "full", "gradual")
ALL = (*PIXELS, "features")
PRESETS = ("none", "light", "photo")
MOST_LR = 100.0  # that a configuration may have
CANDIDATE = "candidate"  # the axis of network and regime, where there are several


@dataclass(frozen=True)
class Axis:
    """A setting from `low` to `high`. `kind`: linear; log; times: log, in multiples of the default; upto: whole numbers
    from `low` to the default; choice: one of PRESETS."""

    name: str
    kind: Literal["linear", "log", "times", "upto", "choice"]
    low: float
    high: float
    regimes: tuple[str, ...]
    reason: str

    def range(self, default: Any) -> tuple[float, float]:
        """With the default always inside."""
        if self.kind == "upto":
            return self.low, max(default, self.low)
        if self.kind == "times":
            return self.low * default, min(self.high * default, MOST_LR)
        return min(self.low, default), max(self.high, default)

    def words(self, default: Any) -> str:
        """The range as a person reads it."""
        if self.kind == "choice":
            return ", ".join(PRESETS)
        low, high = self.range(default)
        return f"{low:.4g} to {high:.4g}" + (", logarithmic" if self.kind in ("log", "times") else "")

    @property
    def outline(self) -> str:
        """Name and range, whatever the default is."""
        if self.kind == "choice":
            return f"{self.name} {'|'.join(PRESETS)}"
        if self.kind == "upto":
            return f"{self.name} {self.low:g} to the default"
        return f"{self.name} {self.low:g} to {self.high:g}" + " times the default" * (self.kind == "times")


SPACE = (
    # name               kind      low   high  regimes      reason
    Axis("lr",              "times",  0.01, 10.0, ALL,
         "the setting that matters most: Bengio, arXiv:1206.5533"),
    Axis("weight_decay",    "log",    1e-5, 0.3,  ALL,
         "best values lie decades apart from task to task: Loshchilov and Hutter, arXiv:1711.05101"),
    Axis("augment",         "choice", 0.0,  0.0,  PIXELS,
         "what leaves a picture's class alone differs from data to data"),
    Axis("erasing",         "linear", 0.0,  0.5,  PIXELS,
         "up to the paper's probability: Zhong et al., arXiv:1708.04896"),
    Axis("mixup",           "linear", 0.0,  0.4,  ALL,
         "up to the paper's largest useful alpha on ImageNet: Zhang et al., arXiv:1710.09412, section 3.1"),
    Axis("label_smoothing", "linear", 0.0,  0.2,  ALL,
         "0.1 in Szegedy et al., arXiv:1512.00567, section 7"),
    Axis("finetune_lr",     "log",    0.01, 1.0,  TUNED,
         "from nearly frozen to no difference between new and pretrained parts"),
    Axis("layer_decay",     "linear", 0.5,  1.0,  TUNED,
         "1/2.6 in Howard and Ruder, arXiv:1801.06146, section 3.2; 0.65 to 1 in later work"),
    Axis("views",           "upto",   1,    0,    ("features",),
         "all views are kept already; fewer of them cost nothing to try"),
)  # fmt: skip
BY_NAME = {axis.name: axis for axis in SPACE}


def defaults(decided: TrainConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is searched for this candidate, and the value that each has without a search. `decided`: all settings as a
    run would take them; `given`: those a person chose, which stay. UsageError where nothing is left to search."""
    if decided.head in CLOSED:
        raise UsageError(f"head {decided.head} is fitted at once: there is nothing to search",
                         "use --head linear or mlp, or leave --search out")  # fmt: skip
    chosen = {name for name, value in given.items() if value is not None}
    if decided.loss == "margin":
        chosen.add("label_smoothing")  # which that loss has not
    names = [axis.name for axis in SPACE if axis.name not in chosen and decided.regime in axis.regimes]
    if not names:
        raise UsageError("every setting of the search is given: there is nothing to search", "leave some of them out")
    return {name: getattr(decided, name) for name in names}


def suggest(trial: "Trial", candidates: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """(candidate, its settings) that Optuna tries next. `candidates`: the defaults of each."""
    names = list(candidates)
    name = str(trial.suggest_categorical(CANDIDATE, names)) if len(names) > 1 else names[0]
    return name, {one: _suggest(trial, BY_NAME[one], default) for one, default in candidates[name].items()}


def _suggest(trial: "Trial", axis: Axis, default: Any) -> Any:
    if axis.kind == "choice":
        return trial.suggest_categorical(axis.name, PRESETS)
    low, high = axis.range(default)
    if axis.kind == "upto":
        return trial.suggest_int(axis.name, int(low), int(high))
    return trial.suggest_float(axis.name, low, high, log=axis.kind != "linear")
