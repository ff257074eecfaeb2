"""Published weights made to fit: every layout, prefixes, other classes, other channels, and what is refused."""

import pytest
import torch
from torch import Tensor

import neocog.models  # noqa: F401  (importing it registers the networks)
from draw import draw, drawn, pictures, spread
from neocog.core.errors import ModelFileError
from neocog.core.registry import lookup, names
from neocog.models.weights import adapt, other_channels, recognise

SHAPE = (3, 64, 64)
ENTRY = lookup("squeezenet1_1")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return drawn("squeezenet1_1", SHAPE).state_dict()


def test_our_own_keys_come_back_unchanged(state: dict[str, Tensor]) -> None:
    assert recognise(ENTRY, state) == "neocog"
    adapted, notes = adapt(ENTRY.build(), ENTRY, state, "neocog")
    assert notes == []
    assert adapted.keys() == state.keys()
    assert all(torch.equal(adapted[key], state[key]) for key in state)


def test_data_parallels_prefix_is_stripped(state: dict[str, Tensor]) -> None:
    prefixed = {f"module.{key}": tensor for key, tensor in state.items()}
    assert recognise(ENTRY, prefixed) == "neocog"
    adapted, _ = adapt(ENTRY.build(), ENTRY, prefixed, "neocog")
    assert adapted.keys() == state.keys()


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "mobilenet_v2", "mnist_fcn", "lenet5"])
def test_another_number_of_classes_keeps_all_but_the_classifier(name: str) -> None:
    entry, old = lookup(name), drawn(name, num_classes=12)
    new = drawn(name, seed=5, num_classes=7)
    own = {key: tensor.clone() for key, tensor in new.state_dict().items()}
    adapted, notes = adapt(new, entry, old.state_dict(), "neocog")
    assert notes == ["new classifier for 7 classes (the weights had 12)"]
    new.load_state_dict(adapted, strict=True)
    for key, tensor in new.state_dict().items():
        source = own if key.startswith(f"head.{new.classifier}.") else old.state_dict()
        assert torch.equal(tensor, source[key]), key


@pytest.mark.parametrize("channels", [1, 2, 5, 6])
def test_other_channels_answer_alike_channels_alike(state: dict[str, Tensor], channels: int) -> None:
    colour, other = ENTRY.build(), ENTRY.build(in_channels=channels)
    colour.load_state_dict(state)
    adapted, notes = adapt(other, ENTRY, state, "neocog")
    other.load_state_dict(adapted, strict=True)
    assert len(notes) == 1
    assert f"for {channels} channels (the weights had 3)" in notes[0]
    grey = pictures(2, (1, 64, 64))
    with torch.no_grad():
        expected = colour.eval()(grey.expand(-1, 3, -1, -1))
        assert spread(expected) > 0.01
        torch.testing.assert_close(
            other.eval()(grey.expand(-1, channels, -1, -1)), expected, rtol=1e-3, atol=1e-4 * float(expected.std())
        )


def test_other_channels_keep_the_scale() -> None:
    filters = torch.ones(2, 3, 5, 5)
    for channels in (1, 2, 4, 5):
        assert other_channels(filters, channels).shape == (2, channels, 5, 5)
        torch.testing.assert_close(other_channels(filters, channels).sum(), filters.sum())


def test_a_missing_step_counter_is_zero() -> None:
    entry, network = lookup("resnet18"), drawn("resnet18", SHAPE)
    old = {key: tensor for key, tensor in network.state_dict().items() if "num_batches" not in key}
    adapted, _ = adapt(network, entry, old, "neocog")
    counters = [tensor for key, tensor in adapted.items() if "num_batches" in key]
    assert len(counters) == 20
    assert not any(counters)


def test_a_file_of_another_network_is_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(ModelFileError, match=r"transformer\.wte.* no key is one of squeezenet1_1's"):
        recognise(ENTRY, {"transformer.wte": torch.zeros(1)})
    with pytest.raises(ModelFileError, match="nothing"):
        recognise(ENTRY, {})


def test_missing_unknown_and_misshapen_keys_are_named(state: dict[str, Tensor]) -> None:
    first, *rest = state
    without = {key: state[key] for key in rest}
    with pytest.raises(ModelFileError, match=r"1 missing \(stem\.conv\.weight\)"):
        adapt(ENTRY.build(), ENTRY, without, "neocog")
    with pytest.raises(ModelFileError, match=r"1 unknown \(surprise\)"):
        adapt(ENTRY.build(), ENTRY, {**state, "surprise": torch.zeros(1)}, "neocog")
    wrong = {**state, first: torch.zeros(64, 3, 5, 5)}
    with pytest.raises(ModelFileError, match=r"stem\.conv\.weight \(64, 3, 5, 5\) for \(64, 3, 3, 3\)"):
        adapt(ENTRY.build(), ENTRY, wrong, "neocog")
    with pytest.raises(ModelFileError, match="1 tensors do not have"):
        adapt(ENTRY.build(), ENTRY, {**state, first: torch.zeros(())}, "neocog")


def test_auxiliary_heads_may_be_absent_on_either_side() -> None:
    entry = lookup("googlenet")
    full, bare = entry.build(), entry.build(auxiliary=False)
    assert bare.auxiliary is None
    adapted, notes = adapt(bare, entry, full.state_dict(), "neocog")
    assert notes == ["auxiliary heads of the weights left out"]
    bare.load_state_dict(adapted, strict=True)
    adapted, notes = adapt(full, entry, bare.state_dict(), "neocog")
    assert notes == ["new auxiliary heads (the weights have none)"]
    full.load_state_dict(adapted, strict=True)
    fewer = entry.build(num_classes=7)
    adapted, notes = adapt(fewer, entry, full.state_dict(), "neocog")
    assert notes == ["new classifier for 7 classes (the weights had 1000)"]
    fewer.load_state_dict(adapted, strict=True)


def test_tensors_that_differ_in_axes_of_length_one_are_reshaped() -> None:
    entry, network = lookup("squeezenet1_1"), drawn("squeezenet1_1", SHAPE)
    state = network.state_dict()
    flat = {key: tensor.squeeze() for key, tensor in state.items()}
    adapted, _ = adapt(network, entry, flat, "neocog")
    assert all(torch.equal(adapted[key], state[key]) for key in state)


def test_weights_of_another_depth_are_refused() -> None:
    deep = drawn("resnet34", SHAPE).state_dict()
    entry = lookup("resnet18")
    with pytest.raises(ModelFileError, match=r"unknown \(stages\.conv2_x\.2"):
        adapt(entry.build(), entry, deep, recognise(entry, deep))


def test_no_two_networks_claim_the_same_published_file() -> None:
    urls = [weights.url for name in names() for weights in lookup(name).spec.weights]
    assert len(urls) == len(set(urls)) > 17


def test_drawn_statistics_belong_to_the_weights() -> None:
    # The test helper itself: a drawn batch norm in eval mode leaves about unit variance.
    network = drawn("resnet18", SHAPE)
    draw(network, SHAPE)
    with torch.no_grad():
        assert 0.3 < network.stem(pictures(4, SHAPE)).std() < 3
