"""Networks and data sets as PyTorch's tutorials write them: one picture, one transform at a time."""

import math
import random
from pathlib import Path

import numpy as np
import torch
from common import mnist
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

MEAN, STD = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1), torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


def network(name: str) -> nn.Module:
    if name == "resnet18":
        import torchvision_loads  # noqa: F401

        # isort: split
        import torchvision

        return torchvision.models.resnet18(num_classes=10)
    if name == "conv_ae":
        import neocog

        return neocog.create_model("conv_ae", latent=32)  # the very network: what differs is the engine
    return nn.Sequential(  # deck 003: 34,826 parameters
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(1600, 10),
    )  # fmt: skip


def to_tensor(picture: Image.Image) -> Tensor:
    """(C, H, W) float in 0..1, as torchvision's ToTensor."""
    pixels = torch.from_numpy(np.array(picture, copy=True))
    pixels = pixels.view(picture.height, picture.width, len(picture.getbands()))
    return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)


class Digits(Dataset[tuple[Tensor, int]]):
    """MNIST as torchvision's data set with ToTensor and, `normalise`, Normalize."""

    def __init__(self, folder: Path, split: str = "train", normalise: bool = True) -> None:
        pixels, self.labels = mnist(folder, split)
        self.pixels, self.normalise = torch.from_numpy(pixels), normalise

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = to_tensor(Image.fromarray(self.pixels[index].numpy()))
        if self.normalise:
            picture = picture.sub_(0.1307).div_(0.3081)
        return picture, int(self.labels[index])


class Photos(Dataset[tuple[Tensor, int]]):
    """A folder of class folders as torchvision's ImageFolder with RandomResizedCrop(224), RandomHorizontalFlip,
    ToTensor and Normalize."""

    def __init__(self, folder: Path) -> None:
        classes = sorted(path.name for path in folder.iterdir())
        self.files = [(path, i) for i, name in enumerate(classes) for path in sorted((folder / name).iterdir())]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.files[index]
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        picture = random_resized_crop(picture)
        if random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return to_tensor(picture).sub_(MEAN).div_(STD), label


def random_resized_crop(picture: Image.Image, size: int = 224) -> Image.Image:
    """8 % to 100 % of the area, aspect ratio 3:4 to 4:3; the centre where ten draws do not fit."""
    width, height = picture.size
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1.0)
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            break
    else:
        w = h = min(width, height)
        left, top = (width - w) // 2, (height - h) // 2
    return picture.crop((left, top, left + w, top + h)).resize((size, size), Image.Resampling.BILINEAR)


def dataset(name: str, folder: Path, split: str = "train") -> Dataset[tuple[Tensor, int]]:
    return Photos(folder) if name == "resnet18" else Digits(folder, split, normalise=name == "convnet")
