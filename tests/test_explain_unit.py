"""The page of one number: what stands on it is added up again, and torch.nn.functional judges the sum."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neocog import report
from neocog.explaining.arithmetic import unit
from neocog.explaining.plain import plain
from neocog.report.pencil import carried, decimals, rounded, shown
from pages import assert_closed
from units import filled, normal
from zoo_units import judged

STEP = re.compile("Batch norm|Activation|Pooling")
VOID = {"meta", "image", "rect", "img", "br", "wbr"}


class Read(HTMLParser):
    """Every table as rows of cells (text, class), every list item and heading, every start tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[tuple[str, list[list[tuple[str, str]]]]] = []
        self.texts: dict[str, list[str]] = {"li": [], "h3": [], "h1": []}
        self.tags: list[tuple[str, dict[str, str]]] = []
        self._open: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.tags.append((tag, given))
        if tag not in VOID:
            self._open.append((tag, given.get("class", "")))
        if tag == "table":
            self.tables.append((given.get("class", ""), []))
        elif tag == "tr":
            self.tables[-1][1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][1][-1].append(("", given.get("class", "")))
        elif tag in self.texts:
            self.texts[tag].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag  # everything that is opened is closed

    def handle_data(self, data: str) -> None:
        inside = [tag for tag, _ in self._open]
        if ("span", "unseen") in self._open:
            return
        if "td" in inside or "th" in inside:
            row = self.tables[-1][1][-1]
            row[-1] = (row[-1][0] + data.strip(), row[-1][1])
        for tag in self.texts:
            if tag in inside and "table" not in inside:
                self.texts[tag][-1] += data

    def matrices(self) -> list[Tensor]:
        """The numbers of the tables with coloured cells; a dash, where nothing is, counts as 0."""
        matrices = [rows[1:] for kind, rows in self.tables if kind.startswith("cells") and "list" not in kind]
        numbers = [[[0.0 if text == "–" else float(text) for text, _ in row[1:]] for row in rows] for rows in matrices]
        return [torch.tensor(rows, dtype=torch.float64) for rows in numbers]

    def account(self) -> tuple[dict[str, Decimal], Decimal, Decimal]:
        """The lines that are added by their names, the sum, and what the layer gave, as they are shown."""
        kind, rows = next((k, r) for k, r in self.tables if "account" in k or "list" in k)
        numbers = {row[0][0]: Decimal(row[-1][0]) for row in rows[1 if "list" in kind else 0 :]}
        total, given = numbers.pop("sum"), numbers.pop("what the layer gave")
        return numbers, total, given


def assert_adds_up(read: Read, wanted: float, bias: float) -> dict[str, Decimal]:
    """Exactly, as shown, to what is wanted; and what rounding is said to take is no more than it can."""
    lines, total, given = read.account()
    last = Decimal(1).scaleb(int(total.as_tuple().exponent))
    assert sum(lines.values()) == total
    assert abs(given - total) <= last
    assert float(total) == pytest.approx(wanted, abs=0.51 * float(last))
    assert abs(lines.pop("rounding of these lines", Decimal(0))) <= (len(lines) + 1) * last / 2
    assert float(lines.pop("bias")) == pytest.approx(bias, abs=0.51 * float(last))
    return lines


def page_of(network: nn.Module, x: Tensor, layer: str, channel: int, position: Sequence[int] = ()) -> tuple[Any, Read]:
    found = unit(network, x, layer, channel, position)
    page = report.UnitPage(
        "a.png", "run", "a network", "today", b"", (9, 11), (0, 0, 9, 11), plain(found), b"", (9, 11)
    )
    html = report.render_unit(page)
    read = Read(html)
    assert_closed(html, read.tags)
    return found, read


def test_a_class_token_is_no_place_of_the_map() -> None:
    found = plain(unit(nn.Sequential(nn.Linear(4, 3)), torch.ones(1, 5, 4), "0", 2, (0,)))
    page = report.UnitPage("a.png", "run", "a network", "today", b"", (9, 11), None, found, b"map", (2, 2))
    html = report.render_unit(page)
    assert "this one is the class token's, which has no place among them" in html
    assert 'class="box"' not in html
    assert "(row 1, column 0 of 2 × 2)" in report.render_unit(replace(page, place=(1, 0)))


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "plain": (nn.Conv2d(6, 8, 3, padding=1), (5, 3, 4)),
    "in a corner": (nn.Conv2d(6, 8, 3, padding=1), (5, 0, 10)),
    "of few channels": (nn.Conv2d(6, 8, 3).requires_grad_(False), (0, 6, 8)),
    "strided": (nn.Conv2d(6, 8, (3, 5), (2, 3), (1, 2)), (1, 4, 3)),
    "dilated": (nn.Conv2d(6, 8, 3, padding=2, dilation=2), (2, 0, 5)),
    "grouped": (nn.Conv2d(6, 8, 3, padding=1, groups=2), (7, 2, 2)),
    "depthwise": (nn.Conv2d(6, 6, 3, padding=1, groups=6), (4, 8, 1)),
    "transposed": (nn.ConvTranspose2d(6, 8, 4, 2, 1), (3, 7, 2)),
    "transposed, in a corner": (nn.ConvTranspose2d(6, 8, 3, 2, groups=2, dilation=2, bias=False), (3, 0, 0)),
    "wide": (nn.Conv2d(6, 2, 7, padding=3), (1, 1, 5)),
    "one by one": (nn.Conv2d(20, 8, 1), (5, 3, 4)),
    "dense": (nn.Linear(40, 8), (5,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_what_stands_on_the_page_adds_up_to_the_layers_number(name: str) -> None:
    layer, (channel, *position) = LAYERS[name]
    network = filled(layer)
    x = normal(1, 40) if name == "dense" else normal(1, 20 if name == "one by one" else 6, 9, 11)
    wanted = float(judged(layer, x)[(0, channel, *position)])
    found, read = page_of(network, x, "0", channel, position)
    assert abs(wanted) > 0.05
    lines = assert_adds_up(read, wanted, 0.0 if layer.bias is None else float(layer.bias[channel]))
    shown_alone = {name for name in lines if "other" not in name}
    assert len(shown_alone) == min(
        len(found.kernel), 12 if name in ("one by one", "dense") else 3 + (len(found.kernel) == 4)
    )
    if name in ("one by one", "dense"):
        rows = next(rows for kind, rows in read.tables if "list" in kind)[1:13]
        values = [(float(row[1][0]), float(row[3][0]), float(row[5][0])) for row in rows]
        met, kernel = found.patch.flatten(), found.kernel.flatten()
        for row, (a, b, product) in zip(rows, values, strict=True):
            i = int(row[0][0].split()[0])
            assert (a, b) == (pytest.approx(float(met[i]), abs=0.006), pytest.approx(float(kernel[i]), abs=0.006))
            assert product == pytest.approx(a * b, abs=0.02)
        assert len(rows) == 12
        return
    found_matrices = read.matrices()
    assert len(found_matrices) == 3 * min(len(found.kernel), 3 if len(found.kernel) > 4 else 4)
    heads = read.texts["h3"][:-1]
    for i, head in enumerate(heads):
        met, kernel, products = found_matrices[3 * i : 3 * i + 3]
        c = int(re.search(r"Input channel (\d+)", head)[1]) - found.first_channel  # type: ignore[index]
        assert torch.allclose(met, found.patch[c], atol=0.006)
        assert torch.allclose(kernel, found.kernel[c], atol=0.006)
        assert torch.allclose(products, met * kernel, atol=0.03)
        together = re.search(r"together (\S+)(?: \((\S+) if)?", head)
        assert together
        assert float(products.sum()) == pytest.approx(float(together[2] or together[1]), abs=1e-9)
        assert float(together[1]) == pytest.approx(float((found.patch[c] * found.kernel[c]).sum()), abs=0.006)
    if len(heads) < len(found.kernel):  # those of the largest sums, either sign
        sums = found.products.sum((1, 2)).abs()
        named = [int(re.search(r"Input channel (\d+)", head)[1]) - found.first_channel for head in heads]  # type: ignore[index]
        assert sorted(named) == sorted(sums.argsort(descending=True)[: len(heads)].tolist())


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in ("dense", "one by one")])
def test_the_formula_names_the_places_that_are_read(name: str) -> None:
    """Numbers that tell their own place are read where the sentence says."""
    layer, (channel, *position) = LAYERS[name]
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")
    x = (100 * rows + columns + 1).double().expand(1, 6, 9, 11)
    found, read = page_of(filled(layer), x, "0", channel, position)
    told = []
    for many in ("Rows", "Columns"):
        line = next(line for line in read.texts["li"] if line.startswith(many))
        formula, _, listed = line.partition(", for k = 0 to ")
        places = [None if part == "none" else int(part) for part in re.findall(r"none|-?\d+", listed.partition(":")[2])]
        told.append(places[: len(found.rows if many == "Rows" else found.columns)])
        figures = formula.rpartition(" = ")[2]
        made = [eval(re.sub("k", str(k), figures.replace("×", "*"))) for k in range(len(told[-1]))]
        assert [int(n) if n == int(n) else None for n in made] == told[-1]
    marked = [kind for _, row in read.tables[0:1] for cells in row[1:] for _, kind in cells[1:]]
    for i, row in enumerate(told[0]):
        for j, column in enumerate(told[1]):
            here = row is not None and column is not None and 0 <= row < 9 and 0 <= column < 11
            note = "" if here else "hole" if None in (row, column) else "padding"
            assert (marked[i * len(told[1]) + j].split() + [""])[1] == note
            if here:
                assert float(found.patch[0, i, j]) == 100 * row + column + 1  # type: ignore[operator]


WORDS = {
    "plain": "It reads all 6 input channels", "grouped": "2 groups: of 6 input channels it reads 3 to 5",
    "depthwise": "Depthwise: it reads input channel 4 alone, one of 6",
    "transposed": "The convolution is transposed: its padding, 1 × 1, is cut from the edges of what it gives.",
    "transposed, in a corner": "The convolution is transposed.",
    "in a corner": "5 of 9 places lie in the padding, where it meets zeros",
    "one by one": "A kernel of 1 × 1 mixes the channels of one place",
    "dense": "Dense: it reads every one of the 40 numbers",
}  # fmt: skip


@pytest.mark.parametrize("name", WORDS)
def test_each_kind_of_layer_has_its_sentence(name: str) -> None:
    layer, (channel, *position) = LAYERS[name]
    x = normal(1, 40) if name == "dense" else normal(1, 20 if name == "one by one" else 6, 9, 11)
    _, read = page_of(filled(layer), x, "0", channel, position)
    assert any(WORDS[name] in line for line in read.texts["li"])


def test_padding_that_is_no_zeros_is_told() -> None:
    layer = nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect")
    found, read = page_of(filled(layer), normal(1, 6, 9, 11), "0", 2, (0, 0))
    c = int(read.texts["h3"][0].split()[2].strip(":"))
    assert torch.allclose(read.matrices()[0], found.patch[c], atol=0.006)
    assert found.patch[c][~found.inside].all()
    assert any("numbers that the layer takes from elsewhere in the map" in line for line in read.texts["li"])


def test_a_transposed_kernel_meets_nothing_outside_of_the_input() -> None:
    """Its padding adds nothing there, it crops the result."""
    found, read = page_of(filled(nn.ConvTranspose2d(6, 8, 4, 2, 1)), normal(1, 6, 9, 11), "0", 3, (0, 0))
    outside = [(i, j) for i in range(4) for j in range(4) if found.rows[i] == -1 or found.columns[j] == -1]
    holes = [(i, j) for i in range(4) for j in range(4) if found.rows[i] is None or found.columns[j] is None]
    many = len(set(outside) - set(holes))
    assert many == 3
    said = " ".join(read.texts["li"])
    assert f"{many} of 16 places lie outside of the input: nothing is there to meet." in said
    assert "in the padding" not in said
    outer = [text for kind, rows in read.tables[:1] for row in rows[1:] for text, note in row[1:] if "padding" in note]
    assert outer == ["–"] * many


def flattened(*before: nn.Module) -> nn.Module:
    """A dense layer of maps of 5 x 3 x 4, behind what stands before it."""
    return nn.Sequential(nn.Conv2d(2, 5, 3), *before, nn.Linear(60, 4)).double().eval().requires_grad_(False)


@pytest.mark.parametrize("way", ["module", "dropout", "view"])
def test_numbers_of_a_flattened_map_have_their_channel_row_and_column(way: str) -> None:
    class View(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(len(x), -1)

    before = {"module": [nn.Flatten()], "dropout": [nn.Flatten(), nn.Dropout()], "view": [View()]}[way]
    network, x = flattened(*before), normal(1, 2, 5, 6)
    maps = network[0](x)[0]  # type: ignore[index]
    found, read = page_of(network, x, str(len(before) + 1), 2)
    assert found.flattened == (5, 3, 4)
    rows = next(rows for kind, rows in read.tables if "list" in kind)[1:13]
    for row in rows:
        told = re.fullmatch(r"(\d+)\s*\(channel (\d+), row (\d+), column (\d+)\)", row[0][0])
        assert told, row[0][0]
        number, *place = map(int, told.groups())
        assert float(maps[tuple(place)]) == float(found.patch[number]) == pytest.approx(float(row[1][0]), abs=0.006)
    assert any("number = channel × 12 + row × 4 + column" in line for line in read.texts["li"])


def test_numbers_that_are_turned_before_are_not_given_a_place() -> None:
    class Turned(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 2, 3, 1).flatten(1)

    x = normal(1, 2, 5, 6)
    for memory in (torch.contiguous_format, torch.channels_last):
        assert page_of(flattened(Turned()), x.contiguous(memory_format=memory), "2", 2)[0].flattened is None
    assert page_of(filled(nn.Linear(40, 8)), normal(1, 40), "0", 5)[0].flattened is None


@pytest.mark.parametrize(("name", "line", "others"), [
    ("dense", "the other 28 products together", 28), ("one by one", "the other 8 channels together, 8 products", 8),
    ("plain", "the other 3 channels together, 27 products", 27),
])  # fmt: skip
def test_the_line_of_the_rest_says_how_many_products_it_stands_for(name: str, line: str, others: int) -> None:
    layer, (channel, *position) = LAYERS[name]
    x = normal(1, 40) if name == "dense" else normal(1, 20 if name == "one by one" else 6, 9, 11)
    found, read = page_of(filled(layer), x, "0", channel, position)
    assert line in read.account()[0]
    assert others < found.products.numel()


def test_it_is_said_where_counting_begins() -> None:
    found = plain(unit(filled(nn.Conv2d(2, 3, 3)), normal(1, 2, 9, 11), "0", 1, (2, 3)))
    html = report.render_unit(report.UnitPage("a.png", "run", "a network", "today", b"", (9, 11), None, found, None))
    assert html.count("count from 0") == 1


ENDS = {
    "class": (report.Ending("pants", 1.5, probability=0.25), "channel 1, pants", "Softmax"),
    "part of a class": (
        report.Ending("pants", 7.0, probability=0.25),
        "channel 1, pants",
        "has a part in the score of",
    ),
    "pixel": (report.Ending("red", 1.5, pixel=(3, 4)), "", "the red value of the pixel in row 3, column 4"),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_end_of_the_network_is_told(name: str) -> None:
    ending, lede, last = ENDS[name]
    found = plain(unit(filled(nn.Conv2d(2, 3, 3)), normal(1, 2, 9, 11), "0", 1, (2, 3)))
    found |= {"output": 1.5, "sum": 1.5}
    page = report.UnitPage("a.png", "run", "a network", "today", b"", (9, 11), None, found, None, ending=ending)
    html = report.render_unit(page)
    assert lede in html
    assert last in html.partition('id="then"')[2]
    assert ('= <span class="result">0.25</span>' in html) == (name == "class")
    assert "mixes it with" not in html


@pytest.mark.parametrize("kind", ["max", "mean"])
def test_what_becomes_of_it(kind: str) -> None:
    pool = nn.MaxPool2d(3, 2, 1) if kind == "max" else nn.AvgPool2d(3, 2, 1, count_include_pad=False)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), pool)
    nn.init.uniform_(network[1].running_mean, -1, 1, generator=torch.Generator().manual_seed(0))
    network = network.double().eval().requires_grad_(False)
    x = normal(1, 2, 9, 11)
    conv = F.conv2d(x, network[0].weight, network[0].bias)
    norm = F.batch_norm(conv, network[1].running_mean, network[1].running_var, eps=network[1].eps)
    bent = torch.tanh(norm)
    out = F.max_pool2d(bent, 3, 2, 1) if kind == "max" else F.avg_pool2d(bent, 3, 2, 1, count_include_pad=False)
    winners = set()
    for place in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 5), (6, 8)):
        found, read = page_of(network, x, "0", 1, place)
        assert found.pooling is not None
        json.dumps(plain(found), allow_nan=False)  # -inf, what a maximum meets in its padding, is no JSON
        own = (0, 1, *place)
        results = [float(line.rstrip().rpartition("= ")[2]) for line in read.texts["li"] if STEP.match(line)]
        assert results == [
            pytest.approx(float(norm[own]), rel=1e-4), pytest.approx(float(bent[own]), rel=1e-4),
            pytest.approx(float(out[(0, 1, *found.pooling.position)]), rel=1e-4),
        ]  # fmt: skip
        steps = [line for line in read.texts["li"] if STEP.match(line)]
        found_figures = re.search(r"shift = (\S+) × (\S+) ([+-]) (\S+) =", steps[0])
        assert found_figures
        scale, number, sign, shift = found_figures.groups()
        assert float(number) == pytest.approx(float(conv[own]), rel=1e-4)
        assert float(scale) * float(number) + float(sign + shift) == pytest.approx(results[0], abs=1e-3)
        assert f"tanh({results[0]:.5g})" in steps[1]
        cells = [cell for row in read.tables[-1][1][1:] for cell in row[1:]]
        winner = [text for text, note in cells if "winner" in note]
        assert [float(text) for text in winner] == ([pytest.approx(results[2], abs=6e-4)] if kind == "max" else [])
        mine = [text for text, note in cells if "own" in note]
        winners.add(not mine)
        assert not mine or float(mine[0]) == pytest.approx(results[1], abs=6e-4)
    assert winners == ({True, False} if kind == "max" else {False})


def test_a_number_that_no_window_reads_goes_no_further() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2)).double().requires_grad_(False)
    _, read = page_of(network, normal(1, 2, 9, 11), "0", 1, (6, 2))
    assert any("goes no further" in line for line in read.texts["li"])


def test_numbers_are_written_so_that_they_can_be_added() -> None:
    assert [decimals([n]) for n in (0.0, 1.0, 9.99, 10.0, 0.0123, 12345.0, 1e-30)] == [3, 3, 3, 2, 5, 0, 12]
    assert [shown(n, 2) for n in (1.005, -0.001, 12.0, float("inf"), None)] == ["1.00", "0.00", "12.00", "–", "–"]
    assert carried([rounded(1 / 3, 2)] * 3, rounded(1.0, 2)) == Decimal("0.01")
