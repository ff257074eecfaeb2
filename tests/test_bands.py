"""Pictures of five bands: decoded as NumPy and tifffile have them, learned from, predicted and shown."""

import base64
import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

import neocog as package
from command import Command, one_line_error
from drawn import colours
from neocog.app.zoo import load_model
from neocog.data.augment import recolour
from neocog.data.dataset import open_dataset
from neocog.data.decode import BadPicture, DecodeOptions, decode
from neocog.data.looks import looks, unpack
from neocog.data.register import same_colours, thumbnail
from neocog.export.bundle import read_card
from pictures import filtered, png

BANDS = 5
SMALL = ("--model", "resnet20", "--channels", BANDS, "--image-size", 16, "--batch-size", 8, "--device", "cpu")
NAMES = ("x", "y", "z")


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def npy(pixels: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    return buffer.getvalue()


def tiff(pixels: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **{"photometric": "minisblack", "planarconfig": "contig"} | options)
    return buffer.getvalue()


def saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write(folder: Path, number: int, seed: int = 0) -> Path:
    """Three classes of 16 x 16 noise that differ in the fifth band only; every second picture is a TIFF."""
    draw = np.random.default_rng(seed)
    for place, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        for i in range(number):
            pixels = draw.integers(0, 90, (16, 16, BANDS), np.uint8)
            pixels[..., 4] += np.uint8(80 * place)
            data = tiff(pixels) if i % 2 else npy(pixels)
            (folder / name / f"{i:02}{'.tif' if i % 2 else '.npy'}").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`: five bands; `source`: a run on colour pictures; `run`: one on `data` that starts from it."""
    place = tmp_path_factory.mktemp("bands")
    write(place / "data", 16)
    colours(place / "before", 16, noise=200, tint=30)
    same: dict[str, Any] = {"image_size": 16, "batch_size": 8, "device": "cpu"}
    package.train(place / "before", "resnet20", out=place / "source", epochs=2, **same)
    package.train(
        place / "data", "resnet20", weights=str(place / "source"), regime="full", channels=BANDS, epochs=6, lr=0.02,
        out=place / "run", **same,
    )  # fmt: skip
    return place


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        None,
        {},
        {"photometric": "rgb"},  # of which Pillow takes three
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 7},
        {"compression": "zlib", "tile": (16, 16)},
        {"planarconfig": "separate", "rowsperstrip": 3},
        {"byteorder": ">"},
        {"bigtiff": True},
    ],
)
def test_bands_are_those_of_the_file(options: dict[str, Any] | None, deep: bool) -> None:
    pixels: NDArray[Any] = noise(20, 30, BANDS)
    if deep:
        pixels = np.random.default_rng(1).integers(0, 2**16, pixels.shape, np.uint16)
    expected = np.rint(pixels / 257) if deep else pixels
    stored = pixels.transpose(2, 0, 1) if options and options.get("planarconfig") == "separate" else pixels
    data = npy(stored) if options is None else tiff(stored, **options)
    found = decode(data, DecodeOptions(BANDS))
    assert np.array_equal(found.pixels, expected)
    assert found.pixels.flags.writeable
    assert found.pixels.flags.c_contiguous
    assert found.notes == (("sixteen_bit",) if deep else ())
    assert found.mode == "5 bands"
    with pytest.raises(BadPicture, match="channels: 5 bands: give --channels 5"):
        decode(data)
    reasons = set()
    for length in range(0, len(data), 41):  # cut anywhere: refused, or all of it
        try:
            assert np.array_equal(decode(data[:length], DecodeOptions(BANDS)).pixels, expected)
        except BadPicture as error:
            reasons.add(error.reason)
    assert {"empty", "truncated"} <= reasons <= {"empty", "truncated", "unsupported_format", "channels"}


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("RGBA", "TIFF"), ("CMYK", "TIFF"), ("LA", "PNG")])
def test_what_pillow_has_is_taken_as_it_is_stored(mode: str, kind: str) -> None:
    pixels = noise(9, 12, len(mode))
    image = Image.merge(mode, [Image.fromarray(np.ascontiguousarray(pixels[..., i])) for i in range(len(mode))])
    found = decode(saved(image, kind), DecodeOptions(len(mode)))
    assert np.array_equal(found.pixels, pixels)
    assert found.notes == ()


def test_deep_grey_with_transparency_has_two_bands() -> None:
    pixels = noise(9, 12, 2)
    data = png(12, 9, 16, 4, filtered((pixels.astype(np.uint16) * 257).reshape(9, -1)))
    found = decode(data, DecodeOptions(2))  # Pillow opens it as RGBA
    assert np.array_equal(found.pixels, pixels)
    assert found.notes == ("sixteen_bit",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bands_are_turned_upright_as_colours_are(orientation: int) -> None:
    pixels = noise(9, 12, BANDS)
    tag = [(274, "H", 1, orientation, True)]
    expected = decode(tiff(pixels[..., :3], photometric="rgb", extratags=tag)).pixels
    found = decode(tiff(pixels, extratags=tag), DecodeOptions(BANDS))
    assert np.array_equal(found.pixels[..., :3], expected)
    assert ("rotated" in found.notes) == (orientation > 1)


@pytest.mark.parametrize("shape", [(9, 12), (9, 12, 1), (9, 12, 3)])
def test_an_array_of_colour_or_grey_is_an_ordinary_picture(shape: tuple[int, ...]) -> None:
    pixels = noise(*shape)
    as_png = saved(Image.fromarray(pixels.squeeze()), "PNG")
    for channels in (1, 3):
        options = DecodeOptions(channels)
        for stored in (pixels, np.asfortranarray(pixels)):
            assert np.array_equal(decode(npy(stored), options).pixels, decode(as_png, options).pixels)


def claims(shape: tuple[int, ...], kind: str = "|u1") -> bytes:
    """A header with a few bytes behind it."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(100)


def bomb() -> bytes:
    """A TIFF that claims 40 of its 4,000 rows, all in one strip."""
    data = tiff(np.zeros((4000, 40, BANDS), np.uint8), compression="zlib", rowsperstrip=4000)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        rows = file.pages[0].tags[257]
    return data[: rows.valueoffset] + bytes([40, 0]) + data[rows.valueoffset + 2 :]


NOISE = noise(20, 30, BANDS)
BAD = {
    "three bands": (npy(NOISE[..., :3]), "channels", "3 bands, not 5"),
    "one band": (npy(NOISE[..., 0]), "channels", "1 band, not 5"),
    "three in a TIFF": (tiff(NOISE[..., :3], photometric="rgb"), "channels", "3 bands, not 5"),
    "four in a PNG": (saved(Image.fromarray(NOISE[..., :4]), "PNG"), "channels", "4 bands, not 5"),
    "floats": (npy(NOISE / 255), "ambiguous_range", "0..255"),
    "half": (npy(NOISE.astype(np.float16)), "ambiguous_range", "0..255"),
    "floats in a TIFF": (tiff((NOISE / 255).astype(np.float32)), "ambiguous_range", "0..255"),
    "whole numbers": (npy(NOISE.astype(np.int64)), "unsupported_format", "int64"),
    "32 bits in a TIFF": (tiff(NOISE.astype(np.uint32)), "unsupported_format", "uint32"),
    "objects": (npy(NOISE.astype(object)), "unsupported_format", "object"),
    "records": (npy(np.zeros((4, 4), [("a", "u1")])), "unsupported_format", "plain numbers"),
    "four axes": (npy(NOISE[None]), "unsupported_format", "4 axes"),
    "no pixels": (npy(NOISE[:0]), "empty", "30 x 0"),
    "cut": (npy(NOISE)[:-1], "truncated", "bytes"),
    "too long": (npy(NOISE) + b"\0", "truncated", "bytes"),
    "cut in its header": (npy(NOISE)[:40], "truncated", "header"),
    "a huge claim": (claims((10**6, 10**6, BANDS)), "too_many_pixels", "1000000 x 1000000"),
    "beyond 64 bits": (claims((10**30, 10**30, BANDS)), "too_many_pixels", "max_pixels"),
    "a bomb": (bomb(), "too_many_pixels", "a part"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_bands_are_refused_with_their_reason(name: str) -> None:
    data, reason, words = BAD[name]
    with pytest.raises(BadPicture) as caught:
        decode(data, DecodeOptions(BANDS))
    assert caught.value.reason == reason
    assert words in caught.value.detail


def test_a_compression_that_wants_another_package_is_named() -> None:
    buffer = io.BytesIO()
    Image.fromarray(NOISE[..., :4]).save(buffer, "TIFF", compression="tiff_lzw")
    if "imagecodecs" in sys.modules:
        pytest.skip("imagecodecs is there")
    with pytest.raises(BadPicture, match=r"unsupported_format: .*LZW.*imagecodecs"):
        decode(buffer.getvalue(), DecodeOptions(4))


@pytest.mark.parametrize("resident", [False, True])
def test_bands_are_kept_and_equal_ones_once(tmp_path: Path, resident: bool) -> None:
    pixels = noise(6, 12, 16, BANDS)
    pixels[::2] = pixels[::2, ..., :1]
    for i, one in enumerate(pixels):
        (tmp_path / "data" / "ab"[i // 3]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "ab"[i // 3] / f"{i}.npy").write_bytes(npy(one))
    data = open_dataset(str(tmp_path / "data"), DecodeOptions(BANDS), cache_dir=tmp_path / "cache", resident=resident)
    assert np.array_equal([data.store.picture(i).permute(1, 2, 0).numpy() for i in range(6)], pixels)
    assert (data.channels, data.grey) == (BANDS, False)
    assert sum(file.stat().st_size for file in tmp_path.glob("cache/*/pixels.bin")) == 3 * 12 * 16 * (1 + BANDS)
    mean, std = data.mean_std(np.arange(6))
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)) / 255, rtol=1e-6)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 1, 2)) / 255, rtol=1e-6)


def test_looks_see_every_band() -> None:
    pixels = noise(2, 40, 40, BANDS)
    pixels[:, :, 20:, 4] //= 8
    pixels[1] = pixels[0][..., [4, 0, 1, 2, 3]]  # the same mean, other bands
    grey = np.floor(pixels.mean(axis=3))[..., None].astype(np.uint8)
    assert looks(pixels) == looks(grey)
    assert unpack(looks(pixels))["signature"].any()
    (first, bands), (second, others) = (thumbnail(torch.from_numpy(one).permute(2, 0, 1)) for one in pixels)
    np.testing.assert_allclose(first, second, atol=1)
    assert same_colours(bands[None], bands[None])[0]
    assert not same_colours(bands[None], others[None])[0]


def test_bands_change_brightness_and_contrast_alike() -> None:
    pixels = torch.from_numpy(noise(1, BANDS, 6, 6))
    found = recolour(pixels.float(), pixels, np.array([[0.9, 0.2, 0.7]]), 0.5)[0].numpy()
    brightness, contrast = 1 + 0.5 * 0.8, 1 - 0.5 * 0.6
    values = pixels[0].numpy() * brightness
    expected = contrast * values + (1 - contrast) * values.mean()
    np.testing.assert_allclose(found, expected.clip(0, 255), rtol=1e-4)


def test_grey_in_five_bands_is_answered_as_grey_in_three(made: Path) -> None:
    three = load_model("resnet20", weights=str(made / "source")).network.eval()
    five = load_model("resnet20", weights=str(made / "source"), in_channels=BANDS).network.eval()
    grey = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = three(grey.expand(-1, 3, -1, -1))
        assert expected.std(dim=0).max() > 0.01
        torch.testing.assert_close(five(grey.expand(-1, BANDS, -1, -1)), expected, rtol=1e-4, atol=1e-4)


def test_from_nothing_it_sees_the_band_that_colour_does_not(neocog: Command, made: Path) -> None:
    result = neocog("train", made / "data", *SMALL, "--epochs", 6, "--lr", 0.02, "--colour", 0.1, "--out", "run")
    assert result.code == 0, result.err
    assert "48 in 3 classes" in result.out
    assert "5 channels; 0 excluded" in result.out
    assert "a picture of 5 x 16 x 16" in result.out
    assert "change brightness and contrast alike" in result.out
    assert package.Run.open("run").metrics("test")["top1"] > 0.7
    assert re.search(r'^channels = "5"$', Path("run/config.toml").read_text(), re.MULTILINE)
    assert len(read_card(Path("run/model")).preprocessing.mean) == BANDS


@pytest.mark.parametrize("words", [("--regime", "features"), ("--regime", "full", "--epochs", 1)])
def test_pretrained_filters_are_repeated_and_it_is_said(neocog: Command, made: Path, words: tuple[object, ...]) -> None:
    result = neocog("train", made / "data", *SMALL, "--weights", made / "source", *words, "--out", "run")
    assert result.code == 0, result.err
    note = "filters repeated, each divided by its copies, for 5 channels (the weights had 3)"
    assert note in " ".join(result.out.split())
    assert note in Path("run/report.html").read_text()
    assert neocog("val", "run", "--verify", "--json").code == 0


def test_predict_val_and_report(neocog: Command, made: Path) -> None:
    run = made / "run"
    assert package.Run.open(run).metrics("test")["top1"] > 0.7
    rows = [json.loads(line) for line in neocog("predict", run, made / "data" / "z", "--json").out.splitlines()]
    assert len(rows) == 16
    assert [row["answers"][0]["label"] for row in rows].count("z") > 12
    strange = neocog("predict", run, made / "before" / "red" / "00.png", "--json")
    assert "3 bands, not 5" in strange.out
    assert json.loads(neocog("val", run, "--json").out)["top1"] == package.Run.open(run).metrics("test")["top1"]
    whole = neocog("val", run, made / "data", "--split", "all", "--json")
    assert json.loads(whole.out)["pictures"] == 48
    pictures = re.findall(r'data:image/png;base64,([^"]+)"', (run / "report.html").read_text())
    modes = {Image.open(io.BytesIO(base64.b64decode(one))).mode for one in pictures}
    assert "RGB" in modes  # the first three bands


def test_resume_goes_on_with_five_bands(neocog: Command, made: Path) -> None:
    shutil.copytree(made / "run", "run")
    result = neocog("resume", "run", "--epochs", 7)
    assert result.code == 0, result.err
    assert package.Run.open("run").card.in_channels == BANDS


def test_compare_and_check_take_five_bands(neocog: Command, made: Path) -> None:
    result = neocog("compare", made / "data", "--models", "resnet20,mnist_fcn", "--channels", BANDS, "--image-size", 16,
                    "--epochs", 1, "--device", "cpu", "--out", "compared")  # fmt: skip
    assert result.code == 0, result.err
    found = json.loads(neocog("check", made / "data", "--channels", BANDS, "--out", "check", "--json").out)
    assert found["pictures"] == 48
    assert found["modes"] == {"5 bands": 48}
    assert found["near_duplicates"]["across_classes"] == []


def test_the_wrong_number_of_channels_is_said_with_the_right_one(neocog: Command, made: Path) -> None:
    words = ("train", made / "data", "--model", "resnet20", "--device", "cpu", "--out", "run")
    one_line_error(neocog(*words), 3, "5 bands: give --channels 5")
    one_line_error(neocog(*words, "--channels", 4), 3, "5 bands, not 4", "--channels")
    one_line_error(neocog(*words, "--channels", 3), 2, "use rgb")
    one_line_error(neocog(*words, "--channels", 65), 2, "2 to 64")
    one_line_error(neocog("check", made / "data"), 3, "give --channels 5")
    one_line_error(neocog("train", "digits", "--model", "mnist_fcn", "--channels", 5, "--out", "run"), 3, "not 5")


@pytest.mark.row(41, "what needs it stops with one line that names the `pip install`")
def test_without_tifffile_it_says_what_to_install(neocog: Command, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))  # which knows no decoded pictures
    words = ("check", made / "data", "--out", "check")
    one_line_error(neocog(*words, "--channels", BANDS), 2, 'pip install "neocog[bands]"')
    one_line_error(neocog(*words), 3, "5 bands: give --channels 5")
