"""Pictures that excite: against optima that are known, and sums written out by hand."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from draw import draw, drawn
from neocog.core.errors import UsageError
from neocog.explaining import visualise as module
from neocog.explaining.rectified import Rectified
from neocog.explaining.visualise import (
    Channel,
    Class,
    Neuron,
    Objective,
    excitations,
    moved,
    painted,
    visualise,
    visualise_each,
)  # fmt: skip
from neocog.models import vit
from untouched import fingerprint

MEAN, STD = (0.5,) * 3, (0.25,) * 3


def tiny(channels: int = 3, seed: int = 0) -> nn.Sequential:
    """(B, C, H, W) -> (B, 5)"""
    network = nn.Sequential(
        nn.Conv2d(channels, 8, 5, stride=2), nn.ReLU(inplace=True), nn.Conv2d(8, 6, 3), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    )  # fmt: skip
    draw(network, (channels, 20, 20), seed)
    return network


def alike(a: Tensor, b: Tensor) -> float:
    """The correlation of two pictures."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def oriented(side: int) -> Tensor:
    """(side, side): a soft bar that leans, with dark flanks; sums to nearly 0."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, side),) * 2, indexing="ij")
    across = 0.8 * x + 0.6 * y
    return torch.cos(1.6 * math.pi * across) * torch.exp(-2 * (x * x + y * y))


@pytest.mark.parametrize("size", [(19, 19), (17, 23)])
def test_a_linear_neuron_is_shown_its_kernel(size: tuple[int, int]) -> None:
    """The optimum is white where the kernel is positive and black where it is negative."""
    network = nn.Sequential(nn.Conv2d(1, 2, 11, padding=5, bias=False))
    network[0].weight.data[0, 0] = oriented(11)
    network[0].weight.data[1, 0] = oriented(11).flip(1)
    optimum = 2 * float(oriented(11).abs().sum())
    for channel in (0, 1):
        picture = visualise(network, Neuron("0", channel), size, MEAN, STD, steps=100, channels=1).picture
        top, left = size[0] // 2 - 5, size[1] // 2 - 5
        assert alike(picture[0, top : top + 11, left : left + 11], network[0].weight[channel, 0].detach()) > 0.6
        found = network(((picture - 0.5) / 0.25)[None])[0, :, size[0] // 2, size[1] // 2]
        assert 0.75 * optimum < found[channel] <= optimum
        assert abs(found[1 - channel]) < 0.1 * optimum


def test_a_neuron_is_shown_where_it_looks() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 5, bias=False))
    network[0].weight.data.fill_(1)
    picture = visualise(network, Neuron("0", 0, (3, 12)), (24, 24), MEAN, STD, steps=60, channels=1).picture[0]
    at = picture[3:8, 12:17].mean()
    assert at > 0.9
    assert at > picture[14:, :].mean() + 0.2


def test_a_linear_class_is_shown_its_weights() -> None:
    """One wide stripe of red against green."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    weights = torch.zeros(2, 3, 16, 16)
    weights[0, 0, :, 4:12], weights[0, 1, :, 4:12] = 1, -1
    network[1].weight.data = weights.flatten(1)
    picture = visualise(network, Class(0), (16, 16), MEAN, STD, steps=200).picture
    inside = picture[:, :, 6:10].mean((1, 2))
    outside = picture[:, :, [0, 1, 14, 15]].mean((1, 2))
    assert inside[0] - inside[1] > 0.5
    assert inside[0] - inside[1] > outside[0] - outside[1] + 0.3


def test_channel_is_a_mean_and_neuron_a_place() -> None:
    network = tiny()
    x = torch.randn(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = network[:3](x)[0]
        assert float(excitations(network, [Channel("2", 4)], x)) == pytest.approx(float(maps[4].mean()), rel=1e-5)
        h, w = maps.shape[1:]
        assert excitations(network, [Neuron("2", 4)], x) == maps[4, h // 2, w // 2]
        assert excitations(network, [Neuron("2", 1, (0, w - 1))], x) == maps[1, 0, w - 1]
        assert excitations(network, [Class(3)], x) == network(x)[0, 3]


def scrambled(picture: Tensor, seed: int) -> Tensor:
    """(C, H, W) -> a picture of the same mean and spectrum per channel, whose waves are shifted by chance."""
    shift = torch.randn(picture.shape[1:], generator=torch.Generator().manual_seed(seed))
    turn = torch.fft.rfft2(shift)
    turn = turn / turn.abs()
    turn[0, 0] = 1
    return torch.fft.irfft2(torch.fft.rfft2(picture) * turn, s=picture.shape[1:])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("objective", [Channel("2", 1), Neuron("2", 1), Class(3)])
def test_what_is_found_excites_more_than_chance(channels: int, objective: Objective) -> None:
    network = tiny(channels)
    found = visualise(network, objective, (28, 28), MEAN, STD, steps=150, channels=channels)
    assert found.picture.shape == (channels, 28, 28)
    assert 0 <= found.picture.min() <= found.picture.max() <= 1
    assert len(found.trace) == 150

    def worth(picture: Tensor) -> float:
        """As it was sought: moved a little, by chance."""
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            seen = [(moved(picture[None], generator) - 0.5) / 0.25 for _ in range(32)]
            return float(np.mean([float(excitations(network, [objective], one)) for one in seen]))

    chance = [worth(scrambled(found.picture, seed)) for seed in range(12)]
    best = worth(found.picture)
    assert best > np.mean(chance) + 3 * np.std(chance)
    assert np.mean(found.trace[-32:]) == pytest.approx(best, rel=0.4)
    assert best > max(found.trace[:3])


def test_several_at_once_are_what_each_is_alone() -> None:
    network = tiny()
    wanted: list[Objective] = [Channel("2", 1), Class(3), Neuron("2", 4), Class(0)]
    together = visualise_each(network, wanted, (20, 24), MEAN, STD, steps=12, seed=5)
    for objective, found in zip(wanted, together, strict=True):
        alone = visualise(network, objective, (20, 24), MEAN, STD, steps=12, seed=5)
        assert torch.allclose(found.picture, alone.picture, atol=1e-4)
        assert found.trace == pytest.approx(alone.trace, rel=1e-3, abs=1e-5)
    assert not torch.allclose(together[0].picture, together[1].picture, atol=1e-2)


def test_a_shut_relu_of_one_picture_opens_for_it_alone() -> None:
    x = torch.tensor([[-1.0, 2.0], [-1.0, -2.0]]).requires_grad_()
    with Rectified("redirected"):
        F.relu(x).backward(torch.tensor([[3.0, 4.0], [3.0, -4.0]]))
    assert x.grad is not None
    assert x.grad.tolist() == [[0, 4], [3, 0]]


def test_the_same_seed_gives_the_same_bits() -> None:
    network = tiny()
    first, again, other = (visualise(network, Class(1), (20, 20), MEAN, STD, steps=8, seed=s) for s in (3, 3, 4))
    torch.manual_seed(99)
    late = visualise(network, Class(1), (20, 20), MEAN, STD, steps=8, seed=3)
    assert torch.equal(first.picture, again.picture)
    assert torch.equal(first.picture, late.picture)
    assert first.trace == again.trace == late.trace
    assert not torch.equal(first.picture, other.picture)


@pytest.mark.parametrize(("channels", "size"), [(1, (17, 23)), (3, (17, 23)), (2, (24, 17)), (4, (20, 32))])
def test_any_channels_and_sizes(channels: int, size: tuple[int, int]) -> None:
    found = visualise(tiny(channels), Class(0), size, (0.4,) * channels, (0.2,) * channels, steps=3)
    assert found.picture.shape == (channels, *size)
    assert found.picture.isfinite().all()


def test_networks_of_the_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their own number of channels, whatever the mean has; and tokens."""
    network = drawn("squeezenet1_1")
    found = visualise(network, Channel("stage2", 0), (64, 64), (0.5,), (0.25,), steps=6)
    assert found.picture.shape == (3, 64, 64)
    assert found.trace[-1] > found.trace[0]
    monkeypatch.setitem(vit.SIZES, "tiny", (2, 32, 64, 4))
    tokens = vit.VisionTransformer("tiny", 16, 7, 1, 48, 0.1)
    draw(tokens, (1, 48, 48))
    for objective in (Channel("layer1", 31), Neuron("layer0", 5, (2, 2)), Class(6)):
        found = visualise(tokens, objective, (48, 48), (0.4, 0.5, 0.6), (0.2, 0.2, 0.2), steps=40)
        assert found.picture.shape == (1, 48, 48)
        assert min(found.trace[-10:]) > max(found.trace[:3])


def test_a_relu_that_is_shut_is_opened() -> None:
    network = tiny()
    network[2].bias.data[3] = -3
    found = visualise(network, Neuron("3", 3), (20, 20), MEAN, STD, steps=80)
    assert found.trace[:5] == [0] * 5
    assert np.mean(found.trace[-20:]) > 0.5


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Channel("elsewhere", 0), "no layer 'elsewhere'"),
        (Channel("2", 6), "there is no channel of 2 6; they go from 0 to 5"),
        (Channel("2", -1), "they go from 0 to 5"),
        (Neuron("2", 0, (6, 0)), "there is no row of 2 6; they go from 0 to 5"),
        (Neuron("2", 0, (0, -1)), "there is no column of 2 -1; they go from 0 to 5"),
        (Class(5), "there is no class 5; they go from 0 to 4"),
    ],
)
def test_what_there_is_not(objective: Objective, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        visualise(tiny(), objective, (20, 20), MEAN, STD, steps=2)


def test_no_scores_and_no_gradient() -> None:
    network = tiny()
    with pytest.raises(UsageError, match="no class scores"):
        visualise(network[:3], Class(0), (20, 20), MEAN, STD, steps=2)

    class Steps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x > 0).to(x.dtype)

    with pytest.raises(UsageError, match="no gradient comes back"):
        visualise(nn.Sequential(network[0], Steps()), Channel("1", 0), (20, 20), MEAN, STD, steps=2)


def test_the_network_is_left_as_it_was() -> None:
    network = drawn("mobilenet_v2").train()
    for weight in network.parameters():
        weight.grad = None if weight.dim() > 1 else torch.ones_like(weight)
    before = fingerprint(network)
    visualise(network, Class(3), (64, 64), MEAN, STD, steps=3)
    with pytest.raises(UsageError):
        visualise(network, Class(3000), (64, 64), MEAN, STD, steps=3)
    assert fingerprint(network) == before


# The parts


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (9, 12), (8, 11)])
def test_a_coefficient_is_a_wave_of_height_one_over_f(size: tuple[int, int]) -> None:
    h, w = size
    for row, column in ((1, 2), (h - 2, 1), (2, 3), (0, 4)):
        spectrum = torch.zeros(2, 1, 1, h, w // 2 + 1)
        spectrum[0, 0, 0, row, column], spectrum[1, 0, 0, row, column] = 0.7, -0.4
        f = math.hypot(min(row, h - row) / h, column / w)
        for y in range(h):
            for x in range(w):
                phase = 2 * math.pi * (row * y / h + column * x / w)
                wave = 2 * (0.7 * math.cos(phase) + 0.4 * math.sin(phase)) / math.sqrt(h * w) / f / 4
                found = float(painted(spectrum, size)[0, 0, y, x])
                assert found == pytest.approx(1 / (1 + math.exp(-wave)), abs=1e-5)


def test_colours_are_mixed_as_in_photographs() -> None:
    spectrum = torch.zeros(2, 1, 3, 8, 5)
    for axis, wanted in enumerate([(0.26, 0.27, 0.27), (0.09, 0.0, -0.09), (0.02, -0.05, 0.03)]):
        one = spectrum.clone()
        one[0, 0, axis, 1, 1] = 1.0
        pixel = painted(one, (8, 8))[0, :, 0, 0].logit()
        plain = painted(one[:, :, [axis]], (8, 8))[0, 0, 0, 0].logit()
        assert (pixel / plain * math.sqrt(0.26**2 + 2 * 0.27**2)).tolist() == pytest.approx(wanted, abs=1e-4)


class Fixed:
    """Instead of chance, what is wanted: in 0..1, of which a half is nothing."""

    def __init__(self, values: list[float]) -> None:
        self.values: Iterator[float] = iter(values)

    def __call__(self, generator: torch.Generator) -> float:
        return next(self.values)


def test_a_picture_that_is_not_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = torch.rand(1, 3, 17, 23)
    monkeypatch.setattr(module, "_draw", Fixed([0.5] * 4))
    assert torch.allclose(moved(picture, torch.Generator()), picture, atol=1e-5)
    monkeypatch.setattr(module, "_draw", Fixed([0.0, 1.0, 0.5, 0.5]))
    assert torch.allclose(moved(picture, torch.Generator()), picture.roll((-1, 1), (2, 3)), atol=1e-5)


@pytest.mark.parametrize("shape", [(41, 41), (31, 61), (60, 30)])
def test_a_turn_is_a_turn_and_a_scale_a_scale(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob beside the middle goes where trigonometry says, in pictures of any shape."""
    y, x = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    for dy, dx in ((9.0, 0.0), (0.0, 9.0)):
        blob = torch.exp(-((y - dy) ** 2 + (x - dx) ** 2) / 4)[None, None]
        monkeypatch.setattr(module, "_draw", Fixed([0.5, 0.5, 1.0, 1.0]))  # 1.1 times as large, by 10 degrees
        seen = moved(blob, torch.Generator())[0, 0]
        found = [float((seen * axis).sum() / seen.sum()) for axis in (y, x)]
        assert math.hypot(*found) == pytest.approx(1.1 * 9, rel=0.02)
        turned = math.degrees(math.atan2(found[0], found[1]) - math.atan2(dy, dx))
        assert abs(turned) == pytest.approx(10, abs=0.5)


def test_chance_goes_as_far_as_it_says() -> None:
    """Over many draws: each side by a sixteenth either way, and at least by one pixel."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.zeros(1, 1, 64, 6)
    picture[0, 0, 32, 3] = 1
    places = []
    for _ in range(200):
        with pytest.MonkeyPatch.context() as patch:
            real = [module._draw(generator) for _ in range(2)]
            patch.setattr(module, "_draw", Fixed([*real, 0.5, 0.5]))
            places.append(divmod(int(moved(picture, generator)[0, 0].argmax()), 6))
    assert {row - 32 for row, _ in places} == set(range(-4, 5))
    assert {column - 3 for _, column in places} == {-1, 0, 1}
