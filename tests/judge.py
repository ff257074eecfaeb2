"""Another library's network as a judge of ours: its weights through our key map, the same pictures, and every
answer on the way side by side."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from draw import draw, pictures, spread
from neocog.core.contracts import Network
from neocog.core.registry import lookup
from neocog.models.weights import adapt, recognise

SHAPE = (3, 64, 80)  # not square: height and width cannot be swapped unseen
ODD = (3, 75, 66)  # where floor and ceil, and the two paddings, part or meet
TOLERANCE = 1e-4  # of the spread of the judge's numbers


def theirs_drawn(build: Callable[..., nn.Module], shape: tuple[int, ...] = SHAPE, **knobs: object) -> nn.Module:
    """The judge under drawn weights, in eval mode."""
    with torch.device("meta"):
        judge = build(**knobs)
    judge.to_empty(device="cpu")
    draw(judge, shape)
    return judge


def ours_with(name: str, judge: nn.Module, layout: str, **knobs: object) -> Network:
    """Our network with the judge's weights, through the public way in: recognise, adapt, strict load."""
    entry = lookup(name)
    with torch.device("meta"):
        network = entry.build(**knobs)
    state = judge.state_dict()
    assert recognise(entry, state) == layout
    adapted, notes = adapt(network, entry, state, layout)
    assert notes == []
    network.load_state_dict(adapted, strict=True, assign=True)
    return network.eval()


def outputs_of(judge: nn.Module, layers: list[nn.Module], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The judge's answer and the outputs of some of its layers on the way."""
    seen: dict[nn.Module, Tensor] = {}
    # Cloned at once: the next layer may work in place.
    handles = [layer.register_forward_hook(lambda m, _, out: seen.update({m: out.clone()})) for layer in layers]
    with torch.no_grad():
        answer = judge(x)
    for handle in handles:
        handle.remove()
    return answer, [seen[layer] for layer in layers]


def assert_same(ours: Tensor, theirs: Tensor, what: str) -> None:
    """Equal within 1e-4 of the spread of `theirs`, in which two pictures must differ."""
    assert ours.shape == theirs.shape, what
    assert spread(theirs) > 0.01, f"{what}: no signal to compare"
    off = float((ours - theirs).abs().max() / theirs.std())
    assert off < TOLERANCE, f"{what}: off by {off:.1e} of the spread"


def compare(
    network: Network, judge: nn.Module, stages: Sequence[nn.Module], shapes: Sequence[tuple[int, ...]] = (SHAPE, ODD)
) -> None:
    """Scores, and the output of every stage of ours beside that of the judge's layer in `stages`."""
    for shape in shapes:
        x = pictures(2, shape)
        answer, theirs = outputs_of(judge, list(stages), x)
        with torch.no_grad():
            assert_same(network(x), answer, f"scores at {shape}")
            features = network.features(x)
        names = [name for name, _ in network.stages.named_children()]
        for name, ours, expected in zip(names, features, theirs, strict=True):
            assert_same(ours, expected, f"stage {name} at {shape}")
