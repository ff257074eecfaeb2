"""Autoencoders that read a picture as a sequence: of its rows, one after the other, or of patches, all at once.

recurrent_ae: the rows go through a GRU, whose last state becomes the code; another GRU, told the code at each step,
writes the rows again. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP 2014,
arXiv:1406.1078, with rows in the place of words. The course's first deck names recurrent layers among those that an
autoencoder may be built of.

patch_ae: patches as tokens through transformer layers and back. With `noise` "patches:0.75" it learns as in He et al.,
"Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377.
Differs from that paper: hidden patches are grey tokens that the encoder sees, not left out; a code of `latent` numbers
stands between encoder and decoder; the loss is of all pixels.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from neocog.core.autoencoder import Autoencoder
from neocog.core.registry import register
from neocog.layers.codes import PlainCode
from neocog.models.autoencoder import digits_spec


class Rows(nn.Module):
    """(B, C, H, W) -> (B, H, C * W)"""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


class LastState(nn.Module):
    """(B, N, D) -> (B, width): what a GRU remembers after the last of N."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(features, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)
        return out[:, -1]  # type: ignore[no-any-return]


class RowDecoder(nn.Module):
    """(B, D) -> (B, C, H, W) logits, one row after the other."""

    def __init__(self, latent: int, width: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        channels, _, columns = shape
        self.gru = nn.GRU(latent, width, batch_first=True)
        self.write = nn.Linear(width, channels * columns)

    def forward(self, code: Tensor, size: object = None, switches: object = ()) -> Tensor:
        channels, rows, columns = self.shape
        out, _ = self.gru(code[:, None].expand(-1, rows, -1))
        return self.write(out).view(-1, rows, channels, columns).transpose(1, 2)  # type: ignore[no-any-return]


class Patches(nn.Module):
    """(B, C, H, W) -> (B, N, D) with positions."""

    def __init__(self, in_channels: int, image_size: int, patch: int, width: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, width, patch, patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, (image_size // patch) ** 2, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.patches(x).flatten(2).transpose(1, 2) + self.positions  # type: ignore[no-any-return]


class PatchDecoder(nn.Module):
    """(B, D) -> (B, C, H, W) logits: a token for each patch from the code, transformer layers, pixels of each patch."""

    def __init__(
        self, latent: int, width: int, heads: int, layers: int, patch: int, shape: tuple[int, int, int]
    ) -> None:
        super().__init__()
        channels, height, _ = shape
        self.patch, self.side = patch, height // patch
        self.enter = nn.Linear(latent, self.side**2 * width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, self.side**2, width))
        self.layers = nn.Sequential(*(transformer(width, heads) for _ in range(layers)))
        self.write = nn.Linear(width, channels * patch**2)

    def forward(self, code: Tensor, size: object = None, switches: object = ()) -> Tensor:
        tokens = self.enter(code).view(len(code), self.side**2, -1) + self.positions
        pixels = self.write(self.layers(tokens)).transpose(1, 2)
        side = self.side * self.patch
        return nn.functional.fold(pixels, (side, side), self.patch, stride=self.patch)


def transformer(width: int, heads: int) -> nn.Module:
    return nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)


class SequenceAutoencoder(Autoencoder):
    def __init__(
        self, stem: nn.Module, stages: "OrderedDict[str, nn.Module]", features: int, width: int, latent: int, keep: int,
        decoder: Callable[[], nn.Module], *, in_channels: int, image_size: int, classes: int,
    ) -> None:  # fmt: skip
        """`features`: numbers that the code is made of. `width`: of a stage."""
        super().__init__()
        self.in_channels, self.fixed_size = in_channels, image_size
        self.stem, self.stages = stem, nn.Sequential(stages)
        self.stage_channels, self.stage_strides = (width,) * len(stages), (0,) * len(stages)
        self.code_shape = (latent,)
        project = nn.Sequential(nn.Flatten(), nn.Linear(features, latent))
        self.set_head(PlainCode(project, "linear", keep), decoder, classes)


@register(
    digits_spec(
        name="recurrent_ae",
        idea="Reads a picture row by row, remembers it in a few numbers, and writes it row by row.",
        title="Learning Phrase Representations using RNN Encoder-Decoder",
        year=2014,
        link="https://arxiv.org/abs/1406.1078",
        table="section 2, with rows in the place of words",
        params=457_788,
        macs=12_509_184,
    )
)
def recurrent_ae(
    *, num_classes: int = 0, in_channels: int = 1, image_size: int = 28, latent: int = 32, keep: int = 0,
    width: int = 256,
) -> SequenceAutoencoder:  # fmt: skip
    """`latent`: numbers of the code. `keep`: of each code only so many of the highest activations stay. `width`: of
    both GRUs."""
    stages: OrderedDict[str, nn.Module] = OrderedDict(gru=LastState(in_channels * image_size, width))
    shape = (in_channels, image_size, image_size)
    return SequenceAutoencoder(
        Rows(), stages, width, width, latent, keep, lambda: RowDecoder(latent, width, shape),
        in_channels=in_channels, image_size=image_size, classes=num_classes,
    )  # fmt: skip


@register(
    digits_spec(
        name="patch_ae",
        idea="Patches as tokens through transformer layers to a code, and back; hide most of them and it must guess.",
        title="Masked Autoencoders Are Scalable Vision Learners",
        year=2022,
        link="https://arxiv.org/abs/2111.06377",
        table="section 3, at the size of digits",
        params=1_290_512,
        macs=36_032_640,
    )
)
def patch_ae(
    *, num_classes: int = 0, in_channels: int = 1, image_size: int = 28, latent: int = 64, keep: int = 0,
    patch: int = 4, width: int = 96, layers: int = 4, decoder_layers: int = 2, heads: int = 4,
) -> SequenceAutoencoder:  # fmt: skip
    """`latent`: numbers of the code. `keep`: of each code only so many of the highest activations stay. `patch`: pixels
    of a patch's side, of which `image_size` must be a multiple."""
    if image_size % patch:
        raise ValueError(f"image_size = {image_size} must be a multiple of the patch, {patch}")
    if width % heads:
        raise ValueError(f"width = {width} must be a multiple of heads = {heads}")
    stages: OrderedDict[str, nn.Module] = OrderedDict(
        (f"layer{i}", transformer(width, heads)) for i in range(1, layers + 1)
    )
    shape = (in_channels, image_size, image_size)
    return SequenceAutoencoder(
        Patches(in_channels, image_size, patch, width), stages, (image_size // patch) ** 2 * width, width, latent, keep,
        lambda: PatchDecoder(latent, width, heads, decoder_layers, patch, shape),
        in_channels=in_channels, image_size=image_size, classes=num_classes,
    )  # fmt: skip
