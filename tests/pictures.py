"""Odd pictures, made on the fly: what cameras, scanners, browsers and broken disks leave in folders.

GOOD are files with the pixels that a person would see in them; BAD are files with the reason to refuse them.
Expected pixels are computed here with NumPy from the definition of each kind, not with the code under test.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageDraw, ImageOps

Bytes = NDArray[np.uint8]
H, W = 24, 36


def photo(height: int = H, width: int = W, seed: int = 0) -> Bytes:
    """A smooth colour picture, uint8 (height, width, 3): it survives JPEG, and no turn maps it to itself."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    a, b, c = rng.uniform(0.5, 2, 3)
    planes = [np.sin(a + 3 * x) ** 2, np.cos(b + 2 * y + x) ** 2, 0.3 + 0.6 * x * y + 0.1 * np.sin(c)]
    return (np.clip(np.stack(planes, -1), 0, 1) * 255).astype(np.uint8)


def grey(rgb: Bytes) -> Bytes:
    """ITU-R 601 luma, rounded, (H, W)."""
    return np.rint(rgb @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


def encode(image: Image.Image | Bytes, kind: str, **options: Any) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def over(rgb: Bytes, alpha: Bytes, background: tuple[int, int, int] = (255, 255, 255)) -> Bytes:
    share = alpha[..., None] / 255
    return np.rint(rgb * share + np.array(background) * (1 - share)).astype(np.uint8)


def three(plane: Bytes) -> Bytes:
    return np.repeat(plane[..., None], 3, axis=2)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand: `colour` 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA; `extra` chunks come first."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def filtered(pixels: NDArray[Any]) -> bytes:
    """PNG rows without prediction: a zero byte, then the samples, big end first."""
    return b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)


def exif(orientation: int) -> bytes:
    return b"Exif\0\0" + b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def looping_exif() -> bytes:
    """Two directories that name each other as the next, and themselves as their own inner directory."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    first = struct.pack("<H", 1) + entry + struct.pack("<I", 26)
    second = struct.pack("<H", 1) + entry + struct.pack("<I", 8)
    return b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + first + second


@dataclass
class Good:
    name: str
    data: bytes
    pixels: Bytes  # (H, W, 3)
    tolerance: int = 0
    mode: str = "RGB"
    notes: set[str] = field(default_factory=set)
    suffix: str = ".png"


@dataclass
class Bad:
    name: str
    data: bytes
    reason: str


def good() -> list[Good]:
    rgb = photo()
    plane = grey(rgb)
    alpha = np.tile(np.linspace(0, 255, W).astype(np.uint8), (H, 1))
    rgba = np.dstack([rgb, alpha])
    deep = (plane.astype(np.uint16) << 8) + np.arange(W, dtype=np.uint16)
    deep8 = np.rint(deep / 257).astype(np.uint8)
    image = Image.fromarray(rgb)
    palette = image.quantize(16)
    shown = np.asarray(palette.convert("RGB"))
    index = np.asarray(palette)
    jpeg = encode(rgb, "JPEG", quality=92)
    seen = np.asarray(Image.open(io.BytesIO(jpeg)))
    cmyk = encode(image.convert("CMYK"), "JPEG", quality=95)
    frames = [Image.fromarray(photo(seed=seed)) for seed in range(3)]
    few = [frame.quantize(64) for frame in frames]
    several: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    cases = [
        Good("rgb.png", encode(rgb, "PNG"), rgb),
        Good("rgb.jpg", jpeg, seen, suffix=".jpg"),
        Good("progressive.jpg", encode(rgb, "JPEG", quality=95, progressive=True), rgb, 24, suffix=".jpg"),
        Good("rgb.bmp", encode(rgb, "BMP"), rgb, suffix=".bmp"),
        Good("rgb.tif", encode(rgb, "TIFF"), rgb, suffix=".tif"),
        Good("lzw.tiff", encode(rgb, "TIFF", compression="tiff_lzw"), rgb, suffix=".tiff"),
        Good("lossless.webp", encode(rgb, "WEBP", lossless=True), rgb, suffix=".webp"),
        Good("rgb.ppm", encode(rgb, "PPM"), rgb, suffix=".ppm"),
        Good(
            "text.pgm", b"P2\n2 1\n255\n0 255\n", np.array([[[0] * 3, [255] * 3]], np.uint8), 0, "L", {"tiny"}, ".pgm",
        ),
        Good("grey.png", encode(plane, "PNG"), three(plane), mode="L"),
        Good("grey.jpg", encode(plane, "JPEG", quality=98), three(plane), 6, "L", suffix=".jpg"),
        Good("one_bit.png", encode(Image.fromarray(plane > 99), "PNG"), three(np.where(plane > 99, 255, 0)), mode="1"),
        Good("grey_alpha.png", encode(np.dstack([plane, alpha]), "PNG"), over(three(plane), alpha), 1, "LA", {"alpha"}),
        Good("rgba.png", encode(rgba, "PNG"), over(rgb, alpha), 1, "RGBA", {"alpha"}),
        Good(
            "rgba.webp", encode(rgba, "WEBP", lossless=True, exact=True), over(rgb, alpha), 1, "RGBA", {"alpha"},
            ".webp",
        ),
        Good("rgba.tif", encode(rgba, "TIFF"), over(rgb, alpha), 1, "RGBA", {"alpha"}, ".tif"),
        Good("opaque.png", encode(np.dstack([rgb, np.full_like(alpha, 255)]), "PNG"), rgb, mode="RGBA"),
        Good("palette.png", encode(palette, "PNG"), shown, mode="P"),
        Good("palette.gif", encode(palette, "GIF"), shown, mode="P", suffix=".gif"),
        Good(
            "palette_one_clear.png", encode(palette, "PNG", transparency=3),
            np.where((index == 3)[..., None], 255, shown).astype(np.uint8), 0, "P", {"alpha"},
        ),
        Good(
            "palette_clear.png", encode(palette, "PNG", transparency=bytes(range(0, 160, 10))),
            over(shown, (index * 10).astype(np.uint8)), 1, "P", {"alpha"},
        ),
        Good(
            "rgb_key.png", png(2, 1, 8, 2, b"\0\1\2\3\4\5\6", (b"tRNS", b"\0\4\0\5\0\6")),
            np.array([[[1, 2, 3], [255] * 3]], np.uint8), 0, "RGB", {"alpha", "tiny"},
        ),
        Good("sixteen.png", png(W, H, 16, 0, filtered(deep)), three(deep8), 0, "I;16", {"sixteen_bit"}),
        Good(
            "sixteen_key.png", png(2, 1, 16, 0, b"\0\x80\0\x40\0", (b"tRNS", b"\x40\0")),
            np.array([[[128] * 3, [255] * 3]], np.uint8), 0, "I;16", {"sixteen_bit", "alpha", "tiny"},
        ),
        Good("sixteen.tif", encode(Image.fromarray(deep), "TIFF"), three(deep8), 0, "I;16", {"sixteen_bit"}, ".tif"),
        Good(
            "sixteen_big_end.tif", encode(Image.fromarray(deep.astype(">u2")), "TIFF"), three(deep8), 0, "I;16B",
            {"sixteen_bit"}, ".tif",
        ),
        Good(
            "sixteen.pgm", b"P5 %d %d 65535\n" % (W, H) + deep.astype(">u2").tobytes(), three(deep8), 0, "I",
            {"sixteen_bit"}, ".pgm",
        ),
        Good(
            "twelve.pgm", b"P5 2 1 4095\n" + np.array([4095, 2048], ">u2").tobytes(),
            np.array([[[255] * 3, [128] * 3]], np.uint8), 1, "I", {"sixteen_bit", "tiny"}, ".pgm",
        ),
        Good(
            "sixteen_rgb.png", png(W, H, 16, 2, filtered(rgb.astype(np.uint16).reshape(H, -1) * 257)), rgb, 1, "RGB",
            {"sixteen_bit"},
        ),
        Good("cmyk.jpg", cmyk, rgb, 24, "CMYK", suffix=".jpg"),
        Good("cmyk.tif", encode(image.convert("CMYK"), "TIFF"), rgb, 2, "CMYK", suffix=".tif"),
        Good("ycbcr.tif", encode(image.convert("YCbCr"), "TIFF"), rgb, 3, "YCbCr", suffix=".tif"),
        Good(
            "frames.gif", encode(few[0], "GIF", save_all=True, append_images=few[1:]),
            np.asarray(few[0].convert("RGB")), 0, "P", {"multi_frame"}, ".gif",
        ),
        Good(
            "frames.webp", encode(frames[0], "WEBP", lossless=True, **several), photo(), 0, "RGB", {"multi_frame"},
            ".webp",
        ),
        Good("frames.png", encode(frames[0], "PNG", **several), photo(), 0, "RGB", {"multi_frame"}),
        Good("pages.tif", encode(frames[0], "TIFF", **several), photo(), 0, "RGB", {"multi_frame"}, ".tif"),
        Good("png_called.jpg", encode(rgb, "PNG"), rgb, 0, "RGB", {"wrong_suffix"}, ".jpg"),
        Good("one.png", encode(rgb[:1, :1], "PNG"), rgb[:1, :1], 0, "RGB", {"tiny"}),
        Good("line.png", encode(photo(1, 5000), "PNG"), photo(1, 5000), 0, "RGB", {"tiny", "extreme_aspect"}),
        Good("srgb.png", encode(rgb, "PNG", icc_profile=srgb_profile()), rgb),
        Good("broken_profile.png", encode(rgb, "PNG", icc_profile=b"no profile at all"), rgb, 0, "RGB", {"icc_broken"}),
        Good(
            "red_green_swapped.png", encode(rgb, "PNG", icc_profile=swapped_profile()), rgb[..., [1, 0, 2]], 4, "RGB",
            {"icc"},
        ),
        Good("exif_99.jpg", encode(rgb, "JPEG", quality=92, exif=exif(99)), seen, suffix=".jpg"),
        Good("exif_loop.jpg", encode(rgb, "JPEG", quality=92, exif=looping_exif()), seen, suffix=".jpg"),
        Good("exif_cut.jpg", encode(rgb, "JPEG", quality=92, exif=exif(6)[:17]), seen, suffix=".jpg"),
    ]  # fmt: skip
    return cases + [turned(kind, value) for kind in ("JPEG", "PNG", "WEBP", "TIFF") for value in range(1, 9)]


def turned(kind: str, value: int) -> Good:
    """A picture whose EXIF says how to hold it; Pillow's exif_transpose is the judge."""
    options: dict[str, Any] = {"JPEG": {"quality": 92}, "WEBP": {"lossless": True}}.get(kind, {})
    if kind == "TIFF":
        tags = Image.Exif()
        tags[0x0112] = value
        data = encode(photo(), kind, exif=tags)
    else:
        data = encode(photo(), kind, exif=exif(value), **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    suffix = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif"}[kind]
    return Good(
        f"turned_{value}{suffix}", data, upright, 0, "RGB", {"rotated"} - ({"rotated"} if value == 1 else set()), suffix
    )


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """sRGB with red and green exchanged, under another name: conversion must exchange them back."""
    profile = bytearray(srgb_profile())
    count = struct.unpack_from(">I", profile, 128)[0]
    entries = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    for a, b in ((b"rXYZ", b"gXYZ"), (b"rTRC", b"gTRC")):
        where_a, where_b = entries[a] + 4, entries[b] + 4
        profile[where_a : where_a + 8], profile[where_b : where_b + 8] = (
            bytes(profile[where_b : where_b + 8]),
            bytes(profile[where_a : where_a + 8]),
        )
    return (
        bytes(profile)
        .replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
        .replace(b"sRGB built", b"swap built")
    )


def display_p3_profile() -> bytes:
    """sRGB's profile with the primaries of Display P3 (adapted to D50, as ICC profiles are), under another name."""
    profile = bytearray(srgb_profile())
    count = struct.unpack_from(">I", profile, 128)[0]
    for i in range(count):
        tag, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * i)
        if tag in DISPLAY_P3:
            for place, value in enumerate(DISPLAY_P3[tag]):
                struct.pack_into(">i", profile, offset + 8 + 4 * place, round(value * 65536))
    return (
        bytes(profile)
        .replace("sRGB".encode("utf-16-be"), "disp".encode("utf-16-be"))
        .replace(b"sRGB built", b"disp built")
    )


# XYZ of the primaries, relative to D50: the rXYZ, gXYZ and bXYZ tags of Apple's "Display P3" profile.
DISPLAY_P3 = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}


def bad() -> list[Bad]:
    rgb = photo(64, 64)
    jpeg, whole = encode(rgb, "JPEG"), encode(rgb, "PNG")
    text_bomb = zlib.compress(b"a" * 2_000_000)
    huge = struct.pack("<2sIHHIIiiHHIIIIII", b"BM", 100, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0)
    return [
        Bad("half.jpg", jpeg[: len(jpeg) // 2], "truncated"),
        Bad("header_only.jpg", jpeg[:100], "truncated"),
        Bad("two_bytes_missing.jpg", jpeg[:-2], "truncated"),
        Bad("two_bytes.jpg", b"\xff\xd8", "truncated"),
        Bad("half.png", whole[: len(whole) // 2], "truncated"),
        Bad("header_only.png", whole[:20], "truncated"),
        Bad("half.webp", encode(rgb, "WEBP")[:200], "truncated"),
        Bad("half.gif", encode(rgb, "GIF")[:900], "truncated"),
        Bad("half.bmp", encode(rgb, "BMP")[:5000], "truncated"),
        Bad("half.tif", encode(rgb, "TIFF", compression="tiff_lzw")[:2000], "truncated"),
        Bad("half.ppm", encode(rgb, "PPM")[:5000], "truncated"),
        Bad("empty.jpg", b"", "empty"),
        Bad("text.jpg", b"just some words, and no picture\n" * 9, "not_an_image"),
        Bad("page.jpg", b"<!DOCTYPE html><html><body>404</body></html>", "not_an_image"),
        Bad("drawing.png", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_image"),
        Bad("script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not_an_image"),
        Bad("paper.jpg", b"%PDF-1.4\n%...", "not_an_image"),
        Bad("phone.heic", b"\0\0\0\x18ftypheic" + bytes(50), "unsupported_format"),
        Bad("bomb.png", png(50_000, 50_000, 8, 2, b""), "too_many_pixels"),
        Bad("large.png", png(12_000, 12_000, 8, 2, b""), "too_many_pixels"),
        Bad("claims.png", png(2**31 - 1, 2**31 - 1, 8, 2, b""), "too_many_pixels"),
        Bad("claims.bmp", huge, "too_many_pixels"),
        Bad("text_bomb.png", png(1, 1, 8, 0, b"\0\0", (b"zTXt", b"a\0\0" + text_bomb)), "metadata_bomb"),
        Bad("itext_bomb.png", png(1, 1, 8, 0, b"\0\0", (b"iTXt", b"a\0\1\0\0\0" + text_bomb)), "metadata_bomb"),
        Bad("float.tif", encode(Image.fromarray(rgb[..., 0] / np.float32(255)), "TIFF"), "ambiguous_range"),
        Bad("int32.tif", encode(Image.fromarray(rgb[..., 0].astype(np.int32)), "TIFF"), "ambiguous_range"),
    ]  # fmt: skip


def write_classes(root: Path, counts: dict[str, int], size: tuple[int, int] = (20, 20), kind: str = "PNG") -> Path:
    """root/<class>/<i>.png, each picture different."""
    draw: Callable[[int], bytes] = lambda seed: encode(photo(*size, seed=seed), kind)  # noqa: E731
    seed = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            seed += 1
            (root / name / f"{i}.{kind.lower()}").write_bytes(draw(seed))
    return root


def varied(seed: int) -> Bytes:
    """One of many pictures that have nothing in common: clouds, stripes, shapes or strokes, 40 to 80 pixels a side."""
    rng = np.random.default_rng([seed, 1])
    height, width = (int(n) for n in rng.integers(40, 81, 2))
    y, x = np.mgrid[0:height, 0:width] / 80
    colours = rng.integers(20, 236, (2, 3)).astype(float)
    while abs(colours[0].mean() - colours[1].mean()) < 60:
        colours = rng.integers(20, 236, (2, 3)).astype(float)
    clouds = sum(
        np.asarray(Image.fromarray(rng.random((cells + 1, cells + 1)).astype(np.float32)).resize((width, height), 2))
        / cells
        for cells in (2, 4, 8, 16)
    )
    clouds = (clouds - clouds.min()) / np.ptp(clouds)
    kind = seed % 4
    if kind == 0:
        share = clouds
    elif kind == 1:
        angle, pace = rng.uniform(0, 3.2), rng.uniform(8, 30)
        share = (np.sin(pace * (x * np.cos(angle) + y * np.sin(angle)) + 4 * clouds) > 0).astype(float)
    elif kind == 2:
        share = 0.3 * clouds
        for _ in range(int(rng.integers(2, 6))):
            top, left, radius = rng.random(), rng.random(), rng.uniform(0.08, 0.3)
            share = np.where((x - left) ** 2 + (y - top) ** 2 < radius**2, rng.uniform(0.6, 1), share)
    else:
        drawing = Image.new("L", (width, height))
        pen = ImageDraw.Draw(drawing)
        for _ in range(int(rng.integers(3, 9))):
            ends = rng.random(4) * [width, height, width, height]
            pen.line([float(end) for end in ends], fill=255, width=int(rng.integers(1, 5)))
        share = np.asarray(drawing) / 255
    pixels = colours[0] + share[..., None] * (colours[1] - colours[0]) + rng.normal(0, 4, (height, width, 1))
    return np.clip(pixels, 0, 255).astype(np.uint8)
