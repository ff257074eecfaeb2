"""`neocog explain`: the page of one picture, and those of the surest mistakes."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

import neocog as package
from command import Command, one_line_error
from drawn import colours
from neocog.app.explaining_looks import is_flat
from neocog.app.opened import Opened
from neocog.data.preprocess import denormalise
from neocog.data.split import read_split
from neocog.explaining.adversarial import answers, fgsm
from neocog.metrics.calibration import scaled, temperature
from neocog.report.explain import Look, is_lucky


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`: three classes of colours, some pictures of the first called by the second's name; `run`: a classifier;
    `coder`: an autoencoder."""
    place = tmp_path_factory.mktemp("explain")
    colours(place / "data", 40, noise=60, tint=120)
    first, second, *_ = sorted(path.name for path in (place / "data").iterdir())
    for i in range(16):
        shutil.copy(place / "data" / first / f"{i:02}.png", place / "data" / second / f"false-{i}.png")
        (place / "data" / first / f"{i:02}.png").unlink()
    common = {"image_size": 28, "batch_size": 8, "device": "cpu"}
    package.train(place / "data", "mnist_convnet", out=place / "run", epochs=4, lr=0.003, **common)  # type: ignore[arg-type]
    package.train(place / "data", "conv_ae", out=place / "coder", epochs=1, **common)  # type: ignore[arg-type]
    return place


def test_one_page_says_what_and_why(neocog: Command, made: Path, tmp_path: Path) -> None:
    picture = next((made / "data" / "red").glob("*.png"))
    result = neocog("explain", made / "run", picture, "--out", tmp_path / "page.html")
    assert result.code == 0, result.err
    page = (tmp_path / "page.html").read_text("utf-8")
    for words in (
        "Where it looked for", "Grad-CAM", "Occlusion", "Integrated gradients", "Stage by stage", "conv1",
        "What it looked for", "Nearest training pictures", "What would change it", "of class red",
    ):  # fmt: skip
        assert words in page, words
    assert "http" not in page.replace("Content-Security-Policy", "").partition("</head>")[2]
    one_line_error(neocog("explain", made / "run", picture, "--out", tmp_path / "page.html"), 2, "exists already")
    one_line_error(neocog("explain", made / "run", picture, "--out", tmp_path / "page.png"), 2, ".html")
    told = json.loads(neocog("explain", made / "run", picture, "--json", "--out", tmp_path / "again.html").out)
    answer = next(package.Run.open(made / "run").predict([picture]))
    assert told["answer"] == answer.label
    assert told["probability"] == pytest.approx(answer.probability, abs=0.02)  # there in bf16 where there is any
    assert 0 < told["calibrated"] <= 1
    assert told["looks"]["Occlusion"]["deletion"] <= 1
    assert f"{told['answer']}, {told['calibrated']:.1%}" in result.out


def test_another_class_can_be_explained(neocog: Command, made: Path, tmp_path: Path) -> None:
    picture = next((made / "data" / "red").glob("*.png"))
    words = ("explain", made / "run", picture, "--no-training")
    result = neocog(*words, "--class", "blue", "--layer", "conv1", "--json", "--out", tmp_path / "a.html")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert (told["class"], told["layer"]) == ("blue", "stages.conv1")
    assert "Nearest training pictures" not in (tmp_path / "a.html").read_text("utf-8")
    one_line_error(neocog(*words, "--class", "zebra"), 2, "no class 'zebra'", "blue")
    one_line_error(neocog(*words, "--layer", "conv9"), 2, "no layer 'conv9'")
    one_line_error(neocog("explain", made / "coder", picture), 2, "autoencoder")
    one_line_error(neocog(*words, "--map", "tsne"), 2, "--map does not go with a picture", "the page of the network")
    one_line_error(neocog("explain", made / "run", tmp_path / "none.png"), 3, "none.png")
    (tmp_path / "text.png").write_text("no picture")
    one_line_error(neocog("explain", made / "run", tmp_path / "text.png"), 3, "text.png")


def test_from_python(made: Path, tmp_path: Path) -> None:
    picture = next((made / "data" / "green").glob("[0-9]*.png"))
    found = package.explain(made / "run", picture, target="blue", training=False, out=tmp_path / "page.html")
    assert found.page.target == "blue"
    assert found.page.truth == "green"
    assert found.path.read_text("utf-8").startswith("<!doctype html>")
    assert len(found.page.answers) == 3
    assert sum(answer.said for answer in found.page.answers) == pytest.approx(1, abs=1e-5)


def test_pictures_are_made_where_they_are_asked_for(made: Path, tmp_path: Path) -> None:
    picture = made / "data" / "red" / "09.png"
    plain = package.explain(made / "run", picture, out=tmp_path / "plain.html").page
    asked = package.explain(made / "run", picture, made=2, out=tmp_path / "asked.html").page
    assert [bool(channel.made) for channel in plain.channels] == [False] * 4
    assert [bool(channel.made) for channel in asked.channels] == [True, True, False, False]
    assert asked.channels[0].made != asked.channels[1].made
    assert "made to excite channel" not in (tmp_path / "plain.html").read_text("utf-8")
    assert (tmp_path / "asked.html").read_text("utf-8").count("made to excite channel") == 2


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_any_size_and_mode(neocog: Command, made: Path, tmp_path: Path, mode: str) -> None:
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 255, (61, 203, 3), np.uint8)).convert(mode).save(tmp_path / "odd.png")
    result = neocog("explain", made / "run", tmp_path / "odd.png", "--no-training", "--out", tmp_path / "odd.html")
    assert result.code == 0, result.err


def test_the_surest_mistakes(neocog: Command, made: Path, tmp_path: Path) -> None:
    run = package.Run.open(made / "run")
    found = run.predictions("test")
    wrong = np.flatnonzero(found.predicted != found.labels)
    assert len(wrong)  # for this the names were falsified
    result = neocog("explain", made / "run", "--mistakes", 2, "--json", "--out", tmp_path / "pages", "--no-training")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    surest = wrong[np.argsort(-found.probabilities[wrong].max(1), kind="stable")][:2]
    assert [Path(one["file"]).name for one in told["pages"]] == [Path(found.files[i]).name for i in surest]
    assert [one["truth"] for one in told["pages"]] == [found.classes[found.labels[i]] for i in surest]
    index = (tmp_path / "pages" / "index.html").read_text("utf-8")
    assert all(f'href="{number:02d}.html"' in index for number in range(1, len(surest) + 1))
    assert "which is wrong" in (tmp_path / "pages" / "01.html").read_text("utf-8")
    again = neocog("explain", made / "run", "--mistakes", 2, "--out", tmp_path / "pages")
    one_line_error(again, 2, "exists already")
    both = neocog("explain", made / "run", made / "data" / "red" / "09.png", "--mistakes", 2)
    one_line_error(both, 2, "exclude each other")


def test_a_training_picture_is_called_one_wherever_a_copy_lies(neocog: Command, made: Path, tmp_path: Path) -> None:
    rows = {row.file: row for row in read_split(made / "run" / "split.csv")}
    name = next(file for file, row in rows.items() if row.set == "train")
    shutil.copy(made / "data" / name, tmp_path / "copy.png")
    for picture in (made / "data" / name, tmp_path / "copy.png"):
        page = package.explain(made / "run", picture, out=tmp_path / "a.html").page
        assert (page.kept, page.truth) == ("train", rows[name].label)
        assert "It is a training picture" in (tmp_path / "a.html").read_text("utf-8")
        assert name not in [neighbour.picture.file for neighbour in page.neighbours]  # of itself
        assert page.neighbours[0].similarity < 1
    assert "one of those that the network was trained on" in neocog("explain", made / "run", tmp_path / "copy.png").out
    other = next(file for file, row in rows.items() if row.set == "test")
    page = package.explain(made / "run", made / "data" / other, training=False, out=tmp_path / "b.html").page
    assert page.kept == "test"
    assert "It is a training picture" not in (tmp_path / "b.html").read_text("utf-8")


def test_the_change_that_is_shown_is_one_that_a_picture_can_hold(made: Path, tmp_path: Path) -> None:
    opened = Opened.of(made / "run")
    unsure = package.Run.open(made / "run").predictions("test")
    picture = made / "data" / unsure.files[int(unsure.confidence.argmin())]
    flip = package.explain(made / "run", picture, training=False, out=tmp_path / "a.html").page.flip
    assert flip.epsilon is not None
    assert flip.levels is not None
    assert flip.levels >= 255 * flip.epsilon
    pre = opened.run.card.preprocessing
    pixels = denormalise(opened.one(picture), pre).clamp(0, 1)
    said = answers(opened.network, pixels, pre.mean, pre.std)
    for level in range(1, flip.levels + 1):
        changed = fgsm(opened.network, pixels, said, level / 255, pre.mean, pre.std)
        assert (answers(opened.network, changed, pre.mean, pre.std) != said) == (level == flip.levels) or (
            level < 255 * flip.epsilon
        )
    shown = np.asarray(Image.open(io.BytesIO(flip.changed)).convert("RGB")).astype(int)
    before = (255 * pixels[0].permute(1, 2, 0)).round().int().numpy()
    assert np.abs(shown - before).max() == flip.levels


def test_a_map_that_is_the_same_everywhere_is_called_so(made: Path, tmp_path: Path) -> None:
    Image.new("RGB", (28, 28), (90, 90, 90)).save(tmp_path / "flat.png")
    page = package.explain(made / "run", tmp_path / "flat.png", training=False, out=tmp_path / "a.html").page
    assert is_flat(torch.full((3, 4), 0.7))
    assert not is_flat(torch.tensor([[0.7, 0.71]]))
    html = (tmp_path / "a.html").read_text("utf-8")
    assert html.count(", the same everywhere") == sum(len(stage.flat) for stage in page.stages)


def test_a_map_no_better_than_luck_is_called_so() -> None:
    assert is_lucky(Look("a", b"", 0.3, 0.4), (0.2, 0.5))
    assert not is_lucky(Look("a", b"", 0.1, 0.4), (0.2, 0.5))
    assert not is_lucky(Look("a", b"", 0.3, 0.6), (0.2, 0.5))
    assert not is_lucky(Look("a", b""), (0.2, 0.5))


def test_pictures_of_a_packed_set_have_names(neocog: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    package.train("digits", "mnist_convnet", out=run, epochs=1, image_size=28, batch_size=64, device="cpu")
    found = package.Run.open(run).predictions("test")
    wrong = np.flatnonzero(found.predicted != found.labels)
    surest = found.files[wrong[np.argmax(found.probabilities[wrong].max(1))]]
    result = neocog("explain", run, "--mistakes", 1, "--json", "--out", tmp_path / "wrong", "--no-training")
    assert result.code == 0, result.err
    [page] = json.loads(result.out)["pages"]
    assert page["file"] == surest
    assert page["truth"] == found.classes[found.labels[found.files.index(surest)]]
    told = json.loads(neocog("explain", run, surest, "--json", "--no-training", "--out", tmp_path / "a.html").out)
    assert told["set"] == "test"
    assert told["answer"] == page["answer"]
    one_line_error(neocog("explain", run, "digits/99999"), 3, "digits/99999", "no such file")


@pytest.mark.parametrize("more", [(), ("--unit", "conv1.conv")])
def test_a_folder_is_no_picture(neocog: Command, made: Path, more: tuple[str, ...]) -> None:
    result = neocog("explain", made / "run", made / "data" / "red", *more)
    one_line_error(result, 2, "red is a folder", "give one picture")


def test_without_a_mistake_there_is_nothing_to_show(neocog: Command, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run", tmp_path / "run")
    lines = (tmp_path / "run" / "predictions.csv").read_text().splitlines()
    found = package.Run.open(made / "run").predictions("test")
    right = set(np.array(found.files)[found.predicted == found.labels].tolist())
    kept = [line for line in lines if line.split(",")[0] in right]
    assert kept
    (tmp_path / "run" / "predictions.csv").write_text("\n".join([lines[0], *kept]) + "\n")
    result = neocog("explain", tmp_path / "run", "--mistakes", 3, "--out", tmp_path / "pages")
    assert result.code == 0, result.err
    assert "no answer is wrong" in result.out
    assert "No answer is wrong" in (tmp_path / "pages" / "index.html").read_text("utf-8")


def test_the_temperature_is_the_best_one() -> None:
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 4, 400)
    scores = draw.normal(size=(400, 4)) + 1.5 * np.eye(4)[truth]
    bold = np.exp(3 * scores)
    bold /= bold.sum(1, keepdims=True)

    def loss(t: float) -> float:
        return -float(np.log(scaled(bold, t)[np.arange(400), truth]).mean())

    found = temperature(bold, truth)
    wanted = float(minimize(lambda t: loss(float(t[0])), [1.0], bounds=[(0.1, 10)]).x[0])
    assert found == pytest.approx(wanted, rel=1e-2)
    assert found > 1.5  # it was too sure
    assert loss(found) < loss(1.0) - 0.05
    # A linear model of one number, the same for all classes, is what temperature scaling is.
    assert np.allclose(scaled(bold, found).sum(1), 1)
    assert np.array_equal(scaled(bold, found).argmax(1), bold.argmax(1))
    fit = LogisticRegression(C=1e6, max_iter=1000).fit(np.log(bold), truth)
    assert np.diag(fit.coef_).mean() < 1 / 1.2  # and a freer judge shrinks the scores as well
