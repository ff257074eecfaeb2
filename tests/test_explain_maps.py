"""Maps against the networks' own features, and activations however they are spelled."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from draw import draw, drawn, pictures, small_shape
from neocog.core.contracts import Network
from neocog.core.errors import UsageError
from neocog.explaining.maps import activations, before_and_after, to_grid
from neocog.models import vit
from untouched import fingerprint

ZOO = ["lenet5", "mnist_dense", "squeezenet1_1", "resnet18", "preact_resnet18", "mobilenet_v2", "shufflenet_v2_x0_5"]


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setitem(vit.SIZES, "tiny", (2, 32, 64, 4))
    network = vit.VisionTransformer("tiny", 16, 7, 3, 48, 0.1)
    draw(network, (3, 48, 48))
    return network


@pytest.mark.parametrize("name", ZOO)
def test_maps_are_the_features_of_the_network(name: str) -> None:
    network = drawn(name)
    x = pictures(1, small_shape(network))
    with torch.no_grad():
        wanted = network.features(x)
    found = activations(network, x)
    assert [one.layer for one in found] == [f"stages.{key}" for key, _ in network.stages.named_children()]
    for one, feature in zip(found, wanted, strict=True):
        assert feature.std() > 0
        assert torch.equal(one.maps.flatten(), feature[0].flatten())
        assert one.maps.dim() == 3
        mean = [float(channel.mean()) for channel in one.maps]
        assert one.means.tolist() == pytest.approx(mean, rel=1e-4, abs=1e-6)
        assert one.means[one.order].tolist() == sorted(one.means.tolist(), reverse=True)
        assert not one.maps.requires_grad


def test_tokens_become_maps_without_the_class_token(tokens: Network) -> None:
    x = pictures(1, (3, 48, 48))
    with torch.no_grad():
        wanted = tokens.features(x)
    for one, feature in zip(activations(tokens, x), wanted, strict=True):
        assert feature.shape == (1, 32, 3, 3)
        assert torch.equal(one.maps, feature[0])


def test_a_patch_moves_its_own_place(tokens: Network) -> None:
    """In the stem, where tokens have not spoken yet."""
    x = pictures(1, (3, 48, 48))
    other = x.clone()
    other[..., 32:, 16:32] += 1  # the last row of patches, in the middle
    a, b = (activations(tokens, y, ["stem"])[0].maps for y in (x, other))
    assert (a != b).any(0).tolist() == [[False] * 3, [False] * 3, [False, True, False]]


def test_tokens_that_make_no_square_are_refused() -> None:
    assert to_grid(torch.arange(4.0).view(1, 4, 1)).tolist() == [[[[0, 1], [2, 3]]]]
    assert to_grid(torch.arange(5.0).view(1, 5, 1)).tolist() == [[[[1, 2], [3, 4]]]]
    with pytest.raises(UsageError, match="7 tokens make no square"):
        to_grid(torch.zeros(1, 7, 3))


def test_layers_by_name_and_refusals() -> None:
    network = drawn("lenet5")
    x = pictures(2, small_shape(network))
    names = [name for name, _ in network.stages.named_children()]
    assert [one.layer for one in activations(network, x[:1], names[:1])] == [f"stages.{names[0]}"]
    with pytest.raises(UsageError, match="give one picture"):
        activations(network, x)
    with pytest.raises(UsageError, match="no layer 'elsewhere'"):
        activations(network, x[:1], ["elsewhere"])
    with pytest.raises(UsageError, match="no layer 'elsewhere'"):
        before_and_after(network, x, "elsewhere")


class Spelled(nn.Module):
    """conv - bend - conv - bend"""

    def __init__(self, bend: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)
        self.bend = bend

    def forward(self, x: Tensor) -> Tensor:
        return self.bend(self.second(self.bend(self.first(x))))


SPELLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "module": nn.ReLU(),  # one and the same for both
    "in place": nn.ReLU(inplace=True),
    "function": F.relu,
    "function in place": lambda x: F.relu(x, inplace=True),
    "torch": torch.relu,
    "torch in place": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "keyword": lambda x: F.relu(input=x),
    "clamp": lambda x: x.clamp(min=0),
    "clamp in place": lambda x: x.clamp_(min=0),
    "behind dropout": lambda x: F.relu(F.dropout(x, training=False)),
    "threshold": nn.Threshold(0, 0),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_before_and_after_however_it_is_spelled(spelling: str) -> None:
    network = Spelled(SPELLINGS[spelling])
    draw(network, (3, 12, 12))
    x = pictures(2, (3, 12, 12))
    with torch.no_grad():
        first = F.conv2d(x, network.first.weight, network.first.bias)
        second = F.conv2d(first.clamp(min=0), network.second.weight, network.second.bias)
    for layer, wanted in (("first", first), ("second", second)):
        bend = before_and_after(network, x, layer)
        assert bend.after is not None
        assert (wanted < 0).any()
        assert torch.equal(bend.output, wanted)
        assert torch.equal(bend.before, wanted)
        assert torch.equal(bend.after, wanted.clamp(min=0))
        assert bend.activation in ("relu", "clamp", "threshold")


@pytest.mark.parametrize(
    ("module", "name"),
    [(nn.GELU(), "gelu"), (nn.SiLU(inplace=True), "silu"), (nn.Hardswish(), "hardswish"), (nn.ReLU6(), "hardtanh"),
     (nn.ELU(), "elu"), (nn.PReLU(), "prelu"), (nn.LeakyReLU(0.1, inplace=True), "leaky_relu"), (nn.Tanh(), "tanh"),
     (nn.Sigmoid(), "sigmoid"), (nn.Softplus(), "softplus"), (nn.Mish(), "mish"), (nn.SELU(), "selu"),
     (nn.LogSigmoid(), "log_sigmoid"), (nn.Softsign(), "softsign"), (nn.Hardtanh(), "hardtanh")],
)  # fmt: skip
def test_every_activation_is_known(module: nn.Module, name: str) -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), module).eval()
    x = pictures(1, (1, 6, 6))
    bend = before_and_after(network, x, "0")
    assert bend.activation == name
    assert bend.after is not None
    assert torch.equal(bend.after, network(x).detach())


def test_norm_and_pool_may_stand_between() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.MaxPool2d(2), nn.ReLU(inplace=True))
    draw(network, (1, 10, 10))
    x = pictures(1, (1, 10, 10))
    bend = before_and_after(network, x, "0")
    with torch.no_grad():
        assert torch.equal(bend.output, network[0](x))
        assert torch.equal(bend.before, network[:3](x))
        assert torch.equal(bend.after, network(x))


def test_the_first_activation_is_the_one_that_counts() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Tanh()).eval()
    x = pictures(1, (1, 6, 6))
    bend = before_and_after(network, x, "0")
    assert bend.activation == "relu"
    assert torch.equal(bend.after, network[:2](x).detach())


class Sum(nn.Module):
    """relu(conv(x) + x)"""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        out = out.add_(x) if self.in_place else out + x
        return F.relu(out)


@pytest.mark.parametrize(
    "network",
    [nn.Sequential(nn.Conv2d(3, 3, 3)), nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 1), nn.ReLU()), Sum(False),
     Sum(True)],
    ids=["last", "another convolution", "a sum", "a sum in place"],
)  # fmt: skip
def test_no_activation_follows(network: nn.Module) -> None:
    x = pictures(1, (3, 8, 8))
    conv = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    bend = before_and_after(network, x, "conv" if isinstance(network, Sum) else "0")
    assert (bend.after, bend.activation) == (None, None)
    wanted = conv(x).detach()
    assert torch.equal(bend.output, wanted)
    assert torch.equal(bend.before, wanted)


def test_in_the_zoo_the_activation_is_the_one_of_the_paper() -> None:
    network = drawn("mobilenet_v2")
    x = pictures(1, small_shape(network))
    block = next(name for name, _ in network.stages.named_children())
    convs = [name for name, m in network.named_modules() if isinstance(m, nn.Conv2d) and f"stages.{block}" in name]
    found = [before_and_after(network, x, name).activation for name in convs]
    assert found[-1] is None  # the linear bottleneck
    assert set(found[:-1]) == {"hardtanh"}  # which torch calls its ReLU6


def test_the_network_is_left_as_it_was() -> None:
    network = drawn("mobilenet_v2").train()
    for weight in network.parameters():
        weight.grad = None if weight.dim() > 1 else torch.ones_like(weight)
    x = pictures(1, small_shape(network)).requires_grad_()
    before = fingerprint(network)
    activations(network, x)
    before_and_after(network, x, "stem")
    with pytest.raises(UsageError):
        before_and_after(network, x, "elsewhere")
    assert fingerprint(network) == before
