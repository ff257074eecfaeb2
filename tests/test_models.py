"""Every network of the zoo keeps the Network contract: the same questions for all, and new networks join by name."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from draw import drawn, pictures, small_shape, spread
from neocog.core.contracts import Network, WithAuxiliary
from neocog.core.registry import lookup, names
from neocog.costs.count import count
from neocog.tasks.classification import Classification

ALL = [name for name in names() if lookup(name).spec.task == "classification"]
NUMBERS = 13e6  # parameters up to which a network is exported with its numbers
# Where drawn weights are asked, fewer tokens give the same answers sooner.
SMALLER = {name: {"image_size": 64} for name in names("vit_*")}


@dataclass
class Rows:
    images: Tensor
    targets: Tensor
    indices: Tensor


def on_meta(name: str, **knobs: object) -> Network:
    """The network without memory or weights, for questions about shapes."""
    with torch.device("meta"):
        network = lookup(name).build(**knobs)
    assert isinstance(network, Network)
    return network.eval()


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device="meta")


@pytest.fixture(scope="module", params=ALL)
def network(request: pytest.FixtureRequest) -> Network:
    return drawn(request.param, **SMALLER.get(request.param, {}))


def test_the_zoo_is_complete() -> None:
    expected = {"perceptron", "mlp_8_32_32_2", "mnist_dense", "mnist_convnet", "mnist_fcn", "lenet5", "alexnet"}
    expected |= {f"vgg{depth}{bn}" for depth in (11, 13, 16, 19) for bn in ("", "_bn")}
    expected |= {f"resnet{depth}" for depth in (18, 34, 50, 101, 152)}
    expected |= {"squeezenet1_0", "squeezenet1_1", "mobilenet_v2"}
    assert expected <= set(ALL)


# Without weights


@pytest.mark.parametrize("name", ALL)
def test_the_spec_is_recounted(name: str) -> None:
    spec = lookup(name).spec
    cost = count(on_meta(name), spec.input_shape)
    assert (cost.params, cost.macs) == (spec.params, spec.macs)
    assert spec.idea.endswith(".")
    assert spec.link.startswith("https://")


@pytest.mark.parametrize("name", ALL)
def test_output_shape_at_the_papers_input(name: str) -> None:
    spec = lookup(name).spec
    assert on_meta(name)(meta(3, *spec.input_shape)).shape == (3, spec.num_classes)


@pytest.mark.parametrize("name", ALL)
def test_any_number_of_classes_and_channels(name: str) -> None:
    network = on_meta(name, num_classes=7, in_channels=5)
    assert (network.num_classes, network.in_channels) == (7, 5)
    assert network(meta(2, *small_shape(network))).shape == (2, 7)


@pytest.mark.parametrize("name", ALL)
def test_a_new_head_changes_only_the_classifier(name: str) -> None:
    network = on_meta(name)
    x = meta(2, *small_shape(network))
    before, width = dict(network.named_parameters()), network.embed(x).shape
    network.reset_head(3)
    assert network.num_classes == 3
    assert network(x).shape == (2, 3)
    assert network.embed(x).shape == width
    changed = {key for key, parameter in network.named_parameters() if parameter is not before.get(key)}
    heads = ["head", *(f"auxiliary.{stage}" for stage in network.auxiliary or ())]
    classifiers = [f"{head}.{network.classifier}" for head in heads]
    assert changed == {f"{c}.{part}" for c in classifiers for part, _ in network.get_submodule(c).named_parameters()}


@pytest.mark.parametrize("name", ALL)
def test_stage_channels_and_strides_are_true(name: str) -> None:
    network = on_meta(name)
    assert len(network.stages) == len(network.stage_channels) == len(network.stage_strides)
    # The maps of LeNet of 1989 cannot grow: each of their units has a bias of its own.
    if not passes_maps(network) or name == "lenet_1989":
        pytest.skip("asked by a test of its own")
    # What a fixed size's stem pads to is no matter of stride: there the stages are asked directly.
    stem = nn.Identity() if network.fixed_size is not None and 0 not in network.stage_strides else network.stem

    def features(*size: int) -> list[torch.Tensor]:
        x, outputs = stem(meta(1, network.in_channels, *size)), []
        for stage in network.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    if 0 in network.stage_strides or not network.stage_strides:
        shapes = [tuple(f.shape) for f in network.features(meta(2, *small_shape(network)))]
        assert shapes == [(2, c) for c in network.stage_channels]
        return
    base = features(224, 224)
    assert [f.shape[1] for f in base] == list(network.stage_channels)
    for stride in set(network.stage_strides):
        for i, grown in enumerate(features(224 + stride, 224 + 3 * stride)):
            if network.stage_strides[i] == stride:  # one more pixel for every `stride` pixels of input
                assert grown.shape[2:] == (base[i].shape[2] + 1, base[i].shape[3] + 3)


# With drawn weights


def test_one_picture_alone_is_answered_as_in_a_batch(network: Network) -> None:
    # In double precision: a deep network under drawn weights makes float32's rounding as large as its answer.
    # That is slow, so the pictures are halved where the network allows it.
    network, shape = copy.deepcopy(network).double(), small_shape(network)
    if network.fixed_size is None and len(shape) == 3 and shape[1] // 2 >= network.min_size:
        shape = (shape[0], shape[1] // 2, shape[2] // 2)
    x = pictures(2, shape).double()
    with torch.no_grad():
        both, alone = network(x), network(x[:1])
    # The other picture's answer is at least ten times as far away as rounding may lead.
    assert spread(both) > 0.01
    torch.testing.assert_close(alone, both[:1], rtol=0, atol=1e-3 * float(both.std()))


def test_every_parameter_gets_a_gradient(network: Network) -> None:
    x = pictures(2, small_shape(network))
    parameters = {key: p for key, p in network.named_parameters() if not key.startswith("auxiliary.")}
    assert not silent(parameters, network(x).square().sum())
    if network.auxiliary is None:
        return
    # Auxiliary heads answer in training only.
    network.train()
    answer = network(x)
    network.eval()
    assert isinstance(answer, WithAuxiliary)
    assert len(answer.auxiliary) == len(network.auxiliary) > 0
    assert answer.weight > 0
    for scores, head in zip(answer.auxiliary, network.auxiliary.values(), strict=True):
        assert scores.shape == answer.scores.shape
        assert not silent(dict(head.named_parameters()), scores.square().sum())


def silent(parameters: dict[str, nn.Parameter], loss: Tensor) -> list[str]:
    """The names of those that `loss` gives no gradient."""
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, retain_graph=True)
    return [key for key, g in zip(parameters, gradients, strict=True) if g is None or not g.any()]


def passes_maps(network: Network) -> bool:
    """False where the stages pass something else, such as tokens, which `features` turns into maps."""
    return type(network).features is Network.features


def test_every_feature_map_leads_to_the_answer(network: Network) -> None:
    if not passes_maps(network):
        pytest.skip("asked by a test of its own")
    x = pictures(2, small_shape(network))
    with torch.no_grad():
        features, answer = network.features(x), network(x)
        assert len(features) == len(network.stage_channels)
        for i, feature in enumerate(features):
            rest = nn.Sequential(*network.stages[i + 1 :], network.head)
            torch.testing.assert_close(rest(feature), answer, rtol=0, atol=0)


def test_the_embedding_is_what_the_classifier_sees(network: Network) -> None:
    x = pictures(2, small_shape(network))
    classifier = network.head.get_submodule(network.classifier)
    with torch.no_grad():
        embedding, answer = network.embed(x), network(x)
        assert embedding.dim() == 2
        if not isinstance(classifier, nn.Conv2d):
            children = [name for name, _ in network.head.named_children()]
            rest = network.head[children.index(network.classifier) :]
            torch.testing.assert_close(rest(embedding), answer)
        else:
            torch.testing.assert_close(embedding, network.features(x)[-1].mean(dim=(2, 3)))
            assert embedding.shape[1] == classifier.in_channels


def test_weights_survive_a_round_trip(network: Network, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["network"]
    twin = on_meta(name, **SMALLER.get(name, {}))
    twin.load_state_dict(network.state_dict(), assign=True)
    x = pictures(2, small_shape(network))
    with torch.no_grad():
        assert torch.equal(twin(x), network(x))


def test_min_size_is_the_smallest(network: Network) -> None:
    if network.fixed_size is not None or len(small_shape(network)) != 3:
        pytest.skip("the size is fixed")
    c, size = network.in_channels, network.min_size
    with torch.no_grad():
        assert network(pictures(1, (c, size, size))).shape == (1, network.num_classes)
        if size > 1:
            with pytest.raises(RuntimeError, match=r"too small|[Kk]ernel size"):
                network(pictures(1, (c, size - 1, size - 1)))


def test_a_training_step_in_bfloat16(network: Network) -> None:
    learner = copy.deepcopy(network).train()
    x, targets = pictures(2, small_shape(network)), torch.tensor([0, 1])
    batch = Rows(x, targets, torch.arange(2))
    optimizer = torch.optim.SGD(learner.parameters(), lr=1e-4)
    before = copy.deepcopy(learner.head.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        loss = Classification().step(learner, batch).loss
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    after = learner.head.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(before[key], after[key]) for key in after)


@pytest.mark.parametrize("name", ALL)
def test_export(name: str) -> None:
    """Large networks without their numbers: what is exported is the graph."""
    small = lookup(name).spec.params < NUMBERS
    network = drawn(name) if small else on_meta(name)
    shape = small_shape(network)
    x = pictures(2, shape) if small else meta(2, *shape)
    exported = torch.export.export(network, (x,)).module()
    with torch.no_grad():
        answer = exported(x)
        assert answer.shape == (2, network.num_classes)
        if small:
            torch.testing.assert_close(answer, network(x))


EMBEDDING_WIDTHS = {
    "perceptron": 784,
    "mlp_8_32_32_2": 32,
    "mnist_dense": 64,
    "mnist_convnet": 1600,
    "mnist_fcn": 64,
    "lenet5": 84,
    "alexnet": 4096,
    "vgg16": 4096,
    "vgg16_bn": 4096,
    "resnet18": 512,
    "resnet50": 2048,
    "squeezenet1_1": 512,
    "mobilenet_v2": 1280,
}


@pytest.mark.parametrize(("name", "width"), EMBEDDING_WIDTHS.items())
def test_embedding_width(name: str, width: int) -> None:
    network = on_meta(name)
    assert network.embed(meta(2, *small_shape(network))).shape == (2, width)


def test_dropout_knob() -> None:
    for name, papers in {
        "alexnet": 0.5,
        "vgg11": 0.5,
        "squeezenet1_1": 0.5,
        "mobilenet_v2": 0.2,
        "resnet18": 0.0,
    }.items():
        for given, expected in ((None, papers), (0.0, 0.0), (0.3, 0.3)):
            shares = {m.p for m in on_meta(name, dropout=given).modules() if type(m).__name__ == "Dropout"}
            assert shares == {expected}, name


@pytest.mark.parametrize("name", ["perceptron", "mnist_dense", "mnist_convnet", "lenet5"])
def test_image_size_knob(name: str) -> None:
    for size in (12, 28, 32):
        network = on_meta(name, image_size=size)
        assert network.fixed_size == size
        assert network(meta(2, 1, size, size)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("mnist_convnet", {"image_size": 8}, "at least 10"),
        ("lenet5", {"image_size": 33}, "1 to 32"),
        ("resnet50", {"stride_on": "2x2"}, "neither '3x3' nor '1x1'"),
        ("mobilenet_v2", {"padding": "valid"}, "neither 'torch' nor 'same'"),
        ("mobilenet_v2", {"width": -1.0}, "above 0"),
        ("alexnet", {"dropout": 1.0}, "below 1"),
    ],
)
def test_wrong_knobs(name: str, knobs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        on_meta(name, **knobs)


def test_lenet_refuses_larger_pictures() -> None:
    with pytest.raises(ValueError, match="at most 32"):
        on_meta("lenet5")(meta(1, 1, 33, 33))
