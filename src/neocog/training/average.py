"""An exponential moving average of the weights, which is often better than the last step's weights."""

import torch
from torch import Tensor, nn


class WeightAverage:
    """After each step: average = d * average + (1 - d) * weights, with d = min(decay, (1 + t) / (10 + t)) so
    that the first steps do not drag the random start along (the rule of TensorFlow's ExponentialMovingAverage).
    Buffers (batch-norm statistics) are averages already and are copied."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.values = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        learned = {name for name, _ in network.named_parameters()}
        for name, value in network.state_dict().items():
            if name in learned:
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)

    def state_dict(self) -> dict[str, object]:
        return {"steps": self.steps, "values": self.values}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.steps = state["steps"]  # type: ignore[assignment]
        values: dict[str, Tensor] = state["values"]  # type: ignore[assignment]
        for name, value in values.items():
            self.values[name].copy_(value)
