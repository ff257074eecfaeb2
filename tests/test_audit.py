"""The audit: forty planted faults among five hundred clean pictures are all found, and nothing else is."""

import json
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image, ImageFilter

import pictures
from neocog.data.dataset import Dataset, open_dataset
from pictures import Bytes, encode, varied

CLEAN = 500
CLASSES = ("apple", "boat", "cloud", "door")


def clean_file(seed: int) -> str:
    """The first hundred are the test set."""
    return f"{'test' if seed < 100 else 'train'}/{CLASSES[seed // 4 % 4]}/{seed:03}.png"


def of_class(label: str, split: str) -> list[int]:
    return [seed for seed in range(CLEAN) if clean_file(seed).startswith(f"{split}/{label}/")]


def blurred(pixels: Bytes) -> Bytes:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(7)))


def resized(pixels: Bytes, factor: float) -> Bytes:
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((round(width * factor), round(height * factor)), 3))


def stored(pixels: Bytes) -> bytes:
    return encode(pixels, "PNG", compress_level=1)


def faults() -> tuple[dict[str, tuple[str, bytes]], set[int]]:
    """{file: (kind, content)} of forty faults, and the seeds of the clean pictures that some of them copy."""
    found: dict[str, tuple[str, bytes]] = {}
    used: set[int] = set()
    rgb = varied(9000)
    jpeg = encode(rgb, "JPEG", quality=90)

    def plant(folder: str, name: str, kind: str, content: bytes) -> None:
        found[f"{folder}/{name}"] = kind, content

    def original(label: str, split: str = "train") -> Bytes:
        # Clouds and shapes: stripes and strokes move by half a period when they are cropped.
        seed = next(seed for seed in of_class(label, split) if seed not in used and seed % 4 in (0, 2))
        used.add(seed)
        return varied(seed)

    for name, kind, content in (
        ("half.jpg", "truncated", jpeg[: len(jpeg) // 2]), ("header.jpg", "truncated", jpeg[:60]),
        ("last.jpg", "truncated", jpeg[:-2]), ("empty.jpg", "empty", b""),
        ("page.jpg", "not_an_image", b"<!DOCTYPE html><html></html>"), ("eps.jpg", "not_an_image", b"%!PS-Adobe-3.0\n"),
        ("phone.heic", "unsupported_format", b"\0\0\0\x18ftypheic" + bytes(50)),
        ("bomb.png", "too_many_pixels", pictures.png(50_000, 50_000, 8, 2, b"")),
        ("notes.png", "metadata_bomb", next(case.data for case in pictures.bad() if case.name == "text_bomb.png")),
        ("float.tif", "ambiguous_range", encode(Image.fromarray(rgb[..., 0] / np.float32(255)), "TIFF")),
    ):  # fmt: skip
        plant("train/apple", name, kind, content)
    frames = [Image.fromarray(varied(9100 + i)).resize((60, 50)) for i in range(3)]
    several = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    deep = np.asarray(Image.fromarray(varied(9200)).convert("L")).astype(np.uint16) * 257
    for name, kind, content in (
        ("renamed.jpg", "wrong_suffix", encode(varied(9001), "PNG")),
        ("dot.png", "tiny", encode(varied(9002)[:3, :3], "PNG")),
        ("ribbon.png", "extreme_aspect", encode(np.tile(varied(9003)[:12], (1, 6, 1)), "PNG")),
        ("dance.gif", "multi_frame", several),
        ("deep.png", "sixteen_bit", encode(Image.fromarray(deep), "PNG")),
        ("turned.jpg", "rotated", encode(varied(9004), "JPEG", exif=pictures.exif(6))),
    ):
        plant("train/boat", name, kind, content)
    for number in range(2):
        plant("train/cloud", f"copy{number}.png", "copy", stored(original("cloud")))
        plant("train/door", f"conflict{number}.png", "conflict", stored(original("cloud")))
        plant("train/apple", f"leak{number}.png", "leak", stored(original("apple", "test")))
    for name, pixels, kind in (
        ("again.jpg", original("apple"), "JPEG"), ("smaller.png", resized(original("apple"), 0.7), "PNG"),
        ("larger.png", resized(original("apple"), 1.5), "PNG"),
        ("brighter.png", np.clip(original("apple") * 1.1 + 8, 0, 255).astype(np.uint8), "PNG"),
        ("cropped.png", original("apple")[1:-1, 1:-1], "PNG"),
    ):  # fmt: skip
        plant("train/apple", name, "near_copy", encode(pixels, kind))
    for number in range(2):
        plant("train/boat", f"again{number}.jpg", "near_conflict", encode(original("cloud"), "JPEG", quality=80))
        plant("train/door", f"again{number}.jpg", "near_leak", encode(original("door", "test"), "JPEG", quality=80))
    for number in range(2):
        one = varied(9300 + 4 * number)
        plant("train/cloud", f"night{number}.png", "dark", encode((one / 8).astype(np.uint8), "PNG"))
        plant("train/cloud", f"snow{number}.png", "light", encode((224 + one / 8).astype(np.uint8), "PNG"))
    plant("train/door", "fog0.png", "blurred", encode(blurred(varied(9400)), "PNG"))
    plant("train/door", "fog1.png", "blurred", encode(blurred(varied(9402)), "PNG"))
    plant("train/door", "wall.png", "one_colour", encode(np.full((50, 60, 3), (200, 90, 30), np.uint8), "PNG"))
    plant(
        "train/door",
        "wide.png",
        "odd_shape",
        encode(np.concatenate([varied(9500 + i)[:40, :40] for i in range(4)], 1), "PNG"),
    )
    plant("train/door", "vast.png", "odd_size", encode(resized(varied(9600), 6), "PNG"))
    return found, used


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, dict[str, str], set[str]]:
    """The data set, {file: kind} of the faults, and the clean files that were copied."""
    root = tmp_path_factory.mktemp("planted") / "data"
    found, used = faults()
    files = {clean_file(seed): stored(varied(seed)) for seed in range(CLEAN)}
    for file, content in (files | {file: content for file, (_, content) in found.items()}).items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content)
    data = open_dataset(str(root), max_excluded=0.1, cache_dir=root.parent / "cache")
    return data, {file: kind for file, (kind, _) in found.items()}, {clean_file(seed) for seed in used}


def everything(data: Dataset) -> dict[str, set[str]]:
    """file -> the kinds of all findings it is part of."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for one in data.scan.excluded:
        kinds[one.file].add(one.reason)
    for kept in data.scan.kept:
        kinds[kept.file].update(kept.notes)
    for outlier in data.scan.outliers:
        kinds[data.scan.kept[outlier.row].file].add(outlier.kind)
    for prefix, found in (("", data.scan.duplicates), ("near_", data.scan.near)):
        for where, kind in (("within_class", "copy"), ("across_classes", "conflict"), ("across_splits", "leak")):
            for files in getattr(found, where):
                for file in files:
                    kinds[file].add(prefix + kind)
    return {file: found for file, found in kinds.items() if found}


@pytest.mark.row(24, "copies in a class are counted, conflicts and leaks named, and all copies stay in one set")
@pytest.mark.row(25, "pairs are named; when sets are drawn, near duplicates stay in one")
def test_forty_faults_are_found_and_none_invented(planted: tuple[Dataset, dict[str, str], set[str]]) -> None:
    data, expected, copied = planted
    assert len(expected) == 40
    assert len(data.files) + len(data.scan.excluded) == CLEAN + 40
    found = everything(data)
    missed = {file: (kind, found.get(file)) for file, kind in expected.items() if kind not in found.get(file, set())}
    assert not missed
    invented = {file: kinds for file, kinds in found.items() if file not in expected and file not in copied}
    assert not invented
    assert {kind for file in copied for kind in found[file]} == {
        "copy", "conflict", "leak", "near_copy", "near_conflict", "near_leak",
    }  # fmt: skip
    facts = json.loads(data.scan.to_json())
    assert facts["near_duplicates"]["across_splits"]["count"] == 2
    assert facts["problems"] == 8
