"""What a run must remember, as tensors by name and facts that JSON can hold; and back again.

network/…   weights and buffers        optimizer/NAME/…   what the optimizer keeps of a parameter
average/…   their moving average       facts: progress, the average's steps, what the run was made with
watch/…     what a watcher has counted since its last row
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from neocog.core.errors import ModelFileError, UsageError
from neocog.training.average import WeightAverage
from neocog.training.checkpoint import State
from neocog.training.contracts import Watcher
from neocog.training.progress import Progress
from neocog.training.world import like, whole


def tensors_of(network: nn.Module, optimizer: Optimizer, average: WeightAverage | None) -> dict[str, Tensor]:
    """Every process must ask: parts that are divided are put together."""
    found = {f"network/{name}": whole(value) for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                found[f"optimizer/{name}/{key}"] = whole(value)
    if average is not None:
        found |= {f"average/{name}": whole(value) for name, value in average.values.items()}
    return found


def facts_of(progress: Progress, average: WeightAverage | None, identity: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "progress": asdict(progress),
        "average_steps": average.steps if average is not None else None,
        "identity": dict(identity),
    }


def compare(found: State, identity: Mapping[str, Any], where: Path) -> None:
    """UsageError that lists every setting in which the checkpoint's run and this one differ."""
    before = found.facts.get("identity", {})
    differences = [
        f"{name} was {_short(before.get(name))} and is {_short(now)}"
        for name, now in identity.items()
        if before.get(name) != now
    ]
    if differences:
        raise UsageError(
            f"{where} was made with other settings: {', '.join(differences)}",
            "resume with those it was made with, or train a new run",
        )


def restore(
    found: State, network: nn.Module, optimizer: Optimizer, average: WeightAverage | None, where: Path,
    watcher: Watcher | None = None,
) -> Progress:  # fmt: skip
    """ModelFileError where the state does not fit the network."""
    tensors = found.tensors
    try:
        own = network.state_dict()
        network.load_state_dict({name: like(tensors[f"network/{name}"], value) for name, value in own.items()})
        _restore_optimizer(tensors, network, optimizer)
        if average is not None:
            average.steps = found.facts["average_steps"]
            for name, value in average.values.items():
                value.copy_(like(tensors[f"average/{name}"], value))
        if watcher is not None:
            start = "watch/"
            watcher.load({key.removeprefix(start): one for key, one in tensors.items() if key.startswith(start)})
        progress = Progress(**found.facts["progress"])
        accuracy, loss = progress.best_score
        progress.best_score = accuracy, loss  # JSON has no tuples
        return progress
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelFileError(
            f"{where} does not fit this run's network ({str(error).splitlines()[0][:120]})",
            "resume with the settings the run was started with",
        ) from None


def _restore_optimizer(tensors: Mapping[str, Tensor], network: nn.Module, optimizer: Optimizer) -> None:
    """Moments lie in memory as their weights do, which is what fused kernels expect. Rates are set anew each step."""
    plain = optimizer.state_dict()
    numbers: dict[int, int] = {}
    for group, named in zip(optimizer.param_groups, plain["param_groups"], strict=True):
        numbers |= {id(parameter): number for parameter, number in zip(group["params"], named["params"], strict=True)}
    kept: dict[int, dict[str, Tensor]] = {}
    for name, parameter in network.named_parameters():
        start = f"optimizer/{name}/"
        values = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        if values and id(parameter) in numbers:
            kept[numbers[id(parameter)]] = {
                key: like(value, parameter) if value.shape == parameter.shape else value
                for key, value in values.items()
            }
    optimizer.load_state_dict({"state": kept, "param_groups": plain["param_groups"]})


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
