"""`neocog check`: what it prints, the page and the files it writes, and when it fails."""

import csv
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from command import Command, one_line_error
from neocog.app.label_errors import confident_classes, find_label_errors
from neocog.core.errors import DataError, UsageError
from neocog.evaluate import Predictions
from pages import assert_closed
from pictures import encode, varied


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))


def write(root: Path, classes: tuple[str, ...] = ("a", "b"), each: int = 12) -> Path:
    for number in range(each * len(classes)):
        folder = root / classes[number % len(classes)]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02}.png").write_bytes(encode(varied(4 * number), "PNG"))
    return root


def test_a_clean_set_has_nothing_to_report(neocog: Command, tmp_path: Path) -> None:
    result = neocog("check", write(tmp_path / "data"), "--max-problems", 0)
    assert result.code == 0
    assert not any(word in result.out for word in ("problem", "warning", "unlike", "excluded", "near copy"))
    page = Path(result.out.splitlines()[-1].split()[-1])
    assert page.parent.parent == Path("runs")
    assert "No picture lies in several classes" in page.read_text("utf-8")
    assert {path.name for path in page.parent.iterdir()} == {"check.html", "scan.json"}


def test_problems_are_named_counted_and_can_fail(neocog: Command, tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    (root / "b" / "again.jpg").write_bytes(encode(varied(0), "JPEG", quality=85))
    (root / "b" / "same.png").write_bytes((root / "a" / "02.png").read_bytes())
    result = neocog("check", root, "--out", "audit", "--max-problems", 2)
    assert result.code == 0
    assert "a/00.png = b/again.jpg nearly the same, in different classes" in result.out
    assert "a/02.png = b/same.png in several classes" in result.out
    assert result.out.splitlines()[-1].endswith("audit/check.html")
    one_line_error(neocog("check", root, "--max-problems", 1), 3, "2 label conflicts or leaks", "check.html")
    one_line_error(neocog("check", root, "--out", "audit"), 2, "audit exists already")
    facts = json.loads(neocog("check", root, "--json").out)
    assert facts["problems"] == 2
    assert facts["near_duplicates"]["across_classes"] == [["a/00.png", "b/again.jpg"]]
    assert Path(facts["page"]).is_file()
    saved = json.loads(Path("audit/scan.json").read_text())
    assert saved["duplicates"]["across_classes"] == {"count": 1, "first": [["a/02.png", "b/same.png"]]}


@pytest.mark.row(1, "`neocog check` names it, and writes its page even where the data is refused (exit 3)")
@pytest.mark.row(28, "exit 3 with the class and the number it needs")
def test_refused_data_still_gets_its_page(neocog: Command, tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    (root / "a" / "cut.jpg").write_bytes(encode(varied(1), "JPEG")[:-2])
    result = neocog("check", root, "--strict", "--out", "audit")
    one_line_error(result, 3, "1 of 25 pictures cannot be used", "a/cut.jpg")
    assert "cut.jpg: truncated" in result.out
    assert result.out.splitlines()[-1].endswith("audit/check.html")
    html = Path("audit/check.html").read_text("utf-8")
    assert "This data cannot be trained on" in html
    assert "truncated" in html
    assert json.loads(Path("audit/scan.json").read_text())["excluded"][0]["reason"] == "truncated"
    (root / "c").mkdir()
    (root / "c" / "only.png").write_bytes(encode(varied(2), "PNG"))
    result = neocog("check", root, "--max-excluded", 0.1, "--out", "few")
    one_line_error(result, 3, "the class 'c' has 1 different picture", "at least 3")
    assert "cannot be trained on" in Path("few/check.html").read_text("utf-8")


HOSTILE = ("<script>alert(1)</script>".replace("/", ""), "{{7*7}}", "[red]", "=1+1", "\x1b[31mred", "CON", "x" * 200)


@pytest.mark.row(20, "works: names are shown and stored escaped, `scan.json` is plain ASCII")
@pytest.mark.row(21, "text like any other, in the terminal, the page, JSON and CSV")
def test_hostile_names_are_only_text(neocog: Command, tmp_path: Path) -> None:
    root = write(tmp_path / "data", HOSTILE, 4)
    strange = os.fsdecode(b"\xff<img src=x onerror=alert(1)>.png")
    (root / HOSTILE[0] / strange).write_bytes(encode(varied(0), "PNG"))
    (root / HOSTILE[1] / "again\x1b[2J.jpg").write_bytes(encode(varied(0), "JPEG", quality=85))
    (root / HOSTILE[2] / "'; DROP\n.png").write_bytes(b"")
    result = neocog("check", root, "--max-excluded", 0.5, "--out", "audit")
    assert result.code == 0
    assert "\x1b" not in result.out
    assert "[red]" in result.out
    html = Path("audit/check.html").read_text("utf-8")
    parsed = Tags(html)
    assert_closed(html, parsed.tags)
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"script", "iframe", "object", "link"})
    assert all(attributes.get("src", "data:image/png;").startswith("data:image/png;") for _, attributes in parsed.tags)
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert "49" not in [cell.strip() for cell in html.split(">")]
    assert "\x1b" not in html
    Path("audit/scan.json").read_bytes().decode("ascii")


def test_nothing_is_written_where_nothing_may_be(
    neocog: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "data")
    monkeypatch.chdir(root)  # runs/ would lie inside the data
    result = neocog("check", ".")
    assert result.code == 0
    assert "not written" in result.out.splitlines()[-1]
    assert sorted(path.name for path in root.iterdir()) == ["a", "b"]


def test_group_by_on_the_command_line(neocog: Command, tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    one_line_error(neocog("check", root, "--group-by", "("), 2, "no regular expression")
    one_line_error(neocog("check", root, "--group-by", "patient(\\d+)"), 3, "matches no file name")
    result = neocog("check", root, "--group-by", r"/(\d)")
    assert result.code == 0, result


# Labels


def prediction(tmp_path: Path, rows: list[tuple[str, str, str, list[float]]]) -> Path:
    files, splits, labels, probabilities = zip(*rows, strict=True)
    classes = ["a", "b", "c"]
    numbers = np.array([classes.index(label) for label in labels])
    Predictions(list(files), list(splits), classes, numbers, np.array(probabilities, np.float32)).write(
        tmp_path / "predictions.csv"
    )
    return tmp_path


def test_labels_in_doubt_are_ranked_by_margin(tmp_path: Path) -> None:
    rows = [
        (f"{label}/{i}", "test", label, p)
        for label, p in (("a", [0.8, 0.1, 0.1]), ("b", [0.1, 0.8, 0.1]))
        for i in range(9)
    ]
    rows += [("a/wrong", "val", "a", [0.02, 0.95, 0.03]), ("b/wrong", "test", "b", [0.84, 0.1, 0.06])]
    rows += [("a/wrong", "test", "a", [0.0, 1.0, 0.0])]  # of another repeat: their mean counts
    rows += [("a/learned", "train", "a", [0.0, 1.0, 0.0]), ("gone", "test", "b", [1.0, 0.0, 0.0])]
    run = prediction(tmp_path, rows)
    files = [*dict.fromkeys(row[0] for row in rows if row[0] != "gone"), "a/new"]
    doubts = find_label_errors(run, files, [file[0] for file in files])
    assert [(files[one.row], one.label, one.likely) for one in doubts.found] == [
        ("a/wrong", "a", "b"), ("b/wrong", "b", "a"),
    ]  # fmt: skip
    assert doubts.found[0].likely_probability == pytest.approx(0.975)
    assert (doubts.covered, doubts.total, doubts.agreement) == (20, 22, 0.9)
    with pytest.raises(DataError, match="about other pictures"):
        find_label_errors(run, ["x/1"], ["x"])
    with pytest.raises(UsageError, match=r"no predictions\.csv"):
        find_label_errors(tmp_path / "nowhere", files, ["a"] * len(files))


def test_confidence_is_measured_class_by_class() -> None:
    """By hand: the thresholds are 0.7 for class 0 and 0.55 for class 1."""
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.4, 0.6], [0.5, 0.5]])
    assert confident_classes(probabilities, np.array([0, 0, 1, 1])).tolist() == [0, -1, 1, -1]
    assert confident_classes(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0])).tolist() == [0, -1]


def test_check_names_labels_in_doubt(neocog: Command, tmp_path: Path) -> None:
    root = write(tmp_path / "data", ("a", "b", "c"), 6)
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    rows = [(file, "test", file[0], [0.8 if name == file[0] else 0.1 for name in "abc"]) for file in files[:10]]
    rows[0] = (files[0], "test", "a", [0.05, 0.05, 0.9])
    run = tmp_path / "run"
    run.mkdir()
    # a class without any prediction of its own is never the likely one
    rows.append((files[-1], "test", "c", [0.1, 0.1, 0.8]))
    prediction(run, rows)
    result = neocog("check", root, "--run", run, "--out", "audit")
    assert result.code == 0, result
    assert f"{files[0]}: a (5.0%), rather c (90.0%)" in result.out
    assert "compared for 11 of 18 pictures; a run with --folds 5" in result.out
    with Path("audit/label_errors.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"file": files[0], "class": "a", "likely": "c", "p_class": "0.0500", "p_likely": "0.9000"}
        ]
    assert "Labels in doubt" in Path("audit/check.html").read_text("utf-8")
