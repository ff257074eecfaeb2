"""Towers: Inception's branches, written down as their figures draw them.

One string is one tower, from the input upwards, one word per box:

    3x3:96            convolution (height x width : channels), batch norm, ReLU, padded to keep the size
    3x3:96v           the same without padding, "V" in the figures
    3x3:96/2          the same without padding, with stride 2
    1x3:256|3x1:256   two convolutions of the same input, side by side
    max/2             maximum over 3x3 without padding, with stride 2
    avg               mean over 3x3 of what lies inside the picture, padded to keep the size

Paper: Szegedy, Ioffe, Vanhoucke and Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual
Connections on Learning", AAAI 2017, arXiv:1602.07261, figures 3 to 19.
"""

import re
from collections.abc import Sequence
from functools import partial

from torch import nn

from neocog.layers.branches import Branches
from neocog.layers.conv import ConvNormAct

CONVOLUTION = re.compile(r"(\d+)x(\d+):(\d+)(v|/2)?")
norm = partial(nn.BatchNorm2d, eps=1e-3)  # not in the paper: the epsilon of the authors' code


def tower(c_in: int, words: str) -> tuple[nn.Sequential, int]:
    """The boxes of one string, one child each, and how many channels come out."""
    boxes = nn.Sequential()
    for word in words.split():
        box, c_in = _box(c_in, word)
        boxes.append(box)
    return boxes, c_in


def towers(c_in: int, figure: Sequence[str]) -> tuple[Branches, int]:
    """The towers of a figure side by side, and how many channels they have together."""
    built = [tower(c_in, words) for words in figure]
    return Branches(*(module for module, _ in built)), sum(channels for _, channels in built)


def _box(c_in: int, word: str) -> tuple[nn.Module, int]:
    if word == "max/2":
        return nn.MaxPool2d(3, stride=2), c_in
    if word == "avg":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False), c_in
    if "|" in word:
        parts = [_box(c_in, part) for part in word.split("|")]
        return Branches(*(module for module, _ in parts)), sum(channels for _, channels in parts)
    match = CONVOLUTION.fullmatch(word)
    if match is None:
        raise ValueError(f"{word!r} is no box of a tower")
    height, width, c_out = (int(number) for number in match.groups()[:3])
    padding = None if match[4] is None else 0
    stride = 2 if match[4] == "/2" else 1
    return ConvNormAct(c_in, c_out, (height, width), stride, padding=padding, norm=norm), c_out
