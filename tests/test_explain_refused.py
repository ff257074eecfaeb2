"""What cannot be asked of a network is refused in one line, and not by an error of torch's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from draw import draw, pictures
from neocog.core.errors import UsageError
from neocog.explaining import attribution as a
from neocog.explaining import checks
from neocog.explaining.cam import grad_cam
from neocog.explaining.inside import inside
from neocog.explaining.integrated import integrated
from neocog.explaining.maps import activations
from neocog.explaining.patches import read, strongest
from neocog.explaining.ranges import dead_channels
from neocog.explaining.visualise import Class, visualise, visualise_each

SHAPE = (3, 12, 12)
X, HEAT = pictures(1, SHAPE), pictures(1, SHAPE)[0, 0]
FIGURES = (0.5,), (0.25,)


@pytest.fixture
def network() -> nn.Module:
    """Of 5 classes; layer 0 gives 4 maps of 10 x 10."""
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    draw(made, SHAPE)
    return made


OF_ONE: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "gradient": lambda n, x: a.gradient(n, x, 1),
    "input x gradient": lambda n, x: a.input_x_gradient(n, x, 1),
    "guided": lambda n, x: a.rectified(n, x, 1, "guided"),
    "smooth": lambda n, x: a.smooth(n, x, 1, samples=2),
    "occlusion": lambda n, x: a.occlusion(n, x, 1, window=4, stride=4),
    "integrated": lambda n, x: integrated(n, x, 1, steps=2),
    "grad-cam": lambda n, x: grad_cam(n, x, 1),
    "activations": lambda n, x: activations(n, x, ["0"]),
    "read": lambda n, x: read(n, x, "0", 0, (1, 1)),
    "deletion": lambda n, x: checks.deletion(n, x, 1, HEAT),
    "insertion": lambda n, x: checks.insertion(n, x, 1, HEAT),
}


@pytest.mark.parametrize("x", [pictures(2, SHAPE), X[:0], X[0], X[0, 0, 0]], ids=["two", "none", "bare", "a row"])
@pytest.mark.parametrize("way", OF_ONE)
def test_a_way_that_looks_at_one_picture_takes_no_other_number(way: str, x: Tensor, network: nn.Module) -> None:
    with pytest.raises(UsageError, match="the input is") as caught:
        OF_ONE[way](network, x)
    assert caught.value.hint == "give one picture: (1, C, H, W)"


REFUSED: list[tuple[Callable[[nn.Module], Any], str]] = [
    (lambda n: checks.deletion(n, X, 5, HEAT), "there is no class 5; the classes are 0 to 4"),
    (lambda n: checks.insertion(n, X, -1, HEAT), "there is no class -1; the classes are 0 to 4"),
    (lambda n: checks.deletion(n, X, 1, HEAT, steps=0), "0 steps"),
    (lambda n: checks.insertion(n, X, 1, HEAT, steps=-3), "-3 steps"),
    (lambda n: checks.deletion(n, X, 1, HEAT[:6]), "heat of 6 x 12 .* a picture of 12 x 12"),
    (lambda n: checks.insertion(n, X, 1, HEAT.flatten()), "heat of 144 .* a picture of 12 x 12"),
    (lambda n: read(n, X, "0", 0, (10, 0)), r"0 has no position \(10, 0\); its positions are \(0 to 9, 0 to 9\)"),
    (lambda n: read(n, X, "0", 0, (0, -1)), r"0 has no position \(0, -1\)"),
    (lambda n: a.smooth(n, X, 1, samples=0), "0 samples"),
    (lambda n: integrated(n, X, 1, baseline=X[..., :6]), "baseline"),
    (lambda n: visualise(n, Class(1), (12, 12), *FIGURES, steps=0), "0 steps"),
    (lambda n: visualise_each(n, [], (12, 12), *FIGURES, steps=2), "nothing to look for"),
    (lambda n: visualise(n, Class(1), (0, 12), *FIGURES, steps=2), "0 x 12 pixels"),
    (lambda n: visualise(n, Class(1), (12, -1), *FIGURES, steps=2), "12 x -1 pixels"),
    (lambda n: visualise(n, Class(1), (12, 12), (0.5, 0.5), (0.25,), steps=2, channels=3), "2 figures"),
    (lambda n: dead_channels(n, [X[:0]], "0"), "gave 0 values per channel"),
    (lambda n: inside(n, [X, X[:0]]), "there are no pictures"),
    (lambda n: strongest(n, [(torch.arange(0), X[:0])], "0"), "there are no pictures"),
]


@pytest.mark.parametrize(("look", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_makes_no_sense_is_refused(look: Callable[[nn.Module], Any], said: str, network: nn.Module) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        look(network)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_an_empty_batch_among_others_is_passed_over(network: nn.Module) -> None:
    assert torch.equal(dead_channels(network, [X, X[:0]], "0"), dead_channels(network, [X], "0"))
    assert strongest(network, [(torch.tensor([7]), X), (torch.arange(0), X[:0])], "0")[0][0].picture == 7
