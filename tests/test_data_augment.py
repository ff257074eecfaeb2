"""Augmentation: each change is what it says, and a picture's luck depends on the picture alone."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import pictures
from neocog.core.spec import Preprocessing
from neocog.data import crops
from neocog.data.augment import Augment, flip, gaussian, recolour, rectangles, rotate, to_float
from neocog.data.mixing import mix, partners
from neocog.data.preprocess import nhwc, resize_to

ROWS = np.arange(100, 164)
PLAIN = Preprocessing(24, 24, (0.0,), (1.0,))


def batch(n: int = 64, size: int = 24, channels: int = 3) -> torch.Tensor:
    """uint8 (n, channels, size, size), channels_last in memory."""
    pixels = np.stack([pictures.photo(size, size, seed) for seed in range(n)])[..., :channels]
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)


def changed(
    pixels: torch.Tensor, rows: NDArray[np.int64], augment: Augment, seed: int = 0, epoch: int = 0
) -> torch.Tensor:
    layout = torch.contiguous_format
    return to_float(pixels, rows, seed, epoch, augment, PLAIN, dtype=torch.float32, memory_format=layout)


@pytest.mark.parametrize(
    "augment",
    [
        Augment(rotation=30), Augment(colour=0.4), Augment(noise=0.1), Augment(erasing=0.6),
        Augment(rotation=30, colour=0.4, noise=0.1, erasing=0.6),
    ],
    ids=["rotation", "colour", "noise", "erasing", "all"],
)  # fmt: skip
@pytest.mark.parametrize("size", [24, 300])
@pytest.mark.parametrize("channels", [1, 3])
def test_luck_does_not_depend_on_the_batch(augment: Augment, size: int, channels: int) -> None:
    pixels = batch(9, size, channels)
    whole = changed(pixels, ROWS[:9], augment)
    plain = changed(pixels, ROWS[:9], Augment())
    assert (whole != plain).any(), "nothing happened"
    order = [7, 2, 5]
    some = changed(nhwc(pixels[order]), ROWS[order], augment)
    assert torch.equal(some, whole[order])
    alone = changed(pixels[3:4], ROWS[3:4], augment)
    assert torch.equal(alone[0], whole[3])
    assert not torch.equal(changed(pixels, ROWS[:9], augment, epoch=1), whole)
    assert not torch.equal(changed(pixels, ROWS[:9], augment, seed=1), whole)


@pytest.mark.parametrize("size", [24, 80])
def test_flip_mirrors_every_second_picture(size: int) -> None:
    pixels = batch(64, size)
    found = flip(nhwc(pixels.clone()), ROWS, 0, 0)
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(found, pixels, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(found, pixels, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 20 < sum(mirrored) < 44
    some = flip(nhwc(pixels[10:13].clone()), ROWS[10:13], 0, 0)
    assert torch.equal(some, found[10:13])


def test_padded_crop_is_a_shift_of_the_mirrored_picture() -> None:
    pixels = batch().permute(0, 2, 3, 1).numpy()
    shifts = crops.random_shifts(0, 0, ROWS, 4)
    found = crops.shifted(crops.pad_mirrored(pixels, 4), np.arange(64), 24, shifts)
    padded = np.pad(pixels, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    for i, (y, x) in enumerate(shifts):
        assert (found[i] == padded[i, y : y + 24, x : x + 24]).all()
    assert set(np.unique(shifts)) == set(range(9))
    assert (crops.random_shifts(0, 0, ROWS[5:7], 4) == shifts[5:7]).all()
    assert (crops.shifted(crops.pad_mirrored(pixels, 0), np.arange(64), 24, shifts * 0) == pixels).all()


def test_a_pad_wider_than_the_picture() -> None:
    tiny = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1)
    assert crops.pad_mirrored(tiny, 5).shape == (1, 12, 12, 1)
    assert (crops.pad_mirrored(np.ones((1, 1, 1, 3), np.uint8), 3) == 1).all()


def test_resized_crop_stays_inside_and_keeps_its_area() -> None:
    y, x = np.mgrid[0:64, 0:96]
    where = torch.from_numpy(np.stack([y, x, x * 0], -1).astype(np.uint8)).permute(2, 0, 1)
    areas = []
    for luck in np.random.default_rng(0).random((300, 4)):
        crop = crops.resized_crop(where, luck, 0.2, 48, "bilinear").float()
        assert crop.shape == (3, 48, 48)
        high, wide = (float(crop[i].max() - crop[i].min()) + 1 for i in range(2))
        assert crop[0].max() <= 63
        assert crop[1].max() <= 95
        areas.append(high * wide / (64 * 96))
    assert min(areas) > 0.12
    assert 0.2 < np.quantile(areas, 0.02) < 0.3
    assert 0.5 < np.median(areas) < 0.7
    assert max(areas) > 0.85


def test_the_whole_square_is_plain_resizing() -> None:
    pixels = batch(1, 40)[0]
    middle = np.log(4 / 3) / np.log(16 / 9)  # the luck whose aspect is 1
    crop = crops.resized_crop(pixels, np.array([0.0, middle, 0.5, 0.5]), 1.0, 24, "bilinear")
    assert torch.equal(crop, resize_to(pixels[None], (24, 24), "bilinear")[0])


def test_rotation_turns_about_the_centre() -> None:
    values = batch(4).float()
    quarter = rotate(values, np.ones(4), 90.0)
    assert torch.allclose(quarter, values.rot90(-1, (2, 3)), atol=0.01)
    assert torch.allclose(rotate(values, np.full(4, 0.5), 90.0), values, atol=0.01)
    assert rotate(torch.full((1, 1, 9, 9), 7.0), np.zeros(1), 33.0).sub(7).abs().max() < 1e-4


def test_colour_follows_its_definition() -> None:
    pixels = batch(8)
    luck = np.random.default_rng(1).random((8, 3))
    found = recolour(pixels.float().contiguous(), pixels, luck, 0.3).numpy()
    weights = np.array([0.299, 0.587, 0.114])
    for i in range(8):
        brightness, contrast, saturation = 0.7 + 0.6 * luck[i]
        x = pixels[i].numpy().astype(float) * brightness
        mean = (x.mean(axis=(1, 2)) * weights).sum()
        x = (x - mean) * contrast + mean
        grey = (x * weights[:, None, None]).sum(0)
        x = (x - grey) * saturation + grey
        assert np.abs(found[i] - x.clip(0, 255)).max() < 0.01
    assert found.min() >= 0
    assert found.max() <= 255


def test_colour_of_grey_pictures() -> None:
    pixels = batch(4, channels=1)
    found = recolour(pixels.float().contiguous(), pixels, np.full((4, 3), 0.5), 0.5)
    assert torch.allclose(found, pixels.float(), atol=1e-3)


def test_noise_is_normal() -> None:
    noise = gaussian(torch.empty(32, 3, 24, 24), ROWS[:32], 0, 0)
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02
    assert abs(float((noise[0] * noise[1]).mean())) < 0.1
    added = changed(batch(), ROWS, Augment(noise=0.2)) - changed(batch(), ROWS, Augment())
    assert abs(float(added.std()) - 0.2) < 0.01


def test_erasing_removes_one_rectangle_of_the_promised_size() -> None:
    luck = np.random.default_rng(0).random((400, 5))
    found = rectangles(torch.empty(400, 1, 64, 64), luck, 0.5)[:, 0].numpy()
    shares = []
    for one in found:
        if not one.any():
            continue
        ys, xs = np.nonzero(one)
        assert one[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].all()
        shares.append(one.mean())
    assert 160 < len(shares) < 240
    assert min(shares) > 0.01
    assert max(shares) < 0.36
    erased = changed(batch(), ROWS, Augment(erasing=1.0))
    kept = changed(batch(), ROWS, Augment())
    assert ((erased == kept) | (erased == 0)).all()


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixing(mixup: float, cutmix: float) -> None:
    images = batch().float().contiguous()
    targets = torch.arange(64) % 7
    mixed, shares = mix(images, targets, ROWS, 0, 0, mixup=mixup, cutmix=cutmix, num_classes=7)
    other = partners(0, 0, ROWS)
    assert sorted(other.tolist()) == list(range(64))
    assert (other != np.arange(64)).all()
    assert torch.allclose(shares.sum(1), torch.ones(64))
    cut = 0
    for i in range(64):
        mine, theirs = images[i], images[other[i]]
        share = float(shares[i, targets[i]]) if targets[i] != targets[other[i]] else None
        pasted = ((mixed[i] - mine).abs() < 1e-3) | ((mixed[i] - theirs).abs() < 1e-3)
        if bool(pasted.all()):
            cut += 1
            clear = ((mine - theirs).abs() > 1).any(0)
            from_me = ((mixed[i] - mine).abs() < 1e-3).all(0)
            if share is not None and clear.all():
                assert abs(float(from_me.float().mean()) - share) < 1e-5
        elif share is not None:
            assert torch.allclose(mixed[i], share * mine + (1 - share) * theirs, atol=0.05)
    assert cut >= 60 if mixup == 0 else (cut < 20 if cutmix == 0 else 15 < cut < 55)
    again = mix(images.flip(0), targets.flip(0), ROWS[::-1].copy(), 0, 0, mixup=mixup, cutmix=cutmix, num_classes=7)
    assert torch.equal(again[0].flip(0), mixed), "the order of the rows in the batch does not matter"


def test_mixing_shares_are_beta() -> None:
    images, targets = torch.zeros(4000, 1, 1, 1), torch.arange(4000) % 2
    rows = np.arange(4000)
    _, shares = mix(images, targets, rows, 0, 0, mixup=1.0, cutmix=0.0, num_classes=2)
    differ = targets != targets[partners(0, 0, rows)]
    own = shares[torch.arange(4000), targets][differ]
    assert abs(float(own.mean()) - 0.5) < 0.03
    assert abs(float(own.std()) - 12**-0.5) < 0.02  # Beta(1, 1) is uniform
