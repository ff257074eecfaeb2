"""Every autoencoder of the zoo, and those that are composed: shapes, sizes, gradients, what goes wrong."""

import pytest
import torch

import neocog
from neocog.core.autoencoder import Autoencoder, Reconstruction
from neocog.core.errors import UsageError
from neocog.core.registry import lookup

NAMES = neocog.list_models(task="reconstruction")
SEQUENCES = ("patch_ae",)  # sizes are multiples of the patch


def build(name: str, size: int = 28, channels: int = 1, **knobs: object) -> Autoencoder:
    torch.manual_seed(0)
    network = neocog.create_model(name, in_channels=channels, image_size=size, **knobs)
    assert isinstance(network, Autoencoder)
    return network


def test_the_family_is_there() -> None:
    assert set(NAMES) == {
        "conv_ae", "conv_vae", "deep_belief", "dense_ae", "patch_ae", "rbm", "recurrent_ae", "vae", "vq_vae",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (17, 3), (20, 16)])
def test_what_comes_out_is_like_what_goes_in(name: str, size: int, channels: int) -> None:
    if name in SEQUENCES and size % 4:
        size += 4 - size % 4
    network = build(name, size, channels).eval()
    x = torch.rand(3, channels, size, size)
    with torch.inference_mode():
        out = network(x)
        code = network.encode(x)
        assert out.shape == x.shape
        assert 0 <= out.min() <= out.max() <= 1
        assert code.shape == (3, *network.code_shape)
        assert network.embed(x).shape == (3, code[0].numel())
        assert torch.allclose(network.decode(code, (size, size)).sigmoid(), out, atol=1e-6)
        alone = network(x[1:2])
        assert torch.allclose(alone, out[1:2], atol=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("rbm", "deep_belief")])
def test_every_parameter_learns(name: str) -> None:
    network = build(name).train()
    found = network(torch.rand(4, 1, 28, 28))
    assert isinstance(found, Reconstruction)
    loss = found.logits.square().mean() + (found.coded.penalty if found.coded.penalty is not None else 0)
    loss.backward()
    still = [key for key, value in network.named_parameters() if value.grad is None or not value.grad.abs().sum()]
    assert not still


@pytest.mark.parametrize("name", NAMES)
def test_the_published_counts_are_counted_again(name: str) -> None:
    spec = lookup(name).spec
    table = neocog.cost(name)
    assert (table.params, table.macs) == (spec.params, spec.macs)
    assert not table.partial


@pytest.mark.parametrize("encoder", ["pooled", "resnet18", "mobilenet_v2", "densenet121", "resnet20"])
@pytest.mark.parametrize("size", [33, 64])
def test_any_encoder_is_mirrored(encoder: str, size: int) -> None:
    network = build("conv_ae", size, 3, encoder=encoder, latent=5).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 3, size, size)).shape == (2, 3, size, size)


def test_an_encoder_that_quarters_is_mirrored_in_halves() -> None:
    network = build("conv_ae", 64, 3, encoder="convnext_tiny", latent=5)
    scales = network.head.get_submodule("decoder").scales
    assert all(scale == 2 for scale in scales)
    assert len(scales) == 5


@pytest.mark.parametrize("decoder", ["transposed", "resize"])
@pytest.mark.parametrize("size", [(28, 28), (41, 30)])
def test_a_spatial_code_takes_any_size(decoder: str, size: tuple[int, int]) -> None:
    network = build("conv_ae", 28, 1, code="spatial", decoder=decoder, latent=3).eval()
    assert network.fixed_size is None
    with torch.inference_mode():
        assert network(torch.rand(2, 1, *size)).shape == (2, 1, *size)


@pytest.mark.parametrize("size", [28, 17])
def test_unpooling_puts_numbers_back_where_they_were(size: int) -> None:
    network = build("conv_ae", size, 1, encoder="pooled", decoder="unpool").eval()
    x = torch.rand(2, 1, size, size)
    with torch.inference_mode():
        assert network(x).shape == x.shape
        coded = network.coded(x)
        assert len(coded.switches) == len(network.stages)
        with pytest.raises(ValueError, match="pools"):
            network.decode(coded.code)
    assert not network.generates


def test_a_sparse_code_is_sparse() -> None:
    network = build("conv_ae", latent=20, keep=3)
    assert (network.encode(torch.rand(6, 1, 28, 28)) != 0).sum(1).tolist() == [3] * 6


def test_a_latent_larger_than_the_picture_is_allowed() -> None:
    assert build("dense_ae", 8, latent=200).eval()(torch.rand(2, 1, 8, 8)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"encoder": "dense_ae"}, "reads pictures"),
        ({"encoder": "perceptron"}, "no maps"),
        ({"decoder": "unpool"}, "max pools"),
        ({"keep": 99, "latent": 10}, "99"),
        ({"encoder": "vit_b_16", "image_size": 32}, "maps"),
        ({"encoder": "nonsense"}, "nonsense"),
    ],
)
def test_what_cannot_be_composed_is_said(knobs: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        neocog.create_model("conv_ae", **knobs)


@pytest.mark.parametrize("name", NAMES)
def test_a_code_can_be_classified(name: str) -> None:
    network = build(name)
    network.reset_head(7)
    assert network.eval()(torch.rand(2, 1, 28, 28)).shape == (2, 7)
    assert not any("decoder" in key for key in network.state_dict())
    network.reset_head(3)
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 3)
