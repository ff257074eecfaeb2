"""The one path from pixels to a network's input, judged by torchvision and by NumPy."""

from types import ModuleType

import numpy as np
import pytest
import torch

import pictures
from neocog.core.spec import Preprocessing
from neocog.data.preprocess import limit_aspect, nhwc, normalise, resize_to, shrink, view

SIZES = [(300, 400), (400, 300), (224, 224), (256, 256), (100, 130), (31, 120), (257, 256), (640, 427), (7, 9)]


def chw(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(pictures.photo(height, width, seed)).permute(2, 0, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "preprocessing", [Preprocessing(), Preprocessing(224, 224, interpolation="bicubic"), Preprocessing(32, 36)]
)
def test_view_is_torchvisions(torchvision: ModuleType, size: tuple[int, int], preprocessing: Preprocessing) -> None:
    import torchvision.transforms.v2.functional as F

    pixels = chw(*size)
    mode = F.InterpolationMode(preprocessing.interpolation)
    expected = F.resize(pixels, [preprocessing.resize], interpolation=mode, antialias=True)
    expected = F.center_crop(expected, [preprocessing.size])
    assert (view(pixels, preprocessing).int() - expected.int()).abs().max() <= 1
    assert view(pixels, preprocessing).shape == (3, preprocessing.size, preprocessing.size)


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (1, 5000), (5000, 1), (900, 100), (3, 40)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_shrinking_before_changes_nothing(size: tuple[int, int], interpolation: str) -> None:
    preprocessing = Preprocessing(32, 36, interpolation=interpolation)
    pixels = chw(*size)
    small = shrink(pixels, 36, interpolation)
    assert min(small.shape[1:]) == min(36, *size)
    assert max(small.shape[1:]) <= 4 * 36
    assert (view(small, preprocessing) == view(pixels, preprocessing)).all()


def test_the_right_size_is_untouched() -> None:
    pixels = chw(28, 28)
    assert view(pixels, Preprocessing(28, 28)).data_ptr() == pixels.data_ptr()
    assert shrink(pixels, 28).data_ptr() == pixels.data_ptr()


def test_a_batch_is_its_pictures() -> None:
    batch = torch.stack([chw(50, 70, seed) for seed in range(4)])
    preprocessing = Preprocessing(32, 36)
    alone = torch.stack([view(one, preprocessing) for one in batch])
    assert (view(batch, preprocessing) == alone).all()


def test_layout_changes_no_pixel() -> None:
    batch = torch.stack([chw(50, 70, seed) for seed in range(3)])
    assert (resize_to(batch.contiguous(), (32, 40), "bilinear") == resize_to(nhwc(batch), (32, 40), "bilinear")).all()
    one = chw(50, 70)[None]
    assert one.stride() == (3, 1, 70 * 3, 3), "fits channels_last, and PyTorch does not see it"
    assert nhwc(one).stride() == (50 * 70 * 3, 1, 70 * 3, 3)


def test_extreme_pictures_keep_their_middle() -> None:
    line = torch.arange(100).to(torch.uint8).view(1, 1, 1, 100)
    assert limit_aspect(line).flatten().tolist() == [48, 49, 50, 51]
    assert limit_aspect(line.transpose(2, 3)).flatten().tolist() == [48, 49, 50, 51]
    assert limit_aspect(line[..., :4]).shape == (1, 1, 1, 4)


def test_a_crop_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="smaller than the crop"):
        view(chw(50, 50), Preprocessing(32, 30))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(5, 3, 17, 17), (5, 1, 17, 17), (1, 3, 300, 300), (300, 1, 28, 28)])
def test_normalise_is_the_formula(layout: torch.memory_format, shape: tuple[int, ...]) -> None:
    batch = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    preprocessing = Preprocessing(17, 17, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    if shape[1] == 1:
        mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
    expected = (batch.numpy() / 255 - mean[:, None, None]) / std[:, None, None]
    for source in (batch, nhwc(batch), batch.float()):
        kept = source.clone()
        out = normalise(source, preprocessing, memory_format=layout)
        assert out.dtype == torch.float32
        assert out.is_contiguous(memory_format=layout)
        assert np.abs(out.numpy() - expected).max() < 1e-5
        assert (source == kept).all(), "the input was written to"
    values = batch.float()
    low = normalise(values, preprocessing, dtype=torch.bfloat16, memory_format=layout)
    assert torch.equal(values, batch.float()), "the input was written to"
    assert low.dtype == torch.bfloat16
    assert np.abs(low.float().numpy() - expected).max() < 0.04


def test_grey_figures_serve_colour() -> None:
    batch = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    assert normalise(batch, Preprocessing(2, 2, (0.5,), (0.25,))).unique().tolist() == [2.0]
