"""The command line as a person meets it: each mistake gets one line, a next step and the right exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import Command, one_line_error
from drawn import colours


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Three classes of 16 x 16 colour pictures that a small network tells apart in an epoch or two."""
    return colours(tmp_path / "shapes", 14)


SMALL = ("--model", "mnist_fcn", "--epochs", 2, "--batch-size", 8, "--lr", 0.02)


def test_train_predict_val_on_a_folder(neocog: Command, shapes: Path, tmp_path: Path) -> None:
    made = neocog("train", shapes, *SMALL, "--out", "run")
    assert made.code == 0, made.err
    for word in ("42 in 3 classes", "19,", " thread", "epoch", "95 % interval", "report.html"):
        assert word in made.out
    files = {p.name for p in (tmp_path / "run").iterdir()}
    assert files >= {
        "config.toml", "split.csv", "scan.json", "run.json", "metrics.jsonl", "checkpoint.json", "checkpoints", "model",
        "predictions.csv", "report.html",
    }  # fmt: skip
    assert not [name for name in files if name.startswith(".") or name == "lock"]

    rows = [json.loads(line) for line in neocog("predict", "run", shapes / "red", "--json").out.splitlines()]
    assert len(rows) == 14
    assert {row["answers"][0]["label"] for row in rows} == {"red"}
    csv = neocog("predict", "run", shapes / "red" / "03.png", "--format", "csv", "--top", 3).out.splitlines()
    assert len(csv) == 4
    assert csv[1].endswith(",")
    assert csv[1].split(",")[1:3] == ["1", "red"]

    again = json.loads(neocog("val", "run", "--json").out)
    saved = json.loads(neocog("val", "run", "--json", "--out", "p.csv").out)
    assert again == saved
    import neocog as package

    run = package.Run.open("run")
    assert run.metrics() | {"trained_on": 0} == again
    assert run.classes == ["blue", "green", "red"]


@pytest.mark.row(57, "the same weights and predictions, bit for bit (CPU)")
def test_the_same_command_twice_gives_the_same_weights(neocog: Command, shapes: Path) -> None:
    digests = set()
    for out in ("a", "b"):
        assert neocog("train", shapes, *SMALL, "--out", out).code == 0
        digests.add(json.loads(Path(out, "model", "model.json").read_text())["sha256"])
    assert Path("a/predictions.csv").read_bytes() == Path("b/predictions.csv").read_bytes()
    assert neocog("train", "--config", "a/config.toml", "--out", "c").code == 0  # the replay command of the report
    digests.add(json.loads(Path("c", "model", "model.json").read_text())["sha256"])
    assert len(digests) == 1
    assert neocog("train", shapes, *SMALL, "--seed", 1, "--out", "d").code == 0
    assert json.loads(Path("d", "model", "model.json").read_text())["sha256"] not in digests


def test_bad_options_and_names(neocog: Command, shapes: Path) -> None:
    one_line_error(neocog("trian"), 2, "did you mean train")
    one_line_error(neocog("train", shapes, "--epoch", 3), 2, "--epoch", "--help")
    one_line_error(neocog("train", shapes, "--model", "resnet19"), 2, "resnet19", "resnet18")
    one_line_error(neocog("train", shapes, "--lr", "nan"), 2, "lr = nan", "finite")
    one_line_error(neocog("train", shapes, "--lr", "nan", "--batch-size", 0), 2, "2 errors", "batch_size")
    one_line_error(neocog("train", shapes, "--epochs", "true"), 2, "epochs")
    one_line_error(neocog("train", shapes, "--regime", "probe"), 2, "--weights")
    one_line_error(neocog("train", shapes, "--model", "mlp_8_32_32_2"), 2, "vectors")
    one_line_error(neocog("train", shapes, "--knob", "width=2", "--model", "resnet18"), 2, "width")
    one_line_error(neocog("train", shapes, "--weights", "nowhere.pth"), 4, "nowhere.pth")
    one_line_error(neocog("train", shapes, "--device", "cuda:9"), 2, "cuda:9")
    one_line_error(neocog("train"), 2, "folder of pictures")
    one_line_error(neocog("models", "resnet19"), 2, "resnet18")
    one_line_error(neocog("train", shapes, "--config", "absent.toml"), 2, "absent.toml")
    assert not Path("runs").exists()


@pytest.mark.parametrize("text", ["epochs = 1\nepochs = 2\n", "epohcs = 3\n", "epochs = '3'\n", "= 3", "epochs = true"])
def test_bad_configuration_files(neocog: Command, shapes: Path, text: str) -> None:
    Path("c.toml").write_text(text)
    one_line_error(neocog("train", shapes, "--config", "c.toml"), 2, "c.toml")


def test_bad_data(neocog: Command, shapes: Path, tmp_path: Path) -> None:
    one_line_error(neocog("train", tmp_path / "nowhere"), 3, "nowhere")
    one_line_error(neocog("train", shapes / "red"), 3, "class")
    one = tmp_path / "one"
    (one / "red").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(one / "red" / "a.png")
    one_line_error(neocog("train", one), 3, "one class")
    (shapes / "yellow").mkdir()
    one_line_error(neocog("train", shapes, *SMALL), 3, "yellow", "--allow-empty-classes")
    assert neocog("train", shapes, *SMALL, "--allow-empty-classes", "--out", "r").code == 0
    (shapes / "yellow").rmdir()
    (shapes / "red" / "text.jpg").write_text("hello")
    (shapes / "red" / "cut.png").write_bytes((shapes / "red" / "00.png").read_bytes()[:300])
    one_line_error(
        neocog("train", shapes, *SMALL), 3, "text.jpg' (not_an_image)", "cut.png' (truncated)", "--max-excluded"
    )
    made = neocog("train", shapes, *SMALL, "--max-excluded", 0.2, "--out", "q")
    assert made.code == 0
    assert "2 excluded" in made.out
    reasons = {e["file"]: e["reason"] for e in json.loads(Path("q/scan.json").read_text())["excluded"]}
    assert reasons == {"red/text.jpg": "not_an_image", "red/cut.png": "truncated"}
    assert "red/text.jpg" in Path("q/report.html").read_text().replace("<wbr>", "")
    assert (shapes / "red" / "text.jpg").read_text() == "hello"


def test_runs_are_never_overwritten(neocog: Command, shapes: Path) -> None:
    assert neocog("train", shapes, *SMALL, "--out", "run").code == 0
    before = {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()}
    one_line_error(neocog("train", shapes, *SMALL, "--out", "run"), 2, "exists already", "neocog resume")
    one_line_error(neocog("resume", "run"), 2, "finished", "--epochs")
    one_line_error(neocog("train", shapes, *SMALL, "--out", shapes / "run"), 2, "inside the data")
    Path("file").write_text("mine")
    one_line_error(neocog("train", shapes, *SMALL, "--out", "file"), 2, "is a file")
    one_line_error(neocog("resume", shapes), 2, "not a run folder")
    one_line_error(neocog("predict", "nowhere", shapes), 2, "nowhere")
    assert before == {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()}


def test_damaged_models_are_refused(neocog: Command, shapes: Path) -> None:
    assert neocog("train", shapes, *SMALL, "--out", "run").code == 0
    weights, card = Path("run/model/model.safetensors"), Path("run/model/model.json")
    good = weights.read_bytes()
    for bad in (b"", good[:-7], good[:-1] + bytes([good[-1] ^ 1])):
        weights.write_bytes(bad)
        one_line_error(neocog("predict", "run", shapes), 4, "model.safetensors", "sha256")
    weights.write_bytes(good)
    text = card.read_text()
    for bad_card in ("", "{", "[]", text.replace('"format": 1', '"format": 99')):
        card.write_text(bad_card)
        one_line_error(neocog("predict", "run", shapes), 4, "model.json")
    card.write_text(text)
    assert neocog("predict", "run", shapes / "red" / "00.png").code == 0


def test_predict_names_what_it_cannot_read(neocog: Command, shapes: Path) -> None:
    assert neocog("train", shapes, *SMALL, "--out", "run").code == 0
    Path("mixed").mkdir()
    Path("mixed/bad.jpg").write_text("no picture")
    Path("mixed/good.png").write_bytes((shapes / "red" / "01.png").read_bytes())
    result = neocog("predict", "run", "mixed", "--json")
    assert result.code == 3
    rows = {Path(row["file"]).name: row for row in map(json.loads, result.out.splitlines())}
    assert rows["bad.jpg"]["problem"].startswith("not_an_image")
    assert rows["good.png"]["answers"][0]["label"] == "red"


@pytest.mark.row(14, "resuming names it as `changed_since_scan`, exit code 2")
def test_resume_refuses_changed_data(neocog: Command, shapes: Path) -> None:
    assert neocog("train", shapes, *SMALL, "--out", "run").code == 0
    (shapes / "red" / "05.png").write_bytes((shapes / "blue" / "05.png").read_bytes() + b"x")
    one_line_error(neocog("resume", "run", "--epochs", 3), 2, "1 changed_since_scan (red/05.png)")


def test_resume_makes_a_run_longer(neocog: Command, shapes: Path) -> None:
    assert neocog("train", shapes, *SMALL, "--out", "run").code == 0
    assert neocog("resume", "run", "--epochs", 3).code == 0
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]


def test_names_that_bite(neocog: Command, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name in ("<script>alert(1)</script>", "{{7*7}}", "[/red]", "=1+1", "über 🦊", os.fsdecode(b"\xff\xfe")):
        folder = tmp_path / "odd" / name.replace("/", "\u2215")
        folder.mkdir(parents=True)
        for i in range(5):
            Image.fromarray(draw.integers(0, 255, (12, 12, 3), np.uint8)).save(folder / f"-{i} ,\"'.png")
    made = neocog("train", tmp_path / "odd", *SMALL, "--out", "run")
    assert made.code == 0, made.err
    page = Path("run/report.html").read_text()
    assert "<script>alert" not in page
    assert "{{7*7}}" in page.replace("<wbr>", "")
    assert neocog("val", "run").code == 0
    assert neocog("predict", "run", tmp_path / "odd").code == 0


def start(*words: object, cwd: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-m", "neocog", *map(str, words)], cwd=cwd, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_killed_run_resumes_and_finishes(
    neocog: Command, shapes: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    long = (*SMALL[:2], "--epochs", 200, "--batch-size", 8, "--lr", 0.003)
    process = start("train", shapes, *long, "--out", "killed", cwd=tmp_path)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    if number != signal.SIGKILL:
        assert "neocog resume killed" in err
    # 200 epochs were only there to be interrupted. That the weights are the same is tested on the loop itself.
    done = len(metrics.read_text().splitlines())
    assert done < 199
    length = max(done + 2, 4)
    config = (tmp_path / "killed" / "config.toml").read_text()
    (tmp_path / "killed" / "config.toml").write_text(re.sub(r"epochs = 200\b", f"epochs = {length}", config))
    resumed = neocog("resume", "killed")
    assert resumed.code == 0, resumed.err
    whole = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [row["epoch"] for row in whole] == list(range(1, length + 1))


def test_help_and_version_import_no_torch() -> None:
    for words in (["--help"], ["--version"], ["train", "--help"], ["predict", "--help"], ["data", "--help"]):
        script = f"import sys; from neocog.cli.main import main\ntry: main({words!r})\nexcept SystemExit: pass\n"
        script += "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_models_table_and_json(neocog: Command) -> None:
    table = neocog("models", "resnet*")
    assert table.code == 0
    assert "25,557,032" in table.out
    rows = json.loads(neocog("models", "--sort", "params", "--json").out)
    assert [row["params"] for row in rows] == sorted(row["params"] for row in rows)
    assert {"perceptron", "mnist_convnet", "lenet5", "alexnet", "vgg16_bn", "squeezenet1_1"} <= {
        r["name"] for r in rows
    }


def test_one_network_is_shown_with_its_paper_options_and_weights(neocog: Command) -> None:
    shown = neocog("models", "resnet50").out
    for fact in (
        "Table 1",
        "https://arxiv.org/abs/1512.03385",
        "stride_on=3x3",
        "imagenet1k_v2",
        "11ad3fa6",
        "models/resnet.py",
    ):
        assert fact in shown
    [row] = json.loads(neocog("models", "resnet50", "--json").out)
    tags = {published["tag"]: published for published in row["published"]}
    assert tags["imagenet1k_v2"]["preprocessing"]["resize"] == 232
    assert not tags["imagenet1k_v2"]["at_hand"]
    assert "Table 1" not in neocog("models", "resnet*").out
    for alias in ("inception_v1", "Inception-V1"):
        assert "models/googlenet.py" in neocog("models", alias).out
    best = json.loads(neocog("models", "--sort", "top1", "--json").out)
    assert best[0]["top1"] == max(row["top1"] for row in best if row["top1"] is not None)
    assert best[-1]["top1"] is None


def test_check_prints_and_writes_what_it_found(neocog: Command, shapes: Path) -> None:
    (shapes / "red" / "text.png").write_text("hello")
    (shapes / "red" / ".DS_Store").write_text("")
    found = json.loads(neocog("check", shapes, "--max-excluded", 0.1, "--json", "--out", "audit").out)
    assert found["pictures"] == 42
    assert [e["reason"] for e in found["excluded"]] == ["not_an_image"]
    assert json.loads(Path("audit/scan.json").read_text())["kept"] == 42
    assert sum(sum(sets.values()) for sets in found["classes"].values()) == 42
    one_line_error(neocog("check", shapes), 3, "text.png' (not_an_image)")
    assert "text.png: not_an_image" in neocog("check", shapes, "--max-excluded", 0.1).out


def test_named_sets(neocog: Command) -> None:
    assert "digits" in neocog("data", "list").out
    one_line_error(neocog("data", "get", "minst"), 3, "mnist")
    one_line_error(neocog("train", "cifar10", "--model", "mnist_fcn"), 3, "neocog data get cifar10")
