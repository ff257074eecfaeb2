"""CapsNet: neurons in small groups, whose direction says how a thing looks and whose length says that it is there.

Every capsule of a lower layer predicts, through a matrix of its own, each capsule of the layer above. Routing
by agreement then decides who speaks to whom: predictions that agree with what a capsule has become gain
weight, in a few rounds and anew for every picture. The lengths of the last capsules are the scores.

Paper: Sabour, Frosst and Hinton, "Dynamic Routing Between Capsules", NIPS 2017, arXiv:1710.09829. The layers are
its figure 1 and section 4, `squash` equation 1, `routed` Procedure 1.
Differs from the paper: the decoder, which redraws the digit to regularise the training, is left out: 6.8 of the
paper's 8.2 million parameters remain.

    image             1 x 28 x 28
    conv1           256 x 20 x 20    9x9, ReLU
    primary_caps    256 x  6 x  6    9x9/2: 32 capsules of 8 numbers at every place
    head            1152 capsules -> 10 capsules of 16 numbers -> their lengths
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Spec

CONV1, KERNEL = 256, 9
PRIMARY, PRIMARY_SIZE = 32, 8  # kinds of primary capsules, numbers in each
CLASS_SIZE = 16  # numbers in a class's capsule
ROUNDS = 3


def squash(s: Tensor) -> Tensor:
    """(..., D) -> the same shape and direction, length n becomes n^2 / (1 + n^2)."""
    n: Tensor = torch.linalg.vector_norm(s, dim=-1, keepdim=True)
    return s * (n / (1 + n * n))


def routed(votes: Tensor, rounds: int) -> Tensor:
    """(B, N, K, D) predictions of N capsules for K -> (B, K, D), the capsules they agree on."""
    logits = votes.new_zeros(votes.shape[:3])  # (B, N, K)
    for last in range(rounds - 1, -1, -1):
        shares = logits.softmax(dim=2)  # of each lower capsule over the classes
        v = squash(torch.einsum("bnk,bnkd->bkd", shares, votes))
        if last:
            logits = logits + torch.einsum("bnkd,bkd->bnk", votes, v)
    return v


class PrimaryCaps(nn.Module):
    """(B, 256, H, W) -> (B, 256, h, w): channel 8 * i + j is number j of capsule i."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CONV1, PRIMARY * PRIMARY_SIZE, KERNEL, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        b, c, h, w = x.shape
        capsules = squash(x.reshape(b, PRIMARY, PRIMARY_SIZE, h, w).movedim(2, -1))
        return capsules.movedim(-1, 2).reshape(b, c, h, w)


class Flatten(nn.Module):
    """(B, 256, h, w) -> (B, 32 * h * w * 8): one capsule after the other."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), PRIMARY, PRIMARY_SIZE, -1).transpose(2, 3).flatten(1)


class ClassCaps(nn.Module):
    """(B, capsules * 8) -> (B, K, 16). `weight[k, i]` is the matrix by which capsule i predicts class k."""

    def __init__(self, capsules: int, num_classes: int, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.weight = nn.Parameter(torch.empty(num_classes, capsules, CLASS_SIZE, PRIMARY_SIZE))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.weight, std=0.1)  # the authors' code; the paper is silent

    def forward(self, x: Tensor) -> Tensor:
        u = x.reshape(len(x), -1, PRIMARY_SIZE)  # (B, N, 8)
        return routed(torch.einsum("knde,bne->bnkd", self.weight, u), self.rounds)

    def extra_repr(self) -> str:
        k, capsules, d, e = self.weight.shape
        return f"{capsules} capsules of {e} -> {k} of {d}, rounds={self.rounds}"


class Length(nn.Module):
    """(B, K, D) -> (B, K)"""

    def forward(self, x: Tensor) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(x, dim=-1)
        return length


class CapsNet(Network):
    """(B, C, image_size, image_size) -> (B, K) lengths in 0..1, each the belief that its class is there.

    ValueError where the image is too small or `routing_rounds` is not positive."""

    stage_channels = (CONV1, PRIMARY * PRIMARY_SIZE)
    stage_strides = (1, 2)
    classifier = "class_caps"
    scores = "lengths"

    def __init__(self, num_classes: int, in_channels: int, image_size: int, routing_rounds: int) -> None:
        super().__init__()
        smallest = 2 * KERNEL - 1
        if image_size < smallest:
            raise ValueError(f"image_size = {image_size} leaves no capsule; at least {smallest}")
        if routing_rounds < 1:
            raise ValueError(f"routing_rounds = {routing_rounds} must be at least 1")
        self.num_classes, self.in_channels, self.fixed_size = num_classes, in_channels, image_size
        self.stem = nn.Identity()
        conv1, primary = nn.Conv2d(in_channels, CONV1, KERNEL), PrimaryCaps()
        self.stages = nn.Sequential(
            OrderedDict(
                conv1=nn.Sequential(OrderedDict(conv=conv1, act=nn.ReLU(inplace=True))),
                primary_caps=primary,
            )
        )
        grid = (image_size - smallest) // 2 + 1
        self.head = nn.Sequential(
            OrderedDict(
                flatten=Flatten(),
                class_caps=ClassCaps(PRIMARY * grid**2, num_classes, routing_rounds),
                length=Length(),
            )
        )
        # The paper is silent; the authors' code (https://github.com/Sarasra/models, research/capsules). It makes the
        # primary capsules long, near 1: PyTorch's own start (`--init pytorch`) learns faster in the first epochs.
        for layer, std in ((conv1, 0.05), (primary.conv, 0.1)):
            nn.init.trunc_normal_(layer.weight, std=std)
            nn.init.constant_(layer.bias, 0.1)  # type: ignore[arg-type]  # both have one

    def reset_head(self, num_classes: int) -> None:
        old = self.head.get_submodule(self.classifier)
        assert isinstance(old, ClassCaps)
        new = ClassCaps(old.weight.shape[1], num_classes, old.rounds)
        self.head.set_submodule(self.classifier, new.to(old.weight.device, old.weight.dtype))
        self.num_classes = num_classes


@register(
    Spec(
        name="capsnet",
        idea="Groups of neurons that route their votes by agreement; a length is the belief in a class.",
        title="Dynamic Routing Between Capsules",
        year=2017,
        link="https://arxiv.org/abs/1710.09829",
        table="Figure 1",
        input_shape=(1, 28, 28),
        num_classes=10,
        params=6_804_224,
        macs=201_793_536,
    )
)
def capsnet(
    *, num_classes: int = 10, in_channels: int = 1, image_size: int = 28, routing_rounds: int = ROUNDS
) -> CapsNet:
    """`routing_rounds`: how often the capsules agree anew (Procedure 1's r)."""
    return CapsNet(num_classes, in_channels, image_size, routing_rounds)
