"""Autoencoders from the command line: trained on small pictures, reported, and used."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import neocog as package
from command import Command, one_line_error
from drawn import colours
from neocog.app.announcing import describe_rivals
from neocog.app.plane import labels_of, map_of, on_plane
from neocog.app.train import resume
from neocog.core.errors import Interrupted, UsageError
from neocog.core.events import Events
from neocog.evaluate.reconstructions import Reconstructions
from neocog.report import Scatter, scatter_picture
from neocog.report.scatter import COLOURS

SMALL = ("--image-size", 16, "--batch-size", 8, "--device", "cpu", "--epochs", 3, "--latent", 6)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`: three classes of colours; `plain`, `noisy`, `vae`: runs on them."""
    place = tmp_path_factory.mktemp("autoencoders")
    colours(place / "data", 24, noise=60, tint=120)
    common: dict[str, Any] = {"image_size": 16, "batch_size": 8, "device": "cpu", "latent": 6, "lr": 0.003}
    package.train(place / "data", "conv_ae", out=place / "plain", epochs=12, **common)
    package.train(place / "data", "conv_ae", out=place / "noisy", epochs=12, noise="gaussian:0.3", **common)
    package.train(place / "data", "conv_vae", out=place / "vae", epochs=12, annealed=0.1, **common)
    return place


def pixels_of(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image)


def size_of(path: Path) -> tuple[int, int]:
    """(width, height)"""
    with Image.open(path) as image:
        return image.size


def test_what_a_run_leaves(made: Path) -> None:
    run = package.Run.open(made / "plain")
    assert run.card.task == "reconstruction"
    assert run.config.task == "reconstruction"
    assert run.config.loss == "squared"
    found = run.reconstructions("test")
    outputs = run.network()
    codes = np.load(made / "plain" / "codes.npy")
    whole = Reconstructions.read(made / "plain" / "reconstructions.csv")
    assert codes.shape == (len(whole.files), 6)
    place = whole.files.index(found.files[0])
    pixels = pixels_of(made / "data" / found.files[0])
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        assert torch.allclose(outputs.encode(x)[0], torch.from_numpy(codes[place]), atol=1e-4)
        assert float((outputs(x) - x).square().mean()) == pytest.approx(found.measures["mse"][0], rel=1e-3)
    numbers = run.metrics("test")
    assert numbers["mse"] == pytest.approx(found.measures["mse"].mean())
    assert numbers["psnr"] > 12
    record = json.loads((made / "plain" / "run.json").read_text())
    assert record["results"]["test"]["mse"] == pytest.approx(numbers["mse"])


def test_it_learned_something(made: Path) -> None:
    rows = [json.loads(line) for line in (made / "plain" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["val_loss"] < 0.5 * rows[0]["val_loss"]
    assert "train_accuracy" not in rows[0]
    assert rows[-1]["val_psnr"] > rows[0]["val_psnr"]


def test_the_report_shows_what_was_given_back(made: Path) -> None:
    page = (made / "plain" / "report.html").read_text()
    for words in (
        "What it gave back",
        "What the code knows",
        "squared error of PCA with 6 components",
        "What it makes up",
        "PSNR",
    ):
        assert words in page
    assert "What it confuses" not in page
    noisy = (made / "noisy" / "report.html").read_text()
    assert "gaussian:0.3" in noisy
    assert ">Seen<" in noisy
    assert "squared error of PCA" not in noisy
    assert "with importance weights" in (made / "vae" / "report.html").read_text()


def test_a_neighbour_is_shown_as_it_is(made: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto((made / "plain" / "report.html").as_uri())
    below = page.locator(".pairs img + img").first
    style = below.evaluate("image => [getComputedStyle(image).opacity, getComputedStyle(image).filter]")
    assert style == ["1", "none"]
    frames = [
        each.evaluate("image => getComputedStyle(image).outlineStyle") for each in page.locator(".pairs img").all()
    ]
    assert frames[:2] == ["none", "solid"]
    page.close()


def test_what_does_better_than_the_network_is_said(neocog: Command, made: Path, tmp_path: Path) -> None:
    words = ("train", made / "data", *SMALL, "--lr", 1e-7, "--model", "conv_ae")
    result = neocog(*words, "--out", tmp_path / "plain")
    [warning] = [line for line in result.out.splitlines() if "PCA" in line]
    assert warning.startswith("warning")
    assert "train longer" in warning
    page = (tmp_path / "plain" / "report.html").read_text()
    wanted = package.Run.open(tmp_path / "plain").metrics("test")["mse"]
    assert f"the network&#39;s {wanted:.5f}; train longer" in page
    result = neocog(*words, "--noise", "gaussian:0.1", "--out", tmp_path / "noisy")
    [warning] = [line for line in result.out.splitlines() if "than what it gives back" in line]
    assert warning.startswith("warning")
    assert "as the network saw them" in warning
    assert "median filter of 3 x 3 pixels makes them better" in warning
    assert "than what it gives back" in (tmp_path / "noisy" / "report.html").read_text()
    assert "than what it gives back" not in (made / "noisy" / "report.html").read_text()


def test_only_what_does_better_is_said() -> None:
    numbers = {"mse": 0.1, "psnr": 10.0, "input_psnr": 9.0, "median_psnr": 9.5}
    assert list(describe_rivals(numbers, 0.2, 3)) == []
    assert list(describe_rivals(numbers)) == []
    [only] = describe_rivals(numbers | {"median_psnr": 11.0})
    assert "network saw" not in only
    assert "makes them better (11.00 dB) than what it gives back (10.00 dB)" in only
    [only] = describe_rivals({"mse": 0.1, "psnr": 10.0}, 0.05, 1)
    assert only.startswith("PCA with 1 component gives")
    assert "0.05000, the network's 0.10000" in only


def test_a_denoiser_is_better_than_what_it_saw(made: Path) -> None:
    numbers = package.Run.open(made / "noisy").metrics("test")
    assert numbers["psnr"] > numbers["input_psnr"] + 1


def test_a_variational_code_has_its_bounds(made: Path) -> None:
    run = package.Run.open(made / "vae")
    numbers = run.metrics("test")
    assert run.config.loss == "cross_entropy"
    assert numbers["tighter_bound"] <= numbers["bound"]
    rows = [json.loads(line) for line in (made / "vae" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["train_loss"] == pytest.approx(rows[-1]["train_cross_entropy"] + rows[-1]["train_divergence"])
    assert rows[0]["train_divergence"] == 0  # annealed


@pytest.mark.parametrize(
    "words",
    [
        ("dense_ae", "--sparse", "k:3"), ("dense_ae", "--sparse", "l1:0.1"), ("conv_ae", "--sparse", "kl:0.1"),
        ("conv_ae", "--contractive", 0.1), ("conv_ae", "--noise", "adversarial:0.05"),
        ("conv_ae", "--noise", "patches:0.5", "--loss", "ssim"), ("conv_ae", "--noise", "grey", "--loss", "absolute"),
        ("conv_ae", "--noise", "low_resolution:2", "--knob", "encoder=resnet20"), ("vq_vae",), ("vae",),
        ("recurrent_ae", "--noise", "mask:0.3"), ("patch_ae", "--noise", "salt_pepper:0.1"), ("deep_belief",),
        ("conv_ae", "--knob", "encoder=pooled", "--knob", "decoder=unpool"), ("conv_ae", "--knob", "code=spatial"),
    ],
    ids=lambda words: " ".join(str(word) for word in words),
)  # fmt: skip
def test_every_kind_trains(neocog: Command, made: Path, tmp_path: Path, words: tuple[object, ...]) -> None:
    run = tmp_path / "run"
    result = neocog("train", made / "data", "--model", *words, *SMALL, "--out", run)
    assert result.code == 0, result.err
    assert "PSNR" in result.out
    assert "accuracy" not in result.out
    page = (run / "report.html").read_text()
    assert "What it gave back" in page
    if "k:3" in words:
        assert package.Run.open(run).metrics("test")["zeros"] == pytest.approx(0.5)


def test_a_code_is_called_what_it_is(neocog: Command, made: Path, tmp_path: Path) -> None:
    for name, words, said in (
        ("book", ("--model", "vq_vae", "--latent", 6), "4 x 4 indices into a book of 512 vectors"),
        ("large", ("--model", "conv_ae", "--knob", "code=spatial", "--latent", 600),
         "600 x 4 x 4 numbers, more than the picture has: no compression"),
    ):  # fmt: skip
        result = neocog("train", made / "data", *SMALL[:-4], "--epochs", 1, *words, "--out", tmp_path / name)
        assert result.code == 0, result.err
        page = (tmp_path / name / "report.html").read_text()
        assert f"through a code of {said}." in page
        assert ("can be copied" in result.out) == (name == "large")
        assert (said in result.out) == (name == "book")
    book = (tmp_path / "book" / "report.html").read_text()
    assert "squared error of PCA with 16 components" in book
    assert "no compression" not in (made / "plain" / "report.html").read_text()
    assert "through a code of 6 numbers." in (made / "plain" / "report.html").read_text()


def test_a_boltzmann_machine_learns(neocog: Command, made: Path, tmp_path: Path) -> None:
    for more in ((), ("--persistent", "--cd-steps", 2)):
        run = tmp_path / f"run{len(more)}"
        result = neocog("train", made / "data", "--model", "rbm", *SMALL[:-2], "--epochs", 8, "--latent", 30,
                        *more, "--out", run)  # fmt: skip
        assert result.code == 0, result.err
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert rows[-1]["val_loss"] < rows[0]["val_loss"]


@pytest.mark.parametrize(
    "more",
    [
        {"model": "conv_vae", "noise": "mask:0.3"},
        {"model": "rbm", "persistent": True},
        {"model": "deep_belief"},
    ],
    ids=lambda more: str(more["model"]),
)
def test_a_stopped_run_goes_on_to_the_same_bits(made: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    common: dict[str, Any] = {"image_size": 16, "batch_size": 8, "device": "cpu", "epochs": 4, "latent": 6} | more
    package.train(made / "data", out=tmp_path / "whole", **common)
    events, trainers = Events(), []
    events.on("training", lambda trainer: trainers.append(trainer))
    events.on("step_ended", lambda epoch, batch, **_: trainers[0].stop(15) if (epoch, batch) == (1, 3) else None)
    with pytest.raises(Interrupted):
        package.train(made / "data", out=tmp_path / "parts", events=events, **common)
    resume(tmp_path / "parts")
    one, two = (package.Run.open(tmp_path / name).network().state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    assert [json.loads(line)["train_loss"] for line in logs[0]] == [json.loads(line)["train_loss"] for line in logs[1]]


def test_the_encoder_serves_a_classifier(neocog: Command, made: Path, tmp_path: Path) -> None:
    words = ("train", made / "data", "--model", "conv_ae", "--task", "classification", "--weights", made / "plain",
             *SMALL[:-2], "--lr", 0.01)  # fmt: skip
    for regime in ("features", "probe", "full"):
        result = neocog(*words, "--regime", regime, "--out", tmp_path / regime)
        assert result.code == 0, result.err
        assert "a classifier of the code in the place of the decoder" in result.out
    before = package.Run.open(made / "plain").network().state_dict()
    after = package.Run.open(tmp_path / "probe").network().state_dict()
    assert all(torch.equal(after[key], before[key]) for key in after if not key.startswith("head.fc"))
    assert package.Run.open(tmp_path / "features").metrics("test")["top1"] > 0.6
    assert neocog("predict", tmp_path / "features", made / "data" / "red").code == 0


# --- use ---


def test_embeddings(neocog: Command, made: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "v.csv", tmp_path / "map.png"
    result = neocog("embed", made / "plain", made / "data" / "red", "--out", out, "--picture", picture)
    assert result.code == 0, result.err
    with out.open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", *(f"v{i}" for i in range(6))]
    assert len(rows) == 25
    assert size_of(picture) == (1200, 1200)
    assert neocog("embed", made / "plain", made / "data" / "red", "--out", tmp_path / "v.npy").code == 0
    vectors = np.load(tmp_path / "v.npy")
    assert vectors[3].tolist() == pytest.approx([float(cell) for cell in rows[4][1:]], rel=1e-5)
    assert (tmp_path / "v.txt").read_text().splitlines() == [row[0] for row in rows[1:]]
    one_line_error(neocog("embed", made / "plain", made / "data", "--out", tmp_path / "v.doc"), 2, ".csv", ".npy")


def test_a_map_is_coloured_by_class(neocog: Command, made: Path, tmp_path: Path) -> None:
    words = ("embed", made / "plain", made / "data", "--out", tmp_path / "v.csv", "--picture")
    assert neocog(*words, tmp_path / "map.png").code == 0
    first = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in COLOURS[:4]])

    def has(path: Path, colour: NDArray[np.float64]) -> bool:
        return bool((np.abs(pixels_of(path)[..., :3] - colour).max(-1) <= 1).any())

    legend, dots = first, 0.75 * first + 0.25 * 255
    for wanted in (legend, dots):  # a colour for each of three classes
        assert [has(tmp_path / "map.png", colour) for colour in wanted] == [True, True, True, False]
    assert neocog(*words, tmp_path / "alike.png", "--json").code == 0
    assert (tmp_path / "alike.png").read_bytes() == (tmp_path / "map.png").read_bytes()
    alone = neocog("embed", made / "plain", made / "data" / "red", "--out", tmp_path / "v.csv", "--picture",
                   tmp_path / "red.png", "--method", "tsne")  # fmt: skip
    assert alone.code == 0, alone.err
    assert [has(tmp_path / "red.png", colour) for colour in (legend[0], *dots)] == [False, True, False, False, False]


def test_the_axes_of_a_plane() -> None:
    vectors = np.random.default_rng(0).normal(0, [[3, 1, 0.1]], (40, 3)).astype(np.float32)
    points, (right, up) = on_plane(vectors)
    shares = [float(re.search(r"\((\d+)% of the variance\)", axis)[1]) / 100 for axis in (right, up)]  # type: ignore[index]
    assert shares == pytest.approx((points.var(0) / vectors.var(0).sum()).tolist(), abs=0.006)
    assert "mean nothing" in on_plane(vectors, "tsne")[1][0]
    assert on_plane(vectors[:, :2]) == (pytest.approx(vectors[:, :2]), ("number 0", "number 1"))
    with pytest.raises(UsageError, match="2 vectors make no map"):
        map_of(vectors[:2], ["a", "b"], "pca", "")


@pytest.mark.parametrize(
    ("file", "given", "label"),
    [
        ("in/cats/1.png", "in", "cats"), ("in/cats/deep/1.png", "in", "cats"), ("in/train/cats/1.png", "in", "cats"),
        ("in/train/cats/1.png", "in/train", "cats"), ("in/cats/1.png", "in/cats", "cats"),
        ("in/cats/1.png", "in/cats/1.png", "cats"),
    ],
)  # fmt: skip
def test_whose_class_a_file_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, given: str, label: str
) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    assert labels_of([tmp_path / file], [tmp_path / given]) == [label]
    monkeypatch.chdir(tmp_path)
    assert labels_of([Path(file)], [given]) == [label]


def test_a_name_is_no_formula_on_a_map() -> None:
    points = tuple((float(i), float(i)) for i in range(3))
    for names in (("$a", "_b", "\u6587"), ("a", "a", "a")):
        found = Scatter(points, names, ("$x", "$y"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert scatter_picture(found, "$t").startswith(b"\x89PNG")


def test_denoising_files(neocog: Command, made: Path, tmp_path: Path) -> None:
    result = neocog("denoise", made / "noisy", made / "data" / "red", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    assert "24 of 16 x 16 pixels" in result.out
    assert len(list((tmp_path / "out").glob("*.png"))) == 24
    one_line_error(neocog("denoise", made / "noisy", made / "data", "--out", tmp_path / "out"), 2, "exists already")
    (tmp_path / "no.jpg").write_text("no picture")
    found = neocog("denoise", made / "plain", tmp_path / "no.jpg", made / "data" / "red" / "00.png", "--out",
                   tmp_path / "two")  # fmt: skip
    assert found.code == 3
    assert "1 of 2 files" in found.err
    assert "without --noise" in found.out
    assert (tmp_path / "two" / "00.png").is_file()


def test_denoised_pictures_of_other_sizes_and_names_are_told(neocog: Command, made: Path, tmp_path: Path) -> None:
    own = made / "data" / "red" / "00.png"
    (tmp_path / "in" / "sub").mkdir(parents=True)
    photo, twin, third, square = (tmp_path / "in" / name for name in ("a.jpg", "a.png", "sub/a.jpg", "sub/b.png"))
    for path, shape in ((photo, (40, 24)), (twin, (24, 40)), (third, (40, 24)), (square, (16, 16))):
        Image.new("RGB", shape, "red").save(path)
    found = neocog("denoise", made / "noisy", photo, twin, third, square, "--out", tmp_path / "out").out.splitlines()
    [warning] = [line for line in found if line.startswith("warning")]
    assert f"{photo} is 40 x 24 pixels; the network reads 16 x 16, so the middle of it comes back smaller" in warning
    assert "and so with 2 more files: train with --image-size" in warning
    renamed = [line for line in found if line.startswith("renamed")]
    assert [line.split()[1] for line in renamed] == [f"{twin},", f"{third},"]
    assert [line.split()[-1] for line in renamed] == [str(tmp_path / "out" / f"a-{n}.png") for n in (2, 3)]
    alike = neocog("denoise", made / "noisy", own, "--out", tmp_path / "alike").out
    assert "warning" not in alike
    assert "renamed" not in alike
    assert "--image-size" in neocog("denoise", "--help").out
    Image.new("RGB", (8, 8), "red").save(tmp_path / "small.png")
    small = neocog("denoise", made / "noisy", tmp_path / "small.png", "--out", tmp_path / "one").out
    assert "so it comes back larger" in small
    assert "--image-size" not in small


def test_made_up_pictures(neocog: Command, made: Path, tmp_path: Path) -> None:
    for run in ("vae", "plain"):
        out = tmp_path / f"{run}.png"
        result = neocog("generate", made / run, "-n", 9, "--out", out)
        assert result.code == 0, result.err
        assert size_of(out) == (48, 48)
    again = tmp_path / "again.png"
    assert neocog("generate", made / "vae", "-n", 9, "--out", again).code == 0
    assert again.read_bytes() == (tmp_path / "vae.png").read_bytes()
    other = tmp_path / "other.png"
    assert neocog("generate", made / "vae", "-n", 9, "--seed", 1, "--out", other).code == 0
    assert other.read_bytes() != again.read_bytes()
    one_line_error(neocog("generate", made / "vae", "--out", again), 2, "exists already")


def test_between_two_pictures(neocog: Command, made: Path, tmp_path: Path) -> None:
    a, b = made / "data" / "red" / "00.png", made / "data" / "blue" / "00.png"
    out = tmp_path / "between.png"
    assert neocog("interpolate", made / "plain", a, b, "--steps", 5, "--out", out).code == 0
    strip = pixels_of(out).astype(float)
    assert strip.shape == (16, 80, 3)
    run = package.Run.open(made / "plain")
    x = torch.from_numpy(pixels_of(a)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        wanted = run.network()(x)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(strip[:, :16] - wanted).max() <= 1
    red_to_blue = [strip[:, i * 16 : (i + 1) * 16, 0].mean() for i in range(5)]
    assert red_to_blue == sorted(red_to_blue, reverse=True)
    wide = tmp_path / "wide.png"  # nothing is made smaller unasked
    assert neocog("interpolate", made / "plain", a, b, "--steps", 100, "--out", wide).code == 0
    assert size_of(wide) == (1600, 16)


def test_along_the_numbers_and_towards_the_classes(neocog: Command, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.png"
    result = neocog(
        "traverse", made / "plain", made / "data" / "red" / "00.png", "--numbers", 2, "--out", out, "--json"
    )
    assert result.code == 0, result.err
    rows = json.loads(result.out)["rows"]
    assert rows[2:] == ["towards blue", "towards green", "towards red"]
    assert size_of(out) == (9 * 16, 5 * 16)


def test_report_and_traverse_agree_on_the_numbers_that_vary_most(neocog: Command, made: Path, tmp_path: Path) -> None:
    """Numbers are counted from 0, as the columns of what embed writes."""
    run = tmp_path / "run"
    words = ("--val-fraction", 0.4, "--test-fraction", 0.2, "--out", run)
    assert neocog("train", made / "data", "--model", "conv_ae", *SMALL, *words).code == 0
    codes, sets = np.load(run / "codes.npy"), np.array(Reconstructions.read(run / "reconstructions.csv").split)
    order = np.argsort(-codes.std(0)).tolist()
    assert order[:4] != np.argsort(-codes[sets == "test"].std(0)).tolist()[:4], "there is nothing to tell apart"
    out = neocog("traverse", run, made / "data" / "red" / "00.png", "--out", tmp_path / "rows.png", "--json").out
    told = [int(row.split()[1]) for row in json.loads(out)["rows"] if row.startswith("number")]
    assert told == order
    page = (run / "report.html").read_text()
    shown = re.findall(r"<h3>Number (\d+) of the code", page)
    assert list(map(int, shown)) == order[:4]
    files = package.Run.open(run).reconstructions("test").files
    assert f"<h3>From the code of {files[0]} to that of {files[1]}</h3>" in page


@pytest.mark.parametrize("command", ["generate", "interpolate", "traverse", "denoise"])
def test_a_classifier_is_no_autoencoder(neocog: Command, made: Path, tmp_path: Path, command: str) -> None:
    classifier = made / "classifier"
    if not classifier.exists():
        package.train(made / "data", "mnist_convnet", out=classifier, epochs=1, image_size=16, device="cpu")
    picture = made / "data" / "red" / "00.png"
    files = {"interpolate": (picture, picture), "traverse": (picture,), "denoise": (picture,)}.get(command, ())
    out = tmp_path / ("out" if command == "denoise" else "out.png")
    found = neocog(command, classifier, *files, "--out", out)
    one_line_error(found, 2, "mnist_convnet", "classifier", "conv_ae")
    assert not out.exists()


def test_a_run_is_verified(neocog: Command, made: Path, tmp_path: Path) -> None:
    for name in ("noisy", "vae"):
        result = neocog("val", made / name, "--verify")
        assert result.code == 0, result.out
        assert "follow from reconstructions.csv" in result.out
        assert "squared errors" in result.out
    broken = tmp_path / "broken"
    shutil.copytree(made / "plain", broken)
    lines = (broken / "reconstructions.csv").read_text().splitlines(keepends=True)
    cells = lines[1].split(",")
    cells[3] = "0.5"
    (broken / "reconstructions.csv").write_text("".join([lines[0], ",".join(cells), *lines[2:]]))
    result = neocog("val", broken, "--verify")
    assert result.code == 4
    assert "do not follow from reconstructions.csv" in result.out


def test_other_pictures_are_evaluated_and_strange_ones_found(neocog: Command, made: Path, tmp_path: Path) -> None:
    again = json.loads(neocog("val", made / "plain", "--json").out)
    assert again["mse"] == pytest.approx(package.Run.open(made / "plain").metrics("test")["mse"])
    colours(tmp_path / "other", 10, names=("blue", "green", "red"), noise=60, tint=120, seed=5)
    rng = np.random.default_rng(0)
    (tmp_path / "other" / "noise").mkdir()
    for i in range(10):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / "other" / "noise" / f"{i}.png")
    result = neocog("val", made / "plain", tmp_path / "other", "--json", "--out", tmp_path / "found.csv")
    numbers = json.loads(result.out)
    assert numbers["anomalies"] == 10
    assert numbers["anomaly_auroc"] == 1
    assert len(Reconstructions.read(tmp_path / "found.csv").files) == 40
    assert "AUROC" not in neocog("val", made / "plain").out
    assert "AUROC" in neocog("val", made / "plain", tmp_path / "other").out


def test_what_codes_alone_cannot_do_is_said(neocog: Command, made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert neocog("train", made / "data", "--model", "vq_vae", *SMALL, "--epochs", 1, "--out", run).code == 0
    picture = made / "data" / "red" / "00.png"
    for words in (("generate", run), ("traverse", run, picture), ("interpolate", run, picture, picture)):
        found = neocog(*words, "--out", tmp_path / "x.png")
        one_line_error(found, 2, "vq_vae", "vectors from a book", "conv_vae")
        assert "made up" not in found.err
    words = ("--knob", "encoder=pooled", "--knob", "decoder=unpool", "--out", tmp_path / "unpool")
    assert neocog("train", made / "data", "--model", "conv_ae", *SMALL, "--epochs", 1, *words).code == 0
    one_line_error(neocog("traverse", tmp_path / "unpool", picture, "--out", tmp_path / "x.png"), 2, "where the pools")


def test_two_processes_learn_together(made: Path, tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = [sys.executable, "-m", "neocog", "train", made / "data", "--model", "conv_vae", *SMALL, "--devices", 2,
             "--out", tmp_path / "two", "--noise", "mask:0.2"]  # fmt: skip
    end = subprocess.run([str(word) for word in words], env=environment, capture_output=True, text=True)
    assert end.returncode == 0, end.stderr
    rows = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["val_loss"] < rows[0]["val_loss"]
    assert package.Run.open(tmp_path / "two").metrics("test")["pictures"] == 12
    words[words.index("conv_vae")] = "rbm"
    words[words.index(tmp_path / "two")] = tmp_path / "three"
    end = subprocess.run([str(word) for word in words], env=environment, capture_output=True, text=True)
    assert end.returncode == 2
    assert "cannot be learned by several processes" in end.stderr


def test_an_autoencoder_classifies_nothing(neocog: Command, made: Path, tmp_path: Path) -> None:
    refused = neocog("compare", made / "data", "--models", "conv_ae,lenet5", "--time", "1m")
    one_line_error(refused, 2, "conv_ae", "train")
    grown = neocog("grow", made / "plain", "--model", "conv_ae", "--out", tmp_path / "grown")
    one_line_error(grown, 2, "another head than a classifier")
    one_line_error(neocog("predict", made / "plain", made / "data" / "red"), 2, "autoencoder", "--task classification")
    with pytest.raises(UsageError, match="classifies nothing"):
        package.Run.open(made / "plain").predictions()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "resnet18", "--task", "reconstruction"), "encoder=resnet18"),
        (("--model", "resnet18", "--latent", 5), "latent"),
        (("--model", "resnet18", "--noise", "patches:0.5"), "autoencoders"),
        (("--model", "resnet18", "--contractive", 0.1), "autoencoders"),
        (("--model", "resnet18", "--loss", "squared"), "task reconstruction"),
        (("--model", "conv_ae", "--noise", "wind:3"), "wind"),
        (("--model", "conv_ae", "--noise", "mask:3"), "from 0 to 1"),
        (("--model", "conv_ae", "--sparse", "k:1.5"), "whole number"),
        (("--model", "conv_ae", "--sparse", "much"), "k:16"),
        (("--model", "conv_ae", "--label-smoothing", 0.1), "classification"),
        (("--model", "conv_ae", "--mixup", 0.2), "classification"),
        (("--model", "conv_ae", "--folds", 3), "folds"),
        (("--model", "conv_ae", "--persistent"), "Boltzmann"),
        (("--model", "dense_ae", "--beta", 3), "no variational code"),
        (("--model", "resnet18", "--beta", 3), "autoencoders"),
        (("--model", "vae", "--sparse", "k:3"), "keep"),
    ],
)
def test_what_does_not_go_together(neocog: Command, made: Path, words: tuple[object, ...], said: str) -> None:
    one_line_error(neocog("train", made / "data", *words, "--image-size", 16), 2, said)


def test_a_constant_picture_and_odd_sizes(neocog: Command, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            shade = 10 * i + (100 if name == "b" else 0)
            Image.new("L", (23, 17), shade).save(tmp_path / "data" / name / f"{i}.png")
    result = neocog("train", tmp_path / "data", "--model", "conv_ae", "--image-size", 17, "--epochs", 1, "--device",
                    "cpu", "--latent", 400, "--out", tmp_path / "run")  # fmt: skip
    assert result.code == 0, result.err
    assert "is larger than a picture" in result.out
    assert package.Run.open(tmp_path / "run").metrics("test")["psnr"] > 0
