"""Inception-v4, Inception-ResNet, Xception and NASNet: the papers' figures, timm as a judge, and where there is
none, the network written a second time."""

import os
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import neocog.models  # noqa: F401  (importing it registers the networks)
from draw import draw, drawn, pictures
from judge import assert_same, compare, ours_with, outputs_of, theirs_drawn
from neocog.core.contracts import Network
from neocog.core.registry import lookup
from neocog.costs.count import count
from neocog.layers.drop_path import DropPath
from neocog.layers.same_pool import SameAvgPool2d, SameMaxPool2d
from neocog.layers.separable import SeparableConv
from neocog.layers.towers import tower, towers
from neocog.models.nasnet import NORMAL, REDUCTION, Cell, NASNet

SMALL = ((75, 107), (98, 80))  # Inception's grids end below 75 pixels


def shapes(channels: int) -> list[tuple[int, ...]]:
    return [(channels, *size) for size in SMALL]


def on_meta(name: str, **knobs: object) -> Network:
    with torch.device("meta"):
        network: Network = lookup(name).build(**knobs)
    return network.eval()


# Published figures

# name, million parameters and billion multiply-accumulates as they are printed, source. Of Xception's operations
# there is no published figure that says what it counts.
PUBLISHED = [
    ("inception_v4", 42.7, 12.3, "timm's model card, inception_v4.tf_in1k"),
    ("inception_resnet_v2", 55.8, 13.2, "timm's model card, inception_resnet_v2.tf_ens_adv_in1k"),
    ("nasnet_large", 88.8, 23.8, "parameters: timm's model card, nasnetalarge.tf_in1k; operations: NASNet, Table 2"),
    ("nasnet_mobile", 5.3, 0.564, "NASNet, Table 3, and the authors' README: 564 million"),
]


@pytest.mark.parametrize(("name", "params", "gmacs", "source"), PUBLISHED)
def test_published_costs(name: str, params: float, gmacs: float, source: str) -> None:
    """As far as they are printed: half a digit of the last place, and 0.2 % of the operations."""
    spec = lookup(name).spec
    assert abs(spec.params / 1e6 - params) < half_a_digit(params), source
    assert abs(spec.macs / 1e9 - gmacs) < half_a_digit(gmacs) + 0.002 * gmacs, source


def test_exact_published_parameters() -> None:
    assert lookup("xception").spec.params == 22_855_952  # Xception, Table 3
    # Keras prints batch norm's running statistics with them; so do 88.9 million of NASNet's Table 2.
    for name, published in (("xception", 22_910_480), ("nasnet_mobile", 5_326_716), ("nasnet_large", 88_949_818)):
        network = on_meta(name)
        network.auxiliary = None
        statistics = [buffer.numel() for key, buffer in network.named_buffers() if ".running_" in key]
        assert lookup(name).spec.params + sum(statistics) == published


def half_a_digit(printed: float) -> float:
    """0.05 of 12.3, 0.005 of 0.56"""
    return 0.5 * 10.0 ** -len(str(printed).partition(".")[2])


# Channels and pixels of the papers' figures after each stage, at the paper's input.
V4 = ((384, 35), (1024, 17), (1024, 17), (1536, 8), (1536, 8))
RESNET_V1 = ((256, 35), (896, 17), (896, 17), (1792, 8), (1792, 8))
RESNET_V2 = ((384, 35), (1152, 17), (1152, 17), (2144, 8), (2144, 8))


@pytest.mark.parametrize(
    ("name", "knobs", "grids"),
    [
        ("inception_v4", {}, V4),
        ("inception_resnet_v1", {}, RESNET_V1),
        ("inception_resnet_v2", {"form": "paper"}, RESNET_V2),
        ("xception", {}, ((128, 74), (256, 37), (728, 19), (728, 19), (2048, 10))),
        # Two cells stacked, but for the last stage.
        ("nasnet_mobile", {}, ((2 * 264, 28), (2 * 528, 14), (1056, 7))),
        ("nasnet_large", {}, ((2 * 1008, 42), (2 * 2016, 21), (4032, 11))),
    ],
)
def test_grids_of_the_figures(name: str, knobs: dict[str, object], grids: tuple[tuple[int, int], ...]) -> None:
    network = on_meta(name, **knobs)
    features = network.features(torch.empty(1, *lookup(name).spec.input_shape, device="meta"))
    assert tuple((f.shape[1], f.shape[2]) for f in features) == grids


# timm


def test_inception_v4_is_timms(timm: ModuleType) -> None:
    judge = theirs_drawn(lambda: timm.create_model("inception_v4"), (3, *SMALL[0]))
    layers = [judge.features[i] for i in (9, 10, 17, 18, 21)]
    compare(ours_with("inception_v4", judge, "timm"), judge, layers, shapes(3))


def test_inception_resnet_v2_is_timms(timm: ModuleType) -> None:
    judge = theirs_drawn(lambda: timm.create_model("inception_resnet_v2"), (3, *SMALL[0]))
    layers = [judge.repeat, judge.mixed_6a, judge.repeat_1, judge.mixed_7a, judge.block8]
    compare(ours_with("inception_resnet_v2", judge, "timm"), judge, layers, shapes(3))


def test_xception_is_timms(timm: ModuleType) -> None:
    judge = theirs_drawn(lambda: timm.create_model("legacy_xception"), (3, 64, 80))
    layers = [judge.block1, judge.block2, judge.block3, judge.block11, judge.act4]
    compare(ours_with("xception", judge, "timm"), judge, layers, [(3, 64, 80), (3, 75, 66)])


def test_nasnet_large_is_timms(timm: ModuleType) -> None:
    """In double precision: rounding grows to 1e-4 over 22 cells."""
    sizes = [(67, 36), (35, 67)]  # every grid that is halved has an odd number of pixels
    judge = theirs_drawn(lambda: timm.create_model("nasnetalarge"), (3, *sizes[0]))
    for name, module in list(judge.named_modules()):
        if type(module).__name__ == "AvgPool2dSame":
            # It is asked not to count what is padded, and does. Of odd sizes PyTorch's own pool pads as TensorFlow.
            assert not module.count_include_pad
            judge.set_submodule(name, nn.AvgPool2d(3, 2, padding=1, count_include_pad=False))
    network = ours_with("nasnet_large", judge, "timm", auxiliary=False).double()
    judge.double()
    layers = [judge.get_submodule(f"cell_{i}") for i in (5, 4, 11, 10, 17)]
    for size in sizes:
        x = pictures(2, (3, *size)).double()
        answer, cells = outputs_of(judge, layers, x)
        with torch.no_grad():
            features = network.features(x)
            assert_close(network(x), answer, "scores")
        assert_close(features[0], torch.cat(cells[:2], 1), "cells1")
        assert_close(features[1], torch.cat(cells[2:4], 1), "cells2")
        assert_close(features[2], cells[4], "cells3")


def assert_close(ours: Tensor, theirs: Tensor, what: str) -> None:
    assert_same(ours, theirs, what)
    assert (ours - theirs).abs().max() < 1e-10 * theirs.std(), what


def test_published_weights_are_timms(timm: ModuleType) -> None:
    """Where timm names a file with its hash."""
    for name, theirs in (("xception", "legacy_xception"),):
        (ours,) = lookup(name).spec.weights
        cfg = timm.models.get_pretrained_cfg(ours.tag)
        assert ours.tag.startswith(f"{theirs}.")
        assert ours.url == cfg.url
        assert f"-{ours.sha256}." in ours.url
        pre = ours.preprocessing
        assert (pre.size, pre.size) == cfg.input_size[1:]
        assert pre.resize == int(pre.size / cfg.crop_pct)
        assert (pre.mean, pre.std, pre.interpolation) == (cfg.mean, cfg.std, cfg.interpolation)
        assert ours.licence.lower() == cfg.license


# Keras: the authors' own padding


@pytest.fixture(scope="module")
def keras() -> ModuleType:
    # TensorFlow's own "same", where nobody has chosen another backend.
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    pytest.importorskip("tensorflow", reason="TensorFlow, below a judge, is not installed")
    return pytest.importorskip("keras", reason="Keras, a judge, is not installed")


class Copy:
    """Our weights into a Keras model, layer by layer; `done` fails where one was forgotten."""

    def __init__(self, model: Any, state: dict[str, Tensor]) -> None:
        self.model, self.state = model, {key: t for key, t in state.items() if "num_batches" not in key}

    def __call__(self, layer: str, *keys: str) -> None:
        taken = [self.state.pop(key) for key in keys]
        self.model.get_layer(layer).set_weights([t.numpy() for t in taken])

    def conv(self, layer: str, key: str) -> None:
        self.state[f"{key}.weight"] = self.state[f"{key}.weight"].permute(2, 3, 1, 0)
        self(layer, f"{key}.weight")

    def norm(self, layer: str, key: str) -> None:
        self(layer, *(f"{key}.{part}" for part in ("weight", "bias", "running_mean", "running_var")))

    def separable(self, layer: str, key: str) -> None:
        depthwise, pointwise = f"{key}.depthwise.weight", f"{key}.pointwise.weight"
        self.state[depthwise] = self.state[depthwise].permute(2, 3, 0, 1)
        self.state[pointwise] = self.state[pointwise].permute(2, 3, 1, 0)
        self(layer, depthwise, pointwise)

    def dense(self, layer: str, key: str) -> None:
        self.state[f"{key}.weight"] = self.state[f"{key}.weight"].T
        self(layer, f"{key}.weight", f"{key}.bias")

    def done(self) -> None:
        assert not self.state
        assert all(layer.built for layer in self.model.layers)


def answer_of(model: Any, x: Tensor) -> Tensor:
    return torch.tensor(model.predict_on_batch(x.permute(0, 2, 3, 1).numpy()))


def test_xception_with_same_padding_is_its_authors(keras: ModuleType) -> None:
    size = (75, 98)  # grids with odd and even numbers of pixels
    network = drawn("xception", (3, *size), padding="same")
    model = keras.applications.Xception(weights=None, input_shape=(*size, 3), classifier_activation=None)
    copy = Copy(model, network.state_dict())
    for i in (1, 2):
        copy.conv(f"block1_conv{i}", f"stem.conv{i}.conv")
        copy.norm(f"block1_conv{i}_bn", f"stem.conv{i}.norm")
    blocks = {2: "entry1", 3: "entry2", 4: "entry3", 13: "exit.block"} | {i + 5: f"middle.{i}" for i in range(8)}
    for number, block in blocks.items():
        for i in (1, 2, 3) if "middle" in block else (1, 2):
            copy.separable(f"block{number}_sepconv{i}", f"stages.{block}.body.unit{i}.conv")
            copy.norm(f"block{number}_sepconv{i}_bn", f"stages.{block}.body.unit{i}.norm")
    for i in (1, 2):
        copy.separable(f"block14_sepconv{i}", f"stages.exit.unit{i}.conv")
        copy.norm(f"block14_sepconv{i}_bn", f"stages.exit.unit{i}.norm")
    unnamed = [layer.name for layer in model.layers if re.fullmatch(r"conv2d(_\d+)?", layer.name)]
    norms = [layer.name for layer in model.layers if layer.name.startswith("batch_normalization")]
    for conv, norm, block in zip(unnamed, norms, ("entry1", "entry2", "entry3", "exit.block"), strict=True):
        copy.conv(conv, f"stages.{block}.shortcut.conv")
        copy.norm(norm, f"stages.{block}.shortcut.norm")
    copy.dense("predictions", "head.fc")
    copy.done()
    x = pictures(2, (3, *size))
    with torch.no_grad():
        assert_same(network(x), answer_of(model, x), "scores")


def test_nasnet_mobile_is_kerass(keras: ModuleType) -> None:
    size = (64, 75)  # grids with odd and even numbers of pixels
    network = drawn("nasnet_mobile", (3, *size), auxiliary=False)
    model = keras.applications.NASNetMobile(weights=None, input_shape=(*size, 3))
    model = keras.models.clone_model(model, clone_function=lambda layer: with_same_pools_and_scores(keras, layer))
    copy = Copy(model, network.state_dict())
    copy.conv("stem_conv1", "stem.conv")
    copy.norm("stem_bn1", "stem.norm")
    cells = {"stem_1": "cells1.reductions.0", "stem_2": "cells1.reductions.1"}
    cells |= {"reduce_4": "cells2.reductions.0", "reduce_8": "cells3.reductions.0"}
    cells |= {str(i if i < 4 else i + 1): f"cells{i // 4 + 1}.normals.{i % 4}" for i in range(12)}
    layers = {layer.name for layer in model.layers}
    for theirs, ours in cells.items():
        kind = "reduction" if "reductions" in ours else "normal"
        copy.conv(f"{kind}_conv_1_{theirs}", f"stages.{ours}.squeeze.conv")
        copy.norm(f"{kind}_bn_1_{theirs}", f"stages.{ours}.squeeze.norm")
        if f"adjust_conv_projection_{theirs}" in layers:
            copy.conv(f"adjust_conv_projection_{theirs}", f"stages.{ours}.fit.conv")
            copy.norm(f"adjust_bn_{theirs}", f"stages.{ours}.fit.norm")
        elif f"adjust_conv_1_{theirs}" in layers:
            copy.conv(f"adjust_conv_1_{theirs}", f"stages.{ours}.fit.path1")
            copy.conv(f"adjust_conv_2_{theirs}", f"stages.{ours}.fit.path2")
            copy.norm(f"adjust_bn_{theirs}", f"stages.{ours}.fit.norm")
        sums = {"left1": "left.0", "right1": "right.0", "right2": "right.1"}
        if kind == "normal":
            sums |= {"left2": "left.1", "left5": "left.4"}
        else:
            sums |= {"right3": "right.2", "left4": "left.4"}
        for place, key in sums.items():
            for i in (1, 2):
                copy.separable(f"separable_conv_{i}_{kind}_{place}_{theirs}", f"stages.{ours}.{key}.conv{i}")
                copy.norm(f"separable_conv_{i}_bn_{kind}_{place}_{theirs}", f"stages.{ours}.{key}.norm{i}")
    copy.dense("predictions", "head.fc")
    copy.done()
    x = pictures(2, (3, *size))
    with torch.no_grad():
        assert_same(network(x), answer_of(model, x), "scores")


def with_same_pools_and_scores(keras: ModuleType, layer: Any) -> Any:
    """Keras pads what its halving pools read with zeros, which then win maxima and count in means. The authors' code
    leaves the padding to TensorFlow's pools, where they do neither."""
    if layer.name.startswith("reduction_pad_1_"):
        return keras.layers.Identity(name=layer.name)
    config = layer.get_config()
    if layer.name == "predictions":
        config["activation"] = "linear"
    if layer.name.startswith(("reduction_left2_", "reduction_left3_", "reduction_right5_")):
        config["padding"] = "same"
    return type(layer).from_config(config)


# Inception-ResNet in the paper's form, which nobody has published: written a second time


def unit(x: Tensor, state: dict[str, Tensor], name: str, stride: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Convolution, batch norm with the running statistics, ReLU."""
    s = {part: state[f"{name}.norm.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
    x = F.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=pad)
    return F.batch_norm(x, s["running_mean"], s["running_var"], s["weight"], s["bias"], eps=1e-3).relu()


def correction(x: Tensor, state: dict[str, Tensor], block: str, branches: list[Tensor], scale: float) -> Tensor:
    weight, bias = state[f"{block}.linear.weight"], state[f"{block}.linear.bias"]
    return (x + scale * F.conv2d(torch.cat(branches, 1), weight, bias)).relu()


def figure_14(x: Tensor, s: dict[str, Tensor]) -> Tensor:
    x = unit(x, s, "stem.0", 2)
    x = unit(x, s, "stem.1")
    x = unit(x, s, "stem.2", pad=(1, 1))
    x = F.max_pool2d(x, 3, 2)
    x = unit(x, s, "stem.4")
    x = unit(x, s, "stem.5")
    return unit(x, s, "stem.6", 2)


def figure_3(x: Tensor, s: dict[str, Tensor]) -> Tensor:
    x = unit(x, s, "stem.part1.0", 2)
    x = unit(x, s, "stem.part1.1")
    x = unit(x, s, "stem.part1.2", pad=(1, 1))
    x = torch.cat([F.max_pool2d(x, 3, 2), unit(x, s, "stem.part2.1.0", 2)], 1)
    left = unit(unit(x, s, "stem.part3.0.0"), s, "stem.part3.0.1")
    right = unit(x, s, "stem.part3.1.0")
    right = unit(right, s, "stem.part3.1.1", pad=(0, 3))
    right = unit(right, s, "stem.part3.1.2", pad=(3, 0))
    right = unit(right, s, "stem.part3.1.3")
    x = torch.cat([left, right], 1)
    return torch.cat([unit(x, s, "stem.part4.0.0", 2), F.max_pool2d(x, 3, 2)], 1)


def figure_15(
    x: Tensor, s: dict[str, Tensor], stem: Callable[[Tensor, dict[str, Tensor]], Tensor], scales: tuple[float, ...]
) -> Tensor:
    x = stem(x, s)
    for i in range(5):
        block = f"stages.inception_a.{i}"
        one = unit(x, s, f"{block}.towers.0.0")
        three = unit(unit(x, s, f"{block}.towers.1.0"), s, f"{block}.towers.1.1", pad=(1, 1))
        five = unit(x, s, f"{block}.towers.2.0")
        five = unit(five, s, f"{block}.towers.2.1", pad=(1, 1))
        five = unit(five, s, f"{block}.towers.2.2", pad=(1, 1))
        x = correction(x, s, block, [one, three, five], scales[0])
    block = "stages.reduction_a.0"
    three = unit(x, s, f"{block}.0.0", 2)
    five = unit(unit(x, s, f"{block}.1.0"), s, f"{block}.1.1", pad=(1, 1))
    x = torch.cat([three, unit(five, s, f"{block}.1.2", 2), F.max_pool2d(x, 3, 2)], 1)
    for i in range(10):
        block = f"stages.inception_b.{i}"
        one = unit(x, s, f"{block}.towers.0.0")
        seven = unit(unit(x, s, f"{block}.towers.1.0"), s, f"{block}.towers.1.1", pad=(0, 3))
        seven = unit(seven, s, f"{block}.towers.1.2", pad=(3, 0))
        x = correction(x, s, block, [one, seven], scales[1])
    block = "stages.reduction_b.0"
    first = unit(unit(x, s, f"{block}.0.0"), s, f"{block}.0.1", 2)
    second = unit(unit(x, s, f"{block}.1.0"), s, f"{block}.1.1", 2)
    third = unit(unit(x, s, f"{block}.2.0"), s, f"{block}.2.1", pad=(1, 1))
    x = torch.cat([first, second, unit(third, s, f"{block}.2.2", 2), F.max_pool2d(x, 3, 2)], 1)
    for i in range(5):
        block = f"stages.inception_c.{i}"
        one = unit(x, s, f"{block}.towers.0.0")
        three = unit(unit(x, s, f"{block}.towers.1.0"), s, f"{block}.towers.1.1", pad=(0, 1))
        three = unit(three, s, f"{block}.towers.1.2", pad=(1, 0))
        x = correction(x, s, block, [one, three], scales[2])
    return F.linear(x.mean(dim=(2, 3)), s["head.fc.weight"], s["head.fc.bias"])


@pytest.mark.parametrize(
    ("name", "knobs", "stem"),
    [("inception_resnet_v1", {}, figure_14), ("inception_resnet_v2", {"form": "paper"}, figure_3)],
)
def test_the_papers_inception_resnets_are_their_twins(
    name: str, knobs: dict[str, object], stem: Callable[[Tensor, dict[str, Tensor]], Tensor]
) -> None:
    scales = (0.3, 0.1, 0.2)
    network = drawn(name, (3, *SMALL[0]), scales=scales, **knobs)
    for shape in shapes(3):
        x = pictures(2, shape)
        with torch.no_grad():
            assert_same(network(x), figure_15(x, network.state_dict(), stem, scales), name)


def convs(*rows: tuple[int, int, int]) -> int:
    """Weights of convolutions (kernel area, channels in, out) and of the scale and shift of their norms."""
    return sum(area * c_in * c_out + 2 * c_out for area, c_in, c_out in rows)


def test_inception_resnet_v1_has_the_weights_of_its_figures() -> None:
    """Figures 10 to 14 and Table 1, box by box, added up by hand."""
    stem = convs((9, 3, 32), (9, 32, 32), (9, 32, 64), (1, 64, 80), (9, 80, 192), (9, 192, 256))
    a = convs(*[(1, 256, 32)] * 3, *[(9, 32, 32)] * 3) + 96 * 256 + 256
    reduction_a = convs((9, 256, 384), (1, 256, 192), (9, 192, 192), (9, 192, 256))
    b = convs((1, 896, 128), (1, 896, 128), (7, 128, 128), (7, 128, 128)) + 256 * 896 + 896
    reduction_b = convs(*[(1, 896, 256)] * 3, (9, 256, 384), *[(9, 256, 256)] * 3)
    c = convs((1, 1792, 192), (1, 1792, 192), (3, 192, 192), (3, 192, 192)) + 384 * 1792 + 1792
    total = stem + 5 * a + reduction_a + 10 * b + reduction_b + 5 * c + 1792 * 1000 + 1000
    assert count(on_meta("inception_resnet_v1"), (3, 299, 299)).params == total


def test_the_papers_inception_resnet_v2_has_the_weights_of_its_figures() -> None:
    """Figures 3 and 16 to 19 and Table 1; the 1x1 convolutions as wide as what they are added to."""
    stem = convs((9, 3, 32), (9, 32, 32), (9, 32, 64), (9, 64, 96), (1, 160, 64), (9, 64, 96))
    stem += convs((1, 160, 64), (7, 64, 64), (7, 64, 64), (9, 64, 96), (9, 192, 192))
    a = convs(*[(1, 384, 32)] * 3, (9, 32, 32), (9, 32, 48), (9, 48, 64)) + 128 * 384 + 384
    reduction_a = convs((9, 384, 384), (1, 384, 256), (9, 256, 256), (9, 256, 384))
    b = convs((1, 1152, 192), (1, 1152, 128), (7, 128, 160), (7, 160, 192)) + 384 * 1152 + 1152
    reduction_b = convs(*[(1, 1152, 256)] * 3, (9, 256, 384), (9, 256, 288), (9, 256, 288), (9, 288, 320))
    c = convs((1, 2144, 192), (1, 2144, 192), (3, 192, 224), (3, 224, 256)) + 448 * 2144 + 2144
    total = stem + 5 * a + reduction_a + 10 * b + reduction_b + 5 * c + 2144 * 1000 + 1000
    assert count(on_meta("inception_resnet_v2", form="paper"), (3, 299, 299)).params == total


# NASNet while it trains


def test_drop_path_grows_with_depth_and_time() -> None:
    network = on_meta("nasnet_large")
    assert isinstance(network, NASNet)
    shares = [m.p for m in network.modules() if isinstance(m, DropPath)]
    # Two cells of the stem, one, one, and three times six; the last drops 1 - 0.7.
    assert shares == pytest.approx([0.3 * i / 22 for i in range(1, 23)])
    network.schedule(0.5)
    assert [m.p for m in network.modules() if isinstance(m, DropPath)] == pytest.approx([p / 2 for p in shares])
    assert {m.p for m in on_meta("nasnet_mobile").modules() if isinstance(m, DropPath)} == {0.0}


def test_a_cell_drops_what_operations_made_and_nothing_else() -> None:
    torch.manual_seed(0)
    cell = Cell(NORMAL, 8, 8, 8, 1, drop_path=1 - 1e-7)  # everything
    h, p = torch.randn(2, 8, 5, 5), torch.randn(2, 8, 5, 5)
    cell.train()
    for norm in (m for m in cell.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.eval()
    with torch.no_grad():
        out = cell(h, p).chunk(6, dim=1)
        squeezed, fitted = cell.squeeze(h), cell.fit(p)
    expected = [fitted, 0 * h, 0 * h, fitted, 0 * h, squeezed]
    for ours, theirs in zip(out, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_every_operation_can_be_dropped() -> None:
    """Ten of either cell; two of the normal one's and one of the reduction's do nothing, and are not dropped."""
    for rows, operations in ((NORMAL, 8), (REDUCTION, 9)):
        cell = Cell(rows, 4, 4, 4, 1, drop_path=0.0)
        calls: list[Tensor] = []
        cell.drop_path.register_forward_hook(lambda _, inputs, out, calls=calls: calls.append(out))
        cell(torch.randn(2, 4, 5, 5), torch.randn(2, 4, 5, 5))
        assert len(calls) == operations


def test_nasnets_auxiliary_head() -> None:
    """The authors' code: 5x5 means with stride 3, 128 channels, 768, classes; weight 0.4."""
    for name, c, side in (("nasnet_mobile", 528, 4), ("nasnet_large", 2016, 6)):
        network = on_meta(name)
        assert network.auxiliary is not None
        head = network.auxiliary["cells2"]
        weights = c * 128 + 2 * 128 + 128 * 768 * side**2 + 2 * 768 + 768 * 1000 + 1000
        assert sum(p.numel() for p in head.parameters()) == weights
        with torch.device("meta"):
            features = network.features(torch.empty(2, *lookup(name).spec.input_shape))
        assert network.auxiliary_weight == 0.4
        # The paper's input makes the grid by itself: no second mean is taken.
        assert (features[1].shape[2] - 5) // 3 + 1 == side
        assert head(features[1]).shape == (2, 1000)
        assert on_meta(name, auxiliary=False).auxiliary is None


def test_the_auxiliary_head_reads_the_newest_cell() -> None:
    network = drawn("nasnet_mobile", (3, 64, 80))
    assert network.auxiliary is not None
    head = network.auxiliary["cells2"].eval()
    h, p = torch.randn(2, 528, 6, 6), torch.randn(2, 528, 6, 6)
    with torch.no_grad():
        answer = head(torch.cat([h, p], 1))
        assert torch.equal(head(torch.cat([h, 2 * p], 1)), answer)
        assert not torch.equal(head(torch.cat([2 * h, p], 1)), answer)


# Layers


@pytest.mark.parametrize("size", [(1, 1), (4, 5), (5, 4), (7, 7), (6, 6)])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_pools_are_their_loops(size: tuple[int, int], stride: int) -> None:
    x = pictures(2, (3, *size)) - 3  # below zero: padded zeros would win
    largest, mean = SameMaxPool2d(3, stride)(x), SameAvgPool2d(3, stride)(x)
    height, width = (-(-n // stride) for n in size)
    assert largest.shape == mean.shape == (2, 3, height, width)
    before = [max((out - 1) * stride + 3 - n, 0) // 2 for out, n in zip((height, width), size, strict=True)]
    for i in range(height):
        for j in range(width):
            top, left = i * stride - before[0], j * stride - before[1]
            window = x[:, :, max(top, 0) : top + 3, max(left, 0) : left + 3]
            torch.testing.assert_close(largest[:, :, i, j], window.amax(dim=(2, 3)))
            torch.testing.assert_close(mean[:, :, i, j], window.mean(dim=(2, 3)))


@pytest.mark.parametrize(("kernel", "stride", "same"), [(3, 1, False), (5, 1, True), (3, 2, False), (5, 2, True)])
def test_a_separable_convolution_is_its_loop(kernel: int, stride: int, same: bool) -> None:
    torch.manual_seed(0)
    conv = SeparableConv(2, 3, kernel, stride, same=same)
    x = torch.randn(1, 2, 6, 8)
    ours = conv(x)[0]
    depthwise, pointwise = conv.depthwise.weight, conv.pointwise.weight
    before = (kernel - stride) // 2 if same else kernel // 2  # even sizes
    padded = F.pad(x, (before, kernel, before, kernel))[0]
    height, width = (-(-n // stride) for n in (6, 8))
    assert ours.shape == (3, height, width)
    for i in range(height):
        for j in range(width):
            window = padded[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            looked = [(window[c] * depthwise[c, 0]).sum() for c in range(2)]
            for o in range(3):
                mixed = sum(pointwise[o, c, 0, 0] * looked[c] for c in range(2))
                torch.testing.assert_close(ours[o, i, j], mixed)


def test_towers_read_the_figures() -> None:
    module, channels = towers(5, ("1x1:4 3x3:6/2", "max/2", "3x3:7v 1x1:2/2"))
    assert channels == 6 + 5 + 2
    torch.manual_seed(0)
    module, channels = towers(3, ("avg 1x1:4", "1x1:2 1x3:3|3x1:5"))
    assert channels == 4 + 3 + 5
    draw(module, (3, 6, 7))
    x, s = pictures(2, (3, 6, 7)), module.state_dict()
    # The mean at the edge is taken over what lies inside the picture.
    inside = F.avg_pool2d(F.pad(torch.ones_like(x), (1, 1, 1, 1)), 3, 1)
    mean = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1) / inside
    right = unit(x, s, "1.0")
    expected = [unit(mean, s, "0.1"), unit(right, s, "1.1.0", pad=(0, 1)), unit(right, s, "1.1.1", pad=(1, 0))]
    with torch.no_grad():
        torch.testing.assert_close(module(x), torch.cat(expected, 1))


@pytest.mark.parametrize("words", ["3x3", "3x3:8/4", "min/2", "3:8"])
def test_towers_refuse_what_is_no_box(words: str) -> None:
    with pytest.raises(ValueError, match="no box"):
        tower(3, words)


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("inception_resnet_v2", {"form": "other"}, "neither 'published' nor 'paper'"),
        ("inception_resnet_v1", {"scales": (0.1, 0.2)}, "three numbers"),
        ("inception_v4", {"dropout": 1.0}, "below 1"),
        ("xception", {"padding": "valid"}, "neither 'torch' nor 'same'"),
        ("nasnet_large", {"drop_path": 1.5}, "below 1"),
    ],
)
def test_wrong_knobs(name: str, knobs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        on_meta(name, **knobs)
