"""Decoding against hand-computed pixels, and every kind of broken file against its reason."""

import contextlib
import os
import subprocess
import sys
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

import pictures
from neocog.core.errors import DataError
from neocog.data import decode as module
from neocog.data.decode import BadPicture, DecodeOptions, decode
from neocog.data.source import open_source

GOOD = pictures.good()
BAD = pictures.bad()


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
@pytest.mark.row(5, "noted `tiny` or `extreme_aspect`; decoded")
@pytest.mark.row(8, "an EXIF block that loops is read up to the orientation and no further")
@pytest.mark.row(
    9,
    "the colours that a person sees, at most 24 levels off for lossy CMYK; alpha laid on the background; noted `alpha`",
)
@pytest.mark.row(10, "16 bits are scaled, never clipped; noted `sixteen_bit`")
@pytest.mark.row(11, "the first frame; noted `multi_frame`")
@pytest.mark.row(12, "1 to 8 turned upright and noted `rotated`; 99 and damaged EXIF change nothing")
def test_good_picture_has_the_pixels_a_person_sees(case: pictures.Good, tmp_path: Path) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.data)
    found = decode(path)
    assert found.pixels.dtype == np.uint8
    assert found.pixels.shape == case.pixels.shape
    assert np.abs(found.pixels.astype(int) - case.pixels.astype(int)).max() <= case.tolerance
    assert found.mode == case.mode
    assert set(found.notes) == case.notes
    assert found.pixels.flags.writeable
    assert found.pixels.flags.c_contiguous


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_grey_is_the_luma_of_the_colour(case: pictures.Good) -> None:
    colour, grey = decode(case.data), decode(case.data, DecodeOptions(channels=1))
    assert grey.pixels.shape == (*colour.pixels.shape[:2], 1)
    assert np.abs(grey.pixels[..., 0].astype(int) - pictures.grey(colour.pixels)).max() <= 1


@pytest.mark.parametrize(("name", "rgb"), [("black", (0, 0, 0)), ("grey", (128, 128, 128)), ("#ff8000", (255, 128, 0))])
def test_transparency_shows_the_background(name: str, rgb: tuple[int, int, int]) -> None:
    colour, alpha = pictures.photo(), np.tile(np.linspace(0, 255, pictures.W).astype(np.uint8), (pictures.H, 1))
    data = pictures.encode(np.dstack([colour, alpha]), "PNG")
    expected = pictures.over(colour, alpha, rgb)
    assert np.abs(decode(data, DecodeOptions(background=name)).pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
@pytest.mark.row(1, "excluded `truncated`")
@pytest.mark.row(2, "excluded `empty`")
@pytest.mark.row(3, "excluded `not_an_image`")
@pytest.mark.row(6, "excluded `too_many_pixels`, from the header")
@pytest.mark.row(7, "excluded `too_many_pixels`: the limit is 64 million, `max_pixels` changes it")
@pytest.mark.row(8, "a text bomb is excluded `metadata_bomb`")
@pytest.mark.row(10, "floats and 32-bit numbers are excluded `ambiguous_range`")
def test_bad_picture_is_refused_with_its_reason(case: pictures.Bad, tmp_path: Path) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.data)
    with pytest.raises(BadPicture) as caught:
        decode(path)
    assert caught.value.reason == case.reason
    assert caught.value.detail


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.row(1, "cut anywhere: refused, or all of its pixels")
def test_a_file_cut_anywhere_is_refused_or_complete(kind: str) -> None:
    whole = pictures.encode(pictures.photo(40, 40), kind)
    pixels = decode(whole).pixels
    reasons: Counter[str] = Counter()
    for length in sorted({len(whole) * i // 64 for i in range(64)} | {len(whole) - i for i in range(1, 13)}):
        try:
            found = decode(whole[:length]).pixels
        except BadPicture as error:
            reasons[error.reason] += 1
        else:
            assert (found == pixels).all(), length
    # A TIFF cut inside its list of tags looks like one with tags that nobody knows.
    assert set(reasons) <= {"truncated", "empty", "not_an_image"} | (
        {"unsupported_format"} if kind == "TIFF" else set()
    )
    assert reasons["truncated"] >= 50


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([case for case in GOOD if len(case.data) < 20_000]), st.data())
def test_damaged_bytes_raise_nothing_but_bad_picture(case: pictures.Good, draw: st.DataObject) -> None:
    data = bytearray(case.data)
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(BadPicture):
        assert decode(bytes(data), DecodeOptions(max_pixels=10**6)).pixels.shape[2] == 3


def test_the_limit_is_ours_and_not_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pictures.encode(pictures.photo(50, 50), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(data).pixels.shape == (50, 50, 3)
    assert decode(data, DecodeOptions(max_pixels=2500)).pixels.shape == (50, 50, 3)
    with pytest.raises(BadPicture, match="too_many_pixels: 50 x 50"):
        decode(data, DecodeOptions(max_pixels=2499))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory as Linux counts it")
@pytest.mark.row(6, "in less than 50 MB")
@pytest.mark.row(8, "in less than 50 MB")
def test_bombs_cost_no_memory(tmp_path: Path) -> None:
    names = [case.name for case in BAD if case.reason in ("too_many_pixels", "metadata_bomb")]
    for case in BAD:
        (tmp_path / case.name).write_bytes(case.data)
    code = (
        "import resource, sys; from pathlib import Path; from neocog.data.decode import *\n"
        "decode(Path(sys.argv[1])); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for name in sys.argv[2:]:\n"
        "    try: decode(Path(name)); sys.exit('decoded')\n"
        "    except BadPicture: pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    (tmp_path / "fine.png").write_bytes(GOOD[0].data)
    run = [sys.executable, "-c", code, "fine.png", *names]
    growth = int(subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    assert growth < 50_000  # kB


@pytest.mark.row(17, "`not_regular_file`, without waiting")
def test_things_that_are_no_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    reasons = {}

    def look() -> None:
        for path in sorted(tmp_path.iterdir()):
            try:
                decode(path)
            except BadPicture as error:
                reasons[path.name] = error.reason

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "it waits for a pipe"
    assert reasons == {
        "pipe.jpg": "not_regular_file",
        "folder.jpg": "not_regular_file",
        "loop.jpg": "missing",
        "dangling.jpg": "missing",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(GOOD[0].data)
    path.chmod(0)
    with pytest.raises(BadPicture, match="permission"):
        decode(path)


@pytest.mark.row(33, "three tries, then one line that names the file (exit 3)")
def test_a_disk_that_does_not_answer_stops_after_three_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tries = tmp_path / "a.png", []
    path.write_bytes(GOOD[0].data)

    def broken(self: Path) -> bytes:
        tries.append(self)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(DataError, match=r"a\.png cannot be read \(Input/output error\)"):
        module.read_bytes(path, DecodeOptions(), pause=0)
    assert len(tries) == 3


def test_many_threads_leave_warnings_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow would warn at every picture
    before = list(warnings.filters)
    chosen = [case for case in GOOD if "clear" in case.name or "exif_cut" in case.name] * 20
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda case: decode(case.data).pixels, chosen))
    for case, pixels in zip(chosen, results, strict=True):
        assert np.abs(pixels.astype(int) - case.pixels.astype(int)).max() <= case.tolerance
    assert warnings.filters == before


def test_pillow_set_to_accept_truncated_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RuntimeError, match="grey filler"):
        decode(GOOD[0].data)


@pytest.mark.row(4, "used by its content; noted `wrong_suffix`")
def test_suffix_is_compared_with_content() -> None:
    case = next(case for case in GOOD if case.name == "rgb.png")
    assert decode(case.data, name="a.PNG").notes == ()
    assert decode(case.data, name="a").notes == ()
    assert decode(case.data, name="a.jpeg").notes == ("wrong_suffix",)


def test_options_are_values() -> None:
    assert replace(DecodeOptions(), channels=1) == DecodeOptions(channels=1)
    assert DecodeOptions(background="#0a0B0c").rgb() == (10, 11, 12)


@pytest.mark.row(13, "converted to sRGB, as everywhere where pictures are decoded; noted `icc`")
def test_a_wide_gamut_is_converted_to_srgb() -> None:
    """Colours that sRGB can show, by matrices: Display P3 -> XYZ (D50) -> sRGB, whose curve both share."""
    stored = np.array([[[200, 120, 100], [90, 140, 90], [60, 80, 150], [128, 128, 128]]], np.uint8)
    p3 = np.array([pictures.DISPLAY_P3[tag] for tag in (b"rXYZ", b"gXYZ", b"bXYZ")]).T
    srgb = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
    value = stored / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    linear = linear @ p3.T @ np.linalg.inv(srgb).T
    expected = 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clip(0) ** (1 / 2.4) - 0.055)
    found = decode(pictures.encode(stored, "PNG", icc_profile=pictures.display_p3_profile()))
    assert "icc" in found.notes
    assert np.abs(found.pixels - expected).max() <= 2
    assert np.abs(found.pixels.astype(int) - stored).max() >= 8, "the profile changed nothing"


@pytest.mark.row(11, "with `frames` set to error: excluded `multi_frame`")
def test_files_of_several_frames_can_be_refused() -> None:
    several = [case for case in GOOD if "multi_frame" in case.notes]
    assert len(several) >= 4
    for case in several:
        with pytest.raises(BadPicture, match="multi_frame"):
            decode(case.data, DecodeOptions(frames="error"))
    assert decode(GOOD[0].data, DecodeOptions(frames="error")).notes == ()


@pytest.mark.row(18, "excluded `permission`; a folder that cannot be read is exit 3 with its name")
def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pictures.write_classes(tmp_path / "data", {"a": 1, "b": 1})

    def refused(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refused)
        with pytest.raises(BadPicture, match="permission: no permission"):
            decode(root / "a" / "0.png")
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: refused() if Path(path).name == "b" else listed(path))
    with pytest.raises(DataError, match=r"the folder .*/b cannot be read \(Permission denied\)"):
        open_source(str(root))
