"""Predictions survive their file bit for bit, the summary follows from the file, networks are left as found."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neocog import evaluate
from neocog.core.cells import from_cell, to_cell
from neocog.core.errors import DataError, DivergedError, ResourceError
from neocog.evaluate import Predictions, predict, stream, summarise

HOSTILE = [
    "<script>alert(1)</script>",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1+1",
    "\r\n@x",
    "＝1+1",
    "'quoted",
    "'=1",
    'a "b", c',
    "line\nbreak\rreturn",
    "\x1b[31mred",
    "caf\udce9.jpg",
    "\\udce9 as text",
    "\\u005cudce9",
    "p:p",
    " ",
    "\ufeff",
    "x" * 300,
    "日本 🐈",
]


def make(n=40, k=7, seed=0, classes=None):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, 0.3), n).astype(np.float32)
    return Predictions(
        [f"pictures/{i}.jpg" for i in range(n)],
        ["test" if i % 4 else "val" for i in range(n)],
        classes or [f"class {i}" for i in range(k)],
        rng.integers(-1, k, n),
        p,
    )


def assert_same(a, b):
    assert (a.files, a.split, a.classes) == (b.files, b.split, b.classes)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert a.probabilities.dtype == b.probabilities.dtype == np.float32
    np.testing.assert_array_equal(a.probabilities.view(np.uint32), b.probabilities.view(np.uint32))


@settings(deadline=None, max_examples=500)
@given(st.text(st.characters(codec=None), max_size=20) | st.sampled_from(HOSTILE))
def test_a_cell_gives_its_text_back_and_is_inert(text):
    row = next(csv.reader([to_cell(text) + ",end\r\n"], strict=True)) if "\n" not in text else None
    cell = to_cell(text)
    cell.encode("utf-8")
    plain = cell[1:-1].replace('""', '"') if cell.startswith('"') else cell
    assert row is None or row[0] == plain
    assert from_cell(plain) == text
    assert not plain.lstrip().startswith(("=", "+", "-", "@"))


def test_the_file_gives_everything_back(tmp_path):
    n = len(HOSTILE)
    before = make(n=n, k=n, classes=list(HOSTILE))
    before = Predictions(list(HOSTILE), list(HOSTILE), before.classes, before.labels, before.probabilities)
    before.write(tmp_path / "predictions.csv")
    assert (before.labels == -1).any()
    assert_same(Predictions.read(tmp_path / "predictions.csv"), before)
    assert list(tmp_path.iterdir()) == [tmp_path / "predictions.csv"]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=2))
def test_nine_digits_are_the_same_float32(tmp_path_factory, row):
    path = tmp_path_factory.mktemp("digits") / "p.csv"
    before = Predictions(["a"], ["test"], ["x", "y"], np.array([0]), np.array([row], np.float32))
    before.write(path)
    assert_same(Predictions.read(path), before)


def test_the_columns_a_person_reads(tmp_path):
    p = np.array([[0.25, 0.75], [1, 0]], np.float32)
    Predictions(["a.jpg", "=b.jpg"], ["val", "test"], ["-cat", "dog"], np.array([0, -1]), p).write(tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().splitlines() == [
        "file,set,class,predicted,confidence,p:-cat,p:dog",
        "a.jpg,val,'-cat,dog,0.75,0.25,0.75",
        "'=b.jpg,test,,'-cat,1,1,0",
    ]


def test_no_rows_is_a_file_too(tmp_path):
    empty = make().of("nothing")
    empty.write(tmp_path / "p.csv")
    assert_same(Predictions.read(tmp_path / "p.csv"), empty)
    summary = summarise(empty)
    assert (summary["pictures"], summary["top1"], summary["ece"]) == (0, None, None)
    json.dumps(summary, allow_nan=False)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "p.csv"
    make().write(path)
    before = path.read_bytes()

    def fail(self):
        yield "file,"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Predictions, "_lines", fail)
    with pytest.raises(ResourceError, match="No space"):
        make(seed=1).write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


HEADER = "file,set,class,predicted,confidence,p:a,p:b\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "columns"),
        (b"path,label\n", "columns"),
        ((HEADER + "x,test,a,a,1,1\n").encode(), "line 2.*6 cells instead of 7"),
        ((HEADER + "x,test,a,a,1,1,0\ny,test,z,a,1,1,0\n").encode(), "line 3.*no class 'z'"),
        ((HEADER + "x,test,a,a,1,one,0\n").encode(), "line 2.*one"),
        ((HEADER + "x,test,a,a,1,nan,0\n").encode(), "0..1"),
        ((HEADER + "x,test,a,a,1,7,0\n").encode(), "0..1"),
        ((HEADER.replace("p:b", "p:a") + "x,test,a,a,1,1,0\n").encode(), "differ"),
        (HEADER.encode() + b"\xff,test,a,a,1,1,0\n", "utf-8"),
        ((HEADER + '"x,test').encode(), "unexpected end"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, content, says):
    path = tmp_path / "p.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"p.csv.*{says}") as caught:
        Predictions.read(path)
    assert caught.value.hint


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv cannot be read"):
        Predictions.read(tmp_path / "gone.csv")


def test_rows_that_do_not_fit_are_refused():
    p = np.array([[0.5, 0.5]], np.float32)
    with pytest.raises(ValueError, match="do not fit"):
        Predictions(["a", "b"], ["test"], ["x", "y"], np.array([0]), p)
    with pytest.raises(ValueError, match=r"-1\.\.1"):
        Predictions(["a"], ["test"], ["x", "y"], np.array([2]), p)
    with pytest.raises(ValueError, match="differ"):
        Predictions(["a"], ["test"], ["x", "x"], np.array([0]), p)


def test_the_summary_follows_from_the_file_alone(tmp_path):
    before = make(n=200, k=9)
    before.write(tmp_path / "p.csv")
    summary = summarise(before.of("test"))
    assert summary == summarise(Predictions.read(tmp_path / "p.csv").of("test"))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_the_numbers_of_a_summary():
    p = np.array([[0.9, 0.1, 0], [0.6, 0.3, 0.1], [0.2, 0.8, 0], [0.7, 0.2, 0.1], [0, 0, 1]], np.float32)
    labels = np.array([0, 1, 1, 0, -1])
    known = Predictions(list("abcde"), ["test"] * 5, ["x", "y", "z"], labels, p)
    summary = summarise(known)
    assert (summary["pictures"], summary["unlabelled"], summary["top1"], summary["top5"]) == (4, 1, 0.75, None)
    assert summary["balanced_accuracy"] == 0.75
    assert summary["baseline"] == 0.5
    assert not summary["imbalanced"]
    assert summary["confusion"] == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert summary["most_confused"] == [{"truth": "y", "predicted": "x", "count": 1}]
    assert summary["per_class"][2] == {
        "class": "z", "support": 0, "predicted": 0, "precision": None, "recall": None, "f1": None,
    }  # fmt: skip
    assert summary["per_class"][0]["precision"] == pytest.approx(2 / 3)
    assert len(summary["reliability"]) == 15
    assert known.mistakes().tolist() == [1]


def test_imbalance_is_noticed():
    counts = [(4, 2, False), (5, 2, True)]
    for many, few, expected in counts:
        labels = np.repeat([0, 1], [many, few])
        n = many + few
        p = np.tile(np.array([[0.6, 0.4, 0]], np.float32), (n, 1))
        assert summarise(Predictions(["f"] * n, ["t"] * n, list("abc"), labels, p))["imbalanced"] is expected


def test_mistakes_come_most_confident_first():
    predictions = make(n=300)
    rows = predictions.mistakes()
    confidence = predictions.confidence[rows]
    wrong = (predictions.labels >= 0) & (predictions.predicted != predictions.labels)
    assert len(rows) == wrong.sum() > 10
    assert (np.diff(confidence) <= 0).all()
    assert wrong[rows].all()


class Batches:
    """N random pictures in batches; iterating twice gives the same."""

    def __init__(self, n=23, size=5, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randn(n, 3, 8, 8, generator=generator)
        self.order = torch.randperm(n, generator=generator)
        self.size = size

    def __iter__(self):
        for rows in self.order.split(self.size):
            yield SimpleNamespace(images=self.images[rows], targets=rows % 4 - 1, indices=rows)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(288, 4)
    )


def test_predict_is_the_eval_mode_network():
    net, batches = network(), Batches()
    outcome = predict(net, batches)
    assert outcome.probabilities.dtype == np.float32
    np.testing.assert_array_equal(outcome.indices, batches.order.numpy())
    np.testing.assert_array_equal(outcome.labels, batches.order.numpy() % 4 - 1)
    expected = net.eval()(batches.images).softmax(1).detach().numpy()[outcome.indices]
    assert expected.std() > 0.01
    np.testing.assert_allclose(outcome.probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(outcome.probabilities.sum(1), 1, atol=1e-6)


def test_every_module_gets_its_own_mode_back():
    net = network().train()
    net[1].eval()  # a frozen batch norm inside a network that trains
    before = {name: value.clone() for name, value in net.state_dict().items()}
    predict(net, Batches())
    assert [m.training for m in net] == [True, False, True, True, True, True]
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_an_error_or_an_early_end_gives_the_mode_back_too():
    net = network().train()
    parts = stream(net, Batches())
    next(parts)
    assert not net.training
    assert not torch.is_inference_mode_enabled()  # it must not leak into the caller's loop
    parts.close()
    assert net.training
    with torch.no_grad():
        net[5].weight.fill_(torch.nan)
    with pytest.raises(DivergedError, match="not finite"):
        predict(net, Batches())
    assert net.training


def test_autocast_is_close_but_not_equal():
    net = network()
    with torch.no_grad():
        net[5].weight *= 10
    exact, cast = predict(net, Batches()), predict(net, Batches(), autocast=torch.bfloat16)
    difference = np.abs(exact.probabilities - cast.probabilities).max()
    assert 0 < difference < 0.1


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(ValueError, match="no pictures"):
        predict(network(), [])


def test_the_public_names_exist():
    assert all(hasattr(evaluate, name) for name in evaluate.__all__)
