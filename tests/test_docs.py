"""The generated pages say what the code says now; and what the lectures' page quotes is what the lectures state."""

import json
import re
import runpy
from collections.abc import Iterator
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from neocog.core.registry import names

ROOT = Path(__file__).resolve().parents[1]


def test_the_zoo_page_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_zoo.py"))["page"]()
    assert made == (ROOT / "docs" / "zoo.md").read_text("utf-8"), "run scripts/docs"
    assert all(f"| `{name}` | [" in made for name in names())


def test_the_reliability_page_is_up_to_date() -> None:
    """Every bad input has a test that proves what it gets; the page raises where one has none."""
    made = runpy.run_path(str(ROOT / "docs" / "make_reliability.py"))
    assert made["page"]() == (ROOT / "docs" / "reliability.md").read_text("utf-8"), "run scripts/docs"
    assert {proof.row for proof in made["proofs"]()} == set(range(1, 58))


def test_the_transfer_page_shows_what_was_measured() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_transfer.py"))
    results = made["read"]()
    assert made["page"](results) == (ROOT / "docs" / "transfer.md").read_text("utf-8"), "run scripts/docs"
    assert made["picture"](results) == (ROOT / "docs" / "transfer.svg").read_text("utf-8"), "run scripts/docs"
    # The rest of the tests read it for a person: every number of the table of regimes is one of a run's.
    for network, name, seed in product(("mobilenet_v2", "squeezenet1_1"), ("probe", "full"), range(3)):
        shown = f"{results[f'regimes/{network}/{name}/{seed}']['accuracy']:.3f}"
        table = made["page"](results).partition(f"### {network}")[2].partition("###")[0]
        assert shown in next(line for line in table.splitlines() if line.startswith(f"| {name} |"))


def test_the_page_of_autoencoders_shows_what_was_measured() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_autoencoders.py"))
    results = made["read"]()
    page = made["page"](results)
    assert page == (ROOT / "docs" / "autoencoders.md").read_text("utf-8"), "run scripts/docs"
    # For a person: each recipe has a row of its own, with the errors of its three seeds, and so has PCA.
    recipes = sorted(path.stem for path in (ROOT / "recipes" / "autoencoders").glob("*.toml"))
    for name, kind in product(("mnist", "fashion-mnist"), recipes):
        table = page.partition("### MNIST" if name == "mnist" else "### Fashion-MNIST")[2].partition("##")[0]
        row = next(line for line in table.splitlines() if line.startswith(f"| {kind} |"))
        assert ", ".join(f"{results[f'kinds/{name}/{kind}/{seed}']['mse']:.4f}" for seed in range(3)) in row
    assert f"{results['pca/mnist/32']['mse']:.4f}" in page
    assert "| quantised | `vq_vae` | 49 places, 512 vectors |" in page
    assert not re.search(r"\bdeck \d", page, re.IGNORECASE), "who has not seen the course knows no deck by its number"
    assert page.index("the slides of a course") < page.index("The slides: ")


def test_the_page_of_maps_shows_what_was_measured() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_explaining.py"))
    results = json.loads(made["RESULTS"].read_text())
    page = made["page"](results)
    assert page == (ROOT / "docs" / "explaining.md").read_text("utf-8"), "run scripts/docs"
    found = [results[key] for key in results if key.startswith("areas/squeezenet1_1/")]
    shown = f"{sum(row['Grad-CAM'][0] for row in found) / len(found):.3f}"
    assert f"| Grad-CAM | {shown} |" in page.partition("### SqueezeNet")[2]
    assert {"Grad-CAM", "guided backpropagation", "SmoothGrad"} <= results["pointing/mobilenet_v2/0"].keys()


# docs/lecture-numbers.md

# Numbers of these parts of facts.json are for `neocog cost` to answer; of others none is.
ANSWERED = (
    "shapes", "parameter_counts", "alexnet_table", "vgg16", "alexnet_vs_vgg16", "inception_module", "googlenet_stem",
    "googlenet_head", "resnet_table", "receptive_field",
)  # fmt: skip
# Not the deck's, or what the networks answer when they are trained.
OTHER = re.compile(r"deck|note|conv_params_note|computed\w*|model|layer|block|mnist_test_accuracy|imagenet_top5_error")
# What is asked: it describes the layer.
QUESTION = re.compile(r"in|input|filters|kernel|stride|pad|naive|bottleneck")


@pytest.fixture(scope="module")
def lectures() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "make_lecture_numbers.py"))


@pytest.fixture(scope="module")
def lines(lectures: dict[str, Any]) -> list[Any]:
    return [line for section in lectures["sections"]() for line in section.lines]


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, Any]:
    if not (shared / "facts.json").is_file():
        pytest.skip("../shared/facts.json is absent: this test needs what the decks state")
    found: dict[str, Any] = json.loads((shared / "facts.json").read_text("utf-8"))
    return found


def test_the_lectures_page_is_up_to_date(lectures: dict[str, Any]) -> None:
    assert lectures["page"]() == (ROOT / "docs" / "lecture-numbers.md").read_text("utf-8"), "run scripts/docs"


def equal_as_printed(stated: str, computed: float | str) -> bool:
    """With as many digits as stated, rounded or cut, in decimal numbers."""
    if isinstance(computed, str):
        return stated == computed
    printed = Decimal(stated.replace(",", ""))
    exact = Decimal(computed).quantize(Decimal("1e-9"))
    return printed in {exact.quantize(printed, rounding) for rounding in (ROUND_DOWN, ROUND_HALF_UP)}


def test_figures_agree_or_the_reason_stands_there(lines: list[Any]) -> None:
    assert len(lines) > 100
    for line in lines:
        if line.stated:
            assert equal_as_printed(line.stated, line.computed) == (not line.why), line
        assert not line.why or len(line.why) > 30, line
        assert not (line.why and line.note), line


def test_what_differs_is_bold_and_nothing_else(lectures: dict[str, Any], lines: list[Any]) -> None:
    for line in lines:
        assert lectures["shown"](line).startswith("**") == bool(line.why), line
    line = lectures["Line"]
    cases = [("3.6", 3.664), ("3.6", 3.55), ("3.6", 3.71), ("3.6", 3.54), ("24", "24"), ("24", "2 4"), ("", 5.0)]
    assert [lectures["shown"](line("", *case)) for case in cases] == [
        "3.664", "3.55", "**3.71**", "**3.54**", "24", "**2 4**", "5",
    ]  # fmt: skip


def test_the_slips_of_the_decks(lines: list[Any]) -> None:
    """The differing figures, which a teacher will look for: computed by hand here."""
    found = {line.what: line.computed for line in lines if line.why}
    convolutions = {(3, 64): 224, (64, 64): 224, (64, 128): 112, (128, 128): 112, (128, 256): 56, (256, 512): 28}
    vgg = sum(9 * a * b * side**2 for (a, b), side in convolutions.items()) + 9 * 256**2 * 56**2 * 2
    early = vgg - 9 * 256 * 512 * 28**2
    vgg += 9 * 512**2 * (2 * 28**2 + 3 * 14**2) + 25088 * 4096 + 4096**2 + 4096 * 1000
    assert found["VGG-16: MACs, G"] == found["MACs, G"] == vgg / 1e9
    assert found["VGG-16: MACs, M"] == early / 1e6
    # The slip that explains them: a convolution of 256 filters at 56 x 56 is missing.
    missing = 9 * 256**2 * 56**2
    assert (round((vgg - missing) / 1e9, 1), int((early - missing) / 1e6)) == (13.6, 7485)
    products = 28 * 28 * (3 * 256 * 64 + 256 * 128 + 64 * 192 * 9 + 64 * 96 * 25)
    assert found["with bottlenecks: MACs, M"] == products / 1e6
    assert round((products + 28 * 28 * 64 * 192 * 9) / 1e6) == 358
    assert found["stem: MACs and comparisons, M"] == pytest.approx(118.014 + 1.806 + 12.845 + 346.817 + 1.355, abs=1e-2)
    assert found["AlexNet's fc6 with biases"] == 9216 * 4096 + 4096
    assert found["200 x 200 picture, 40,000 units, G"] == 200 * 200 * 40_000 / 1e9
    assert found["conv4, 3 x 3, stride 1, padding 1"] == 384 * 256 * 9 * 13 * 13 / 1e6


def test_the_receptive_fields(lines: list[Any]) -> None:
    fields = {line.what: line.computed for line in lines if not line.stated and " x " in str(line.computed)}
    assert fields == {
        "AlexNet": "195 x 195",
        "VGG-16": "212 x 212",
        "GoogLeNet, paper's layout": "715 x 715",
        "GoogLeNet, torchvision's layout": "379 x 379",
        "ResNet-18": "435 x 435",
        "ResNet-50, stride on the 3x3": "427 x 427",
        "ResNet-50, stride on the 1x1": "483 x 483",
        "DenseNet-121": "2071 x 2071",
    }


def numbers(value: object) -> list[float]:
    return [float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:\.\d+)?", str(value).replace(", ", " "))]


def test_the_page_quotes_the_decks(lines: list[Any], facts: dict[str, Any], shared: Path) -> None:
    for line in lines:
        assert bool(line.stated) == bool(line.fact), line
        if not line.stated:
            continue
        if str(line.fact[0]).startswith("deck "):
            (deck,) = (shared / "lectures").glob(f"{line.fact[0].removeprefix('deck ')}_*.txt")
            assert line.fact[1] in deck.read_text("utf-8"), line
            assert set(numbers(line.stated)) <= set(numbers(line.fact[1])), line
            continue
        fact: Any = facts
        for key in line.fact:
            fact = fact[key]
        if line.fact == ("parameter_counts", 5, "stated"):
            fact /= 1e9  # the page's unit
        if isinstance(fact, str):
            assert set(numbers(line.stated)) <= set(numbers(fact.replace("x", " "))), line
        else:
            assert numbers(line.stated) == numbers(fact), line


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every figure that a deck states; a list of them is one."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not OTHER.fullmatch(key) and not QUESTION.fullmatch(key):
                yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path


def test_every_figure_of_the_decks_is_on_the_page(lines: list[Any], facts: dict[str, Any]) -> None:
    on_page = {line.fact for line in lines}
    shown = on_page | {fact[:-1] for fact in on_page}  # VGG's lists are there number by number
    wanted = {path for name in ANSWERED for path in leaves(facts[name], (name,))}
    assert len(wanted) > 90
    assert {"vgg16", "shapes", "receptive_field"} <= {path[0] for path in wanted}
    assert wanted - shown == set()
    for key, stated in (("conv_params", 13), ("fc_params", 3)):
        assert len(facts["vgg16"][key]) == sum(fact[:2] == ("vgg16", key) for fact in on_page) == stated


def test_the_pages_layers_are_the_decks(lines: list[Any], facts: dict[str, Any]) -> None:
    """Kernel, stride, padding, and for a convolution the filters: what is computed is what the deck asks for."""
    asked = 0
    for line in lines:
        if line.fact[-1:] != ("out",):
            continue
        fact = facts["shapes"][line.fact[1]] if line.fact[0] == "shapes" else facts[line.fact[0]]["rows"][line.fact[2]]
        if "kernel" not in fact:
            assert "stride" not in line.what, line
            continue
        asked += 1
        kernel, stride, padding = (fact[key] for key in ("kernel", "stride", "pad"))
        if "reaches over the edge" in line.note:
            padding = 0
        assert f"{fact['layer']}, {kernel} x {kernel}, stride {stride}, padding {padding}" in line.what, line
        assert fact.get("filters", fact["out"][0]) == numbers(line.computed)[0]
        if line.fact[0] == "shapes":
            assert line.what.endswith("from " + " x ".join(str(n) for n in fact["in"])), line
    assert asked == 8 + 8 + 5
