"""What is measured of autoencoders beside their error: codes that say something, filters that they must beat, energies,
distances of made-up pictures; and what their encoders and unlabelled folders are good for."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

import neocog as package
from command import Command, one_line_error
from drawn import colours
from neocog.core.errors import DataError, UsageError
from neocog.layers.boltzmann import Boltzmann
from neocog.metrics.bound import active_units
from neocog.metrics.frechet import frechet_distance
from neocog.metrics.similarity import median_filtered

SMALL: dict[str, Any] = {"image_size": 16, "batch_size": 8, "device": "cpu", "latent": 6, "lr": 0.003}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`: three classes of colours; `plain`: an autoencoder of them; `classifier`: one of their classes."""
    place = tmp_path_factory.mktemp("measures")
    colours(place / "data", 60, noise=60, tint=120)
    package.train(place / "data", "conv_ae", out=place / "plain", epochs=4, **SMALL)
    package.train(place / "data", "mnist_convnet", out=place / "classifier", epochs=1, image_size=16, device="cpu")
    return place


# --- numbers ---


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 5), (30, 40, 60)])
def test_the_distance_is_that_of_the_formula(n: int, m: int, d: int) -> None:
    """Also where there are fewer vectors than numbers, so that no covariance has an inverse."""
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(n, d)), 0.5 + draw.normal(size=(m, d)) @ draw.normal(size=(d, d))
    one, other = np.cov(a.T), np.cov(b.T)
    root = sqrtm(one @ other).real
    wanted = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(one + other - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-4)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, a + 3) == pytest.approx(9 * d, rel=1e-6)
    with pytest.raises(ValueError, match="one length"):
        frechet_distance(a, b[:, 1:])


def test_numbers_that_say_nothing_are_not_active() -> None:
    draw = torch.Generator().manual_seed(0)
    means = torch.randn(1000, 4, generator=draw) * torch.tensor([1.0, 0.11, 0.09, 0.0]) + 5
    assert active_units(means) == 2


def test_the_filter_takes_medians() -> None:
    a = torch.rand(2, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    padded = np.pad(a.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), "symmetric")
    wanted = [[np.median(padded[:, :, y : y + 3, x : x + 3], (2, 3)) for x in range(5)] for y in range(7)]
    assert np.array_equal(median_filtered(a), np.array(wanted).transpose(2, 3, 0, 1))


def test_a_filter_stands_beside_a_denoiser(neocog: Command, made: Path, tmp_path: Path) -> None:
    words = ("train", made / "data", "--model", "conv_ae", "--image-size", 16, "--device", "cpu", "--epochs", 1)
    result = neocog(*words, "--noise", "salt_pepper:0.2", "--out", tmp_path / "run")
    assert result.code == 0, result.err
    numbers = package.Run.open(tmp_path / "run").metrics("test")
    assert numbers["median_psnr"] > numbers["input_psnr"] + 3  # what the filter is for
    assert f"after a median filter {numbers['median_psnr']:.2f} dB" in result.out
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert f"{numbers['median_psnr']:.1f} dB after a median filter" in page
    assert "median_psnr" not in package.Run.open(made / "plain").metrics("test")


def test_the_free_energy_is_watched(neocog: Command, made: Path, tmp_path: Path) -> None:
    words = ("train", made / "data", "--model", "rbm", "--image-size", 16, "--device", "cpu", "--channels", "rgb")
    result = neocog(*words, "--epochs", 2, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    machine = package.Run.open(tmp_path / "run").network().get_submodule("head.code.machine")
    assert isinstance(machine, Boltzmann)
    energies = {}
    with torch.inference_mode():
        for name in ("train", "val"):
            energies[name] = float(machine.free_energy(pictures(tmp_path / "run", made / "data", name)).mean())
    best = min(rows, key=lambda row: row["val_loss"])
    assert best["val_free_energy"] == pytest.approx(energies["val"], rel=1e-3)
    assert best["val_free_energy_gap"] == pytest.approx(energies["val"] - energies["train"], rel=0.02, abs=0.05)
    assert "Free energy" in (tmp_path / "run" / "report.html").read_text("utf-8")


def pictures(run: Path, data: Path, name: str) -> torch.Tensor:
    """(N, 3 * 16 * 16) in 0..1, those of a run's set."""
    from PIL import Image

    lines = (run / "split.csv").read_text().splitlines()[1:]
    files = [line.split(",")[0] for line in lines if line.split(",")[2] == name]
    found = [np.asarray(Image.open(data / file)).transpose(2, 0, 1) for file in files]
    return torch.from_numpy(np.stack(found).astype(np.float32) / 255).flatten(1)


def test_made_up_pictures_are_judged(neocog: Command, made: Path, tmp_path: Path) -> None:
    words = ("generate", made / "plain", "-n", 150, "--judge", made / "classifier")
    result = neocog(*words, "--out", tmp_path / "a.png")
    one_line_error(result, 3, "learned from 126 pictures and was tested on 27 others", "100 of each", "on more of them")
    small = neocog("generate", made / "plain", "-n", 9, "--judge", made / "classifier", "--out", tmp_path / "b.png")
    one_line_error(small, 2, "-n 1000")
    wrong = neocog("generate", made / "plain", "-n", 150, "--judge", made / "plain", "--out", tmp_path / "c.png")
    one_line_error(wrong, 2, "autoencoder")
    assert not list(tmp_path.glob("*.png"))


def test_real_pictures_are_nearer_than_made_up_ones(neocog: Command, tmp_path: Path) -> None:
    colours(tmp_path / "data", 250, noise=60, tint=120)
    package.train(tmp_path / "data", "conv_ae", out=tmp_path / "plain", epochs=1, **SMALL)
    package.train(tmp_path / "data", "mnist_convnet", out=tmp_path / "judge", epochs=1, image_size=16, device="cpu")
    words = ("generate", tmp_path / "plain", "-n", 200, "--judge", tmp_path / "judge", "--json")
    result = neocog(*words, "--out", tmp_path / "a.png")
    assert result.code == 0, result.err
    judged = json.loads(result.out)["judged"]
    assert judged["made"] > 2 * judged["training"] > 0
    assert judged["pictures"] == 200
    assert judged["real"] == 114  # 15 % of each class, rounded up


# --- encoders and folders ---


def test_an_encoder_is_lent(neocog: Command, made: Path, tmp_path: Path) -> None:
    words = ("train", made / "data", "--encoder", made / "plain", "--device", "cpu", "--epochs", 2)
    result = neocog(*words, "--regime", "features", "--out", tmp_path / "run")
    assert result.code == 0, result.err
    run = package.Run.open(tmp_path / "run")
    assert (run.card.task, run.config.model, run.config.latent, run.config.image_size) == (
        "classification", "conv_ae", 6, 16,
    )  # fmt: skip
    before, after = package.Run.open(made / "plain").network().state_dict(), run.network().state_dict()
    assert all(torch.equal(after[key], before[key]) for key in after if not key.startswith("head.fc"))
    again = package.train(made / "data", encoder=made / "plain", regime="features", epochs=2, device="cpu",
                          out=tmp_path / "again")  # fmt: skip
    assert isinstance(again, package.Run)
    assert again.metrics("test") == run.metrics("test")
    one_line_error(neocog(*words, "--model", "resnet18"), 2, "brings its own model", "--model")
    one_line_error(neocog("train", made / "data", "--encoder", made / "classifier"), 2, "classifier", "--weights")
    one_line_error(neocog("train", made / "data", "--encoder", tmp_path / "none"), 2, "does not exist")


@pytest.mark.parametrize("split", [False, True])
def test_pictures_need_no_classes(neocog: Command, made: Path, tmp_path: Path, split: bool) -> None:
    flat = tmp_path / "flat"
    for number, path in enumerate(sorted((made / "data" / "red").glob("*.png"))):
        place = flat / ("test" if number % 4 == 0 else "train") if split else flat
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / path.name)
    (flat / "notes.txt").write_text("not a picture")
    words = ("--image-size", 16, "--epochs", 1, "--device", "cpu", "--out", tmp_path / "run")
    result = neocog("train", flat, "--model", "conv_ae", *words)
    assert result.code == 0, result.err
    assert "pictures   60 without classes (train" in result.out
    assert "by class" not in result.out
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "60 without classes" in page
    assert "Pictures per set" in page
    assert "by content with seed 0" in page
    found = package.Run.open(tmp_path / "run").reconstructions("test")
    assert set(found.classes) == {"flat"}
    assert len(found.files) == (15 if split else 9)
    assert neocog("val", tmp_path / "run", "--verify").code == 0
    assert "accuracy on codes" not in (tmp_path / "run" / "report.html").read_text("utf-8")
    refused = neocog("train", flat, "--model", "mnist_convnet", *words[:-1], tmp_path / "other")
    one_line_error(refused, 3, "no class folders")


def test_one_class_is_enough_for_an_autoencoder(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "data" / "red", tmp_path / "one" / "red")
    run = package.train(tmp_path / "one", "conv_ae", out=tmp_path / "run", epochs=1, **SMALL)
    assert isinstance(run, package.Run)
    assert "60 in 1 class<" in run.report.read_text("utf-8")
    assert run.metrics("test")["pictures"] == 9
    with pytest.raises(DataError, match="only one class"):
        package.train(tmp_path / "one", "mnist_convnet", out=tmp_path / "other", epochs=1, image_size=16)
    with pytest.raises(UsageError, match="classifies nothing"):
        list(run.predict([tmp_path / "one"]))


def test_sixteen_channels_from_training_to_use(neocog: Command, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(12):
            tint = draw.integers(0, 200, (1, 1, 16))
            pixels = tint + draw.integers(0, 56, (16, 16, 16))
            np.save(tmp_path / "data" / name / f"{i}.npy", pixels.astype(np.uint8))
    run = tmp_path / "run"
    words = ("--image-size", 16, "--channels", 16, "--epochs", 2, "--device", "cpu", "--noise", "gaussian:0.1")
    result = neocog("train", tmp_path / "data", "--model", "conv_ae", *words, "--out", run)
    assert result.code == 0, result.err
    assert "for the 4,096 of a picture" in result.out
    file = tmp_path / "data" / "a" / "0.npy"
    for command in (
        ("val", run), ("val", run, "--verify"), ("embed", run, file, "--out", tmp_path / "v.npy"),
        ("denoise", run, file, "--out", tmp_path / "better"), ("generate", run, "-n", 4, "--out", tmp_path / "g.png"),
        ("interpolate", run, file, tmp_path / "data" / "b" / "1.npy", "--out", tmp_path / "i.png"),
        ("traverse", run, file, "--out", tmp_path / "t.png"),
        ("train", tmp_path / "data", "--encoder", run, "--regime", "features", "--epochs", 1, "--device", "cpu"),
    ):  # fmt: skip
        result = neocog(*command)
        assert result.code == 0, (command, result.err)
    better = np.load(tmp_path / "better" / "0.npy")
    assert better.shape == (16, 16, 16)
    assert better.dtype == np.uint8
