"""Noise on pictures that an autoencoder must give back without it."""

import numpy as np
import pytest
import torch

from neocog.core.config import load_config
from neocog.core.noise import KINDS, Noise
from neocog.data.corruption import corrupt


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "adversarial"])
def test_noise_makes_a_picture_worse_and_keeps_it_one(kind: str) -> None:
    values = 255 * torch.rand(6, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    rows = np.arange(6)
    kept = values.clone()
    noise = Noise.parse(kind)
    worse = corrupt(values, rows, 0, 0, noise)
    assert torch.equal(values, kept)
    assert worse.shape == values.shape
    assert worse.min() >= 0
    assert worse.max() <= 255
    assert (worse - values).abs().mean() > 5
    assert torch.equal(corrupt(values[2:3], rows[2:3], 0, 0, noise), worse[2:3])  # whatever stands beside it
    if kind in ("gaussian", "salt_pepper", "mask", "patches"):
        assert not torch.equal(corrupt(values, rows, 0, 1, noise), worse)
    if kind == "patches":
        hidden = (worse == 127.5).all(1)
        assert float(hidden.float().mean()) == pytest.approx(37 / 49)
    if kind == "salt_pepper":
        assert float((worse != values).any(1).float().mean()) == pytest.approx(0.2, abs=0.03)
    if kind == "gaussian":
        middle = torch.full((1, 1, 200, 200), 127.5)
        found = corrupt(middle, rows[:1], 0, 0, Noise("gaussian", 0.1)) - middle
        assert float(found.std()) == pytest.approx(25.5, rel=0.02)


def test_noise_is_read_from_text() -> None:
    assert Noise.parse("gaussian:0.25") == Noise("gaussian", 0.25)
    assert Noise.parse("0.25") == Noise("gaussian", 0.25)
    assert Noise.parse("grey") == Noise("grey", 1.0)
    assert Noise.parse("none") == Noise.parse("mask:0") == Noise()
    assert str(Noise.parse("mask")) == "mask:0.5"
    config = load_config(None, {"data": "x", "noise": 0.1})
    assert config.noise == "gaussian:0.1"
