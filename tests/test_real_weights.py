"""Real ImageNet weights on real pictures: right answers in numbers known beforehand, and the judges' answers.

A hundred of the thousand pictures, every tenth class; `bench/imagenet_sample.py` takes them all.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from neocog.core.registry import lookup

EVERY = 10


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "bench" / "imagenet_sample.py"
    spec = importlib.util.spec_from_file_location("imagenet_sample", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sample(bench: ModuleType, shared: Path) -> tuple[Tensor, Tensor]:
    parts = list(bench.batches(shared / "data" / "imagenet_sample" / "imagenet_sample_256.zip", EVERY))
    return torch.cat([x for x, _ in parts]), torch.cat([labels for _, labels in parts])


def answers(network: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([network(part) for part in x.split(25)])


def judge_of(name: str, padding: str, state: dict[str, Tensor], request: pytest.FixtureRequest) -> nn.Module:
    """torchvision's network with the same weights; timm's for TensorFlow's padding, which torchvision has not."""
    if padding == "torch":
        judge = getattr(request.getfixturevalue("torchvision").models, name)()
        judge.load_state_dict(state)
    else:
        judge = request.getfixturevalue("timm").create_model("mobilenetv2_100", pad_type="same")
        maps = lookup(name).key_maps
        ours = {maps["torchvision"](key): tensor for key, tensor in state.items()}
        judge.load_state_dict({key: ours[maps["timm"](key)] for key in judge.state_dict()})
    return judge.eval()


@pytest.mark.parametrize(
    ("name", "padding", "top1", "top5"),
    [
        ("mobilenet_v2", "torch", 73, 93),
        ("mobilenet_v2", "same", 82, 97),
        ("squeezenet1_1", "torch", 61, 84),
    ],
)
def test_real_weights_know_real_pictures(
    name: str, padding: str, top1: int, top5: int,
    bench: ModuleType, sample: tuple[Tensor, Tensor], shared: Path, request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    path = shared / "data" / "weights" / "imagenet" / f"{name}.safetensors"
    x, labels = sample
    assert len(labels) == 100
    ours = answers(bench.load(name, {} if padding == "torch" else {"padding": padding}, path), x)
    first, five = bench.hits(ours, labels)
    # Rounding in another order (threads, processors) may move a picture that stands on the edge.
    assert abs(first - top1) <= 1
    assert abs(five - top5) <= 1
    theirs = answers(judge_of(name, padding, load_file(path), request), x)
    assert (ours - theirs).abs().max() < 1e-4
    assert torch.equal(ours.argmax(1), theirs.argmax(1))
