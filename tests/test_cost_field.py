"""Receptive fields: the known figures of known networks, small graphs by hand, and random graphs whose fields the
gradient of one unit must show as well."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from neocog.core.errors import UsageError
from neocog.core.registry import lookup
from neocog.core.shapes import shapes_only
from neocog.costs.cost import cost, cost_of, receptive_field
from neocog.costs.gradient import support
from neocog.costs.table import ReceptiveField


def last(module: nn.Module, shape: tuple[int, ...]) -> ReceptiveField:
    field = cost(module, shape).rows[-1].field
    assert field is not None
    return field


class Branches(nn.Module):
    """Every branch on the same input, concatenated or added."""

    def __init__(self, *branches: nn.Module, add: bool = False) -> None:
        super().__init__()
        self.branches, self.add = nn.ModuleList(branches), add

    def forward(self, x: Tensor) -> Tensor:
        parts = [branch(x) for branch in self.branches]
        return torch.stack(parts).sum(0) if self.add else torch.cat(parts, 1)


class Plus(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


@pytest.mark.parametrize(
    ("name", "knobs", "field", "smallest"),
    [
        ("alexnet", {}, 195, 195),
        ("vgg16", {}, 212, 212),
        ("resnet18", {}, 435, 11),  # through all shortcuts only the 7x7 and the pool widen it
        ("resnet50", {}, 427, 11),  # v1.5: the stride on the 3x3
        ("resnet50", {"stride_on": "1x1"}, 483, 11),
        ("googlenet", {"variant": "torchvision"}, 379, None),
        ("densenet121", {}, 2071, None),
    ],
)
def test_known_networks(name: str, knobs: dict[str, str], field: int, smallest: int | None) -> None:
    with shapes_only():
        network = lookup(name).build(**knobs)
    table = cost_of(network, (3, 224, 224))
    assert table.receptive_field == (field, field)
    row = [row for row in table.rows if row.field is not None and None not in row.field.stride][-1]
    assert row.field is not None
    assert row.field.stride == (32, 32)
    if smallest is not None:
        assert row.field.smallest == (smallest, smallest)


def test_the_rule_of_deck_003() -> None:
    """1 + L (K - 1) for L layers of kernel K: two 3x3 see 5x5, three see 7x7."""
    for layers, kernel in ((1, 3), (2, 3), (3, 3), (4, 5)):
        stack = nn.Sequential(*(nn.Conv2d(1, 1, kernel) for _ in range(layers)))
        assert last(stack, (1, 40, 40)).largest == (1 + layers * (kernel - 1),) * 2


def test_every_axis_for_itself() -> None:
    stack = nn.Sequential(
        nn.Conv2d(1, 1, (1, 7), padding=(0, 3)), nn.Conv2d(1, 1, (7, 1), stride=(2, 1)), nn.AvgPool2d((1, 3), (1, 3))
    )
    table = cost(stack, (1, 33, 33))
    fields = [row.field for row in table.rows]
    assert [f.largest for f in fields if f] == [(1, 7), (7, 7), (7, 9)]
    assert [f.stride for f in fields if f] == [(1, 1), (2, 1), (2, 3)]
    assert [f.offset for f in fields if f] == [(0, 0), (3, 0), (3, 1)]


def test_dilation_and_even_kernels() -> None:
    assert last(nn.Conv2d(1, 1, 3, dilation=4), (1, 20, 20)).largest == (9, 9)
    field = last(nn.Conv2d(1, 1, 2, stride=2), (1, 20, 20))
    assert (field.largest, field.offset) == ((2, 2), (Fraction(1, 2), Fraction(1, 2)))


def test_a_transposed_convolution_after_a_strided_one() -> None:
    for kernel in (4, 3, 2):
        pair = nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.ConvTranspose2d(1, 1, kernel, 2, 1))
        field = last(pair, (1, 33, 33))
        assert field.largest == ((5, 5) if kernel > 2 else (3, 3))
        assert field.stride == (1, 1)


def test_branches() -> None:
    pair = Branches(nn.Conv2d(2, 2, 5, padding=2), nn.Conv2d(2, 2, 3, padding=1))
    table = cost(pair, (2, 16, 16))
    assert last(pair, (2, 16, 16)).largest == (5, 5)
    assert last(pair, (2, 16, 16)).smallest == (3, 3)
    assert table.notes == ()
    skip = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), Plus(nn.Conv2d(2, 2, 7, padding=3)))
    assert (last(skip, (2, 32, 32)).largest, last(skip, (2, 32, 32)).smallest) == ((9, 9), (3, 3))


def test_branches_that_do_not_lie_on_the_same_pixels_are_named() -> None:
    shifted = Branches(nn.Conv2d(1, 1, 3, 2, 1), nn.AvgPool2d(2))
    assert cost(shifted, (1, 32, 32)).notes == ("the network: centres 0.5 pixels apart meet",)
    strides = nn.Sequential(Branches(nn.Conv2d(1, 1, 3, 2, 1), nn.AdaptiveAvgPool2d(16), add=True))
    assert cost(strides, (1, 31, 31)).notes == ("0: strides of 2 pixels and 1.9375 pixels meet",)
    assert cost(Branches(nn.Conv2d(1, 1, 3, 2, 1), nn.Conv2d(1, 1, 1, 2)), (1, 32, 32)).notes == ()


def test_the_whole_picture() -> None:
    class Gate(nn.Module):
        """Squeeze and excite: all units see the whole picture, and themselves."""

        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x.mean((2, 3), keepdim=True))

    conv = nn.Conv2d(1, 4, 3, 2, 1)
    field = last(nn.Sequential(conv, Gate(), nn.Conv2d(4, 4, 3, 2, 1)), (1, 32, 32))
    assert (field.largest, field.smallest, field.stride) == (("whole", "whole"), (7, 7), (4, 4))
    for pool in (nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1), nn.Sequential(nn.Flatten(), nn.Linear(1024, 3))):
        assert last(nn.Sequential(conv, pool), (1, 32, 32)).largest == ("whole", "whole")
    rows = nn.Sequential(conv, nn.AvgPool2d((1, 16)), nn.Conv2d(4, 4, (3, 1)))
    assert last(rows, (1, 32, 32)).largest == (7, 33)  # a kernel, not a whole: a wider picture would have more


def test_a_valid_border_is_not_seen_at_all() -> None:
    """28 pixels, two 3x3 and two pools: the last two rows reach no unit, so the dense layer misses them."""
    assert last(lookup("mnist_convnet").build(), (1, 28, 28)).largest == (26, 26)


def test_normalisation_by_the_pictures_own_statistics_sees_all_of_it() -> None:
    for norm in (nn.GroupNorm(1, 2), nn.InstanceNorm2d(2)):
        field = last(nn.Sequential(nn.Conv2d(2, 2, 3), norm), (2, 16, 16))
        assert (field.largest, field.smallest) == (("whole", "whole"), (3, 3))
    assert last(nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)), (2, 16, 16)).largest == (3, 3)


class Windows(nn.Module):
    """Mixes 4x4 windows of units, as attention in windows does; `shift` moves the windows."""

    def __init__(self, shift: int = 0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = torch.roll(x, (-self.shift, -self.shift), (2, 3))
        x = x.reshape(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        x = torch.softmax(x @ x.transpose(1, 2), -1) @ x
        x = x.reshape(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)
        return torch.roll(x, (self.shift, self.shift), (2, 3))


def test_attention_in_windows() -> None:
    stem = nn.Conv2d(2, 2, 2, 2)
    assert last(nn.Sequential(stem, Windows()), (2, 32, 32)).largest == (8, 8)
    field = last(nn.Sequential(stem, Windows(), Windows(2)), (2, 32, 32))
    assert (field.largest, field.stride) == ((16, 16), (2, 2))
    assert last(nn.Sequential(stem, Windows(), nn.Conv2d(2, 2, 3, padding=1)), (2, 32, 32)).largest == (16, 16)


def test_tokens() -> None:
    vit = lookup("vit_b_32").build(image_size=64)
    rows = {row.name: row.field for row in cost(vit, (3, 64, 64)).rows}
    fields = [field for field in rows.values() if field is not None]
    assert fields[0].largest == (32, 32)
    assert fields[-1].largest == ("whole", "whole")


def test_shapes_that_only_move_units() -> None:
    shuffle = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.PixelShuffle(2), nn.Conv2d(1, 1, 3, padding=1))
    assert last(shuffle, (1, 16, 16)).largest == (5, 5)
    down = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 3, padding=1))
    assert last(down, (1, 16, 16)).largest == (6, 6)
    up = nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 3, padding=1))
    assert last(up, (1, 16, 16)).largest == (5, 5)
    assert last(nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(1, 1, 5)), (1, 16, 16)).largest == (5, 5)
    groups = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ChannelShuffle(2), nn.Conv2d(4, 4, 3, groups=2))
    assert last(groups, (4, 16, 16)).largest == (5, 5)


def test_one_and_three_dimensions() -> None:
    line = nn.Sequential(nn.Conv1d(2, 2, 3, dilation=2), nn.MaxPool1d(2), nn.Conv1d(2, 2, 3))
    assert last(line, (2, 40)).largest == (10,)
    assert last(nn.Sequential(nn.Conv3d(1, 1, (1, 3, 5)), nn.MaxPool3d(2)), (1, 9, 9, 9)).largest == (2, 4, 6)
    assert cost(nn.Linear(4, 4), (7, 4)).rows[0].field is None


def test_what_cannot_be_followed_is_said() -> None:
    class Flip(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flip(3)

    table = cost(nn.Sequential(nn.Conv2d(1, 1, 3), Flip(), nn.Conv2d(1, 1, 3)), (1, 9, 9))
    assert [row.lost for row in table.rows] == ["", "flip", "flip"]
    assert table.receptive_field is None  # that of the layer before is not the network's
    with pytest.raises(UsageError, match=r"no receptive field at its end .flip is not followed."):
        receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3), Flip(), nn.Conv2d(1, 1, 3)), (1, 9, 9))
    with pytest.raises(UsageError, match=r"no receptive field at 2 .flip is not followed.; try method='gradient'"):
        receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3), Flip(), nn.Conv2d(1, 1, 3)), (1, 9, 9), layer="2")


def test_writing_into_a_part_is_not_followed() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            out = torch.zeros_like(x)
            out[:, :, ::2] = self.conv(x)[:, :, ::2]
            return out * 2

    row = cost(Parts(), (1, 8, 8)).rows[-1]
    assert (row.field, row.lost) == (None, "copy_")


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(2, 2, 2, 2), Windows(), Windows(2), nn.Conv2d(2, 2, 3)),
        nn.Sequential(nn.Conv2d(2, 8, 3, 2, 1), nn.PixelShuffle(2), nn.Conv2d(2, 2, 3)),
        nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(8, 2, 3), nn.Conv2d(2, 2, 3, 2)),
        nn.Sequential(nn.Conv2d(2, 2, 3, 2), nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3)),
        nn.Sequential(nn.Conv2d(2, 2, 3, 2), nn.Upsample(scale_factor=3, mode="bilinear"), nn.Conv2d(2, 2, 3)),
        nn.Sequential(nn.Conv2d(2, 2, 3, 2), nn.Upsample(scale_factor=2, mode="bicubic"), nn.Conv2d(2, 2, 3)),
        nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.AdaptiveAvgPool2d((20, 12)), nn.Conv2d(2, 2, 3)),
        nn.Sequential(nn.MaxPool2d(3, 2, dilation=2), nn.Conv2d(2, 2, (1, 5), (1, 2)), nn.ConvTranspose2d(2, 2, 5, 3)),
    ],
    ids=["windows", "shuffle", "unshuffle", "nearest", "bilinear", "bicubic", "adaptive", "dilated"],
)
def test_paths_and_gradients_agree(network: nn.Module) -> None:
    found, bordered = support(network, (2, 64, 64), "")
    assert not bordered
    assert found == last(network, (2, 64, 64)).largest == receptive_field(network, (2, 64, 64))
    assert found == receptive_field(network, (2, 64, 64), method="gradient")


@st.composite
def layers(draw: st.DrawFn, depth: int = 2) -> nn.Module:
    """A layer, or a few of them in sequence or side by side; two channels in and out."""
    kinds = ["conv", "conv", "max", "avg", "up"] + (["sequence", "sequence", "add", "cat"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    if kind == "conv":
        dilation = draw(st.integers(1, 2))
        padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
        return nn.Conv2d(2, 2, kernel, stride, padding, dilation, groups=draw(st.sampled_from([1, 2])))
    if kind in ("max", "avg"):
        padding = draw(st.tuples(st.integers(0, kernel[0] // 2), st.integers(0, kernel[1] // 2)))
        pool = nn.MaxPool2d if kind == "max" else nn.AvgPool2d
        return pool(kernel, stride, padding, ceil_mode=draw(st.booleans()))
    if kind == "up":  # at least one input per output
        kernel = tuple(max(k, s) for k, s in zip(kernel, stride, strict=True))
        return nn.ConvTranspose2d(2, 2, kernel, stride, draw(st.integers(0, min(kernel) - 1)))
    if kind == "sequence":
        return nn.Sequential(*draw(st.lists(layers(depth - 1), min_size=1, max_size=3)))
    if kind == "add":
        return Plus(draw(straight()))
    return nn.Sequential(Branches(*draw(st.lists(straight(), min_size=1, max_size=3))), nn.LazyConv2d(2, 1))


@st.composite
def straight(draw: st.DrawFn) -> nn.Module:
    """Keeps size and centres: odd kernels, padded."""
    kernel, dilation = draw(st.sampled_from([1, 3, 5])), draw(st.integers(1, 2))
    return nn.Conv2d(2, 2, kernel, 1, dilation * (kernel // 2), dilation)


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much])
@given(network=st.lists(layers(), min_size=3, max_size=5).map(lambda parts: nn.Sequential(*parts)))
def test_paths_and_gradients_agree_on_random_graphs(network: nn.Module) -> None:
    """Where the middle of the last map is far enough from the border of the picture to see all it can."""
    size = 96
    try:
        out = network(torch.zeros(1, 2, size, size))  # lazy layers take their shapes
    except RuntimeError:  # nothing is left of the map
        assume(False)
    assume(min(out.shape[2:]) >= 8)
    expected = last(network, (2, size, size))
    found, bordered = support(network, (2, size, size), "")
    if bordered:
        assert all(f <= e for f, e in zip(found, expected.largest, strict=True) if isinstance(e, int))
    else:
        assert found == expected.largest


class Do(nn.Module):
    """A function with the layers that it uses."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


def test_rows_one_after_another_do_not_see_the_whole_height() -> None:
    conv = nn.Conv2d(3, 4, 3)
    stacked = Do(lambda x: torch.stack([x[:, :, i] for i in range(x.shape[2])], 2))
    field = last(nn.Sequential(conv, stacked), (3, 33, 33))
    assert field.largest == (3, 3)
    row = cost(nn.Sequential(conv, stacked, nn.Conv2d(4, 4, 5)), (3, 33, 33)).rows[-1]
    assert (row.field, row.lost) == (None, "convolution")  # their order is not followed
    pooled = nn.Sequential(conv, stacked, Do(lambda x: x.mean((2, 3))))
    assert last(pooled, (3, 33, 33)).largest == ("whole", "whole")


def test_tokens_that_leave_a_border_out_do_not_see_the_whole() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.token = nn.Conv2d(3, 8, 16, 16), nn.Parameter(torch.zeros(1, 1, 8))

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([self.token, self.patches(x).flatten(2).transpose(1, 2)], 1)
            return (torch.softmax(x @ x.transpose(1, 2), -1) @ x)[:, 1:]

    assert last(Tokens(), (3, 39, 39)).largest == (32, 32)
    assert last(Tokens(), (3, 48, 48)).largest == ("whole", "whole")


def test_a_given_scale_counts_not_the_rounded_sizes() -> None:
    third = Do(lambda x: nn.functional.interpolate(x, scale_factor=1 / 3, mode="nearest"))
    field = last(nn.Sequential(third, nn.Conv2d(3, 3, 3)), (3, 25, 25))
    assert (field.largest, field.stride) == ((7, 7), (3, 3))


def test_another_order_in_memory_and_picked_units_are_not_followed() -> None:
    turned = Do(lambda x: x.as_strided(x.shape, (512, 256, 1, 16)))
    assert cost(nn.Sequential(turned, nn.Conv2d(2, 2, (3, 1))), (2, 16, 16)).rows[-1].lost == "as_strided"
    picked = Do(lambda x: x[:, :, [0, 1]].mean(2, keepdim=True))
    assert cost(picked, (2, 32, 32)).rows[-1].lost == "index"
    unpooled = Do(lambda x, pool, back: back(*pool(x)), nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2))
    assert cost(unpooled, (3, 16, 16)).rows[-1].lost == "max_unpool2d"
    circular = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"))
    assert cost(circular, (3, 33, 33)).receptive_field is None


def test_gradients_that_cancel_or_die() -> None:
    class ChannelNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    normed = nn.Sequential(nn.Conv2d(3, 8, 3), ChannelNorm(), nn.Conv2d(8, 8, 3))
    assert support(normed, (3, 33, 33))[0] == (5, 5)
    difference = Do(lambda x, a, b: a(x) - b(x), nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3))
    assert support(difference, (3, 33, 33))[0] == (3, 3)
    dead = nn.Sequential(nn.Conv2d(3, 8, 3), Do(lambda x: torch.relu(1 - 10 * x)), nn.Conv2d(8, 8, 3))
    with pytest.raises(UsageError, match="no gradient of the last layer reaches the picture"):
        support(dead, (3, 33, 33))
    with pytest.raises(UsageError, match="has no numbers to run on; build it on the CPU"):
        support(nn.Conv2d(3, 8, 3, device="meta"), (3, 16, 16))


def test_methods_that_there_are_not() -> None:
    with pytest.raises(UsageError, match="no method called 'guess'; use paths or gradient"):
        receptive_field(nn.Conv2d(1, 1, 3), (1, 9, 9), method="guess")
    with pytest.raises(UsageError, match="has no layer 'cnv' that does something"):
        receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3)), (1, 9, 9), layer="cnv")
    with pytest.raises(UsageError, match=r"'resnet18' is no torch.nn.Module; create it first"):
        receptive_field("resnet18")  # type: ignore[arg-type]
    block = nn.Sequential(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)))
    assert receptive_field(block, (1, 9, 9), layer="0") == (5, 5)
    with pytest.raises(UsageError, match="has no map of units at 'conv9'; give the name of a layer"):
        receptive_field(nn.Conv2d(1, 1, 3), (1, 9, 9), layer="conv9", method="gradient")
