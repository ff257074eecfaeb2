"""A unit as plain numbers, for JSON and for pages."""

import math
from dataclasses import is_dataclass
from typing import Any

from torch import Tensor

from neocog.explaining.arithmetic import Unit


def plain(found: Unit) -> dict[str, Any]:
    """Lists and numbers under the names of `Unit`, where each is explained:

    layer, kind, channel, position
    patch, kernel, products     [input channel][row][column]; all products and the bias together are the sum
    inside                      [row][column]: false in the padding and in a stride's holes
    rows, columns               of the layer's input, one for each of the kernel's; null is a hole
    first_channel               of the input: the first one in the patch
    window                      {kernel, stride, padding, dilation, groups, transposed}, the first four for rows and
                                columns; null of a dense layer
    flattened                   [channels, rows, columns] of the map that a dense layer is given as one line, or null
    bias, sum, output           output is what the layer gave, in the network's own precision
    then                        names of the next steps, of which these tell more, or are null:
    norm                        {scale, shift, result}
    activation, activated       name, result
    pooling                     {kind, window, inside, rows, columns, position, result, taken, divisor}; in a window
                                null is a place outside of the map

    A number that is not finite is null too.
    """
    return {name: _plain(value) for name, value in vars(found).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(one) for name, one in vars(value).items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
