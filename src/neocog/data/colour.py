"""From whatever a file stores (palettes, ink, 16 bits, transparency, wide gamuts) to 8-bit RGB or grey.

Depth is scaled, never clipped; transparency is laid on a background; colour profiles are converted to sRGB.
Where a number has no agreed brightness (floats, 32-bit integers) the picture is refused: `ambiguous_range`.
"""

import functools
import io
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile

from neocog.data.bad_picture import BadPicture

Bytes = NDArray[np.uint8]
_LUMA = (19595, 38470, 7471)  # ITU-R 601 in 1/65536, as Pillow's convert("L")


def depth(image: ImageFile.ImageFile, data: bytes) -> int:
    """Bits per channel as stored."""
    if image.format == "PNG":
        return data[24]  # IHDR
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(258, (8,))
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 16 if image.mode.startswith("I") else 8  # PPM: Pillow scales deep samples to 16 bits


def to_array(image: Image.Image, channels: int, background: tuple[int, int, int], bits: int) -> tuple[Bytes, list[str]]:
    """A loaded image -> uint8 (H, W, channels) and the notes of what was done."""
    notes = []
    if bits == 16:
        notes.append("sixteen_bit")
    if image.mode == "F" or (image.mode == "I" and bits > 16):
        raise BadPicture("ambiguous_range", f"{bits}-bit numbers without an agreed white; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _eight_bits(image, bits)
    profile = image.info.get("icc_profile")
    image, alpha = _split_alpha(image)
    if profile:
        image, note = _to_srgb(image, profile)
        notes += note
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if alpha is not None and cast(tuple[int, int], alpha.getextrema())[0] < 255:
        notes.append("alpha")
        image = image.convert("RGB")
        base = Image.new("RGB", image.size, background)
        base.paste(image, mask=alpha)
        image = base
    wanted = "L" if channels == 1 else "RGB"
    pixels = np.array(image if image.mode == wanted else image.convert(wanted))
    return pixels[..., None] if channels == 1 else pixels, notes


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    """uint16 grey of `bits` significant bits -> L, rounded to nearest; a transparent grey becomes alpha."""
    values = np.asarray(image).astype(np.uint32)
    white = 2**bits - 1
    grey = Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))
    grey.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey = Image.merge("LA", (grey, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))))
    return grey


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colour and, where the file has transparency in any of its forms, alpha (L)."""
    if image.mode in ("RGBa", "La"):  # colours already multiplied by alpha
        image = image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
    if image.mode in ("P", "PA") or "transparency" in image.info:
        has_alpha = image.mode == "PA" or "transparency" in image.info
        image = image.convert("RGBA" if has_alpha else "RGB")
    if image.mode in ("RGBA", "LA"):
        alpha = image.getchannel("A")
        return image.convert(image.mode[:-1]), alpha
    return image, None


def _to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, list[str]]:
    """Converts by the file's ICC profile. A broken profile, or one for other pixels, is ignored and noted."""
    try:
        transform = _transform(profile, image.mode)
        if transform is None:
            return image, []
        converted = ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image, ["icc_broken"]
    return cast(Image.Image, converted), ["icc"]


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    description = source.profile.profile_description or ""
    if "srgb" in description.lower():  # the usual case, and the conversion would change nothing
        return None
    if source.profile.xcolor_space.strip() == "GRAY" and mode == "RGB":
        raise ValueError("a grey profile on a colour picture")
    srgb = ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(source, srgb, mode, "RGB")


def is_grey(pixels: Bytes) -> bool:
    """Whether all channels of (H, W, C) are equal everywhere. Looks at a few pixels first: most are colour."""
    if pixels.shape[2] == 1:
        return True
    for part in (pixels[::17, ::13], pixels):
        if any((part[..., 0] != part[..., band]).any() for band in range(1, part.shape[2])):
            return False
    return True


def to_image(pixels: Bytes) -> Image.Image:
    """(H, W, C) as a person can look at it: the first three bands as colour, or the first alone."""
    return Image.fromarray(np.ascontiguousarray(pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]))
