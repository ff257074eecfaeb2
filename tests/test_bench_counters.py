"""neocog's counts against the judges of bench/cost_counters.py, and the page that shows them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from neocog.core.shapes import shapes_only

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "bench"))
        import cost_counters

        yield cost_counters
        for name in ("cost_counters", "counter_cases", "machine"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def tricky(bench: ModuleType) -> list[tuple[object, object]]:
    count = bench.neocog()
    return [(case, bench.answer(count, case)) for case in bench.TRICKY]


@pytest.fixture(scope="module")
def networks(bench: ModuleType, torchvision: ModuleType) -> list[tuple[object, object]]:
    count, found = bench.neocog(), []
    for case in map(bench.network_case, bench.NETWORKS):
        with shapes_only():
            module, x = case.build(), case.input()
        found.append((case, count(module, x, case)))
    return found


def test_neocog_is_exact_in_every_tricky_case(bench, tricky) -> None:
    assert len(tricky) > 20
    assert [case.name for case, found in tricky if isinstance(found, str) or found.macs != case.macs] == []
    assert [case.name for case, found in tricky if found.params not in (None, case.params) and case.params] == []


def test_neocog_says_partial_where_an_operator_has_no_formula(tricky) -> None:
    unknown = [found.warned for case, found in tricky if case.partial]
    assert unknown
    assert all(unknown)


def test_neocog_counts_what_torchvision_publishes(networks) -> None:
    assert len(networks) > 12
    for case, found in networks:
        assert abs(found.macs - case.macs) < 0.0011e9, case.name
        assert (case.name, found.params) == (case.name, case.params)
        assert not found.warned, case.name


@pytest.mark.parametrize("kind", ["networks", "tricky"])
def test_the_page_shows_these_numbers(bench, kind, request) -> None:
    page = (ROOT / "docs" / "counters.md").read_text("utf-8").splitlines()
    for case, found in request.getfixturevalue(kind):
        row = f"| {case.name} | {bench.judged(case)} | {bench.cell(case, found)} |"
        assert sum(line.startswith(row) for line in page) == 1, f"not in docs/counters.md: {row}"


def test_a_cell_shows_what_is_wrong(bench) -> None:
    case, taken = bench.Case("one", lambda: None, lambda: None, 1_000_000, 10), bench.Found
    assert bench.cell(case, taken(1_000_000, 10)) == "1.000"
    assert bench.cell(case, taken(1_000_000, None, warned=True)) == "1.000*"
    assert bench.cell(case, taken(1_000_001, 10)) == "**1.000001**"
    assert bench.cell(case, taken(500_000, 20)) == "**0.500, params 2.000**"
    assert bench.cell(case, "fails") == "fails"
    vague = bench.Case("two", lambda: None, lambda: None, 4, partial=True)
    assert bench.cell(vague, taken(4)) == "**1.000, silent**"
    assert bench.cell(vague, taken(4, warned=True)) == "1.000*"


def test_a_counter_that_raises_fails_in_that_row_alone(bench, capsys) -> None:
    def count(module, x, case):
        raise ValueError("not today")

    assert bench.answer(count, bench.TRICKY[0]) == "fails"
    assert "ValueError: not today" in capsys.readouterr().err
