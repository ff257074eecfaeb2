"""What the papers and the course decks say of these networks, recounted on our own code.

The figures are the decks' (facts.json of the course); where a deck rounds or drops biases, the computed
figure stands beside it.
"""

import pytest
import torch
from torch import Tensor, nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from neocog.core.contracts import Network
from neocog.core.registry import lookup
from neocog.costs.count import count


def on_meta(name: str, **knobs: object) -> Network:
    with torch.device("meta"):
        network: Network = lookup(name).build(**knobs)
    return network.eval()


def params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def layer_params(network: nn.Module) -> list[int]:
    return [params(m) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize(
    ("name", "layers", "total"),
    [
        ("mlp_8_32_32_2", [288, 1056, 66], 1_410),
        ("mnist_dense", [200_960, 32_896, 8_256, 650], 242_762),
        ("mnist_convnet", [320, 18_496, 16_010], 34_826),
        ("mnist_fcn", [320, 18_496, 650], 19_466),
    ],
)
def test_deck_003_parameter_counts(name: str, layers: list[int], total: int) -> None:
    network = on_meta(name)
    assert layer_params(network) == layers
    assert params(network) == total


def test_the_fully_convolutional_digit_network_reads_any_size() -> None:
    assert on_meta("mnist_fcn")(torch.empty(2, 1, 57, 33, device="meta")).shape == (2, 10)


# AlexNet at 227 x 227, decks 003 and 004: layer, output, parameters and MACs (thousands, millions; computed).
ALEXNET = [
    ("stages.conv1.conv", (3, 227, 227), (64, 56, 56), 23, 73),
    ("stages.conv2.pool", (64, 56, 56), (64, 27, 27), 0, 0),
    ("stages.conv2.conv", (64, 27, 27), (192, 27, 27), 307, 224),
    ("stages.conv3.pool", (192, 27, 27), (192, 13, 13), 0, 0),
    ("stages.conv3.conv", (192, 13, 13), (384, 13, 13), 664, 112),
    ("stages.conv4.conv", (384, 13, 13), (256, 13, 13), 885, 150),  # the deck says 145
    ("stages.conv5.conv", (256, 13, 13), (256, 13, 13), 590, 100),
    ("head.pool5", (256, 13, 13), (256, 6, 6), 0, 0),
    ("head.flatten", (256, 6, 6), (9216,), 0, 0),
    ("head.fc6", (9216,), (4096,), 37_753, 38),  # the deck leaves the biases out: 37,749
    ("head.fc7", (4096,), (4096,), 16_781, 17),  # 16,777
    ("head.fc8", (4096,), (1000,), 4_097, 4),  # 4,096
]


def test_alexnet_layer_by_layer() -> None:
    network = on_meta("alexnet")
    seen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda _, inputs, out, name=name: seen.update({name: (tuple(inputs[0].shape[1:]), tuple(out.shape[1:]))})
        )
    network(torch.empty(1, 3, 227, 227, device="meta"))
    for name, before, after, params_k, macs_m in ALEXNET:
        assert seen[name] == (before, after), name
        layer = network.get_submodule(name)
        cost = count(layer, before)
        # The deck cuts 307,392 and its like to thousands; 614 of a million MACs are no million.
        assert abs(cost.params / 1e3 - params_k) < 1, name
        assert abs(cost.macs / 1e6 - macs_m) < 1, name


def test_vgg16_of_deck_004() -> None:
    network = on_meta("vgg16")
    weights = [m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert weights[:13] == [
        1728, 36864, 73728, 147456, 294912, 589824, 589824, 1179648, 2359296, 2359296, 2359296, 2359296, 2359296,
    ]  # fmt: skip
    assert weights[13:] == [102_760_448, 16_777_216, 4_096_000]
    cost = count(network, (3, 224, 224))
    assert cost.params == 138_357_544
    assert round(cost.macs / 1e9, 2) == 15.47  # the deck says 13.6


@pytest.mark.parametrize(
    ("name", "stride_on", "gmacs"),
    [
        ("resnet18", None, 1.8),
        ("resnet34", None, 3.6),
        ("resnet50", "1x1", 3.8),
        ("resnet101", "1x1", 7.6),
        ("resnet152", "1x1", 11.3),
        ("resnet50", "3x3", 4.1),
        ("resnet101", "3x3", 7.8),
        ("resnet152", "3x3", 11.5),
    ],
)
def test_resnet_operations(name: str, stride_on: str | None, gmacs: float) -> None:
    network = on_meta(name, **({} if stride_on is None else {"stride_on": stride_on}))
    # The table cuts after one decimal (3.66 is 3.6) where it does not round (7.57 is 7.6).
    assert abs(count(network, (3, 224, 224)).macs / 1e9 - gmacs) < 0.1


def test_both_resnet_strides_have_the_same_weights() -> None:
    paper, today = (on_meta("resnet50", stride_on=where).state_dict() for where in ("1x1", "3x3"))
    assert {k: v.shape for k, v in paper.items()} == {k: v.shape for k, v in today.items()}


def test_alexnet_against_vgg16() -> None:
    alexnet, vgg = count(on_meta("alexnet"), (3, 227, 227)), count(on_meta("vgg16"), (3, 224, 224))
    assert (round(alexnet.params / 1e6), round(vgg.params / 1e6)) == (61, 138)
    assert round(alexnet.macs / 1e9, 1) == 0.7


def test_mobilenet_v2_against_its_paper() -> None:
    # Table 4: 3.4 M parameters and 300 M MACs; width 1.4: 585 M, and 6.9 M, which the authors' own code
    # (6.06 M in its table of checkpoints) does not have either.
    one, wide = (count(on_meta("mobilenet_v2", width=w), (3, 224, 224)) for w in (1.0, 1.4))
    assert (round(one.params / 1e6, 1), round(one.macs / 1e6)) == (3.5, 301)
    assert round(wide.params / 1e6, 1) == 6.1
    assert abs(wide.macs / 1e6 - 585) < 5


def test_squeezenet_has_fifty_times_fewer_parameters() -> None:
    assert params(on_meta("alexnet")) / params(on_meta("squeezenet1_0")) > 48  # 50 with the 96-filter AlexNet


# LeNet-5


def test_lenet_layer_by_layer() -> None:
    network = on_meta("lenet5")
    rows = {
        "stages.c1_s2.conv": 156,
        "stages.c1_s2.pool": 12,
        "stages.c3_s4.conv": 1_516,
        "stages.c3_s4.pool": 32,
        "head.c5": 48_120,
        "head.f6": 10_164,
    }
    assert {name: params(network.get_submodule(name)) for name in rows} == rows
    assert sum(rows.values()) == 60_000
    assert params(on_meta("lenet5", modern=True)) == 61_706


# Table I of LeCun et al. 1998: rows are the maps of S2, columns the maps of C3.
TABLE_I = """
X . . . X X X . . X X X X . X X
X X . . . X X X . . X X X X . X
X X X . . . X X X . . X . X X X
. X X X . . X X X X . . X . X X
. . X X X . . X X X X . X X . X
. . . X X X . . X X X X . X X X
"""


def test_lenet_reads_the_connections_of_table_i() -> None:
    torch.manual_seed(0)
    conv = lookup("lenet5").build().get_submodule("stages.c3_s4.conv")
    x = torch.randn(1, 6, 14, 14)
    with torch.no_grad():
        before = conv(x)
        for row, line in enumerate(TABLE_I.split("\n")[1:-1]):
            changed = x.clone()
            changed[:, row] += 1
            moved = (conv(changed) - before).abs().amax(dim=(0, 2, 3)) > 1e-3
            assert moved.tolist() == [mark == "X" for mark in line.split()], row


def test_lenets_subsampling_is_the_papers() -> None:
    pool = lookup("lenet5").build().get_submodule("stages.c1_s2.pool")
    with torch.no_grad():
        pool.coefficient.copy_(torch.arange(1.0, 7))
        pool.bias.copy_(torch.arange(6.0) / 10)
    x = torch.arange(6 * 16.0).reshape(1, 6, 4, 4)
    expected = torch.zeros(1, 6, 2, 2)
    for c in range(6):
        for i in range(2):
            for j in range(2):
                four = x[0, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].sum()
                expected[0, c, i, j] = four * (c + 1) + c / 10
    torch.testing.assert_close(pool(x), expected)


def test_lenets_squashing_maps_one_to_one() -> None:
    act = lookup("lenet5").build().get_submodule("head.f6_act")
    torch.testing.assert_close(act(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([-1.0, 0.0, 1.0]), rtol=0, atol=1e-4)


def test_lenet_pads_digits_to_the_papers_32() -> None:
    torch.manual_seed(0)
    network = lookup("lenet5").build().eval()
    digit = torch.randn(1, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(network(digit), network(nn.functional.pad(digit, (2, 2, 2, 2))))


# How weights start


def std(t: Tensor) -> float:
    return float(t.detach().std())


def test_alexnet_starts_as_its_paper_says() -> None:
    torch.manual_seed(0)
    network = lookup("alexnet").build(num_classes=10)
    layers = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    for layer in layers.values():
        assert std(layer.weight) == pytest.approx(0.01, rel=0.05)
    biases = {name: set(layer.bias.tolist()) for name, layer in layers.items()}
    ones = {"stages.conv2.conv", "stages.conv4.conv", "stages.conv5.conv", "head.fc6", "head.fc7"}
    assert biases == {name: {1.0} if name in ones else {0.0} for name in layers}


def test_resnet_and_mobilenet_start_as_he_says() -> None:
    torch.manual_seed(0)
    for name in ("resnet18", "mobilenet_v2"):
        for layer in lookup(name).build().modules():
            if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000:
                fan_out = layer.out_channels * layer.kernel_size[0] ** 2  # of depthwise layers too
                assert std(layer.weight) == pytest.approx((2 / fan_out) ** 0.5, rel=0.06)


def test_squeezenet_starts_as_its_caffe_files_say() -> None:
    torch.manual_seed(0)
    network = lookup("squeezenet1_1").build()
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            expected = 0.01 if name == "head.conv10" else layer.weight[0].numel() ** -0.5
            assert std(layer.weight) == pytest.approx(expected, rel=0.1), name


@pytest.mark.parametrize("name", ["mnist_dense", "mnist_convnet", "mnist_fcn", "vgg11"])
def test_glorot_starts(name: str) -> None:
    torch.manual_seed(0)
    for layer in lookup(name).build(num_classes=100).modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.numel() > 1000:
            receptive = layer.weight[0, 0].numel() if layer.weight.dim() == 4 else 1
            fans = (layer.weight.shape[0] + layer.weight.shape[1]) * receptive
            assert std(layer.weight) == pytest.approx((2 / fans) ** 0.5, rel=0.06)
            assert not layer.bias.any()


def test_lenet_starts_within_its_papers_bounds() -> None:
    torch.manual_seed(0)
    for layer in lookup("lenet5").build().modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            bound = 2.4 / layer.weight[0].numel()
            assert 0.9 * bound < layer.weight.abs().max() <= bound
