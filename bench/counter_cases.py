"""The cases that counters are judged by: sums written by hand, and torchvision's networks with its published counts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TOLERANCE = 500_000  # torchvision publishes billions, rounded to three decimals


@dataclass(frozen=True)
class Case:
    """A module, one input with a batch of one, and what a judge says of it."""

    name: str
    build: Callable[[], nn.Module]
    input: Callable[[], Tensor]
    macs: int
    params: int | None = None  # judged where given
    tolerance: int = 0
    training: bool = False
    backward: bool = False  # forward and backward, the input's gradient too
    on_cpu: bool = False  # the CPU's own kernels are the point
    partial: bool = False  # something in it has no count that all agree on: saying so is the right answer


# The tricky cases


class Does(nn.Module):
    """A leaf that computes by functions, with weights of these shapes."""

    def __init__(self, what: Callable[..., Tensor], *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.what, self.weights = what, nn.ParameterList(nn.Parameter(torch.randn(shape)) for shape in shapes)

    def forward(self, x: Tensor) -> Tensor:
        return self.what(x, *self.weights)


class Quirk(nn.Module):
    """A convolution that no list of layer classes knows."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, padding=1)


class SelfAttention(nn.Module):
    """(B, N, 32) -> (B, N, 32) by four heads."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, bias=False, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.attention(x, x, x)[0]
        return mixed


class Reused(nn.Module):
    def __init__(self, times: int) -> None:
        super().__init__()
        self.layer, self.times = nn.Linear(64, 64, bias=False), times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.layer(x)
        return x


def alone(layer: Callable[..., nn.Module], *sizes: int, **options: Any) -> Callable[[], nn.Module]:
    """One layer in a network: some counters look only at the children of what they are given."""
    return lambda: nn.Sequential(layer(*sizes, bias=False, **options))


def shared_layers() -> nn.Module:
    layers = nn.Sequential(*(nn.Linear(16, 16, bias=False) for _ in range(3)))
    layers[1].weight = layers[2].weight = layers[0].weight
    return layers


def embedded() -> nn.Module:
    return nn.Sequential(nn.Embedding(1000, 32), nn.Linear(32, 10, bias=False))


def draw(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(1, *shape)


def attend(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x)


def after_linear(what: Callable[..., Tensor], *shapes: tuple[int, ...]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(16, 16, bias=False), Does(what, *shapes))


# No layer here has a bias: whether its additions count is a matter of taste.
TURNED = alone(nn.ConvTranspose2d, 8, 16, 4, stride=2, padding=1)
GROUPED = alone(nn.Conv2d, 16, 32, 3, padding=1, groups=4)
DEPTHWISE = alone(nn.Conv2d, 16, 16, 3, padding=1, groups=16)
ENCODER = alone(nn.TransformerEncoderLayer, 32, 4, 64, batch_first=True)
LSTM = alone(nn.LSTM, 12, 20, batch_first=True)
GRU = alone(nn.GRU, 12, 20, num_layers=2, bidirectional=True, batch_first=True)

TURNED_MACS = 8 * 16 * 4 * 4 * 10 * 10  # each weight meets each place of the input
GROUPED_MACS = 32 * (16 // 4) * 3 * 3 * 12 * 12
DEPTHWISE_MACS = 16 * 1 * 3 * 3 * 12 * 12
HEADS_MACS = 10 * 32 * (3 * 32) + 10 * 10 * (32 + 32) + 10 * 32 * 32  # to q, k, v; scores and their sums; out
ATTEND_MACS = 4 * 10 * 10 * (8 + 8)  # four heads, ten tokens of width 8
TRICKY = [
    Case("transposed convolution", TURNED, draw(8, 10, 10), TURNED_MACS, 8 * 16 * 4 * 4),
    Case("transposed, forward and backward", TURNED, draw(8, 10, 10), 3 * TURNED_MACS, backward=True),
    Case("`F.conv2d` in a leaf called Quirk", Quirk, draw(4, 9, 9), 8 * 4 * 3 * 3 * 9 * 9, 8 * 4 * 3 * 3),
    Case("grouped convolution", GROUPED, draw(16, 12, 12), GROUPED_MACS, 32 * 4 * 3 * 3),
    Case("grouped, forward and backward", GROUPED, draw(16, 12, 12), 3 * GROUPED_MACS, backward=True),
    Case("depthwise convolution", DEPTHWISE, draw(16, 12, 12), DEPTHWISE_MACS, 16 * 3 * 3),
    Case("depthwise, forward and backward", DEPTHWISE, draw(16, 12, 12), 3 * DEPTHWISE_MACS, backward=True),
    Case("`nn.MultiheadAttention`, train mode", SelfAttention, draw(10, 32), HEADS_MACS, training=True),
    Case("`nn.MultiheadAttention`, eval mode", SelfAttention, draw(10, 32), HEADS_MACS, 4 * 32 * 32),
    Case("`nn.TransformerEncoderLayer`, eval mode", ENCODER, draw(10, 32), HEADS_MACS + 2 * 10 * 32 * 64),
    Case("`F.scaled_dot_product_attention`", lambda: Does(attend), draw(4, 10, 8), ATTEND_MACS),
    Case("the same on real CPU tensors", lambda: Does(attend), draw(4, 10, 8), ATTEND_MACS, on_cpu=True),
    Case("`nn.LSTM`", LSTM, draw(7, 12), 7 * 4 * 20 * (12 + 20), 4 * 20 * (12 + 20)),
    Case("`nn.GRU`, 2 layers, both directions", GRU, draw(7, 12), 7 * 2 * 3 * 20 * ((12 + 20) + (2 * 20 + 20))),
    Case("`nn.Linear` reused 1,000 times", lambda: Reused(1000), draw(64), 1000 * 64 * 64, 64 * 64),
    Case("`nn.Linear` on 50 tokens", alone(nn.Linear, 24, 8), draw(50, 24), 50 * 24 * 8, 24 * 8),
    Case("`nn.Embedding`, then `nn.Linear`", embedded, lambda: torch.arange(12)[None], 12 * 32 * 10,
         1000 * 32 + 32 * 10),
    Case("`torch.einsum`", lambda: Does(lambda x, w: torch.einsum("bnd,bmd->bnm", x, w), (1, 6, 16)), draw(9, 16),
         9 * 6 * 16, 6 * 16),
    Case("`torch.baddbmm`", lambda: Does(lambda x, w, b: torch.baddbmm(b, x, w), (1, 16, 6), (1, 9, 6)), draw(9, 16),
         9 * 16 * 6, 16 * 6 + 9 * 6),
    Case("the operator `@`", lambda: Does(lambda x, w: x @ w, (16, 6)), draw(9, 16), 9 * 16 * 6, 16 * 6),
    Case("three layers that share parameters", shared_layers, draw(16), 3 * 16 * 16, 16 * 16),
    Case("`nn.Linear`, then `torch.fft.rfft2`", after_linear(lambda x: torch.fft.rfft2(x).real), draw(9, 16),
         9 * 16 * 16, partial=True),
    Case("`nn.Linear`, then `torch.cdist`", after_linear(torch.cdist, (5, 16)), draw(9, 16), 9 * 16 * 16,
         partial=True),
]  # fmt: skip

NETWORKS = (
    "alexnet", "vgg16", "googlenet", "resnet50", "resnext50_32x4d", "densenet121", "mobilenet_v2",
    "mobilenet_v3_large", "efficientnet_b0", "shufflenet_v2_x1_0", "convnext_tiny", "vit_b_16", "swin_t",
)  # fmt: skip


def network_case(name: str) -> Case:
    """torchvision's network with its published counts; import torchvision's declared operators first."""
    from torchvision import models

    extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    meta = models.get_model_weights(name).DEFAULT.meta
    macs = round(meta["_ops"] * 1e9)
    return Case(name, lambda: models.get_model(name, **extra), draw(3, 224, 224), macs, meta["num_params"], TOLERANCE)
