"""Growing: the deeper network answers as the trained one, learns from the first step on, and is a run's start."""

import json
import math
from functools import partial
from pathlib import Path

import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from command import Command, one_line_error
from draw import draw, pictures, small_shape, spread
from drawn import colours
from neocog.app.growing import grow_run
from neocog.app.zoo import create_model, load_model, open_network
from neocog.core.contracts import Network
from neocog.core.errors import ModelFileError, UsageError
from neocog.core.registry import lookup
from neocog.core.spec import Preprocessing
from neocog.export.bundle import ModelCard, read_card, write_bundle
from neocog.layers.conv import ConvNormAct
from neocog.layers.drop_path import DropPath
from neocog.layers.inverted_residual import InvertedResidual
from neocog.layers.preactivation import PreactResidual, preact_basic
from neocog.layers.residual import Residual, basic
from neocog.models.convnext import STAGES
from neocog.models.preact_resnet import PreactResNet
from neocog.models.vgg import VGG
from neocog.transfer.grow import grow, rectified_moments

K = 5
# One of each kind of block; how many are new in each stage, counted by hand in the papers' tables.
PAIRS = [
    ("resnet18", "resnet34", (1, 2, 4, 1)),
    ("resnet50", "resnet101", (0, 0, 17, 0)),
    ("resnet20", "resnet32", (2, 2, 2)),
    ("plain20", "plain32", (2, 2, 2)),
    ("preact_resnet18", "preact_resnet34", (1, 2, 4, 1)),
    ("convnext_tiny", "convnext_small", (0, 0, 18, 0)),
    ("efficientnet_b0", "efficientnet_b1", (1, 1, 1, 1, 1, 1, 1)),
]  # fmt: skip
# On the meta device only: too large, or the same blocks once more.
PLANNED = [
    ("resnet101", "resnet152", (0, 4, 13, 0)),
    ("resnet32", "resnet44", (2, 2, 2)),
    ("resnet44", "resnet56", (2, 2, 2)),
    ("resnet56", "resnet110", (9, 9, 9)),
    ("preact_resnet50", "preact_resnet152", (0, 4, 30, 0)),
    ("wide_resnet50_2", "wide_resnet101_2", (0, 0, 17, 0)),
    ("vgg11", "vgg13", (1, 1, 0, 0, 0)),
    ("vgg13", "vgg16", (0, 0, 1, 1, 1)),
    ("vgg11_bn", "vgg19_bn", (1, 1, 2, 2, 2)),
]
REFUSED = [
    ("resnet18", "resnet50", "stages.conv2_x.0.body.conv1.conv", "Conv2d(64, 64, kernel_size=(3, 3)", "(1, 1)"),
    ("resnet34", "resnet18", "stages.conv2_x has 3 parts already, and would have 2", "", ""),
    ("resnet18", "resnet18", "nothing to add", "", ""),
    ("plain20", "resnet32", "stages.stage1.0 is Sequential, and would be Residual", "", ""),
    ("vit_b_16", "vit_l_16", "stem", "768", "1024"),
    ("vit_b_16", "vit_b_32", "stem is Tokens", "positions: 1 x 197 x 768", "positions: 1 x 50 x 768"),
    ("densenet121", "densenet169", "would be", "", ""),
    ("pyramidnet110_a48", "pyramidnet110_a84", "stages.conv2.0.body.layers.conv1.conv", "Conv2d(16, 16,", "17"),
    ("residual_attention56", "residual_attention92", "stages.stage2.attention2 would be new", "Attention", ""),
    ("convnext_small", "convnext_base", "stem.conv", "96", "128"),
    ("efficientnet_b1", "efficientnet_b2", "would be", "", ""),
    ("vgg11", "vgg13_bn", "stages.stage1.conv1.norm is nothing, and would be BatchNorm2d(64", "", ""),
    ("alexnet", "vgg11", "", "", ""),
]


class Stage(Network):
    """One stage of given blocks."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem, self.head = nn.Identity(), nn.Sequential()
        self.stages = nn.Sequential(nn.Sequential(*blocks))


def planned(name: str, **knobs: object) -> Network:
    with torch.device("meta"):
        network: Network = lookup(name).build(**knobs)
    return network


def narrow(patch: pytest.MonkeyPatch) -> None:
    """ResNets and ConvNeXts of an eighth of the channels, for which two cores need no time."""
    patch.setattr("neocog.models.resnet.WIDTHS", (8, 16, 32, 64))
    channels = (12, 24, 48, 96)
    stages = {size: (channels, blocks) for size, (_, blocks) in STAGES.items()}
    patch.setattr("neocog.models.convnext.STAGES", stages)


def notes_of(large: Network, added: tuple[int, ...], small: Network) -> list[str]:
    """What grow should say, from the numbers of blocks that were added."""
    said = []
    for (name, stage), n in zip(large.stages.named_children(), added, strict=True):
        if n:
            assert isinstance(stage, nn.Sequential)
            assert len(stage) - len(small.stages.get_submodule(name)) == n  # type: ignore[arg-type]
            blocks = sum("pool" not in child and "halve" not in child for child, _ in stage.named_children())
            said.append(f"{name}: {n} of {blocks} blocks {'is' if n == 1 else 'are'} new")
    return [f"stages.{line}" for line in said]


def pair(small: str, large: str) -> tuple[Network, Network, tuple[int, ...], list[str]]:
    """A drawn network, what it has grown into, and the shape of a picture."""
    old = lookup(small).build(num_classes=K)
    shape = small_shape(old)
    momenta = [(module, module.momentum) for module in old.modules() if isinstance(module, nn.BatchNorm2d)]
    draw(old, shape)
    for norm, momentum in momenta:
        norm.momentum = momentum
    torch.manual_seed(3)
    new = lookup(large).build(num_classes=K)
    notes = grow(old, new)
    new.eval()
    return old, new, shape, notes


def step(network: Network, shape: tuple[int, ...]) -> tuple[set[str], set[str]]:
    """One step of SGD in training mode on drawn pictures: the parameters that moved, and those with a gradient."""
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    network.train()
    for module in network.modules():
        if isinstance(module, DropPath):
            module.p = 0.0  # a dropped branch learns nothing in this step, and one step is all there is
    loss = F.cross_entropy(network(pictures(4, shape, seed=5)), torch.arange(4) % K)
    network.zero_grad()
    loss.backward()
    torch.optim.SGD(network.parameters(), lr=0.01).step()
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    return moved, {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}


def is_new(name: str, small: Network) -> bool:
    return name not in dict(small.named_parameters())


@pytest.mark.parametrize(("small", "large", "added"), PAIRS)
def test_answers_are_equal_bit_for_bit_and_new_blocks_learn(
    small: str, large: str, added: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if small in ("resnet50", "convnext_tiny"):
        narrow(monkeypatch)
    old, new, shape, notes = pair(small, large)
    assert notes == notes_of(new, added, old)
    x = pictures(2, shape)
    with torch.inference_mode():
        before, after = old(x), new(x)
    assert spread(before) > 0.01, "no signal to compare"
    assert torch.equal(before, after)
    for name, tensor in old.state_dict().items():
        assert torch.equal(tensor, new.state_dict()[name]), name

    added_names = {name for name, _ in new.named_parameters() if is_new(name, old)}
    moved, _ = step(new, shape)
    assert len(moved & added_names) >= sum(added), "each new block must learn from the first step"
    _, felt = step(new, shape)  # what stands in front of the zeros learns from the second
    assert added_names <= felt


@pytest.mark.parametrize(("small", "large", "added"), PLANNED)
def test_the_rest_of_each_family_fits(small: str, large: str, added: tuple[int, ...]) -> None:
    old, new = planned(small), planned(large)
    assert grow(old, new) == notes_of(new, added, old)


@pytest.mark.parametrize("stage", range(5))
@pytest.mark.parametrize("norm", [False, True])
def test_vgg_stages(stage: int, norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With narrow stages and without its dense layers' 100 million weights."""
    old, new = tiny_vgg(monkeypatch, 11, norm), tiny_vgg(monkeypatch, 19, norm)
    draw(old, (3, 32, 32))
    grow(old, new)
    new.eval()
    x = pictures(3, (3, 32, 32))
    with torch.inference_mode():
        before, after = old.features(x)[stage], new.features(x)[stage]
        assert spread(before) > 0.01
        assert torch.equal(before, after)
        assert torch.equal(old(x), new(x))
    moved, _ = step(new, (3, 32, 32))
    added = {name for name, _ in new.named_parameters() if is_new(name, old)}
    assert {name for name in added if not name.endswith("norm.weight")} <= moved


def tiny_vgg(patch: pytest.MonkeyPatch, depth: int, norm: bool) -> VGG:
    patch.setattr("neocog.models.vgg.FILTERS", (8, 12, 16, 20, 20))
    patch.setattr("neocog.models.vgg.GRID", 1)
    patch.setattr("neocog.models.vgg.WIDTH", 16)
    return VGG(depth, norm, K, 3, 0.0)


@pytest.mark.parametrize(("small", "large"), [("resnet20", "resnet32"), ("preact_resnet18", "preact_resnet34")])
def test_residual_networks_are_equal_in_training_mode_too(small: str, large: str) -> None:
    old, new, shape, _ = pair(small, large)
    x = pictures(4, shape)
    with torch.no_grad():
        assert torch.equal(old.train()(x), new.train()(x))


def test_a_neutral_norm_is_near_the_identity_in_training_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tiny_vgg(monkeypatch, 11, True), tiny_vgg(monkeypatch, 13, True)
    draw(old, (3, 32, 32))
    grow(old, new)
    x = pictures(16, (3, 32, 32))
    old.train()
    new.train()
    with torch.no_grad():
        wanted, near = old.features(x)[0], new.features(x)[0]
        norm = new.get_submodule("stages.stage1.conv2.norm")
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.ones_(norm.weight)  # as a fresh norm would be: the judge's other side
        nn.init.zeros_(norm.bias)
        fresh = new.features(x)[0]
    size = wanted.norm()
    assert (near - wanted).norm() / size < 0.05
    assert (fresh - wanted).norm() / size > 0.3


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_every_neutral_norm_is_exact(eps: float) -> None:
    """Weights from dead channels to wild ones, of either sign, against what comes in."""
    channels = 400
    generator = torch.Generator().manual_seed(0)
    norm = partial(nn.BatchNorm2d, eps=eps)
    before, copy, block = (ConvNormAct(channels, channels, 1, groups=channels, norm=norm) for _ in range(3))
    with torch.no_grad():
        sign = torch.randn(channels, generator=generator).sign()
        before.norm.weight.copy_(torch.logspace(-9, 3, channels) * sign)  # type: ignore[operator]
        before.norm.bias.normal_(0, 3, generator=generator)  # type: ignore[operator]
    assert grow(Stage(before), Stage(copy, block))
    assert float(block.norm.running_var.min()) > 0  # type: ignore[union-attr]
    x = torch.rand(3, channels, 4, 4, generator=generator) * torch.logspace(-6, 6, channels)[:, None, None]
    for memory_format in (torch.contiguous_format, torch.channels_last):
        with torch.inference_mode():
            assert torch.equal(block.eval()(x.contiguous(memory_format=memory_format)), x)


def test_moments_of_a_rectified_normal() -> None:
    """Against scipy's integral over the normal density."""
    means = torch.tensor([-4.0, -1.0, 0.0, 0.3, 5.0], dtype=torch.float64)
    deviations = torch.tensor([1.0, 2.0, 1.0, 0.1, 0.5], dtype=torch.float64)
    first, variance = rectified_moments(means, deviations)
    for i in range(len(means)):
        normal = scipy.stats.norm(float(means[i]), float(deviations[i]))
        moments = [normal.expect(lambda x, n=n: x**n, lb=0.0, ub=math.inf) for n in (1, 2)]
        assert float(first[i]) == pytest.approx(moments[0], rel=1e-6, abs=1e-9)
        assert float(variance[i]) == pytest.approx(moments[1] - moments[0] ** 2, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("small", "large", "where", "had", "wanted"), REFUSED)
def test_what_does_not_fit_is_refused(small: str, large: str, where: str, had: str, wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        grow(planned(small), planned(large))
    for word in (where, had, wanted):
        assert word in caught.value.cause


@pytest.mark.parametrize(
    ("small", "large", "had"),
    [
        (planned("resnet50", stride_on="1x1"), planned("resnet101"), "stride=(2, 2)"),
        (planned("efficientnet_b0", padding="same"), planned("efficientnet_b1"), "SamePadConv2d"),
    ],
)
def test_same_shapes_but_another_function_is_refused(small: Network, large: Network, had: str) -> None:
    with pytest.raises(UsageError, match="would be") as caught:
        grow(small, large)
    assert had in caught.value.cause


def test_dropped_shares_may_differ() -> None:
    assert grow(planned("convnext_tiny", drop_path=0.3), planned("convnext_small", drop_path=0.0))
    assert grow(planned("resnet18", dropout=0.3), planned("resnet34"))


@pytest.mark.parametrize(
    "new",
    [
        ConvNormAct(4, 4, 3, norm=None),  # behind a block that does not end in a ReLU
        basic(4, 4, 1),
        ConvNormAct(4, 4, 3, act=None),  # its norm is behind none
        ConvNormAct(4, 8, 3, norm=None, act=None),
        ConvNormAct(4, 4, 3, stride=2, norm=None, act=None),
        ConvNormAct(4, 4, 2, norm=None, act=None),
        nn.MaxPool2d(3, 1, 1),
        preact_basic(4, 8, 1),
        InvertedResidual(4, 8, 6),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.GELU()),
    ],
)
def test_blocks_that_cannot_be_the_identity_are_refused(new: nn.Module) -> None:
    with pytest.raises(UsageError, match=r"stages\.0\.1 would be new, and .* cannot be made the identity"):
        grow(Stage(preact_basic(4, 4, 1)), Stage(preact_basic(4, 4, 1), new))


def test_a_branch_that_ends_in_a_bend_is_refused() -> None:
    new = Residual(nn.Sequential(nn.Conv2d(4, 4, 1), nn.GELU()), nn.Identity())
    with pytest.raises(UsageError, match=r"stages\.0\.1 would be new, and GELU"):
        grow(Stage(basic(4, 4, 1)), Stage(basic(4, 4, 1), new))


def test_a_preactivated_branch_is_silenced_where_the_gradient_survives() -> None:
    """Zeros in the norm in front of the last ReLU would be the identity as well, and stay it for ever."""
    _, new, _, _ = pair("preact_resnet18", "preact_resnet34")
    assert isinstance(new, PreactResNet)
    block = new.get_submodule("stages.conv2_x.2")
    assert isinstance(block, PreactResidual)
    norm, conv = block.body.get_submodule("conv2.norm"), block.body.get_submodule("conv2.conv")
    assert isinstance(norm.weight, Tensor)
    assert isinstance(conv.weight, Tensor)
    assert norm.weight.all()
    assert not conv.weight.any()


def make_run(folder: Path, name: str = "resnet20", **knobs: object) -> tuple[ModelCard, Network]:
    """The folder of a model with drawn weights, for pictures of 16 x 16."""
    network = lookup(name).build(num_classes=3, **knobs)
    draw(network, (3, 16, 16))
    card = ModelCard(
        model=name, knobs=dict(knobs), classes=["blue", "green", "red"], in_channels=3, background="white",
        preprocessing=Preprocessing(16, 16, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)), provenance={"seed": 7},
        written_by="0.0.1",
    )  # fmt: skip
    write_bundle(folder / "model", network.state_dict(), card)
    return open_network(folder / "model")


def test_a_grown_model_in_its_folder(tmp_path: Path) -> None:
    card, old = make_run(tmp_path / "run")
    random = torch.get_rng_state()
    grown = grow_run(tmp_path / "run", "ResNet32", tmp_path / "deeper")
    assert torch.equal(torch.get_rng_state(), random)
    assert (grown.folder, grown.grown_from, grown.model) == (tmp_path / "deeper", "resnet20", "resnet32")
    assert grown.difference == 0.0
    count = {name: lookup(name).spec.params for name in ("resnet20", "resnet32")}
    assert grown.parameters_after - grown.parameters_before == count["resnet32"] - count["resnet20"]

    new_card, new = open_network(grown.folder / "model")
    story = {"model": "resnet20", "sha256": card.sha256, "seed": 0, "notes": grown.notes}
    assert new_card.provenance == {"seed": 7, "grown_from": story}
    assert (new_card.classes, new_card.preprocessing) == (card.classes, card.preprocessing)
    x = pictures(2, (3, 16, 16))
    with torch.inference_mode():
        assert torch.equal(old.eval()(x), new.eval()(x))
    start = load_model("resnet32", weights=str(grown.folder), num_classes=3)
    assert not start.notes  # the same classifier
    assert all(torch.equal(a, b) for a, b in zip(start.network.parameters(), new.parameters(), strict=True))

    again = grow_run(tmp_path / "run" / "model", "resnet32", tmp_path / "again")
    other = grow_run(tmp_path / "run", "resnet32", tmp_path / "other", seed=1)
    weights = [(one.folder / "model" / "model.safetensors").read_bytes() for one in (grown, again, other)]
    assert weights[0] == weights[1] != weights[2]


def test_options_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow(monkeypatch)
    make_run(tmp_path / "run", "resnet18", dropout=0.25)
    kept = grow_run(tmp_path / "run", "resnet34", tmp_path / "kept")
    assert open_network(kept.folder / "model")[0].knobs == {"dropout": 0.25}
    given = grow_run(tmp_path / "run", "resnet34", tmp_path / "given", {"dropout": 0.5})
    assert open_network(given.folder / "model")[0].knobs == {"dropout": 0.5}


def test_command_and_then_training(neocog: Command, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    result = neocog("grow", "run", "--model", "resnet32", "--out", "deeper")
    assert result.code == 0, result
    for words in ("stages.stage2: 2 of 5 blocks are new", "equal on drawn pictures, bit for bit",
                  "neocog train DATA --model resnet32 --weights deeper --regime full"):  # fmt: skip
        assert words in result.out
    data = colours(tmp_path / "data", 8)
    trained = neocog("train", data, "--model", "resnet32", "--weights", "deeper", "--regime", "full", "--epochs", 1,
                     "--head-epochs", 0, "--lr", 1e-30, "--weight-decay", 0, "--seed", 1, "--out", "run2")  # fmt: skip
    assert trained.code == 0, trained
    card, network = open_network(tmp_path / "run2" / "model")
    start = create_model("resnet32", weights=str(tmp_path / "deeper"))
    assert card.provenance["sha256"] == read_card(tmp_path / "deeper" / "model").sha256
    x = pictures(2, (3, 16, 16))
    with torch.inference_mode():  # a step of next to nothing is next to nothing away from where it began
        assert torch.allclose(network.eval()(x), start.eval()(x), rtol=1e-4, atol=1e-5)

    told = neocog("grow", "run", "--model", "resnet44", "--json")
    said = json.loads(told.out)
    assert said["model"] == "resnet44"
    assert said["difference"] == 0
    assert Path(said["folder"]).parent == Path("runs")


def test_command_refuses(neocog: Command, tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    wrong = neocog("grow", "run", "--model", "resnet34")
    one_line_error(wrong, 2, "resnet20 does not grow into resnet34: stem is ConvNormAct, and would be Sequential;",
                   "resnet20 can grow into resnet32, resnet44, resnet56 or resnet110")  # fmt: skip
    assert "plain32" not in wrong.err
    one_line_error(neocog("grow", "run", "--model", "resnet20"), 2, "nothing to add", "resnet32")
    one_line_error(neocog("grow", "run", "--model", "resnet32", "--knob", "width=2"), 2, "has no option 'width'")
    one_line_error(neocog("grow", "nowhere", "--model", "resnet32"), 2, "nowhere does not exist")
    one_line_error(
        neocog("grow", "run", "--model", "resnet32", "--out", "run"), 2, "run exists already and is not empty"
    )
    one_line_error(neocog("grow", "run", "--model", "resnet32", "--out", "run/x"), 2, "lies inside the run run")
    assert not (tmp_path / "runs").exists()
    make_run(tmp_path / "last", "resnet110")
    one_line_error(neocog("grow", "last", "--model", "resnet56"), 2, "no network of the zoo continues resnet110")


def test_no_run_and_another_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match="holds no finished run"):
        grow_run(tmp_path / "empty", "resnet32", tmp_path / "out")
    make_run(tmp_path / "run")
    card = read_card(tmp_path / "run" / "model").model_copy(update={"head": "of another task"})
    monkeypatch.setattr("neocog.app.growing.read_card", lambda _: card)
    with pytest.raises(UsageError, match="another head"):
        grow_run(tmp_path / "run", "resnet32", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scores_that_differ_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run")

    def careless(small: Network, large: Network) -> list[str]:
        return ["everything is new"]

    monkeypatch.setattr("neocog.app.growing.grow", careless)
    with pytest.raises(UsageError, match="gives other scores than resnet20"):
        grow_run(tmp_path / "run", "resnet32", tmp_path / "out")
    assert not (tmp_path / "out").exists()
