"""The convolutional autoencoder: halve the picture and double the maps until a few numbers are left, and back again.

Paper: Masci, Meier, Ciresan and Schmidhuber, "Stacked Convolutional Auto-Encoders for Hierarchical Feature
Extraction", ICANN 2011, doi:10.1007/978-3-642-21735-7_7.
Differs from the paper: strided convolutions in the place of its max pools unless `encoder` is "pooled"; batch norm and
ReLU, and training of all layers at once. `code` "gaussian" makes it a variational autoencoder (`conv_vae`), "quantised"
one with a book of vectors (`vq_vae`).

    picture   1 x 28 x 28
    stages    32 x 14 x 14 -> 64 x 7 x 7 -> 128 x 4 x 4     one more as long as a side is longer than 4
    code      32 numbers
"""

from collections import OrderedDict
from typing import Literal

from torch import nn

from neocog.core.contracts import Network
from neocog.core.registry import lookup, register
from neocog.layers.conv import ConvNormAct
from neocog.layers.decoders import Up
from neocog.models.autoencoder import CodeSpec, Encoder, Mirrored, digits_spec

SMALLEST = 4  # pixels of the last maps' side
WIDEST = 256
DEEPEST = 16  # halvings of any picture


def strided(in_channels: int, image_size: int, width: int, *, pooled: bool = False, deepest: int) -> Encoder:
    """Stages of half the side each, by a stride of 2 or by a pool of 2, until a side is at most SMALLEST, and `deepest`
    at most. ValueError where that is less than 1."""
    if deepest < 1:
        raise ValueError(f"halvings = {deepest} must be 1 or more")
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    channels: list[int] = []
    side, c = image_size, in_channels
    while (side > SMALLEST and len(stages) < deepest) or not stages:
        wide = min(width * 2 ** len(stages), WIDEST)
        stage: nn.Sequential = ConvNormAct(c, wide, 3, 1 if pooled else 2)
        if pooled:
            stage.add_module("pool", nn.MaxPool2d(2))
        stages[f"down{len(stages) + 1}"] = stage
        channels.append(wide)
        side, c = side // 2 if pooled else -(-side // 2), wide
    return Encoder(nn.Identity(), nn.Sequential(stages), channels, [2 ** (i + 1) for i in range(len(stages))])


def encoder_of(name: str, in_channels: int, image_size: int, width: int, deepest: int) -> Encoder:
    """ "strided", "pooled", or stem and stages of a network of the zoo."""
    if name in ("strided", "pooled"):
        return strided(in_channels, image_size, width, pooled=name == "pooled", deepest=deepest)
    entry = lookup(name)
    if entry.spec.task != "classification" or len(entry.spec.input_shape) != 3:
        raise ValueError(f"encoder = {name!r} is no network that reads pictures")
    sized = {"image_size": image_size} if "image_size" in entry.build.__annotations__ else {}
    network: Network = entry.build(in_channels=in_channels, **sized)
    return Encoder.of(network)


@register(
    digits_spec(
        name="conv_ae",
        idea="Halves the picture and doubles the maps until a few numbers are left, and goes the same way back.",
        table="section 3; course deck 000, convolutional autoencoders",
        params=398_449,
        macs=7_691_648,
        title="Stacked Convolutional Auto-Encoders for Hierarchical Feature Extraction",
        year=2011,
        link="https://doi.org/10.1007/978-3-642-21735-7_7",
    )
)
def conv_ae(
    *, num_classes: int = 0, in_channels: int = 1, image_size: int = 28, latent: int = 32, keep: int = 0,
    act: str = "linear", encoder: str = "strided", decoder: Up = "transposed",
    code: Literal["vector", "spatial"] = "vector", width: int = 32, halvings: int = DEEPEST,
) -> Mirrored:  # fmt: skip
    """`latent`: numbers of the code, or its maps where `code` is "spatial". `keep`: of each code only so many of the
    highest activations stay. `act` bends the code. `encoder`: "strided", "pooled", or any network of the zoo, of which
    stem and stages serve. `decoder`: "transposed", "resize", or, of an encoder "pooled", "unpool". `halvings`: stages
    of an own encoder at most, of which 1 or 2 with a spatial code keep what a restored picture needs; as many as the
    picture has by default."""
    parts = encoder_of(encoder, in_channels, image_size, width, halvings)
    spec = CodeSpec(code, latent, act, keep)
    return Mirrored(parts, spec, decoder, in_channels=in_channels, image_size=image_size, classes=num_classes)


@register(
    digits_spec(
        name="conv_vae",
        idea="A convolutional autoencoder whose code is a distribution, so that any point of it decodes to a picture.",
        title="Auto-Encoding Variational Bayes",
        year=2014,
        link="https://arxiv.org/abs/1312.6114",
        table="section 3, with convolutions in the place of its dense layers",
        params=464_017,
        macs=7_757_184,
    )
)
def conv_vae(
    *, num_classes: int = 0, in_channels: int = 1, image_size: int = 28, latent: int = 32, encoder: str = "strided",
    decoder: Up = "transposed", width: int = 32, halvings: int = DEEPEST,
) -> Mirrored:  # fmt: skip
    """Options as in `conv_ae`."""
    parts = encoder_of(encoder, in_channels, image_size, width, halvings)
    code = CodeSpec("gaussian", latent)
    return Mirrored(parts, code, decoder, in_channels=in_channels, image_size=image_size, classes=num_classes)


@register(
    digits_spec(
        name="vq_vae",
        idea="A convolutional autoencoder whose code is a grid of numbers: which of 512 vectors stands at each place.",
        title="Neural Discrete Representation Learning",
        year=2017,
        link="https://arxiv.org/abs/1711.00937",
        table="section 4.1: two halvings, a book of 512 vectors",
        params=251_441,
        macs=17_398_528,
    )
)
def vq_vae(
    *, num_classes: int = 0, in_channels: int = 1, image_size: int = 28, latent: int = 16, book: int = 512,
    encoder: str = "strided", decoder: Up = "transposed", width: int = 64, halvings: int = 2,
) -> Mirrored:  # fmt: skip
    """`latent`: numbers of each vector, of which there are `book`. Other options as in `conv_ae`."""
    parts = encoder_of(encoder, in_channels, image_size, width, halvings)
    code = CodeSpec("quantised", latent, book=book)
    return Mirrored(parts, code, decoder, in_channels=in_channels, image_size=image_size, classes=num_classes)
