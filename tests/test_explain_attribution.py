"""Attribution against judges: finite differences, captum, closed forms, brute force; and networks left as they were."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import neocog
from neocog.core.errors import UsageError
from neocog.explaining import attribution as a
from neocog.explaining.cam import grad_cam
from neocog.explaining.integrated import integrated
from neocog.explaining.taps import Tapped, untouched
from untouched import fingerprint


def he(network: nn.Module, seed: int = 0) -> nn.Module:
    """He weights, so that there is a signal."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
    return network.eval()


def small(act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), act(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), act(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def picture(side: int = 12, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(seed))


# --- judges ---


def test_the_gradient_is_that_of_finite_differences() -> None:
    network, x = he(small(nn.SiLU)).double(), picture(8).double()
    found = a.gradient(network, x, 2)
    for place in ((0, 0, 0), (1, 3, 5), (2, 7, 7)):
        step = torch.zeros_like(x)
        step[0][place] = 1e-5
        with torch.no_grad():
            slope = (network(x + step) - network(x - step))[0, 2] / 2e-5
        assert float(found[place]) == pytest.approx(float(slope), rel=1e-5, abs=1e-9)
    assert torch.equal(a.input_x_gradient(network, x, 2), found * x[0])


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_captum_agrees() -> None:
    captum = pytest.importorskip("captum.attr")
    network, x = he(small()), picture(12).requires_grad_()
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}
    assert torch.allclose(a.gradient(network, x, 1), captum.Saliency(network).attribute(x, 1, abs=False)[0], **close)
    for rule, kind in (("guided", captum.GuidedBackprop), ("deconvolution", captum.Deconvolution)):
        judge = kind(network).attribute(x, target=1)[0]
        assert torch.allclose(a.rectified(network, x, 1, rule), judge, **close)  # type: ignore[arg-type]
        assert not torch.allclose(judge, a.gradient(network, x, 1), **close)
    judge = captum.IntegratedGradients(network).attribute(x, target=1, n_steps=1000, method="gausslegendre")[0].detach()
    assert float((integrated(network, x, 1, steps=500).map - judge).norm()) < 0.002 * float(judge.norm())
    judge = captum.Occlusion(network).attribute(x, (3, 4, 4), strides=(3, 4, 4), target=1)[0].mean(0)
    assert torch.allclose(a.occlusion(network, x, 1, window=4, stride=4), judge, **close)
    judge = captum.LayerGradCam(network, network[4]).attribute(x, target=1, relu_attributions=True)[0, 0]
    assert torch.allclose(grad_cam(network, x, 1, "4").coarse, judge, **close)


def test_a_relu_that_is_cut_at_6() -> None:
    x = torch.tensor([[-1.0, 2, 7, 3]])
    weight = torch.tensor([[1.0, 2, 3, -4]])
    sixes: list[Callable[[Tensor], Tensor]] = [
        nn.ReLU6(), nn.ReLU6(inplace=True), F.relu6, nn.Hardtanh(0, 6), lambda x: x.clamp(0, 6),
        lambda x: x.clip(0, 6), lambda x: x.clip_(0, 6),
    ]  # fmt: skip
    for six in sixes:
        network = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(4, 1))
        network[2].weight.data = weight  # type: ignore[assignment]
        network[0].forward = lambda x, six=six: six(x * 1)  # type: ignore[method-assign, misc, assignment]
        assert a.rectified(network, x[..., None, None], 0, "guided").flatten().tolist() == [0, 2, 0, 0]
        assert a.rectified(network, x[..., None, None], 0, "deconvolution").flatten().tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize("rule", ["guided", "deconvolution"])
def test_a_relu_is_one_however_it_is_spelled(rule: a.Rule) -> None:
    layers = nn.ModuleList([nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 3)])
    he(layers)
    once, inplace = nn.ReLU(), nn.ReLU(inplace=True)

    def changed(x: Tensor) -> Tensor:
        x.relu_()  # what it gives is thrown away
        return x

    def clipped(x: Tensor) -> Tensor:
        x.clip_(0)
        return x

    spellings: dict[str, Callable[[Tensor], Tensor]] = {
        "a module": nn.ReLU(), "reused": once, "in place": inplace, "F.relu": F.relu, "torch.relu": torch.relu,
        "F.relu in place": lambda x: F.relu(x, inplace=True), "relu_": changed, "a method": lambda x: x.relu(),
        "a clamp": lambda x: x.clamp(min=0), "clamp_min": lambda x: torch.clamp_min(x, 0),
        "torch.clip": lambda x: torch.clip(x, 0), "clip": lambda x: x.clip(min=0), "clip_": clipped,
        "nn.Threshold": nn.Threshold(0, 0), "F.threshold": lambda x: F.threshold(x, threshold=0, value=0),
        "F.threshold in place": lambda x: F.threshold(x, 0, 0, True), "threshold_": lambda x: F.threshold_(x, 0, 0),
        "torch.threshold": lambda x: torch.threshold(x, 0, 0),
    }  # fmt: skip

    class Spelled(nn.Module):
        def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.layers, self.relu = layers, relu

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = self.relu(layer(x))
            return x.mean((2, 3))

    x = picture()
    found = {name: a.rectified(Spelled(relu), x, 1, rule) for name, relu in spellings.items()}
    first = found["a module"]
    assert first.abs().sum() > 0
    assert not torch.allclose(first, a.gradient(Spelled(F.relu), x, 1))
    assert all(torch.equal(first, other) for other in found.values()), found.keys()
    for other in (nn.SiLU, lambda: nn.Threshold(0.1, 0), lambda: nn.Threshold(0, 1)):
        with pytest.raises(UsageError, match="no ReLU"):
            a.rectified(small(other), x, 1, rule)


def test_what_comes_back_through_a_pool_goes_where_it_came_from() -> None:
    """6 x 6 by hand: of each 2 x 2 the largest number, negative ones cut; Zeiler and Fergus's switches."""
    network = nn.Sequential(nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(9, 1, bias=False))
    with torch.no_grad():
        network[3].weight.copy_(torch.tensor([[1.0, -2, 3, 4, 5, -6, 7, 8, 9]]))  # type: ignore[union-attr, operator]
    x = torch.tensor(
        [[1, 2, 0, 0, -1, -2], [3, 0, 9, 1, -3, -4], [0, 0, 5, 4, 1, 1], [0, 1, 3, 2, 1, 2], [7, 1, 0, 0, 2, 3],
         [1, 1, 0, 8, 5, 4]], dtype=torch.float32,
    )  # fmt: skip
    wanted = torch.zeros(6, 6)
    wanted[1, 0], wanted[0, 4], wanted[3, 1] = 1, 3, 4  # -2 and -6 are cut; the third pool is negative, yet passes
    wanted[2, 2], wanted[4, 0], wanted[5, 3], wanted[5, 4] = 5, 7, 8, 9
    assert torch.equal(a.rectified(network, x[None, None], 0, "deconvolution")[0], wanted)
    wanted[0, 4] = 0  # guided: not where the ReLU was shut
    assert torch.equal(a.rectified(network, x[None, None], 0, "guided")[0], wanted)


def test_integrated_gradients_are_complete() -> None:
    for name in ("resnet18", "squeezenet1_1"):
        network = he(neocog.create_model(name, num_classes=7))
        x = picture(64)
        with torch.no_grad():
            target = int((network(x) - network(torch.zeros_like(x))).abs().argmax())
        found = integrated(network, x, target, steps=200)
        assert abs(found.error) < 0.01 * abs(found.difference), name
        assert float(found.map.sum()) == pytest.approx(found.difference + found.error, rel=1e-5)


def test_steps_go_where_the_gradient_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """relu(w x - c) has its one jump at c / w x of the way; 64 equal steps would be off by up to 1 / 64 of it."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.ReLU())
    weight, x = torch.tensor([1.0, -2, 3, 0.5]), torch.tensor([1.0, 0.5, 2, -1])
    network[1].weight.data, network[1].bias.data = weight[None], torch.tensor([-1.0])  # type: ignore[assignment]
    wanted = weight * x * (1 - 1 / float(weight @ x))
    for steps in (64, 200):
        found = integrated(network, x[None, :, None, None], 0, steps=steps)
        assert torch.allclose(found.map.flatten(), wanted, rtol=1e-3)
        assert found.difference == pytest.approx(float(weight @ x) - 1)
    monkeypatch.setattr("neocog.explaining.integrated.HELD", 16 * 4 * 20)  # bytes of 20 gradients
    assert torch.allclose(integrated(network, x[None, :, None, None], 0, steps=200).map.flatten(), wanted, rtol=1e-3)
    with pytest.raises(UsageError, match="1 steps are too few"):
        integrated(network, x[None, :, None, None], 0, steps=1)


@pytest.mark.parametrize("steps", [2, 3, 64, 65, 200])
def test_no_more_gradients_than_asked_for(steps: int) -> None:
    network, x = he(small()), picture()
    seen: list[int] = []

    def count(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.extend([len(args[0])] * args[0].requires_grad)

    network[0].register_forward_pre_hook(count)
    integrated(network, x, 1, steps=steps)
    assert steps <= sum(seen) < steps + 4  # as many on each part of the way


@pytest.mark.parametrize("together", [1, 5, 64])
def test_memory_is_a_matter_of_how_many_go_together(together: int) -> None:
    network, x = he(small()), picture()
    seen = []
    network[0].register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    whole = integrated(network, x, 1, steps=40, together=64).map
    assert torch.allclose(integrated(network, x, 1, steps=40, together=together).map, whole, atol=1e-6)
    wanted = a.smooth(network, x, 1, samples=12, together=64)
    seen.clear()
    assert torch.allclose(a.smooth(network, x, 1, samples=12, together=together), wanted, atol=1e-6)
    a.occlusion(network, x, 1, window=4, stride=2, together=together)
    assert max(seen) <= together


def test_occlusion_is_that_of_brute_force() -> None:
    network, x = he(small()), picture(11)
    found = a.occlusion(network, x, 1, window=4, stride=3)
    total, count = np.zeros((11, 11)), np.zeros((11, 11))
    with torch.no_grad():
        for top in (0, 3, 6, 7):
            for left in (0, 3, 6, 7):
                hidden = x.clone()
                hidden[..., top : top + 4, left : left + 4] = 0
                total[top : top + 4, left : left + 4] += float((network(x) - network(hidden))[0, 1])
                count[top : top + 4, left : left + 4] += 1
    assert np.allclose(found.numpy(), total / count, atol=1e-5)
    assert np.abs(found.numpy()).max() > 0.01


def test_grad_cam_is_cam_where_there_is_one() -> None:
    network, x = he(small()), picture(16)
    with torch.no_grad():
        maps = network[:5](x)[0]
    weights = network[7].weight[2]  # type: ignore[index]
    wanted = torch.einsum("c,chw->hw", weights, maps).clamp(min=0) / maps[0].numel()
    found = grad_cam(network, x, 2, "4")
    assert torch.allclose(found.coarse, wanted, atol=1e-6)
    assert found.fine.shape == (16, 16)
    assert wanted.max() > 0


def test_grad_cam_plus_plus_is_that_of_its_formula() -> None:
    """For exp(score): weights alpha, from the derivatives of all orders, by autograd on a network of one linear map."""
    network, x = he(small()).double(), picture(16).double()
    maps = network[:5](x).detach().requires_grad_()
    (slope,) = torch.autograd.grad(network[5:](maps)[0, 2], maps)
    slope, sums = slope[0].numpy(), maps.detach()[0].sum((1, 2)).numpy()
    weights = np.zeros(8)
    for c in range(8):
        for g in slope[c].ravel():
            below = 2 * g**2 + sums[c] * g**3
            weights[c] += max(g, 0) * (g**2 / below if below else 0)
    wanted = np.maximum(np.einsum("c,chw->hw", weights, maps.detach()[0].numpy()), 0)
    assert np.allclose(grad_cam(network, x, 2, "4", plus=True).coarse.numpy(), wanted)


def test_the_layer_is_chosen_by_what_the_score_depends_on() -> None:
    resnet = he(neocog.create_model("resnet18", num_classes=4))
    assert grad_cam(resnet, picture(64), 1).layer == "stages.conv5_x"
    assert grad_cam(resnet, picture(64), 1, "conv3_x").coarse.shape == (8, 8)
    vit = he(neocog.create_model("vit_b_32", num_classes=4, image_size=96))
    found = grad_cam(vit, picture(96), 1)
    # Behind its last layer only the class token is read, so the layer before it is the last that has a map.
    assert found.layer == "stages.layer10"
    assert found.coarse.shape == (3, 3)
    assert found.coarse.max() > 0
    with pytest.raises(UsageError, match=r"does not depend on stages\.layer11"):
        grad_cam(vit, picture(96), 1, "layer11")


# --- what must not change, and what cannot be asked ---

METHODS: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "gradient": lambda n, x: a.gradient(n, x, 1),
    "input x gradient": lambda n, x: a.input_x_gradient(n, x, 1),
    "guided": lambda n, x: a.rectified(n, x, 1, "guided"),
    "deconvolution": lambda n, x: a.rectified(n, x, 1, "deconvolution"),
    "integrated": lambda n, x: integrated(n, x, 1, steps=3),
    "smooth": lambda n, x: a.smooth(n, x, 1, samples=2),
    "occlusion": lambda n, x: a.occlusion(n, x, 1, window=16, stride=16),
    "grad-cam": lambda n, x: grad_cam(n, x, 1),
    "grad-cam++": lambda n, x: grad_cam(n, x, 1, plus=True),
}


@pytest.mark.parametrize("method", METHODS)
def test_the_network_stays_what_it_was(method: str) -> None:
    network = he(neocog.create_model("mnist_convnet", in_channels=3, num_classes=4))
    network.train()
    network.stages[0].eval()
    next(network.parameters()).requires_grad_(False)
    last = list(network.parameters())[-1]
    last.grad = torch.ones_like(last)
    before = fingerprint(network)
    METHODS[method](network, picture(28))
    assert fingerprint(network) == before


def test_also_after_an_error() -> None:
    network = he(small()).train()
    before = fingerprint(network)
    with pytest.raises(UsageError, match="no class 9"):
        a.gradient(network, picture(), 9)
    with pytest.raises(UsageError, match="no layer 'nowhere'"):
        grad_cam(network, picture(), 1, "nowhere")
    with pytest.raises(UsageError, match="has no grid"):
        grad_cam(network, picture(), 1, "7")
    assert fingerprint(network) == before


def test_batch_norm_and_dropout_are_as_in_use() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(400, 3)
    )
    he(network).train()
    first = a.gradient(network, picture(12), 1)
    assert torch.equal(first, a.gradient(network, picture(12), 1))
    assert network[1].num_batches_tracked == 0


def test_taps_record_what_comes_before_a_change_in_place() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(400, 3))
    x = picture(12)
    with untouched(network), Tapped(network, ["0", "1"]) as taps:
        out = network(x.requires_grad_())
        slopes = taps.gradients(out[0, 1])
    assert torch.equal(taps["0"], F.conv2d(x, network[0].weight, network[0].bias))  # type: ignore[arg-type]
    assert taps["0"].min() < 0 <= taps["1"].min()
    wanted = network[3].weight[1].view(1, 4, 10, 10)  # type: ignore[operator, index]
    assert torch.equal(slopes["1"], wanted)
    assert torch.equal(slopes["0"], wanted * (taps["0"] > 0))


class Positions(nn.Module):
    """Maps, to which a table of positions is added and of which a recurrent network makes three numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.positions = nn.Conv2d(3, 6, 3, stride=3), nn.Embedding(16, 6)
        self.sequence, self.mixed = nn.LSTM(6, 6, batch_first=True), nn.Linear(6, 6)
        self.fc = nn.Linear(6, 5)
        self.register_buffer("order", torch.arange(16))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.conv(x).flatten(2).transpose(1, 2) + self.positions(self.order)[None]
        scores: Tensor = self.fc(self.mixed(self.sequence(tokens)[0][:, :7]).mean(1))  # seven make no square
        return scores


def test_stages_that_cannot_be_shown_are_passed_over() -> None:
    network, x = he(Positions()), picture(12)
    found = grad_cam(network, x, 1)
    assert found.layer == "conv"
    assert found.coarse.shape == (4, 4)
    assert found.coarse.max() > 0
    assert torch.equal(found.coarse, grad_cam(network, x, 1, "conv").coarse)
    for layer, said in (("positions", "grid"), ("sequence", "no single tensor"), ("mixed", "7 tokens make no square")):
        with pytest.raises(UsageError, match=said):
            grad_cam(network, x, 1, layer)


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)


def test_an_answer_that_does_not_hang_on_the_picture() -> None:
    network, x = nn.Sequential(nn.Conv2d(3, 4, 3), Constant(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), picture(12)
    with pytest.raises(UsageError, match="has a grid on which the score depends"):
        grad_cam(network, x, 1)
    with pytest.raises(UsageError, match="does not depend on the picture"):
        a.gradient(network, x, 1)
    with pytest.raises(UsageError, match="does not depend on the picture"):
        integrated(network, x, 1)
