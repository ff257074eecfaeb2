"""Kernels against impulses, and filters that were killed on purpose."""

import pytest
import torch
from torch import Tensor, nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from draw import draw, drawn, pictures
from neocog.core.errors import UsageError
from neocog.core.registry import lookup
from neocog.explaining.filters import convolutions, first_convolution, kernels
from neocog.explaining.ranges import Ranges, dead_channels
from untouched import fingerprint


def test_colours_are_scaled_around_grey() -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, (1, 2)))
    weight = torch.tensor([[[[0.0, -4.0]], [[2.0, 1.0]], [[0.0, 0.0]]]])
    network[0].weight.data.copy_(weight)
    found = kernels(network, "0")
    assert (found.layer, found.colour) == ("0", True)
    assert found.pictures.tolist() == [[[[0.5, 0.0]], [[0.75, 0.625]], [[0.5, 0.5]]]]
    assert found.norms.tolist() == [pytest.approx(21**0.5)]


def impulses(layer: nn.Conv2d | nn.ConvTranspose2d, side: int) -> list[Tensor]:
    """Per input channel what the layer answers to a one in the middle."""
    with torch.no_grad():
        rest = layer(torch.zeros(1, layer.in_channels, side, side))
        answers = []
        for channel in range(layer.in_channels):
            x = torch.zeros(1, layer.in_channels, side, side)
            x[0, channel, side // 2, side // 2] = 1
            answers.append((layer(x) - rest)[0])
        return answers


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_pictures_are_the_answers_to_an_impulse(groups: int, transposed: bool) -> None:
    torch.manual_seed(groups)
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(4, 8, (3, 5), groups=groups)
    found = kernels(nn.Sequential(layer), "0")
    assert found.pictures.shape == (8, 4 // groups, 3, 5)
    assert not found.colour
    answers = impulses(layer, 13)
    for out in range(8):
        group = out // (8 // groups)
        seen = torch.stack([answers[group * (4 // groups) + i][out] for i in range(4 // groups)])
        # torch's convolution is a correlation: it answers with the kernel turned around
        seen = seen[:, 6:9, 6:11] if transposed else seen[:, 4:7, 2:7].flip(1, 2)
        assert seen.abs().max() > 0
        assert torch.allclose(found.pictures[out], 0.5 + seen / (2 * seen.abs().max()), atol=1e-5)
        assert float(found.norms[out]) == pytest.approx(float(seen.square().sum().sqrt()), rel=1e-5)
    assert found.norms[found.order].tolist() == sorted(found.norms.tolist(), reverse=True)


def test_only_the_picture_has_colours() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 1))
    assert [kernels(network, name).colour for name in ("0", "2", "3")] == [True, False, False]
    assert not kernels(nn.Sequential(nn.Conv2d(3, 3, 3, groups=3)), "0").colour
    assert not kernels(nn.Sequential(nn.Conv2d(6, 2, 3, groups=2)), "0").colour
    assert kernels(drawn("squeezenet1_1"), "stem.conv").colour


@pytest.mark.parametrize(
    "name", ["alexnet", "resnet18", "mobilenet_v2", "convnext_tiny", "vit_b_32", "googlenet", "lenet5", "conv_ae"]
)
def test_the_first_convolution_is_the_one_that_reads_the_picture(name: str) -> None:
    with torch.device("meta"):
        network = lookup(name).build().eval()
    called = []
    for key, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, args, out, key=key: called.append(key))
    network(torch.empty(1, *lookup(name).spec.input_shape, device="meta"))
    assert first_convolution(network) == called[0]


def test_what_is_no_convolution_is_refused() -> None:
    network = drawn("squeezenet1_1")
    relu = next(name for name, module in network.named_modules() if isinstance(module, nn.ReLU))
    with pytest.raises(UsageError, match=r"is a ReLU, no convolution; the first convolutions are stem\.conv, stages"):
        kernels(network, relu)
    dense = drawn("mnist_dense")
    with pytest.raises(UsageError, match="has no convolution"):
        first_convolution(dense)
    with pytest.raises(UsageError, match="is a Linear, no convolution; this network has none"):
        kernels(dense, "head.fc")
    with pytest.raises(UsageError, match="no layer"):
        kernels(network, "elsewhere")


class Wounded(nn.Module):
    """Filters 1 and 4 are zero, and channel 2 lies far below 0."""

    def __init__(self, act: nn.Module, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.act = act
        self.last = nn.Conv2d(8, 4, 1)
        draw(self, (3, 10, 10))
        assert self.conv.bias is not None
        with torch.no_grad():
            self.conv.weight[[1, 4]] = 0
            self.conv.bias[[1, 4]] = 1  # still, and not at 0
            (self.norm if isinstance(self.norm, nn.BatchNorm2d) else self.conv).bias[2] = -100

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.act(self.norm(self.conv(x))))
        return out


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("act", [nn.ReLU(), nn.ReLU(inplace=True), nn.GELU(), nn.Hardswish()])
def test_dead_filters_are_found(act: nn.Module, norm: bool) -> None:
    network = Wounded(act, norm)
    filters = kernels(network, "conv")
    assert filters.silent.nonzero().flatten().tolist() == [1, 4]
    assert (filters.pictures[[1, 4]] == 0.5).all()
    batches = [pictures(3, (3, 10, 10), seed) for seed in (1, 2)]
    assert dead_channels(network, batches, "conv").nonzero().flatten().tolist() == [1, 2, 4]
    assert dead_channels(network, batches, "act").nonzero().flatten().tolist() == [1, 2, 4]
    assert not dead_channels(network, batches, "last").any()
    # what a norm gives has no activation looked for behind it: channel 2 moves, far below 0
    if norm:
        assert dead_channels(network, batches, "norm").nonzero().flatten().tolist() == [1, 4]


def test_one_picture_wakes_a_channel() -> None:
    """The last batch of three: nothing is forgotten, and nothing is taken from one batch alone."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    network[0].weight.data.fill_(1)
    network[0].bias.data.copy_(torch.tensor([0.0, -10.0]))
    quiet, loud = torch.rand(2, 1, 4, 4), torch.full((2, 1, 4, 4), 11.0)
    assert dead_channels(network, [quiet, quiet], "0").tolist() == [False, True]
    assert dead_channels(network, [quiet, loud], "0").tolist() == [False, False]
    # within each batch everything stands still, between them it moves
    assert dead_channels(network, [torch.zeros(1, 1, 4, 4), loud], "0").tolist() == [False, False]


def test_a_tail_is_no_movement() -> None:
    """Far out on a sigmoid everything differs by 1e-9, which nothing behind it can tell."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sigmoid())
    network[0].weight.data.fill_(1)
    network[0].bias.data.copy_(torch.tensor([0.0, -20.0]))
    x = pictures(2, (1, 4, 4))
    assert network(x)[:, 1].std() > 0
    assert dead_channels(network, [x], "0").tolist() == [False, True]


def test_vectors_have_channels_too() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU())
    draw(network, (1, 4, 4))
    network[1].bias.data[3] = -100
    assert dead_channels(network, [pictures(6, (1, 4, 4))], "2").nonzero().flatten().tolist() == [3]
    with pytest.raises(UsageError, match="gave 1 values per channel"):
        dead_channels(network, [pictures(1, (1, 4, 4))], "2")
    with pytest.raises(UsageError, match="gave 0 values per channel"):
        dead_channels(network, [], "2")


def test_the_network_is_left_as_it_was() -> None:
    network = drawn("mobilenet_v2").train()
    before = fingerprint(network)
    name = first_convolution(network)
    kernels(network, name).pictures.zero_()
    dead_channels(network, [pictures(2, (3, 64, 64))], name)
    assert fingerprint(network) == before


def test_one_pass_serves_all_layers() -> None:
    network = drawn("mobilenet_v2")
    batches = [pictures(2, (3, 64, 64), seed) for seed in (1, 2)]
    names = convolutions(network)[:12]
    first = network.get_submodule(names[3])
    with torch.no_grad():
        first.weight[[2, 5]] = 0
    passed = 0

    def count(*_: object) -> None:
        nonlocal passed
        passed += 1

    hook = network.register_forward_hook(count)
    before = fingerprint(network)
    with torch.no_grad(), Ranges(network, names) as ranges:
        for x in batches:
            network(x)
    assert fingerprint(network) == before
    assert passed == len(batches)
    hook.remove()
    found = {name: ranges.dead(name).nonzero().flatten().tolist() for name in names}
    assert found == {name: dead_channels(network, batches, name).nonzero().flatten().tolist() for name in names}
    assert found[names[3]] == [2, 5]
    assert not found[names[0]]
    assert not ranges._followed  # what no activation has taken is not kept alive
