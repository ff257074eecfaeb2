"""The width multiplier: one number makes a network narrower or wider, in channels that hardware likes.

First written for MobileNet: Howard et al., 2017, arXiv:1704.04861, section 3.3; the rounding is the authors'
(https://github.com/tensorflow/models, slim/nets/mobilenet).
"""


def scaled(channels: int, width: float) -> int:
    """Channels times the width multiplier, to the nearest multiple of 8 that is at least 0.9 of it."""
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded
