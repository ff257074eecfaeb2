"""Every network of the zoo keeps the Network contract: the same questions for all, and new networks join by name."""

import pytest
import torch
from torch import nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from draw import drawn, pictures, small_shape, spread
from neocog.core.contracts import Network
from neocog.core.registry import lookup, names
from neocog.costs.count import count

ALL = names()
SMALL = [name for name in ALL if lookup(name).spec.params < 13e6]


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
    return drawn(request.param)


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
    assert changed == {f"head.{network.classifier}.weight", f"head.{network.classifier}.bias"}


@pytest.mark.parametrize("name", ALL)
def test_stage_channels_and_strides_are_true(name: str) -> None:
    network = on_meta(name)
    assert len(network.stages) == len(network.stage_channels) == len(network.stage_strides)
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
    x = pictures(2, small_shape(network))
    with torch.no_grad():
        both, alone = network(x), network(x[:1])
    # The other picture's answer is at least ten times as far away as rounding may lead.
    assert spread(both) > 0.01
    torch.testing.assert_close(alone, both[:1], rtol=0, atol=1e-3 * float(both.std()))


def test_every_parameter_gets_a_gradient(network: Network) -> None:
    parameters = dict(network.named_parameters())
    loss = network(pictures(2, small_shape(network))).square().sum()
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    silent = [key for key, g in zip(parameters, gradients, strict=True) if g is None or not g.any()]
    assert not silent


def test_every_feature_map_leads_to_the_answer(network: Network) -> None:
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
        if isinstance(classifier, nn.Linear):
            torch.testing.assert_close(classifier(embedding), answer)
        else:
            assert isinstance(classifier, nn.Conv2d)
            torch.testing.assert_close(embedding, network.features(x)[-1].mean(dim=(2, 3)))
            assert embedding.shape[1] == classifier.in_channels


def test_weights_survive_a_round_trip(network: Network, request: pytest.FixtureRequest) -> None:
    twin = on_meta(request.node.callspec.params["network"])
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


@pytest.mark.parametrize("name", SMALL)
def test_export(name: str) -> None:
    network = drawn(name)
    x = pictures(2, small_shape(network))
    exported = torch.export.export(network, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), network(x))


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
