"""The count and the table against sums by hand, and their promise to leave the module alone and allocate nothing."""

import json
import threading
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import neocog.models  # noqa: F401  (importing it registers the networks)
from neocog.core.errors import UsageError
from neocog.core.registry import lookup
from neocog.core.shapes import shapes_only
from neocog.costs.cost import cost
from neocog.costs.count import Count, count, on_meta


def test_a_convolution_and_a_dense_layer_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 3 * 4, 5))
    weights = 8 * 2 * 3 * 3
    assert count(network, (4, 7, 9)) == Count(params=weights + 8 + 96 * 5 + 5, macs=weights * 3 * 4 + 96 * 5)


def test_shared_weights_count_once_and_work_twice() -> None:
    layer = nn.Linear(6, 6, bias=False)
    assert count(nn.Sequential(layer, layer), (6,)) == Count(params=36, macs=72)
    table = cost(nn.Sequential(layer, layer), (6,))
    assert [(row.params, row.macs) for row in table.rows] == [(36, 36), (0, 36)]
    assert (table.params, table.macs) == (36, 72)


def test_the_module_is_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    network[0].eval()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    count(network, (3, 8, 8))
    cost(network, (3, 8, 8))
    assert [m.training for m in network] == [False, True, True]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    assert torch.backends.mha.get_fastpath_enabled()
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_nothing_is_allocated() -> None:
    twin = on_meta(lookup("resnet18").build())
    assert {t.device.type for t in (*twin.parameters(), *twin.buffers())} == {"meta"}
    # 137 TB, if it were: a dense layer from every pixel of a 256 x 256 picture times 128 to as many units.
    with shapes_only():
        giant = nn.Linear(256 * 256 * 128, 256 * 256 * 64)
    assert count(giant, (256 * 256 * 128,)).macs == cost(giant, (256 * 256 * 128,)).macs == 256**4 * 128 * 64


def test_one_dense_unit_per_pixel() -> None:
    # Deck 003: 65,536 weights a neuron, 4,294,967,296 in all; deck 004: 200 x 200 to 40,000 units, 1.6e9.
    with shapes_only():
        pixels, deck_004 = nn.Linear(256**2, 256**2, bias=False), nn.Linear(200**2, 40_000, bias=False)
    assert count(pixels, (256**2,)).params == 4_294_967_296
    assert count(deck_004, (200**2,)).params == 1_600_000_000


def test_half_precision_is_counted_too() -> None:
    assert count(nn.Linear(3, 2).to(torch.bfloat16), (3,)) == Count(params=8, macs=6)
    table = cost(nn.Linear(3, 2), (3,), dtype=torch.bfloat16)
    assert (table.dtype, table.rows[0].memory_kib) == ("bfloat16", 2 * 2 / 1024)


def test_batch_norm_over_one_position_is_no_obstacle() -> None:
    # In training mode batch norm refuses one value per channel; counting asks for no second picture.
    assert count(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)), (2, 1, 1)).macs == 4


class Block(nn.Module):
    """A shortcut, a functional convolution, a parameter of its own, a branch that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.kernel = nn.Parameter(torch.ones(6, 4, 1, 1))
        self.unused = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = x + self.scale * torch.relu_(self.conv(x))
        return {"map": F.conv2d(x, self.kernel, stride=2)}


def test_rows_of_what_a_container_does_itself() -> None:
    table = cost(nn.Sequential(Block()), (4, 8, 8))
    assert [(row.name, row.kind) for row in table.rows] == [
        ("0.conv", "Conv2d"), ("0.relu", "relu"), ("0.mul", "mul"), ("0.add", "add"), ("0.convolution", "convolution"),
    ]  # fmt: skip
    conv, relu, scaled, added, functional = table.rows
    assert (conv.params, scaled.params, functional.params, table.unused_params) == (4 * 4 * 9 + 4, 4, 24, 110)
    assert table.params == sum(row.params for row in table.rows) + table.unused_params
    assert (conv.macs, functional.macs, table.flops) == (144 * 64, 24 * 16, 2 * (144 * 64 + 24 * 16))
    assert (relu.written_kib, relu.memory_kib, added.written_kib) == (0, 1, 1)
    assert (functional.out_shape, added.other_ops, table.memory_kib) == ((6, 4, 4), 256, 1 + 1 + 1 + 6 * 16 / 256)
    assert functional.window is not None
    assert (functional.window.kernel, functional.window.stride) == ((1, 1), (2, 2))


def test_names_of_layers_and_what_they_slide() -> None:
    table = cost(
        nn.Sequential(
            nn.Conv2d(4, 8, (1, 7), padding=(0, 3), dilation=(1, 1), groups=4), nn.Identity(), nn.Dropout(),
            nn.MaxPool2d(3, 2, 1), nn.ConvTranspose2d(8, 2, 4, 2, 1), nn.Flatten(),
        ),
        (4, 16, 16),
    )  # fmt: skip
    assert [row.kind for row in table.rows] == ["Conv2d", "MaxPool2d", "ConvTranspose2d", "Flatten"]
    windows = [row.window for row in table.rows]
    assert windows[0] is not None
    assert windows[1] is not None
    assert windows[2] is not None
    assert (windows[0].kernel, windows[0].padding, windows[0].groups) == ((1, 7), (0, 3), 4)
    assert (windows[1].kernel, windows[1].stride, windows[1].padding) == ((3, 3), (2, 2), (1, 1))
    assert (windows[2].transposed, windows[2].kernel) == (True, (4, 4))
    assert table.rows[1].other_ops == 8 * 8 * 8 * 9  # comparisons: the window times the outputs
    assert (table.rows[3].written_kib, table.rows[3].memory_kib) == (0, 2 * 16 * 16 * 4 / 1024)


def test_several_inputs_by_position_and_by_name() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.conv = nn.Embedding(50, 8), nn.Conv2d(3, 8, 1)

        def forward(self, picture: Tensor, tokens: Tensor | None = None) -> Tensor:
            seen: Tensor = self.conv(picture).mean((2, 3))
            return seen if tokens is None else seen + self.words(tokens).sum(1)

    picture, tokens = torch.zeros(1, 3, 4, 4), torch.zeros(1, 5, dtype=torch.long)
    by_name = cost(Two(), inputs={"picture": picture, "tokens": tokens})
    by_position = cost(Two(), inputs=(picture, tokens))
    assert by_name.rows == by_position.rows
    assert by_name.macs == 3 * 8 * 16  # looking a word up multiplies nothing
    assert by_name.unused_params == 0
    assert cost(Two(), (3, 4, 4)).unused_params == 400
    pair = cost(nn.Bilinear(3, 4, 5), [(3,), (4,)])
    assert (pair.input_shapes, pair.partial) == (((3,), (4,)), ())


def test_what_has_no_formula_is_named() -> None:
    class Spectrum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.rfft2(x).abs()

    table = cost(nn.Sequential(nn.Conv2d(1, 2, 1), Spectrum()), (1, 8, 8))
    assert table.partial == ("aten::_fft_r2c",)
    assert table.macs == 128
    assert table.rows[1].unknown == ("aten::_fft_r2c",)
    assert table.rows[1].field is None
    assert table.rows[1].lost == "_fft_r2c"
    assert cost(nn.Conv2d(1, 2, 1), (1, 8, 8)).partial == ()


def test_folding_keeps_every_sum() -> None:
    table = cost(lookup("resnet18").build(), (3, 64, 64))
    for depth in (1, 2, 3, 9):
        folded = table.fold(depth)
        for name in ("macs", "flops", "memory_kib", "other_ops", "partial", "receptive_field"):
            assert getattr(folded, name) == getattr(table, name), name
        assert sum(row.params for row in folded.rows) == table.params
        assert sum(row.calls for row in folded.rows) == len(table.rows)
    assert [row.name for row in table.fold(1).rows] == ["stem", "stages", "head"]
    assert (table.fold(1).rows[1].in_shape, table.fold(1).rows[1].out_shape) == ((64, 16, 16), (512, 2, 2))
    assert table.fold(9).rows == table.rows
    with pytest.raises(ValueError, match="at least 1"):
        table.fold(0)


def test_the_table_as_json() -> None:
    facts = json.loads(json.dumps(cost(lookup("lenet5").build(), (1, 32, 32)).to_dict()))
    assert facts["macs"] == sum(row["macs"] for row in facts["rows"])
    assert facts["flops"] == 2 * facts["macs"]
    first = next(row for row in facts["rows"] if row["kind"] == "Conv2d")
    assert (first["kernel"], first["receptive_field"], first["stride"], first["offset"]) == (
        [5, 5], [5, 5], [1.0, 1.0], [2.0, 2.0],
    )  # fmt: skip


def test_a_module_that_looks_at_its_numbers_runs_on_real_ones() -> None:
    class Nosy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) if float(x.sum()) == 0 else x

    with pytest.raises(UsageError, match=r"looks at its numbers while it runs .*allocate=True"):
        cost(Nosy(), (4,))
    assert cost(Nosy(), (4,), allocate=True).macs == 16


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 32, 32), "does not run on an input of 1 x 1 x 32 x 32 .in 0: .*give the input_shape it was made for"),
        ((3, -1, 32), "is no input shape; give positive sizes"),
        ((), "is no input shape"),
        (5, "5 is no input shape"),
        ((3, 10**10, 4), "is no input shape"),
        ((3, 16.0, 16), r"\(3, 16.0, 16\) is no input shape"),
        ((3, 2, 2), "does not run on an input of 1 x 3 x 2 x 2"),
    ],
)
def test_inputs_that_do_not_fit(shape: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cost(nn.Sequential(nn.Conv2d(3, 4, 3)), shape)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_cannot_be_seen_into() -> None:
    conv = nn.Conv2d(3, 4, 3)
    assert cost(torch.compile(conv), (3, 8, 8)).macs == cost(conv, (3, 8, 8)).macs
    for hidden in (nn.Sequential(torch.compile(conv)), torch.jit.trace(conv, torch.zeros(1, 3, 8, 8))):
        with pytest.raises(UsageError, match="is compiled and cannot be seen into; give the module it was compiled"):
            cost(hidden, (3, 8, 8))
    with pytest.raises(UsageError, match="at 0 what does not know its sizes yet; run it once on an input"):
        cost(nn.Sequential(nn.LazyConv2d(4, 3)), (3, 8, 8))


def test_tensors_that_are_no_parameters_and_weights_that_are_computed() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offset = torch.ones(4, 1, 1)  # neither parameter nor buffer
            self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) + self.offset + torch.arange(6.0)

    table = cost(Plain(), (3, 8, 8))
    assert (table.macs, table.partial, table.receptive_field) == (108 * 36, (), (3, 3))


def test_rows_that_a_stride_leaves_out_are_pointed_out() -> None:
    def notes(layer: nn.Module, size: int) -> tuple[str, ...]:
        return cost(nn.Sequential(layer), (1, size, size)).notes

    [said] = notes(nn.MaxPool2d(2), 11)
    assert said.startswith("0: stride 2 does not divide evenly: (11 - 2 + 0) / 2 + 1 = 5 1/2, so the last row")
    assert "(225 - 11 + 0) / 4 + 1 = 54 2/4" in notes(nn.Conv2d(1, 1, 11, 4), 225)[0]
    assert notes(nn.MaxPool2d(2), 12) == ()
    assert notes(nn.MaxPool2d(2, ceil_mode=True), 11) == ()
    assert notes(nn.Conv2d(1, 1, 3, 2, 1), 12) == ()  # only padding is left out
    assert notes(nn.Conv2d(1, 1, 1, 2), 12) == ()  # every second row is left out, on purpose
    assert notes(nn.ConvTranspose2d(1, 1, 4, 2), 11) == ()


def test_modules_that_keep_tensors_and_answers_in_objects() -> None:
    @dataclass
    class Answer:
        map: Tensor

    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.kept: Tensor | None = None

        def forward(self, x: Tensor) -> Answer:
            self.kept = self.conv(x)
            return Answer(self.kept)

    module = Keeps()
    module(torch.zeros(1, 3, 8, 8))  # now it holds a tensor that no deepcopy takes
    table = cost(module, (3, 8, 8))
    assert (table.macs, table.rows[-1].out_shape) == (108 * 36, (4, 6, 6))
    locked = nn.Sequential(nn.Linear(2, 2))
    locked[0].lock = threading.Lock()
    with pytest.raises(UsageError, match=r"Sequential cannot be copied .*cannot pickle"):
        cost(locked, (2,))


def test_arguments_that_would_be_ignored_are_refused() -> None:
    from neocog.app.costing import cost as by_name

    with pytest.raises(UsageError, match="depht: not for a network by name"):
        by_name("lenet5", depht=2)
    with pytest.raises(UsageError, match="num_classes and knobs are of networks by name"):
        by_name(nn.Linear(2, 2), (2,), num_classes=5)
    with pytest.raises(UsageError, match="cost has no argument depht"):
        by_name(nn.Linear(2, 2), (2,), depht=2)
    with pytest.raises(UsageError, match="num_classes = 0 must be at least 1"):
        by_name("lenet5", num_classes=0)
    with pytest.raises(UsageError, match="5 is no network"):
        by_name(5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"torch.int8 is no type of weights"):
        by_name("lenet5", dtype=torch.int8)
