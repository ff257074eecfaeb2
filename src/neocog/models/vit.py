"""Vision transformer: cut the picture into patches and read them as a sentence, each patch one word.

Nothing but the cutting and the positions knows of images. A class token goes through all layers with the
patches; what it has gathered in the end decides. Every layer is attention (tokens talk) and an MLP (each
token thinks), both behind a norm and beside a shortcut.

Paper: Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
ICLR 2021, arXiv:2010.11929. SIZES below is Table 1, the layers are its equations 1 to 4. Layer norm's epsilon
is 1e-6 and GELU the exact one, as in the published weights.
The positions are learned for one size of picture: `image_size`. Weights of another size are fitted by
resampling them (section 3.2).

    image    3 x 224 x 224    (B/16)
    stem     1 + 14 * 14 tokens of width 768
    layers   the same, 12 times
    head     the class token -> norm -> classes
"""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neocog.core.contracts import Network
from neocog.core.registry import register
from neocog.core.spec import Preprocessing, Spec, Weights
from neocog.layers.attention import MultiHeadAttention
from neocog.layers.dropout import Dropout
from neocog.models.keys import rename

#     layers  width  MLP   heads
SIZES = {
    "b": (12,  768, 3072, 12),
    "l": (24, 1024, 4096, 16),
}  # fmt: skip
DROPOUT = 0.1  # Table 3, training on ImageNet and ImageNet-21k
POSITIONS = "stem.positions"


class Tokens(nn.Module):
    """(B, C, H, W) -> (B, N + 1, D): equation 1. The class token comes first, then the patches row by row."""

    def __init__(self, in_channels: int, image_size: int, patch: int, width: int, dropout: float) -> None:
        super().__init__()
        self.image_size = image_size
        self.patches = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (image_size // patch) ** 2 + 1, width))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (self.image_size, self.image_size):
            size = self.image_size
            raise ValueError(f"this network reads {size} x {size} pixels, not {x.shape[2]} x {x.shape[3]}")
        x = self.patches(x).flatten(2).transpose(1, 2)  # (B, N, D)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)
        out: Tensor = self.dropout(x + self.positions)
        return out


class Layer(nn.Module):
    """(B, N, D) -> the same shape: equations 2 and 3."""

    def __init__(self, width: int, wide: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = MultiHeadAttention(width, heads)
        # Appendix B.1: dropout behind every dense layer but the one that makes queries, keys and values.
        self.dropout = Dropout(dropout)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            OrderedDict(
                expand=nn.Linear(width, wide),
                act=nn.GELU(),
                drop1=Dropout(dropout),
                project=nn.Linear(wide, width),
                drop2=Dropout(dropout),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ClassToken(nn.Module):
    """(B, N + 1, D) -> (B, D): the first token."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


class VisionTransformer(Network):
    """(B, C, image_size, image_size) -> (B, K). ValueError where the patches do not divide the image.

    The stages pass tokens, (B, N + 1, D), each one layer of the transformer."""

    def __init__(
        self, size: str, patch: int, num_classes: int, in_channels: int, image_size: int, dropout: float
    ) -> None:
        super().__init__()
        if image_size < 1 or image_size % patch:
            raise ValueError(f"image_size = {image_size} must be a multiple of the patch, {patch}")
        layers, width, wide, heads = SIZES[size]
        self.num_classes, self.in_channels = num_classes, in_channels
        self.fixed_size = image_size
        self.stage_channels, self.stage_strides = (width,) * layers, (patch,) * layers
        self.stem = Tokens(in_channels, image_size, patch, width, dropout)
        self.stages = nn.Sequential(
            OrderedDict((f"layer{i}", Layer(width, wide, heads, dropout)) for i in range(layers))
        )
        self.head = nn.Sequential(
            OrderedDict(
                token=ClassToken(),
                norm=nn.LayerNorm(width, eps=1e-6),  # equation 4; of the one token that is read
                fc=nn.Linear(width, num_classes),
            )
        )
        self._initialise()

    def features(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> one (B, D, H / patch, W / patch) per layer: the tokens of the patches at their places,
        without the class token."""
        x = self.stem(x)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            side = math.isqrt(x.shape[1] - 1)
            outputs.append(x[:, 1:].transpose(1, 2).reshape(len(x), -1, side, side))
        return outputs

    def fit_weights(self, state: dict[str, Tensor]) -> list[str]:
        """Resamples position embeddings that were learned for another size of picture (section 3.2)."""
        theirs, ours = state[POSITIONS], self.state_dict()[POSITIONS]
        if theirs.shape[1:2] == ours.shape[1:2] or theirs.dim() != 3:
            return []
        had, side = math.isqrt(theirs.shape[1] - 1), math.isqrt(ours.shape[1] - 1)
        if had**2 + 1 != theirs.shape[1]:
            return []  # no square of patches: the shapes are then refused
        state[POSITIONS] = resampled(theirs, side)
        return [f"position embeddings resampled from {had} x {had} to {side} x {side}"]

    def _initialise(self) -> None:
        # The paper says it of the classifier only (zeros, section 3.2); the rest is the authors' code,
        # https://github.com/google-research/vision_transformer: Glorot's uniform for dense layers, queries, keys
        # and values each by themselves, N(0, 1e-6^2) for the MLP's biases, N(0, 0.02^2) for the positions, zeros
        # for the class token; the patches have variance 1 / fan_in.
        for layer in self.stages.modules():
            if isinstance(layer, MultiHeadAttention):
                for part in layer.qkv.weight.chunk(3):
                    nn.init.xavier_uniform_(part)
                nn.init.xavier_uniform_(layer.proj.weight)
                nn.init.zeros_(layer.qkv.bias)
                nn.init.zeros_(layer.proj.bias)
            elif isinstance(layer, Layer):
                for dense in (layer.mlp.get_submodule("expand"), layer.mlp.get_submodule("project")):
                    assert isinstance(dense, nn.Linear)
                    nn.init.xavier_uniform_(dense.weight)
                    nn.init.normal_(dense.bias, std=1e-6)
        stem, fc = self.stem, self.head.get_submodule("fc")
        assert isinstance(stem, Tokens)
        assert isinstance(fc, nn.Linear)
        assert stem.patches.bias is not None
        nn.init.normal_(stem.patches.weight, std=stem.patches.weight[0].numel() ** -0.5)
        nn.init.zeros_(stem.patches.bias)
        nn.init.normal_(stem.positions, std=0.02)
        nn.init.zeros_(fc.weight)
        nn.init.zeros_(fc.bias)


def resampled(positions: Tensor, side: int) -> Tensor:
    """(1, 1 + n * n, D) -> (1, 1 + side * side, D): the patches' embeddings as a picture, resized; bicubic,
    antialiased. The class token has no place and keeps its own."""
    own, places = positions[:, :1], positions[:, 1:]
    n = math.isqrt(places.shape[1])
    grid = places.transpose(1, 2).reshape(1, -1, n, n).float()  # (1, D, n, n)
    grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([own, grid.flatten(2).transpose(1, 2).to(own.dtype)], dim=1)


FROM_TORCHVISION = rename(
    (r"class_token", "stem.class_token"),
    (r"encoder\.pos_embedding", POSITIONS),
    (r"conv_proj\.", "stem.patches."),
    *(
        (rf"encoder\.layers\.encoder_layer_(\d+)\.{theirs}", rf"stages.layer\1.{ours}")
        for theirs, ours in (
            (r"ln_(\d)\.", r"norm\2."),
            (r"self_attention\.in_proj_", "attention.qkv."),
            (r"self_attention\.out_proj\.", "attention.proj."),
            (r"mlp\.0\.", "mlp.expand."),
            (r"mlp\.3\.", "mlp.project."),
        )
    ),
    (r"encoder\.ln\.", "head.norm."),
    (r"heads\.head\.", "head.fc."),
)

FROM_TIMM = rename(
    (r"cls_token", "stem.class_token"),
    (r"pos_embed", POSITIONS),
    (r"patch_embed\.proj\.", "stem.patches."),
    *(
        (rf"blocks\.(\d+)\.{theirs}\.", rf"stages.layer\1.{ours}.")
        for theirs, ours in (
            (r"norm(\d)", r"norm\2"),
            (r"attn\.qkv", "attention.qkv"),
            (r"attn\.proj", "attention.proj"),
            (r"mlp\.fc1", "mlp.expand"),
            (r"mlp\.fc2", "mlp.project"),
        )
    ),
    (r"norm\.", "head.norm."),
    (r"head\.(weight|bias)", r"head.fc.\1"),
)

TORCH = "https://download.pytorch.org/models/"
TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/"
HALF = (0.5, 0.5, 0.5)

#   tag, file, size, resize, interpolation, top-1, top-5. SWAG's files were trained on 3.6 billion pictures of
#   Instagram (Singh et al. 2022, arXiv:2201.08371) and may not be used commercially; for that reason they stand
#   behind the first, the default, though two of them are better.
PUBLISHED = {
    "vit_b_16": (
        ("imagenet1k_v1", "vit_b_16-c867db91", 224, 256, "bilinear", 81.072, 95.318),
        ("imagenet1k_swag_e2e_v1", "vit_b_16_swag-9ac1b537", 384, 384, "bicubic", 85.304, 97.650),
        ("imagenet1k_swag_linear_v1", "vit_b_16_lc_swag-4e70ced5", 224, 224, "bicubic", 81.886, 96.180),
    ),
    "vit_b_32": (("imagenet1k_v1", "vit_b_32-d86f8d99", 224, 256, "bilinear", 75.912, 92.466),),
    "vit_l_16": (
        ("imagenet1k_v1", "vit_l_16-852ce7e3", 224, 242, "bilinear", 79.662, 94.638),
        ("imagenet1k_swag_e2e_v1", "vit_l_16_swag-4f3808c9", 512, 512, "bicubic", 88.064, 98.512),
        ("imagenet1k_swag_linear_v1", "vit_l_16_lc_swag-4d563306", 224, 224, "bicubic", 85.146, 97.422),
    ),
}  # fmt: skip

# The paper's own networks, converted by timm: tag, file, size, resize. Trained on ImageNet-21k first.
CONVERTED = {
    "vit_b_16": (
        ("vit_base_patch16_224.orig_in21k_ft_in1k", "jx_vit_base_p16_224-80ecf9dd", 224, 248),
        ("vit_base_patch16_384.orig_in21k_ft_in1k", "jx_vit_base_p16_384-83fb41ba", 384, 384),
    ),
}


def _weights(name: str) -> tuple[Weights, ...]:
    published = []
    for tag, file, size, resize, interpolation, top1, top5 in PUBLISHED[name]:
        published.append(
            Weights(
                tag=tag,
                url=f"{TORCH}{file}.pth",
                sha256=file[-8:],
                preprocessing=Preprocessing(size, resize, interpolation=interpolation),
                licence="CC-BY-NC-4.0" if "swag" in tag else "BSD-3-Clause",
                top1=top1,
                top5=top5,
                knobs={} if size == 224 else {"image_size": size},
            )
        )
    for tag, file, size, resize in CONVERTED.get(name, ()):
        published.append(
            Weights(
                tag=tag,
                url=f"{TIMM}{file}.pth",
                sha256=file[-8:],
                layout="timm",
                preprocessing=Preprocessing(size, resize, HALF, HALF, "bicubic"),
                licence="Apache-2.0",
                knobs={} if size == 224 else {"image_size": size},
            )
        )
    return tuple(published)


def _register(size: str, patch: int, params: int, macs: int, alias: str) -> None:
    name = f"vit_{size}_{patch}"
    layers, width, *_ = SIZES[size]

    def build(
        *, num_classes: int = 1000, in_channels: int = 3, image_size: int = 224, dropout: float | None = None
    ) -> VisionTransformer:
        """`image_size`, in pixels, must be a multiple of the patch; `dropout` (0.1) stands in every layer."""
        share = DROPOUT if dropout is None else dropout
        return VisionTransformer(size, patch, num_classes, in_channels, image_size, share)

    build.__name__ = build.__qualname__ = name
    spec = Spec(
        name=name,
        idea=f"A transformer of {layers} layers and width {width} that reads {patch} x {patch} patches as words.",
        title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
        year=2020,
        link="https://arxiv.org/abs/2010.11929",
        table="Table 1",
        input_shape=(3, 224, 224),
        params=params,
        macs=macs,
        weights=_weights(name),
        aliases=(alias,),
    )
    register(spec, {"torchvision": FROM_TORCHVISION, "timm": FROM_TIMM})(build)


_register("b", 16, 86_567_656, 17_563_828_224, "vit_base_patch16_224")
_register("b", 32, 88_224_232, 4_409_186_304, "vit_base_patch32_224")
_register("l", 16, 304_326_632, 61_554_712_576, "vit_large_patch16_224")
