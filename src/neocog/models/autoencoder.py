"""Autoencoders by composition: any encoder of maps, a code, and a decoder that goes the encoder's way back.

Idea: Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 313, 2006,
doi:10.1126/science.1127647. The course's first deck calls the parts encoder h = f(x), latent space and decoder
r = g(h), and builds them of dense, convolutional or recurrent layers.

    picture   1 x 28 x 28      (conv_ae)
    stages    32 x 14 x 14
              64 x 7 x 7
              128 x 4 x 4
    code      32 numbers
    decoder   128 x 4 x 4 -> 64 x 7 x 7 -> 32 x 14 x 14 -> 16 x 28 x 28 -> 1 x 28 x 28

The way back has one step for each halving of the encoder, to the very sizes that the encoder had: 28 -> 14 -> 7 -> 4
and 4 -> 7 -> 14 -> 28. Where the encoder skips a size (a stride of 4) the decoder takes two steps.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from neocog.core.autoencoder import Autoencoder, Coded
from neocog.core.contracts import Network
from neocog.core.spec import Spec
from neocog.layers.codes import GaussianCode, PlainCode, QuantisedCode
from neocog.layers.decoders import DenseDecoder, MapDecoder, Size, Up

Kind = Literal["vector", "spatial", "gaussian", "quantised"]

LEAST, MOST = 16, 512  # channels of a decoder's step


def digits_spec(*, name: str, idea: str, title: str, year: int, link: str, table: str, params: int, macs: int) -> Spec:
    """The facts of an autoencoder, counted for digits."""
    return Spec(name, idea, title, year, link, table, (1, 28, 28), params, macs, 0, "reconstruction")


class Encoder(NamedTuple):
    """What the zoo calls stem and stages, and the facts about them (`Network`)."""

    stem: nn.Module
    stages: nn.Sequential
    channels: Sequence[int]
    strides: Sequence[int]  # 0: no grid

    @classmethod
    def of(cls, network: Network) -> "Encoder":
        return cls(network.stem, network.stages, network.stage_channels, network.stage_strides)


class CodeSpec(NamedTuple):
    """`latent`: numbers of a vector, or channels of a spatial or quantised code. `keep`: how many activations of each
    code stay (0: all). `book`: vectors to choose from."""

    kind: Kind = "vector"
    latent: int = 32
    act: str = "linear"
    keep: int = 0
    book: int = 512


class Mirrored(Autoencoder):
    """(B, C, H, W) -> (B, C, H, W). With a spatial or quantised code any size fits, with a vector the one it was built
    for. ValueError where the encoder leaves no maps to come back from, or the code cannot be of the kind asked for."""

    def __init__(
        self, encoder: Encoder, code: CodeSpec, up: Up, *, in_channels: int, image_size: int, classes: int = 0,
        dense: Sequence[int] = (), act: str = "relu",
    ) -> None:  # fmt: skip
        """`dense`: widths of a decoder of dense layers. `classes`: more than 0 puts a classifier in the decoder's
        place."""
        super().__init__()
        self.in_channels = in_channels
        self.stem, self.stages = encoder.stem, encoder.stages
        self.stage_channels, self.stage_strides = tuple(encoder.channels), tuple(encoder.strides)
        shapes = shapes_of(encoder, in_channels, image_size)
        last = shapes[-1] if shapes else (in_channels, image_size, image_size)
        self.unpools, self.probabilistic = up == "unpool", code.kind == "gaussian"
        # Which vectors of a book stand side by side is a distribution of its own, which nothing here learns.
        self.generates = not self.unpools and code.kind != "quantised"
        self.book = code.book if code.kind == "quantised" else 0
        if up == "unpool" and not all(isinstance(stage[-1], nn.MaxPool2d) for stage in encoder.stages):  # type: ignore[index]
            raise ValueError(
                "a decoder that unpools needs an encoder whose stages end in max pools: encoder = 'pooled'"
            )
        free = code.kind in ("spatial", "quantised")
        if free and len(last) != 3:
            raise ValueError(f"a {code.kind} code is made of maps, and this encoder ends in {last}")
        if code.keep > code.latent and not free:
            raise ValueError(f"keep = {code.keep} of a code of {code.latent} numbers")
        self.fixed_size = None if free and not dense else image_size
        self.code_shape = (code.latent, *last[1:]) if free else (code.latent,)

        def decoder() -> nn.Module:
            if dense:
                return DenseDecoder(code.latent, dense, (in_channels, image_size, image_size), act)
            return mirror(encoder, shapes, self.code_shape, up, in_channels, image_size)

        self.set_head(make_code(code, last), decoder, classes)

    def coded(self, x: Tensor) -> Coded:
        if not self.unpools:
            return super().coded(x)
        x, switches = self.stem(x), []
        for stage in self.stages:
            assert isinstance(stage, nn.Sequential)
            *parts, pool = stage
            assert isinstance(pool, nn.MaxPool2d)
            for part in parts:
                x = part(x)
            x, where = F.max_pool2d(x, pool.kernel_size, pool.stride, return_indices=True)
            switches.append(where)
        coded: Coded = self.head.get_submodule("code")(x)
        return coded._replace(switches=tuple(switches))


def make_code(spec: CodeSpec, features: tuple[int, ...]) -> nn.Module:
    """`features`: the shape of one picture's."""
    width = 1
    for n in features:
        width *= n

    def dense(out: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(width, out))

    match spec.kind:
        case "vector":
            return PlainCode(dense(spec.latent), spec.act, spec.keep)
        case "spatial":
            return PlainCode(nn.Conv2d(features[0], spec.latent, 1), spec.act, spec.keep)
        case "gaussian":
            return GaussianCode(dense(2 * spec.latent))
        case _:
            return QuantisedCode(nn.Conv2d(features[0], spec.latent, 1), spec.latent, spec.book)


def mirror(
    encoder: Encoder, shapes: Sequence[tuple[int, ...]], code: tuple[int, ...], up: Up, in_channels: int,
    image_size: int,
) -> MapDecoder:  # fmt: skip
    """The way back from a code of shape `code`. `shapes`: of one picture after each stage."""
    known = {stride: shape for stride, shape in zip(encoder.strides, shapes, strict=True) if stride and len(shape) == 3}
    if not known:
        raise ValueError("this encoder leaves no maps that a decoder could mirror: give its decoder dense layers")
    stride = encoder.strides[-1] or max(known)
    c, height, width = known[stride]
    c = min(c, MOST)
    if len(code) == 1:
        enter: nn.Module = nn.Sequential(
            nn.Linear(code[0], c * height * width), nn.Unflatten(1, (c, height, width)), nn.ReLU(inplace=True)
        )
    else:
        enter = nn.Conv2d(code[0], c, 1)
    channels, scales, sizes = [c], [], list[Size]()
    while stride > 1:
        scale = next(n for n in range(2, stride + 1) if stride % n == 0)
        stride //= scale
        size = -(-image_size // stride)
        shape = known.get(stride, (max(channels[-1] // 2, LEAST), size, size)) if stride > 1 else (0, size, size)
        channels.append(min(shape[0], MOST) or max(channels[-1] // 2, LEAST))
        scales.append(scale)
        sizes.append((shape[1], shape[2]))
    return MapDecoder(enter, channels, scales, sizes or [(image_size, image_size)], in_channels, up)


def shapes_of(encoder: Encoder, in_channels: int, image_size: int) -> list[tuple[int, ...]]:
    """The shape of one picture after each stage, found without computing."""
    found = []
    x = on_meta(encoder.stem, torch.empty(1, in_channels, image_size, image_size, device="meta"))
    for stage in encoder.stages:
        x = on_meta(stage, x)
        found.append(tuple(x.shape[1:]))
    return found


def on_meta(module: nn.Module, x: Tensor) -> Tensor:
    tensors = {name: value.to("meta") for name, value in module.state_dict(keep_vars=True).items()}
    training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        out: Tensor = functional_call(module, tensors, (x,))
    finally:
        for part, was in training:
            part.training = was
    return out
