"""Our networks against torchvision's and timm's: the same weights, the same pictures, the same numbers."""

from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from draw import pictures, spread
from judge import ODD, SHAPE, ours_with, outputs_of, theirs_drawn
from neocog.core.registry import lookup, names

HERE = ("alexnet", "mobilenet_v2", "resnet", "squeezenet", "vgg")  # other families have tests of their own
SHARED = [name for name in names() if lookup(name).build.__module__.rpartition(".")[2] in HERE]


def stages_of(judge: nn.Module, name: str) -> list[nn.Module]:
    """The layers of torchvision's network behind which our stages end."""
    if name.startswith("resnet"):
        return [judge.layer1, judge.layer2, judge.layer3, judge.layer4]
    if name.startswith("vgg"):
        return [judge.features[i - 1] for i, m in enumerate(judge.features) if isinstance(m, nn.MaxPool2d)]
    indices = {
        "alexnet": (1, 4, 7, 9, 11),
        "squeezenet1_0": (5, 10, 12),
        "squeezenet1_1": (4, 7, 12),
        "mobilenet_v2": (1, 3, 6, 10, 13, 16, 17),
    }
    return [judge.features[i] for i in indices[name]]


def test_every_published_family_is_judged() -> None:
    assert len(SHARED) == 17


@pytest.mark.parametrize("name", SHARED)
def test_torchvision_gives_the_same_numbers(name: str, torchvision: ModuleType) -> None:
    judge = theirs_drawn(getattr(torchvision.models, name))
    network = ours_with(name, judge, "torchvision")
    x = pictures(2, SHAPE)
    answer, stages = outputs_of(judge, stages_of(judge, name), x)
    with torch.no_grad():
        ours, features = network(x), network.features(x)
    assert spread(answer) > 0.01
    assert (ours - answer).abs().max() < 1e-4
    for ours, theirs in zip(features, stages, strict=True):
        assert spread(theirs) > 0.01
        assert (ours - theirs).abs().max() < 1e-4
    with torch.no_grad():
        x = pictures(2, ODD)
        assert (network(x) - judge(x)).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18", "mobilenet_v2"])
def test_the_embedding_is_torchvisions(name: str, torchvision: ModuleType) -> None:
    judge = theirs_drawn(getattr(torchvision.models, name))
    network = ours_with(name, judge, "torchvision")
    last = judge.fc if name.startswith("resnet") else judge.classifier[-1]
    seen: list[Tensor] = []
    last.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    x = pictures(2, SHAPE)
    with torch.no_grad():
        judge(x)
        assert (network.embed(x) - seen[0]).abs().max() < 1e-4


@pytest.mark.parametrize("name", SHARED)
def test_the_published_facts_are_torchvisions(name: str, torchvision: ModuleType) -> None:
    spec = lookup(name).spec
    published = {w.name.lower(): w for w in torchvision.models.get_model_weights(name)}
    published.pop("imagenet1k_features", None)  # VGG-16 without a classifier, for other tasks
    from_torchvision = [w for w in spec.weights if "download.pytorch.org" in w.url]
    assert {w.tag for w in from_torchvision} == set(published)
    assert spec.weights[0].top1 == max(w.top1 for w in from_torchvision)
    for ours in from_torchvision:
        theirs = published[ours.tag]
        scores, transforms = theirs.meta["_metrics"]["ImageNet-1K"], theirs.transforms()
        assert ours.url == theirs.url
        assert f"-{ours.sha256}." in theirs.url
        assert (ours.top1, ours.top5) == (scores["acc@1"], scores["acc@5"])
        assert (ours.preprocessing.size, ours.preprocessing.resize) == (
            transforms.crop_size[0], transforms.resize_size[0],
        )  # fmt: skip
        assert list(ours.preprocessing.mean) == transforms.mean
        assert list(ours.preprocessing.std) == transforms.std
        assert ours.preprocessing.interpolation == transforms.interpolation.value
        assert spec.params == theirs.meta["num_params"]
        assert round(spec.macs / 1e9, 3) == theirs.meta["_ops"]


@pytest.mark.parametrize(
    ("name", "theirs", "ours", "judges"),
    [
        ("mobilenet_v2", "mobilenetv2_100", {}, {}),
        ("mobilenet_v2", "mobilenetv2_100", {"padding": "same"}, {"pad_type": "same"}),
        ("mobilenet_v2", "mobilenetv2_140", {"width": 1.4}, {}),
        ("mobilenet_v2", "mobilenetv2_050", {"width": 0.5}, {}),
        ("vgg11", "vgg11", {}, {}),
        ("vgg13_bn", "vgg13_bn", {}, {}),
    ],
)
def test_timm_gives_the_same_numbers(
    name: str, theirs: str, ours: dict[str, object], judges: dict[str, object], timm: ModuleType
) -> None:
    judge = theirs_drawn(lambda: timm.create_model(theirs, **judges))
    network = ours_with(name, judge, "timm", **ours)
    for shape in (SHAPE, ODD):
        x = pictures(2, shape)
        with torch.no_grad():
            answer = judge(x)
            assert spread(answer) > 0.01
            assert (network(x) - answer).abs().max() < 1e-4


def test_timm_names_resnets_tensors_as_torchvision_does(timm: ModuleType) -> None:
    judge = theirs_drawn(lambda: timm.create_model("resnet18"))
    network = ours_with("resnet18", judge, "torchvision")
    x = pictures(2, SHAPE)
    with torch.no_grad():
        assert (network(x) - judge(x)).abs().max() < 1e-4


def test_files_that_timm_names_are_timms(timm: ModuleType) -> None:
    """Every tag of the whole zoo that has timm's form, network.weights, is the file and the preprocessing of timm."""
    checked = 0
    for name in names():
        for ours in lookup(name).spec.weights:
            for tag in (ours.tag, *ours.aliases):
                if "." not in tag:
                    continue
                theirs = timm.get_pretrained_cfg(tag)
                assert theirs is not None, tag
                if theirs.url:  # some of torchvision's files timm keeps a copy of instead
                    assert theirs.url.rpartition("/")[2] == ours.url.rpartition("/")[2], tag
                checked += 1
                if tag in ours.aliases:
                    continue  # torchvision's file, described by torchvision
                assert f"-{ours.sha256}" in ours.url
                how = ours.preprocessing
                assert (how.mean, how.std, how.interpolation) == (theirs.mean, theirs.std, theirs.interpolation), tag
                assert (how.size, how.resize) == (theirs.input_size[1], int(theirs.input_size[1] / theirs.crop_pct)), (
                    tag
                )
    assert checked > 10
