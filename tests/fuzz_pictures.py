"""Pictures cut, flipped and spliced, decoded in a process of its own, so that a crash, a hang or a greedy file is seen.

`python tests/fuzz_pictures.py SEED CASES FOLDER` prints, as JSON, how many decoded, how many were refused and for
which reasons, what was raised that is no BadPicture, and the growth of resident memory in megabytes. FOLDER keeps
each case while it runs.
"""

import collections
import faulthandler
import json
import os
import random
import struct
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from neocog.data.decode import BadPicture, DecodeOptions, decode
from pictures import encode, exif, photo

PARTS = 64
WATCHDOG = 60  # seconds; the slowest case takes a hundredth of one
OPTIONS = DecodeOptions(max_pixels=1_000_000)
# Numbers that fields of lengths, sizes and offsets do not expect.
ODD = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 65500, 1_000_001)


def corpus() -> dict[str, bytes]:
    """One sound file of every format and coding that is read."""
    rgb = photo()
    image = Image.fromarray(rgb)
    grey, palette, cmyk = image.convert("L"), image.convert("P"), image.convert("CMYK")
    alpha = Image.fromarray(np.dstack([rgb, rgb[..., 0]]))
    frames = {"save_all": True, "append_images": [Image.fromarray(photo(seed=1))]}
    files = {
        "jpeg": encode(image, "JPEG", exif=exif(6)),
        "jpeg progressive": encode(image, "JPEG", progressive=True),
        "jpeg restart": encode(image, "JPEG", restart_marker_rows=1, subsampling=0),
        "jpeg grey": encode(grey, "JPEG"),
        "jpeg cmyk": encode(cmyk, "JPEG"),
        "png": encode(image, "PNG", exif=exif(3)),
        "png palette": encode(palette, "PNG", transparency=3),
        "png alpha": encode(alpha, "PNG"),
        "png 16": encode(Image.fromarray(rgb[..., 0].astype(np.uint16) * 257), "PNG"),
        "png animated": encode(image, "PNG", **frames),
        "webp": encode(image, "WEBP"),
        "webp lossless": encode(alpha, "WEBP", lossless=True),
        "webp animated": encode(image, "WEBP", **frames),
        "gif": encode(palette, "GIF", transparency=3),
        "gif animated": encode(palette, "GIF", **frames),
        "bmp": encode(image, "BMP"),
        "bmp palette": encode(palette, "BMP"),
        "tiff": encode(image, "TIFF"),
        "tiff pages": encode(image, "TIFF", **frames),
        "tiff fax": encode(image.convert("1"), "TIFF", compression="group4"),
        "ppm": encode(image, "PPM"),
        "pgm": encode(grey, "PPM"),
        "pbm": encode(image.convert("1"), "PPM"),
        # The last number has one digit: half of a longer one would be another number.
        "ppm text": b"P3 3 2 255\n" + b" ".join(b"%d" % value for value in rgb[:2, :3].ravel()[:-1]) + b" 7\n",
    }
    for coding in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[f"tiff {coding}"] = encode(image, "TIFF", compression=coding)
    return files


def cuts(files: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Every file without its end, from each 1/64 on, and without its last one and two bytes."""
    places = [(name, len(data) * part // PARTS) for name, data in files.items() for part in range(PARTS)]
    places += [(name, len(data) - n) for name, data in files.items() for n in (1, 2)]
    return [(name, files[name][:place]) for name, place in places]


def mutated(files: list[bytes], draw: random.Random) -> bytes:
    """One file with flipped bits, with odd numbers written into it, or continued by another."""
    data = bytearray(draw.choice(files))
    kind = draw.random()
    if kind < 0.25:
        other = draw.choice(files)
        return bytes(data[: draw.randrange(len(data))]) + other[draw.randrange(len(other)) :]
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        # Headers decide most: half of the changes fall into the first 64 bytes.
        place = draw.randrange(min(len(data), 64)) if draw.random() < 0.5 else draw.randrange(len(data))
        if kind < 0.65:
            data[place] ^= 1 << draw.randrange(8)
        elif kind < 0.95:
            number = struct.pack(draw.choice("<>") + "I", draw.choice(ODD))[: draw.choice((1, 2, 4))]
            data[place : place + len(number)] = number[: len(data) - place]
        else:
            del data[place : place + draw.randrange(1, 9)]
            data = data or bytearray(b"\0")
    return bytes(data)


def main(seed: int, cases: int, folder: Path) -> None:
    faulthandler.enable()
    files = corpus()
    counts: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    wrong: dict[str, str] = {}
    whole = {name: decode(data, OPTIONS).pixels for name, data in files.items()}
    draw, sound = random.Random(seed), list(files.values())
    broken = cuts(files)
    before, slowest = high_mark(), 0.0
    last = os.open(folder / f"last-{seed}.bin", os.O_RDWR | os.O_CREAT)
    for number in range(cases):
        name, data = broken[number] if number < len(broken) else ("", mutated(sound, draw))
        os.ftruncate(last, 0)
        os.pwrite(last, data, 0)
        faulthandler.dump_traceback_later(WATCHDOG, exit=True)
        start = time.monotonic()
        try:
            picture = decode(data, OPTIONS)
            assert picture.pixels.dtype == np.uint8
            assert picture.pixels.shape[2] == 3
            assert picture.pixels.size <= 3 * OPTIONS.max_pixels
            assert not name or np.array_equal(picture.pixels, whole[name]), f"{name}, cut, has other pixels"
            counts["decoded"] += 1
        except BadPicture as problem:
            counts["refused"] += 1
            reasons[problem.reason] += 1
        except BaseException as error:
            kind = f"{type(error).__name__}: {error}"[:200]
            if kind not in wrong:
                wrong[kind] = str(folder / f"wrong-{seed}-{number}.bin")
                Path(wrong[kind]).write_bytes(data)
        slowest = max(slowest, time.monotonic() - start)
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"counts": counts, "reasons": reasons, "wrong": wrong, "megabytes": (high_mark() - before) // 1024,
                      "slowest": round(slowest, 3)}))  # fmt: skip


def high_mark() -> int:
    """Kilobytes of resident memory at its highest. Linux."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
