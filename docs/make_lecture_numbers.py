"""Prints docs/lecture-numbers.md: the figures of the course's decks beside neocog's. `scripts/docs` writes it.

What a deck states stands here as the deck prints it; everything else is computed. First the sections, in the page's
order, then how they become Markdown.
"""

from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from math import prod
from textwrap import fill
from typing import Any, NamedTuple, TypeVar

from torch import nn

from neocog.app.costing import cost
from neocog.core.shapes import shapes_only
from neocog.costs import arithmetic
from neocog.costs.table import CostTable, Row
from neocog.layers.branches import Branches

T = TypeVar("T")

HEAD = """# The lectures' numbers, recounted

Written by `scripts/docs`: what decks 000, 003 and 004 state, and beside it what `neocog cost` computes. **Bold**: the
two differ, and the last column says why. Plain: they agree as far as the deck prints digits, rounded or cut.

MACs are multiply-accumulates, which the decks call flop. Memory is the float32 output of one picture, in KiB of 1024
bytes (the decks' KB) and MiB of 1024 KiB (their MB). k, M and G are thousands, millions and billions.
"""


class Line(NamedTuple):
    what: str
    stated: str  # as the deck prints it; "" where it states nothing
    computed: float | str  # in the deck's unit; shapes and lists are strings
    fact: tuple[str | int, ...] = ()  # its place in the course's facts.json; ("deck 004", words): in that deck's text
    why: str = ""  # the two differ
    note: str = ""  # they agree, and there is more to say


class Section(NamedTuple):
    title: str
    text: str
    lines: Sequence[Line]
    groups: Sequence[str] = ("",)  # so many lines share a row


@cache
def table(name: str, side: int = 224, **knobs: str) -> CostTable:
    return cost(name, (3, side, side), knobs=knobs)


@cache
def rows(name: str, side: int = 224) -> dict[str, Row]:
    return {row.name: row for row in table(name, side).rows}


def weights(row: Row) -> int:
    """Without biases: each weight makes one product at each place of the output."""
    return row.macs // prod(row.out_shape[1:])


def mib(layers: Sequence[Row]) -> float:
    return sum(row.memory_kib for row in layers) / 1024


def millions(layers: Sequence[Row], of: str) -> float:
    return float(sum(getattr(row, of) for row in layers)) / 1e6


def convolutions(costs: CostTable) -> list[Row]:
    return [row for row in costs.rows if row.kind == "Conv2d"]


def by(shape: Sequence[int | str]) -> str:
    return " x ".join(str(n) for n in shape)


def window(row: Row) -> str:
    w = row.window
    return "" if w is None else f", {w.kernel[0]} x {w.kernel[1]}, stride {w.stride[0]}, padding {w.padding[0]}"


def both(one: T, other: T) -> T:
    """The answer of two ways to it."""
    if one != other:
        raise ArithmeticError(f"the formula says {one}, the layer {other}")
    return one


# Layer by layer

COLUMNS = {"output": "out", "memory, KiB": "memory_kb", "parameters, k": "params_k", "MACs, M": "flop_m"}

#        deck's name  neocog's           output        memory  params  MACs
ALEXNET = """
         conv1        stages.conv1.conv  64x56x56         784      23    73
         pool1        stages.conv2.pool  64x27x27         182       0     0
         conv2        stages.conv2.conv  192x27x27        547     307   224
         pool2        stages.conv3.pool  192x13x13        127       0     0
         conv3        stages.conv3.conv  384x13x13        254     664   112
         conv4        stages.conv4.conv  256x13x13        169     885   145
         conv5        stages.conv5.conv  256x13x13        169     590   100
         pool5        head.pool5         256x6x6           36       0     0
         flatten      head.flatten       9216              36       0     0
         fc6          head.fc6           4096              16  37,749    38
         fc7          head.fc7           4096              16  16,777    17
         fc8          head.fc8           1000               4   4,096     4
"""
STEM = """
         conv         stem.conv1.conv    64x112x112      3136       9   118
         max-pool     stem.pool1         64x56x56         784       0     2
         conv         stem.conv2.conv    64x56x56         784       4    13
         conv         stem.conv3.conv    192x56x56       2352     111   347
         max-pool     stem.pool2         192x28x28        588       0     1
"""

Told = dict[tuple[str, str], str]  # by neocog's name and the column


def layers(text: str, found: dict[str, Row], fact: str, whys: Told, notes: Told) -> list[Line]:
    lines = []
    for index, (name, ours, *stated) in enumerate(line.split() for line in text.strip().splitlines()):
        row = found[ours]
        values: list[float | str] = [by(row.out_shape), row.memory_kib, row.params / 1e3]
        values.append((row.macs or row.other_ops) / 1e6)
        for (column, key), shown, value in zip(COLUMNS.items(), stated, values, strict=True):
            lines.append(
                Line(
                    name + window(row), shown.replace("x", " x "), value, (fact, "rows", index, key),
                    whys.get((ours, column), ""), notes.get((ours, column), ""),
                )
            )  # fmt: skip
    return lines


def alexnet() -> Section:
    costs, row = table("alexnet", 227), rows("alexnet", 227)
    conv4, pool = row["stages.conv4.conv"], row["stages.conv2.pool"]
    padded, bare, usual = (
        arithmetic.output_size(size, 11, stride=4, padding=padding) for size, padding in ((227, 2), (227, 0), (224, 2))
    )
    whys = {
        (name, "parameters, k"): f"The deck leaves the biases out: {weights(row[name]):,} weights."
        for name in ("head.fc6", "head.fc7", "head.fc8")
    }
    whys["stages.conv4.conv", "MACs, M"] = (
        f"{weights(conv4):,} weights at {by(conv4.out_shape[1:])} places are {conv4.macs / 1e6:.1f} million; 145 "
        "does not come out of the row's own sizes."
    )
    notes = {
        ("stages.conv1.conv", "output"): f"(227 - 11 + 2 * 2) / 4 + 1 = {padded}. The 227 belongs to a padding of 0 "
        f"({bare}), the padding of 2 to 224 ({usual}); the deck has taken one of each.",
        ("stages.conv2.pool", "MACs, M"): f"No MACs, but {pool.other_ops / prod(pool.out_shape):.0f} comparisons for "
        "each output. Here they round to 0; GoogLeNet's pools, counted alike, show 2 and 1.",
    }
    return Section(
        "AlexNet, layer by layer",
        f"Decks 003 and 004 at 3 x 227 x 227: `neocog cost alexnet --input 3,227,227`. All of it has {costs.params:,} "
        f"parameters and {costs.macs:,} MACs. The decks leave ReLUs out; ours write in place. Where a layer makes no "
        "product, the last pair of columns shows its comparisons (`other_ops`).",
        layers(ALEXNET, row, "alexnet_table", whys, notes), tuple(COLUMNS),
    )  # fmt: skip


def googlenet_stem() -> Section:
    row = rows("googlenet")
    notes: Told = {}
    for name in ("stem.pool1", "stem.pool2"):
        notes[name, "output"] = "The deck pads by 1; here the last window reaches over the edge, to the same size."
        notes[name, "MACs, M"] = f"{row[name].other_ops:,} comparisons, no MACs."
    return Section(
        "GoogLeNet's stem, layer by layer",
        "Deck 004 at 3 x 224 x 224. This table puts a pool's comparisons, nine for each output, into the column of "
        "MACs; neocog keeps them apart, because no product is formed. The paper's response normalisation is not in "
        "the deck's table and left out here.",
        layers(STEM, row, "googlenet_stem", {}, notes), tuple(COLUMNS),
    )  # fmt: skip


# VGG-16. Three totals of the deck, 7485 of them to four digits, fit a network without this layer. Which of stage 3's
# two equal ones it is makes no difference.

LACKING = "stages.stage3.conv3.conv"
LACK = "The deck's VGG-16 lacks one of the three convolutions of 256 filters at 56 x 56"
CONVOLUTIONS = """
    1,728 36,864 73,728 147,456 294,912 589,824 589,824 1,179,648 2,359,296 2,359,296 2,359,296 2,359,296 2,359,296
"""
DENSE = "102,760,448 16,777,216 4,096,000"


def stem_totals() -> Section:
    stem = [rows("googlenet")[line.split()[1]] for line in STEM.strip().splitlines()]
    vgg = [row for row in convolutions(table("vgg16")) if row.out_shape[1] > 28]
    total = ("googlenet_stem", "stated_total")
    lines = [
        Line("stem: memory, MiB", "7.5", mib(stem), (*total, "memory_mb")),
        Line("stem: parameters, k", "124", 1e3 * millions(stem, "params"), (*total, "params_k")),
        Line("stem: MACs and comparisons, M", "418", millions(stem, "macs") + millions(stem, "other_ops"),
             (*total, "flop_m"), "The deck's own rows, 118 + 2 + 13 + 347 + 1, are 481: swapped digits, it seems."),
    ]  # fmt: skip
    for what, part, why in (
        ("VGG-16", vgg, f"{LACK}: next lines."),
        ("VGG-16 without `stage3.conv3`", [row for row in vgg if row.name != LACKING], ""),
    ):
        lines += [
            Line(f"{what}: memory, MiB", "42.9", mib(part), ("deck 004", "Memory: 42.9 MB"), why),
            Line(f"{what}: parameters, M", "1.1", millions(part, "params"), ("deck 004", "Params: 1.1M"), why),
            Line(f"{what}: MACs, M", "7485", millions(part, "macs"), ("deck 004", "MFLOP: 7485"), why),
        ]
    return Section(
        "From 224 to 28 pixels: GoogLeNet's stem against VGG-16",
        "Deck 004 adds the stem up and holds VGG-16's first three stages against it, without their pools. Its VGG-16 "
        "lacks a layer: without it, all three figures come out.",
        lines,
    )


def vgg16() -> Section:
    costs, row = table("vgg16"), rows("vgg16")
    lines = []
    for key, stated, kind in (("conv_params", CONVOLUTIONS, "Conv2d"), ("fc_params", DENSE, "Linear")):
        found = [row for row in costs.rows if row.kind == kind]
        for index, (shown, layer) in enumerate(zip(stated.split(), found, strict=True)):
            name = layer.name.removeprefix("stages.").removeprefix("head.").removesuffix(".conv")
            lines.append(Line(f"`{name}`: weights", shown, weights(layer), ("vgg16", key, index)))
    memory, lacking = mib(convolutions(costs)), row[LACKING]
    values, copied = costs.memory_kib * 256 / 1e6, prod(row["head.grid"].out_shape) / 1e6
    listed = values - copied + prod(costs.input_shapes[0]) / 1e6
    gmacs, mb, forward = (("vgg16", f"stated_{key}") for key in ("gflop", "conv_memory_mb", "forward_memory"))
    lines += [
        Line("parameters with biases, M", "138", costs.params / 1e6, ("vgg16", "params_m"), note=f"{costs.params:,}"),
        Line("MACs, G", "13.6", costs.macs / 1e9, gmacs, f"{LACK}: next lines."),
        Line("memory of convolutions, MiB", "48.6", memory, mb, f"{LACK}: next lines."),
        Line("MACs without `stage3.conv3`, G", "13.6", (costs.macs - lacking.macs) / 1e9, gmacs),
        Line("memory without `stage3.conv3`, MiB", "48.6", memory - mib([lacking]), mb),
        Line("values written forward, M", "24", values, forward,
             f"The rows that the deck lists, picture included, add up to {listed:.1f} M. Of ours, {copied:.3f} M are "
             f"the adaptive pool's, which at 224 only copies: {values - copied:.2f} M without it."),
        Line("memory forward, MiB", "96", costs.memory_kib / 1024, forward,
             f"24 M values of four bytes; {values:.2f} M are {4 * values:.1f} million bytes."),
    ]  # fmt: skip
    return Section(
        "VGG-16",
        "Deck 004 lists weights without biases, and all sixteen agree. Two totals fit a network that lacks one of "
        f"these layers, of {lacking.macs / 1e9:.2f} G MACs and {mib([lacking]):.2f} MiB. The memory of a forward pass "
        "is another slip.",
        lines,
    )


def against() -> Section:
    one, two = table("alexnet", 227), table("vgg16")
    fact, why = "alexnet_vs_vgg16", f"{LACK}, see VGG-16."
    return Section(
        "AlexNet against VGG-16",
        "Deck 004's memory is that of the convolutions' outputs alone, of both networks.",
        [
            Line("AlexNet: memory, MiB", "1.9", mib(convolutions(one)), (fact, "alexnet", "memory_mb"),
                 note=f"With pools and dense layers {one.memory_kib / 1024:.2f}."),
            Line("AlexNet: parameters, M", "61", one.params / 1e6, (fact, "alexnet", "params_m")),
            Line("AlexNet: MACs, G", "0.7", one.macs / 1e9, (fact, "alexnet", "gflop")),
            Line("VGG-16: memory, MiB", "48.6", mib(convolutions(two)), (fact, "vgg16", "memory_mb"), why),
            Line("VGG-16: parameters, M", "138", two.params / 1e6, (fact, "vgg16", "params_m")),
            Line("VGG-16: MACs, G", "13.6", two.macs / 1e9, (fact, "vgg16", "gflop"), why),
        ],
    )  # fmt: skip


# GoogLeNet


def inception(bottleneck: bool) -> CostTable:
    """(B, 256, 28, 28) -> (B, 672, 28, 28), with bottlenecks (B, 480, 28, 28)"""
    c_in = 64 if bottleneck else 256
    narrow = [nn.Conv2d(256, 64, 1)] if bottleneck else []
    module = Branches(
        nn.Conv2d(256, 128, 1),
        nn.Sequential(*narrow, nn.Conv2d(c_in, 192, 3, padding=1)),
        nn.Sequential(*narrow, nn.Conv2d(c_in, 96, 5, padding=2)),
        nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *narrow),
    )
    return cost(module, (256, 28, 28))


def inception_module() -> Section:
    naive, narrow = inception(bottleneck=False), inception(bottleneck=True)
    (three,) = (row for row in convolutions(narrow) if row.window and row.window.kernel == (3, 3))
    fact = ("inception_module", "bottleneck_ops_m")
    return Section(
        "The Inception module",
        "Deck 004's example on 256 x 28 x 28: 1x1x128, 3x3x192, 5x5x96 and a pool side by side; then with 1x1x64 in "
        "front of the 3x3 and the 5x5 and behind the pool. The bottlenecks save more than the deck says: the module is "
        f"{naive.macs / narrow.macs:.1f} times lighter.",
        [
            Line("naive: MACs, M", "854", naive.macs / 1e6, ("inception_module", "naive_ops_m")),
            Line("with bottlenecks: MACs, M", "358", narrow.macs / 1e6, fact,
                 f"The six products that the deck lists add up to {narrow.macs / 1e6:.0f}. 358 is what comes out with "
                 f"the 3x3's {three.macs / 1e6:.1f} in it twice."),
            Line("with bottlenecks, the 3x3 counted twice: MACs, M", "358", (narrow.macs + three.macs) / 1e6, fact),
        ],
    )  # fmt: skip


def googlenet_head() -> Section:
    ours, theirs, alexnet = table("googlenet"), table("googlenet", variant="torchvision"), table("alexnet", 227)
    pool, dense = (rows("googlenet")[f"head.{name}"] for name in ("pool", "fc"))
    fact = ("googlenet_head", "total_params_m")
    return Section(
        "GoogLeNet's head and size",
        'Deck 004: the mean of each map, then one dense layer; and "only 5 million parameters", "12x less than '
        'AlexNet". The auxiliary classifiers, which only training uses, are not counted.',
        [
            Line("input of the average pool", "1024 x 7 x 7", by(pool.in_shape), ("googlenet_head", "avg_pool_in")),
            Line("dense layer: parameters, k", "1025", dense.params / 1e3, ("googlenet_head", "fc_params_k")),
            Line("all parameters, M, paper's layout", "5", ours.params / 1e6, fact,
                 "The 12x is the paper's claim, and AlexNet's by 12 are 5. Counted, row by row as in the paper's Table "
                 f"1, it is {alexnet.params / ours.params:.1f}x; {(ours.params - dense.params) / 1e6:.1f} M lie in "
                 "front of the dense layer."),
            Line("all parameters, M, torchvision's layout", "5", theirs.params / 1e6, fact,
                 "3x3 where the paper has 5x5, batch norm instead of biases."),
            Line("AlexNet's parameters by 12, M", "5", alexnet.params / 12e6, fact),
        ],
    )  # fmt: skip


# ResNets

#   depth   blocks     MACs   stride on
RESNETS = (
    ( 18, "2-2-2-2",   "1.8", None),
    ( 34, "3-4-6-3",   "3.6", None),
    ( 50, "3-4-6-3",   "3.8", "1x1"),
    (101, "3-4-23-3",  "7.6", "1x1"),
    (152, "3-8-36-3", "11.3", "1x1"),
    ( 50, "",          "",    "3x3"),
    (101, "",          "",    "3x3"),
    (152, "",          "",    "3x3"),
)  # fmt: skip


def resnets() -> Section:
    lines = []
    for index, (depth, blocks, gflop, stride) in enumerate(RESNETS):
        costs = table(f"resnet{depth}", **({"stride_on": stride} if stride else {}))
        names = dict.fromkeys(tuple(row.name.split(".")[1:3]) for row in costs.rows if row.name.startswith("stages."))
        stages = [stage for stage, _ in names]
        counted = "-".join(str(stages.count(stage)) for stage in dict.fromkeys(stages))
        bare = costs.macs - sum(row.macs for row in costs.rows if ".shortcut." in row.name)
        note = "Cut, not rounded, as in the paper." if gflop == "3.8" else ""
        if not stride:
            note = f"With the paper's shortcuts at this depth, which pad with zeros, {bare / 1e9:.3f}."
        what, fact = f"ResNet-{depth}{f', stride on the {stride}' if stride else ''}", ("resnet_table", "rows", index)
        lines.append(Line(what, blocks, counted, (*fact, "stages") if blocks else ()))
        lines.append(Line(what, gflop, costs.macs / 1e9, (*fact, "gflop") if gflop else (), note=note))
    return Section(
        "ResNets",
        "Deck 004's figures are the paper's, where the first 1x1 of a bottleneck has the stride (`--knob "
        "stride_on=1x1`). Today's libraries and published weights have it on the 3x3, which is neocog's default.",
        lines, ("blocks", "MACs, G"),
    )  # fmt: skip


# Receptive fields and shapes


def receptive_fields() -> Section:
    def stacked(n: int) -> str:
        stack = nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(n)))
        seen = arithmetic.stacked_receptive_field(n, 3)
        return both(by((seen, seen)), by(cost(stack, (1, 32, 32)).receptive_field or ()))

    def whole(what: str, name: str, note: str = "", **knobs: str) -> Line:
        return Line(what, "", by(table(name, **knobs).receptive_field or ()), note=note)

    rule = ("receptive_field", "rule")
    return Section(
        "Receptive fields",
        "The decks' rule, 1 + L (K - 1), holds for stride 1; a stride multiplies what the layers behind it add. They "
        "give no figure for a network. Those below are of the last layer that still has a map, along the longest path "
        "and as if the picture had no borders: most see more than 224 pixels.",
        [
            Line("two 3x3: 1 + 2 (3 - 1)", "5 x 5", stacked(2), rule),
            Line("three 3x3: 1 + 3 (3 - 1)", "7 x 7", stacked(3), rule),
            whole("AlexNet", "alexnet"),
            whole("VGG-16", "vgg16"),
            whole("GoogLeNet, paper's layout", "googlenet"),
            whole("GoogLeNet, torchvision's layout", "googlenet", "3x3 where the paper has 5x5, and a 2x2 pool in "
                  "front of the last two modules.", variant="torchvision"),
            whole("ResNet-18", "resnet18", "More than ResNet-50: its blocks have two 3x3, a bottleneck has one."),
            whole("ResNet-50, stride on the 3x3", "resnet50"),
            whole("ResNet-50, stride on the 1x1", "resnet50", "A 3x3 behind the stride adds twice as much.",
                  stride_on="1x1"),
            whole("DenseNet-121", "densenet121"),
        ],
    )  # fmt: skip


#   deck   layer              input            channels, kernel, stride, padding, output
SHAPES = (
    ("000", "conv",            (3, 224, 224),  32, 3, 1, 0, "32 x 222 x 222"),
    ("003", "conv",            (16, 32, 32),   32, 5, 1, 2, "32 x 32 x 32"),
    ("003", "maxpool",         (16, 32, 32),   16, 3, 2, 0, "16 x 15 x 15"),
    ("003", "conv",            (3, 256, 256),  16, 3, 2, 1, "16 x 128 x 128"),
    ("003", "transposed conv", (16, 128, 128),  3, 4, 2, 1, "3 x 256 x 256"),
    ("004", "conv",            (3, 32, 32),    10, 5, 1, 2, "10 x 32 x 32"),
    ("004", "conv",            (3, 32, 32),     6, 5, 1, 0, "6 x 28 x 28"),
    ("004", "conv",            (1, 7, 7),       1, 3, 2, 0, "1 x 3 x 3"),
)  # fmt: skip


def shapes() -> Section:
    lines = []
    for index, (deck, kind, shape, channels, kernel, stride, padding, stated) in enumerate(SHAPES):
        how: dict[str, Any] = {"stride": stride, "padding": padding}
        expected: tuple[int, ...]
        if kind == "transposed conv":
            expected = (channels, *(arithmetic.transposed_size(n, kernel, **how) for n in shape[1:]))
            layer: nn.Module = nn.ConvTranspose2d(shape[0], channels, kernel, **how)
        else:
            expected = arithmetic.output_shape(shape, kernel, out_channels=channels, **how)
            layer = nn.MaxPool2d(kernel, **how) if kind == "maxpool" else nn.Conv2d(shape[0], channels, kernel, **how)
        costs = cost(layer, shape)
        (row,) = costs.rows
        what = f"deck {deck}: {kind}{window(row)}, from {by(shape)}"
        lines.append(Line(what, stated, by(both(expected, row.out_shape)), ("shapes", index, "out")))
        if stated == "10 x 32 x 32":
            params = both(arithmetic.conv_params(shape[0], channels, kernel), costs.params)
            lines.append(Line("its parameters", "760", params, ("shapes", index, "params")))
    return Section(
        "Output shapes",
        "Each by two ways that agree: the formula (`neocog.costs.arithmetic`), and `cost` of the single layer.",
        lines,
    )


# Parameters

COUNTS = (
    ("mlp_8_32_32_2", "288, 1,056, 66", "1,410"),
    ("mnist_dense", "200,960, 32,896, 8,256, 650", "242,762"),
    ("mnist_convnet", "320, 18,496, 16,010", "34,826"),
    ("mnist_fcn", "320, 18,496, 650", "19,466"),
)


def parameter_counts() -> Section:
    lines = []
    for index, (name, stated, total) in enumerate(COUNTS):
        costs = cost(name)
        each = ", ".join(f"{row.params:,}" for row in costs.rows if row.params)
        lines.append(Line(f"`{name}`", stated, each, ("parameter_counts", index, "layers")))
        lines.append(Line(f"`{name}`", total, costs.params, ("parameter_counts", index, "total")))
    return Section(
        "Parameters of small networks",
        "Weights and biases of deck 003's networks for a table and for digits, layer by layer.",
        lines, ("by layer", "all"),
    )  # fmt: skip


def dense_layers() -> Section:
    def dense(in_features: int, units: int) -> int:
        with shapes_only():
            layer = nn.Linear(in_features, units, bias=False)
        return both(arithmetic.dense_params(in_features, units, bias=False), cost(layer, (in_features,)).params)

    grey, small, fc6 = 256 * 256, 200 * 200, rows("alexnet", 227)["head.fc6"]
    pixels, wide = ("parameter_counts", 4), ("parameter_counts", 5)
    return Section(
        "Dense layers over pictures",
        "Why nobody connects every pixel with every unit. Weights without biases, except in the last line.",
        [
            Line("256 x 256 grey picture, one unit", "65,536", dense(grey, 1), (*pixels, "weights_per_neuron")),
            Line("256 x 256 grey picture, a unit per pixel", "4,294,967,296", dense(grey, grey),
                 (*pixels, "total_weights")),
            Line("200 x 200 picture, 40,000 units, G", "2.0", dense(small, 40_000) / 1e9, (*wide, "stated"),
                 f"{small:,} pixels by 40,000 units; the deck's ~2B is this rounded to one digit."),
            Line("AlexNet's fc6 with biases", "37,725,832", fc6.params, ("deck 003", "37,725,832"),
                 f"The deck writes 9126 for {fc6.in_shape[0]}, and in the result 725 for 752: swapped digits."),
        ],
    )  # fmt: skip


# The page


def sections() -> list[Section]:
    return [
        alexnet(), googlenet_stem(), stem_totals(), vgg16(), against(), inception_module(), googlenet_head(), resnets(),
        receptive_fields(), shapes(), parameter_counts(), dense_layers(),
    ]  # fmt: skip


def page() -> str:
    return HEAD + "".join(
        f"\n## {section.title}\n\n{fill(section.text, 120, break_on_hyphens=False)}\n\n{markdown(section)}"
        for section in sections()
    )


def markdown(section: Section) -> str:
    heads = [f"{f'{group}: ' if group else ''}{side}" for group in section.groups for side in ("stated", "computed")]
    text = [f"| | {' | '.join(heads)} | why |", "|---" * (len(heads) + 2) + "|"]
    for start in range(0, len(section.lines), len(section.groups)):
        row = section.lines[start : start + len(section.groups)]
        cells = [cell for line in row for cell in (line.stated or "not stated", shown(line))]
        reasons = " ".join(filter(None, (line.why or line.note for line in row)))
        text.append("| " + " | ".join([row[0].what, *cells, reasons]) + " |")
    return "\n".join(text) + "\n"


def shown(line: Line) -> str:
    value = line.computed
    if isinstance(value, float):
        value = f"{value:,.{decimals(line.stated) + 2}f}".rstrip("0").rstrip(".")
    elif isinstance(value, int):
        value = f"{value:,}"
    return value if agree(line) else f"**{value}**"


def agree(line: Line) -> bool:
    """As far as the deck prints digits, whether it rounded (half up) or cut; or it states nothing."""
    if isinstance(line.computed, str) or not line.stated:
        return line.stated in ("", line.computed)
    unit = Decimal(1).scaleb(-decimals(line.stated))
    return -unit / 2 <= Decimal(str(line.computed)) - Decimal(line.stated.replace(",", "")) < unit


def decimals(stated: str) -> int:
    return len(stated.partition(".")[2])


if __name__ == "__main__":
    print(page(), end="")
