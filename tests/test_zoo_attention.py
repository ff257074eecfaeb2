"""ConvNeXt and vision transformers against torchvision and timm; CapsNet against a twin written in NumPy."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import neocog
from draw import drawn, pictures, spread
from judge import assert_same, compare, ours_with, outputs_of, theirs_drawn
from neocog.app.building import choose_loss, make_task
from neocog.core.config import TrainConfig
from neocog.core.contracts import Network
from neocog.core.errors import ModelFileError, UsageError
from neocog.core.registry import lookup
from neocog.core.spec import Preprocessing
from neocog.costs.count import count
from neocog.evaluate import probabilities_of
from neocog.layers.attention import MultiHeadAttention
from neocog.layers.drop_path import DropPath
from neocog.layers.dropout import Dropout
from neocog.layers.layer_norm import LayerNorm2d
from neocog.models.capsnet import routed
from neocog.models.vit import resampled
from neocog.models.weights import adapt
from neocog.tasks.classification import Classification

VITS = {"vit_b_16": "vit_base_patch16_224", "vit_b_32": "vit_base_patch32_224", "vit_l_16": "vit_large_patch16_224"}
CONVNEXTS = [f"convnext_{size}" for size in ("tiny", "small", "base", "large")]


def on_meta(name: str, **knobs: object) -> Network:
    with torch.device("meta"):
        network: Network = lookup(name).build(**knobs)
    return network.eval()


def meta(*shape: int) -> Tensor:
    return torch.empty(*shape, device="meta")


# Published figures


# Name, parameters, 10^9 MACs, source. torchvision counts the same products as we do.
PUBLISHED = [
    ("convnext_tiny", 28_589_128, 4.456, "torchvision, ConvNeXt_Tiny_Weights.meta"),
    ("convnext_small", 50_223_688, 8.684, "torchvision, ConvNeXt_Small_Weights.meta"),
    ("convnext_base", 88_591_464, 15.355, "torchvision, ConvNeXt_Base_Weights.meta"),
    ("convnext_large", 197_767_336, 34.361, "torchvision, ConvNeXt_Large_Weights.meta"),
    ("vit_b_16", 86_567_656, 17.564, "torchvision, ViT_B_16_Weights.IMAGENET1K_V1.meta"),
    ("vit_b_32", 88_224_232, 4.409, "torchvision, ViT_B_32_Weights.IMAGENET1K_V1.meta"),
    ("vit_l_16", 304_326_632, 61.555, "torchvision, ViT_L_16_Weights.IMAGENET1K_V1.meta"),
]


@pytest.mark.parametrize(("name", "params", "gmacs", "source"), PUBLISHED)
def test_published_costs(name: str, params: int, gmacs: float, source: str) -> None:
    spec = lookup(name).spec
    assert spec.params == params, source
    assert spec.macs / 1e9 == pytest.approx(gmacs, rel=0.002), source


# The authors' table (README of facebookresearch/ConvNeXt; Table 1 of the paper): millions, 10^9 MACs ("FLOPs").
@pytest.mark.parametrize(
    ("name", "params", "gmacs"), list(zip(CONVNEXTS, (29, 50, 89, 198), (4.5, 8.7, 15.4, 34.4), strict=True))
)
def test_convnext_is_the_papers_size(name: str, params: int, gmacs: float) -> None:
    spec = lookup(name).spec
    assert round(spec.params / 1e6) == params
    assert round(spec.macs / 1e9, 1) == gmacs


@pytest.mark.parametrize(
    ("name", "size", "params", "gmacs"),
    [("vit_b_16", 384, 86_859_496, 55.484), ("vit_l_16", 512, 305_174_504, 361.986)],
)
def test_vit_at_other_sizes(name: str, size: int, params: int, gmacs: float) -> None:
    """torchvision's figures for the SWAG weights, whose networks read larger pictures."""
    cost = count(on_meta(name, image_size=size), (3, size, size))
    assert cost.params == params
    assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0.002)


def test_vit_is_the_papers_size() -> None:
    """Table 1 in millions: 86 and 307. Ours without a classifier: L/16 has 303.3, 1.2 % fewer than the table says;
    the same arithmetic gives the base network's 86."""
    backbone = {
        name: (lookup(name).spec.params - 1000 * (c + 1)) / 1e6 for name, c in (("vit_b_16", 768), ("vit_l_16", 1024))
    }
    assert round(backbone["vit_b_16"]) == 86
    assert backbone["vit_l_16"] == pytest.approx(307, rel=0.013)


# Against torchvision and timm


def assert_facts(name: str, torchvision: ModuleType) -> None:
    """What the Spec says of torchvision's files is what torchvision says."""
    spec = lookup(name).spec
    published = {w.name.lower(): w for w in torchvision.models.get_model_weights(name)}
    ours = {w.tag: w for w in spec.weights if w.layout == "torchvision"}
    assert ours.keys() == published.keys()
    for tag, mine in ours.items():
        theirs = published[tag]
        scores, transforms = theirs.meta["_metrics"]["ImageNet-1K"], theirs.transforms()
        assert mine.url == theirs.url
        assert theirs.url.endswith(f"-{mine.sha256}.pth")
        assert (mine.top1, mine.top5) == (scores["acc@1"], scores["acc@5"])
        how = mine.preprocessing
        assert ([how.size], [how.resize]) == (transforms.crop_size, transforms.resize_size)
        assert (list(how.mean), list(how.std)) == (transforms.mean, transforms.std)
        assert how.interpolation == transforms.interpolation.value
        assert mine.knobs.get("image_size", 224) == how.size
        assert mine.licence == ("CC-BY-NC-4.0" if "SWAG" in theirs.meta.get("license", "") else "BSD-3-Clause")
    free = [w.top1 for w in spec.weights if w.top1 is not None and w.licence == "BSD-3-Clause"]
    assert spec.weights[0].top1 == max(free)


def assert_same_shapes(ours: Network, judge: nn.Module, name: str, layout: str) -> None:
    """Every key of theirs becomes one of ours with as many numbers, and none is left."""
    read = lookup(name).key_maps[layout]
    theirs = {read(key): tensor.squeeze().shape for key, tensor in judge.state_dict().items()}
    assert theirs == {key: tensor.squeeze().shape for key, tensor in ours.state_dict().items()}


@pytest.mark.parametrize("name", CONVNEXTS)
def test_convnexts_facts_and_keys(name: str, torchvision: ModuleType, timm: ModuleType) -> None:
    assert_facts(name, torchvision)
    for layout, build in (("torchvision", torchvision.models.get_model), ("timm", timm.create_model)):
        with torch.device("meta"):
            judge = build(name)
        assert_same_shapes(on_meta(name), judge, name, layout)


def test_convnext_is_torchvisions(torchvision: ModuleType) -> None:
    judge = theirs_drawn(torchvision.models.convnext_tiny)
    network = ours_with("convnext_tiny", judge, "torchvision")
    compare(network, judge, [judge.features[i] for i in (1, 3, 5, 7)])
    paths = [m.p for m in judge.modules() if type(m).__name__ == "StochasticDepth"]
    assert [m.p for m in network.modules() if isinstance(m, DropPath)] == pytest.approx(paths)
    assert paths[-1] == 0.1


def test_convnext_is_timms(timm: ModuleType) -> None:
    judge = theirs_drawn(lambda: timm.create_model("convnext_tiny"))
    network = ours_with("convnext_tiny", judge, "timm")
    compare(network, judge, list(judge.stages))


def test_convnext_starts_as_almost_nothing() -> None:
    torch.manual_seed(0)
    network = lookup("convnext_tiny").build().eval()
    stage = network.get_submodule("stages.res4")
    assert float(stage[1].expand.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert not stage[1].expand.bias.any()
    x = pictures(1, (384, 6, 6))
    with torch.no_grad():
        out = stage[1:](x)
    assert 0 < (out - x).abs().max() < 1e-4


@pytest.mark.parametrize("name", VITS)
def test_vits_facts_and_keys(name: str, torchvision: ModuleType, timm: ModuleType) -> None:
    assert_facts(name, torchvision)
    for layout, build, theirs in (
        ("torchvision", torchvision.models.get_model, name),
        ("timm", timm.create_model, VITS[name]),
    ):
        with torch.device("meta"):
            judge = build(theirs)
        assert_same_shapes(on_meta(name), judge, name, layout)


def test_vits_converted_files_are_timms(timm: ModuleType) -> None:
    """The papers' own weights, as timm's table has them."""
    ours = {w.tag: w for name in VITS for w in lookup(name).spec.weights if w.layout == "timm"}
    for arch in ("vit_base_patch16_224", "vit_base_patch16_384"):
        theirs = timm.models.get_arch_pretrained_cfgs(arch)[f"{arch}.orig_in21k_ft_in1k"]
        mine = ours.pop(f"{arch}.orig_in21k_ft_in1k")
        assert mine.url == theirs.url
        assert mine.url.endswith(f"-{mine.sha256}.pth")
        how = mine.preprocessing
        assert (3, how.size, how.size) == theirs.input_size
        assert mine.knobs.get("image_size", 224) == how.size
        assert how.resize == int(how.size / theirs.crop_pct)
        assert (how.mean, how.std, how.interpolation) == (theirs.mean, theirs.std, theirs.interpolation)
    assert not ours


def compare_tokens(network: Network, judge: nn.Module, layers: list[nn.Module], shape: tuple[int, ...]) -> None:
    """Scores, and every layer's tokens at their places: token 1 + i * side + j is pixel (i, j) of the map."""
    x = pictures(2, shape)
    answer, theirs = outputs_of(judge, layers, x)
    with torch.no_grad():
        assert_same(network(x), answer, "scores")
        maps = network.features(x)
        walked = network.stem(x)
    side = shape[1] // network.stage_strides[0]
    for i, (ours, stage, tokens) in enumerate(zip(maps, network.stages, theirs, strict=True)):
        with torch.no_grad():
            walked = stage(walked)
        assert_same(walked, tokens, f"tokens after layer {i}")  # the class token too, and first
        assert ours.shape == (2, network.stage_channels[i], side, side)
        for row in range(side):
            for column in range(side):
                assert torch.equal(ours[:, :, row, column], walked[:, 1 + row * side + column])
    with torch.no_grad():
        assert torch.equal(network.head(walked), network(x))


@pytest.mark.parametrize("name", ["vit_b_16", "vit_b_32"])
def test_vit_is_torchvisions(name: str, torchvision: ModuleType) -> None:
    shape = (3, 96, 96)
    judge = theirs_drawn(torchvision.models.get_model, shape, name=name, image_size=96)
    network = ours_with(name, judge, "torchvision", image_size=96)
    compare_tokens(network, judge, list(judge.encoder.layers), shape)


def test_vit_is_timms(timm: ModuleType) -> None:
    shape = (3, 64, 64)
    judge = theirs_drawn(lambda: timm.create_model("vit_base_patch16_224", img_size=64), shape)
    network = ours_with("vit_b_16", judge, "timm", image_size=64)
    compare_tokens(network, judge, list(judge.blocks), shape)


@pytest.mark.parametrize("size", [32, 64, 160])
def test_vit_fits_positions_of_another_size(size: int, timm: ModuleType) -> None:
    """96 pixels are 6 x 6 patches; timm resizes them in the same way."""
    entry, side = lookup("vit_b_16"), size // 16
    old = drawn("vit_b_16", image_size=96).state_dict()
    network = drawn("vit_b_16", seed=5, image_size=size)
    adapted, notes = adapt(network, entry, old, "neocog")
    assert notes == [f"position embeddings resampled from 6 x 6 to {side} x {side}"]
    network.load_state_dict(adapted, strict=True)
    positions = network.state_dict()["stem.positions"]
    expected = timm.layers.resample_abs_pos_embed(old["stem.positions"], (side, side))
    torch.testing.assert_close(positions, expected)
    assert torch.equal(positions[:, 0], old["stem.positions"][:, 0])  # the class token's own
    for key, tensor in network.state_dict().items():
        assert key == "stem.positions" or torch.equal(tensor, old[key])


def test_vit_places_positions_where_they_were() -> None:
    """Twice as fine, embeddings that are a slope in x and another in y stay these slopes (away from the edge)."""
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    slopes = torch.stack([rows, columns], dim=-1).reshape(1, 64, 2)
    fine = resampled(torch.cat([torch.full((1, 1, 2), 99.0), slopes], dim=1), 16)
    assert fine[0, 0].tolist() == [99, 99]
    grid = fine[0, 1:].reshape(16, 16, 2)[4:-4, 4:-4]
    expected = (torch.arange(4, 12) + 0.5) / 2 - 0.5  # the centres of the small patches
    torch.testing.assert_close(grid[..., 0], expected[:, None].expand(8, 8))
    torch.testing.assert_close(grid[..., 1], expected[None].expand(8, 8))


def test_vit_keeps_positions_of_its_own_size_and_refuses_what_is_no_square() -> None:
    network, entry = on_meta("vit_b_16", image_size=64), lookup("vit_b_16")
    state = network.state_dict()
    assert adapt(network, entry, state, "neocog")[1] == []
    with pytest.raises(ModelFileError, match=r"stem\.positions \(1, 19, 768\) for \(1, 17, 768\)"):
        adapt(network, entry, {**state, "stem.positions": meta(1, 19, 768)}, "neocog")
    with pytest.raises(ModelFileError, match=r"stem\.positions"):
        adapt(network, entry, {**state, "stem.positions": meta(1, 26, 512)}, "neocog")


def test_vit_asks_for_its_size() -> None:
    with pytest.raises(ValueError, match="224 x 224 pixels, not 224 x 240"):
        on_meta("vit_b_16")(meta(1, 3, 224, 240))
    for size in (0, 100):
        with pytest.raises(ValueError, match="multiple of the patch, 16"):
            on_meta("vit_b_16", image_size=size)
    assert on_meta("vit_b_32", image_size=96).fixed_size == 96


def test_vits_dropout_is_the_papers() -> None:
    """Appendix B.1: behind the positions, the attention's projection and both layers of the MLP."""
    for given, expected in ((None, 0.1), (0.3, 0.3)):
        shares = [m.p for m in on_meta("vit_b_16", dropout=given).modules() if isinstance(m, Dropout)]
        assert shares == [expected] * (1 + 3 * 12)


def test_vit_starts_as_its_authors_code_says() -> None:
    torch.manual_seed(0)
    state = lookup("vit_b_16").build(image_size=64).state_dict()
    assert not state["head.fc.weight"].any()
    assert not state["stem.class_token"].any()
    assert float(state["stem.positions"].std()) == pytest.approx(0.02, rel=0.05)
    assert float(state["stem.patches.weight"].std()) == pytest.approx((3 * 16 * 16) ** -0.5, rel=0.02)
    bound = (6 / (768 + 768)) ** 0.5  # of queries, keys and values each by themselves
    assert float(state["stages.layer0.attention.qkv.weight"].abs().max()) == pytest.approx(bound, rel=0.01)
    bound = (6 / (768 + 3072)) ** 0.5
    assert float(state["stages.layer3.mlp.expand.weight"].abs().max()) == pytest.approx(bound, rel=0.01)


# CapsNet


def test_capsnet_is_the_papers_size() -> None:
    """Section 4 and its decoder in closed form; the paper says 6.8 M without and 8.2 M with the decoder."""
    conv1, primary = 9 * 9 * 256 + 256, 9 * 9 * 256 * 256 + 256
    classes = (32 * 6 * 6) * 10 * 16 * 8
    assert lookup("capsnet").spec.params == conv1 + primary + classes == 6_804_224
    decoder = (10 * 16 + 1) * 512 + 513 * 1024 + 1025 * 784
    assert round((6_804_224 + decoder) / 1e6, 1) == 8.2
    places = 20 * 20 * 256 * 81 + 6 * 6 * 256 * 256 * 81
    votes = 1152 * 10 * 16 * (8 + 3 + 2)  # the matrices, three weighted sums, two comparisons
    assert lookup("capsnet").spec.macs == places + votes


Numbers = NDArray[np.float64]


def squashed(s: Numbers) -> Numbers:
    """Equation 1, as it stands there."""
    square = (s**2).sum(-1, keepdims=True)
    return square / (1 + square) * s / np.sqrt(square)


def agreed(votes: Numbers, rounds: int) -> Numbers:
    """Procedure 1 for one picture, capsule by capsule: (N, K, D) -> (K, D)"""
    n, k, d = votes.shape
    b = np.zeros((n, k))
    for _ in range(rounds):
        c = np.exp(b) / np.exp(b).sum(1, keepdims=True)
        v = np.zeros((k, d))
        for j in range(k):
            v[j] = squashed(sum(c[i, j] * votes[i, j] for i in range(n)))
        for i in range(n):
            for j in range(k):
                b[i, j] += votes[i, j] @ v[j]
    return v


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_routing_is_the_papers_procedure(rounds: int) -> None:
    votes = pictures(2, (7, 4, 5)).double()
    ours = routed(votes, rounds)
    for picture, v in zip(votes, ours, strict=True):
        np.testing.assert_allclose(v.numpy(), agreed(picture.numpy(), rounds), atol=1e-12)


def test_routing_finds_the_class_that_capsules_agree_on() -> None:
    """Ten capsules say the same of class 1 and contradict each other about class 0: rounds make that clearer."""
    contrary = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat(5, 1)
    votes = torch.stack([contrary, torch.tensor([0.3, 0.3]).expand(10, 2)], dim=1)[None]
    lengths = [routed(votes, rounds).norm(dim=-1)[0] for rounds in (1, 3)]
    assert lengths[0][1] > lengths[0][0]
    assert lengths[1][1] > lengths[0][1]


def windows(x: Numbers, size: int, stride: int) -> Numbers:
    """(C, H, W) -> (h, w, C, size, size)"""
    found = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return found.transpose(1, 2, 0, 3, 4)


@pytest.mark.parametrize("rounds", [1, 3])
def test_capsnet_against_numpy(rounds: int) -> None:
    """No library at hand has the network: the twin is written from the paper, without torch."""
    torch.manual_seed(0)
    network = lookup("capsnet").build(num_classes=4, in_channels=2, image_size=19, routing_rounds=rounds).double()
    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    x = pictures(2, (2, 19, 19)).double()
    with torch.no_grad():
        answer, (conv1, primary), embedding = network(x), network.features(x), network.embed(x)
    assert (conv1.shape, primary.shape, embedding.shape) == ((2, 256, 11, 11), (2, 256, 2, 2), (2, 32 * 4 * 8))
    for b in range(2):
        maps = np.einsum("hwcij,ocij->ohw", windows(x[b].numpy(), 9, 1), state["stages.conv1.conv.weight"])
        maps = np.maximum(maps + state["stages.conv1.conv.bias"][:, None, None], 0)
        np.testing.assert_allclose(conv1[b].numpy(), maps, atol=1e-9)
        patches = windows(maps, 9, 2)
        capsules = []  # kind by kind, place by place
        for kind in range(32):
            rows = slice(8 * kind, 8 * kind + 8)
            weight, bias = (state[f"stages.primary_caps.conv.{part}"][rows] for part in ("weight", "bias"))
            for i in range(2):
                for j in range(2):
                    u = squashed(np.tensordot(weight, patches[i, j], 3) + bias)
                    np.testing.assert_allclose(primary[b, rows, i, j].numpy(), u, atol=1e-9)
                    capsules.append(u)
        np.testing.assert_allclose(embedding[b].numpy(), np.concatenate(capsules), atol=1e-9)
        matrices = state["head.class_caps.weight"]
        votes = np.array([[matrices[k, i] @ u for k in range(4)] for i, u in enumerate(capsules)])
        lengths = np.sqrt((agreed(votes, rounds) ** 2).sum(1))
        np.testing.assert_allclose(answer[b].numpy(), lengths, atol=1e-9)
    assert spread(answer) > 0.01
    assert (answer > 0).all()
    assert (answer < 1).all()


def test_capsnets_knobs() -> None:
    assert on_meta("capsnet", image_size=32).embed(meta(2, 1, 32, 32)).shape == (2, 32 * 8 * 8 * 8)
    with pytest.raises(ValueError, match="at least 17"):
        on_meta("capsnet", image_size=16)
    with pytest.raises(ValueError, match="at least 1"):
        on_meta("capsnet", routing_rounds=0)


def test_capsnet_starts_as_its_authors_code_says() -> None:
    torch.manual_seed(0)
    network = lookup("capsnet").build()
    for key, expected in (("stages.conv1.conv", 0.05), ("stages.primary_caps.conv", 0.1), ("head.class_caps", 0.1)):
        layer = network.get_submodule(key)
        assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.03)
        assert key == "head.class_caps" or layer.bias.tolist() == pytest.approx([0.1] * 256)


# Lengths: their loss and their probabilities


def test_margin_loss_by_hand() -> None:
    """Equation 4 of the paper, class by class."""
    lengths, targets = torch.tensor([[0.95, 0.3, 0.05], [0.2, 0.6, 0.1]]), torch.tensor([0, 2])
    each = [0 + 0.5 * 0.2**2 + 0, 0.5 * 0.1**2 + 0.5 * 0.5**2 + 0.8**2]
    task = Classification(loss="margin")
    assert task.loss(lengths, targets).item() == pytest.approx(sum(each) / 2)
    weights = torch.tensor([1.0, 5.0, 3.0])
    expected = (1 * each[0] + 3 * each[1]) / 4
    assert Classification(0.0, weights, "margin").loss(lengths, targets).item() == pytest.approx(expected)
    shares = torch.tensor([[0.25, 0.75, 0.0]])
    mixed = 0.75 * 0.5 * 0.85**2 + 0.75 * 0.6**2 + 0.25 * 0.5 * 0.2**2
    assert task.loss(lengths[:1], shares).item() == pytest.approx(mixed)
    assert task.loss(lengths.bfloat16(), targets).dtype == torch.float32
    with pytest.raises(ValueError, match="does not apply"):
        Classification(0.1, loss="margin")


def test_lengths_become_the_odds_of_one_class() -> None:
    """Each length is an independent belief; given that exactly one class is there, Bayes' rule gives the rest."""
    lengths = torch.tensor([[0.9, 0.2, 0.05], [0.0, 1.0, 0.5]])
    p, q = lengths[0], 1 - lengths[0]
    alone = torch.stack([p[0] * q[1] * q[2], q[0] * p[1] * q[2], q[0] * q[1] * p[2]])
    found = probabilities_of(on_meta("capsnet"), lengths)
    torch.testing.assert_close(found[0], alone / alone.sum())
    assert found[1, 1] > 0.999
    torch.testing.assert_close(found.sum(1), torch.ones(2))
    # Everything else gives logits.
    torch.testing.assert_close(probabilities_of(on_meta("lenet5"), lengths), lengths.softmax(1))
    torch.testing.assert_close(probabilities_of(nn.Identity(), lengths), lengths.softmax(1))


def test_the_loss_follows_the_scores() -> None:
    caps, lenet = on_meta("capsnet"), on_meta("lenet5")
    auto = TrainConfig(data="digits")
    assert auto.loss == "auto"
    assert choose_loss(auto, caps).loss == "margin"
    assert choose_loss(auto, lenet).loss == "cross_entropy"
    chosen = auto.model_copy(update={"loss": "cross_entropy"})
    assert choose_loss(chosen, caps).loss == "cross_entropy"
    for network, expected in ((caps, "margin"), (lenet, "cross_entropy")):
        task = make_task(choose_loss(auto, network), None, Preprocessing(), torch.device("cpu"))  # type: ignore[arg-type]
        assert task.kind == expected
    with pytest.raises(UsageError, match="asks for lengths"):
        choose_loss(auto.model_copy(update={"loss": "margin"}), lenet)
    with pytest.raises(UsageError, match="label smoothing"):
        choose_loss(auto.model_copy(update={"label_smoothing": 0.1}), caps)


def test_a_capsule_network_from_training_to_prediction(tmp_path: Path) -> None:
    """Two classes, dark and bright: `auto` is decided, the network learns, and predictions are probabilities."""
    draw = np.random.default_rng(0)
    for name, level in (("bright", 200), ("dark", 20)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(20):
            pixels = level + draw.integers(0, 50, (17, 17), np.uint8)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "data" / name / f"{i}.png")
    run = neocog.train(
        tmp_path / "data", out=tmp_path / "run", model="capsnet", image_size=17, epochs=3, batch_size=8, device="cpu"
    )
    assert run.config.loss == "margin"
    assert (tmp_path / "run" / "config.toml").read_text("utf-8").count('loss = "margin"') == 1
    saved = run.predictions("test")
    assert saved.probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    assert (saved.predicted == saved.labels).mean() == 1
    assert saved.confidence.min() > 0.75  # a softmax of two lengths would stay below e / (e + 1) = 0.73
    answers = list(run.predict([tmp_path / "data" / file for file in saved.files]))
    np.testing.assert_allclose([a.probabilities for a in answers], saved.probabilities, atol=0.02)  # bf16 where it is


# Layers


def test_layer_norm_is_taken_pixel_by_pixel() -> None:
    x, norm = pictures(2, (5, 3, 4)), LayerNorm2d(5)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
        out = norm(x)
    for b in range(2):
        for i in range(3):
            for j in range(4):
                pixel = x[b, :, i, j]
                expected = (pixel - pixel.mean()) / (pixel.var(correction=0) + 1e-6).sqrt() * norm.weight + norm.bias
                torch.testing.assert_close(out[b, :, i, j], expected.detach(), rtol=1e-5, atol=1e-5)
    # Tiny numbers tell the epsilons apart: the published weights have 1e-6.
    tiny = 1e-3 * x
    with torch.no_grad():
        assert not torch.allclose(
            norm(tiny), F.layer_norm(tiny.movedim(1, 3), (5,), norm.weight, norm.bias).movedim(3, 1)
        )


def test_attention_against_loops() -> None:
    """Vaswani et al., equation 1, one head, one query at a time; the weights' rows read as the docstring says."""
    width, heads, n = 12, 3, 5
    torch.manual_seed(0)
    layer, x = MultiHeadAttention(width, heads).double(), torch.randn(2, n, width, dtype=torch.float64)
    d = width // heads
    with torch.no_grad():
        out = layer(x)
        for b in range(2):
            joined = torch.zeros(n, width, dtype=torch.float64)
            for h in range(heads):
                q, k, v = (
                    x[b] @ layer.qkv.weight[rows].T + layer.qkv.bias[rows]
                    for rows in (slice(part * width + h * d, part * width + (h + 1) * d) for part in range(3))
                )
                for i in range(n):
                    shares = torch.stack([(q[i] * k[j]).sum() / d**0.5 for j in range(n)]).exp()
                    joined[i, h * d : (h + 1) * d] = sum(shares[j] / shares.sum() * v[j] for j in range(n))
            expected = joined @ layer.proj.weight.T + layer.proj.bias
            torch.testing.assert_close(out[b], expected)
    with pytest.raises(ValueError, match="do not divide"):
        MultiHeadAttention(10, 3)
