"""Maps of what mattered, judged on ImageNet pictures with published weights, beside captum and grad-cam.

    python bench/explain.py areas      # what happens to the answer when pixels go, or come back, in a map's order
    python bench/explain.py pointing   # of four pictures in one, how much of a map lies on the one asked for
    python bench/explain.py complete   # how far integrated gradients are from the score's difference, by steps
    python bench/explain.py pages --keep FOLDER   # the pages of ten right and ten wrong answers
    python bench/explain.py time       # how long the page of a ResNet-18 takes, 224 x 224 pixels

Reads ../shared/data (`--data`). Every result is kept in bench/results/explaining.json as it comes, and what is there is
not computed again; `scripts/docs` makes docs/explaining.md of it. captum and grad-cam are measured where they can be
imported (grad-cam asks for torchvision, which ../shared/peers lends it).
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transfer import Results, clothes

import neocog
from neocog.app.explaining import Explainer
from neocog.app.opened import Opened
from neocog.app.pretrained import open_run, read_classes
from neocog.explaining import attribution, checks
from neocog.explaining.cam import grad_cam
from neocog.explaining.integrated import integrated
from neocog.report import render_explain

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "explaining.json"
NETWORKS = ("mobilenet_v2", "squeezenet1_1")
PICTURES = 40
GRIDS = 20
SLOW = ("occlusion", "captum: integrated gradients")  # not asked for on grids of four pictures
STEPS = 64  # of integrated gradients
COURSE = 16  # steps of a deletion
Map = Callable[[nn.Module, Tensor, int], Tensor]  # network, (1, C, H, W), class -> (H, W)


def last_layer(network: nn.Module, x: Tensor) -> str:
    return grad_cam(network, x, 0).layer


def by_luck(network: nn.Module, x: Tensor, target: int) -> Tensor:
    return torch.rand(x.shape[-2:], generator=torch.Generator().manual_seed(target))


def hidden(network: nn.Module, x: Tensor, target: int) -> Tensor:
    window = x.shape[-1] // 8
    return attribution.occlusion(network, x, target, window=window, stride=window // 2).clamp(min=0)


MAPS: dict[str, Map] = {
    "a random order": by_luck,
    "Grad-CAM": lambda n, x, k: grad_cam(n, x, k).fine,
    "Grad-CAM++": lambda n, x, k: grad_cam(n, x, k, plus=True).fine,
    "occlusion": hidden,
    "integrated gradients": lambda n, x, k: attribution.heat(integrated(n, x, k, steps=STEPS).map),
    "SmoothGrad": lambda n, x, k: attribution.heat(attribution.smooth(n, x, k, samples=16)),
    "guided backpropagation": lambda n, x, k: attribution.heat(attribution.rectified(n, x, k, "guided")),
    "gradient": lambda n, x, k: attribution.heat(attribution.gradient(n, x, k)),
}


def peers(shared: Path) -> dict[str, Map]:
    """Those of captum and of grad-cam, where they can be imported."""
    found: dict[str, Map] = {}
    if captum := imported("captum.attr"):

        def cam(network: nn.Module, x: Tensor, target: int) -> Tensor:
            layer = network.get_submodule(last_layer(network, x))
            coarse = captum.LayerGradCam(network, layer).attribute(x, target=target, relu_attributions=True)
            return captum.LayerAttribution.interpolate(coarse, x.shape[-2:], "bilinear")[0, 0].detach()

        def gradients(network: nn.Module, x: Tensor, target: int) -> Tensor:
            method = captum.IntegratedGradients(network)
            return attribution.heat(method.attribute(x, target=target, n_steps=STEPS, internal_batch_size=16)[0])

        found |= {"captum: Grad-CAM": cam, "captum: integrated gradients": gradients}
        found |= {"captum: guided backpropagation": lambda n, x, k: attribution.heat(
            captum.GuidedBackprop(n).attribute(x.clone().requires_grad_(), target=k)[0].detach())}  # fmt: skip
    sys.path.insert(0, str(shared / "peers"))
    imported("torchvision_on_cpu_torch")
    if peer := imported("pytorch_grad_cam"):

        def with_peer(kind: Any) -> Map:
            def cam(network: nn.Module, x: Tensor, target: int) -> Tensor:
                layer = network.get_submodule(last_layer(network, x))
                wanted = importlib.import_module("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget(target)
                with kind(model=network, target_layers=[layer]) as method:
                    return torch.from_numpy(method(input_tensor=x, targets=[wanted])[0])

            return cam

        found |= {
            "grad-cam: Grad-CAM": with_peer(peer.GradCAM),
            "grad-cam: Grad-CAM++": with_peer(peer.GradCAMPlusPlus),
        }
    return found


def imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"without {name}: {error}", file=sys.stderr)
        return None


class Bench:
    def __init__(self, data: Path, place: Path) -> None:
        self.data, self.place = data, place
        self.classes = data / "imagenet_sample" / "imagenet_class_index.json"

    @cached_property
    def maps(self) -> dict[str, Map]:
        return MAPS | peers(self.data.parent)

    @property
    def files(self) -> list[Path]:
        """1,000 pictures, one a class in the order of the classes."""
        folder = self.place / "imagenet_sample"
        if not folder.is_dir():
            zipfile.ZipFile(self.data / "imagenet_sample" / "imagenet_sample_256.zip").extractall(self.place)
        return sorted(folder.glob("*.jpg"))

    @cache  # noqa: B019  one bench a process
    def opened(self, name: str) -> Opened:
        return Opened.of(open_run(name, self.weights(name), self.classes))

    def weights(self, name: str) -> str:
        return str(self.data / "weights" / "imagenet" / f"{name}.safetensors")

    def answered(self, name: str, number: int) -> tuple[Tensor, int, float]:
        """Picture `number`, (1, 3, 224, 224), its answer and the probability of that."""
        opened = self.opened(name)
        x = opened.one(self.files[number])
        with torch.inference_mode():
            beliefs = opened.network(x)[0].softmax(0)
        return x.contiguous(), int(beliefs.argmax()), float(beliefs.max())


def areas(bench: Bench, results: Results) -> None:
    for name in NETWORKS:
        for number in range(0, 1000, 1000 // PICTURES):
            results.get(f"areas/{name}/{number}", area_of, bench, name, number)


def area_of(bench: Bench, name: str, number: int) -> dict[str, Any]:
    """{map: [deletion, insertion]} for the answer."""
    x, answer, _ = bench.answered(name, number)
    network = bench.opened(name).network
    found = {}
    for what, made in bench.maps.items():
        heat = made(network, x, answer)
        courses = (checks.deletion(network, x, answer, heat, steps=COURSE),
                   checks.insertion(network, x, answer, heat, steps=COURSE))  # fmt: skip
        found[what] = [round(checks.area(course), 5) for course in courses]
    return found


def pointing(bench: Bench, results: Results) -> None:
    """Boehle, Fritz and Schiele, "Convolutional Dynamic Alignment Networks", CVPR 2021, arXiv:2104.00032, section 4.3:
    of four pictures that were named rightly and surely, in a grid, how much of a map lies on the one asked for."""
    for name in NETWORKS:
        sure = [i for i in range(0, 1000, 3) if bench.answered(name, i)[1] == i and bench.answered(name, i)[2] > 0.8]
        draw = np.random.default_rng(0)
        quick = {what: made for what, made in bench.maps.items() if what not in SLOW}
        for number in range(GRIDS):
            four = draw.choice(sure, 4, replace=False).tolist()
            results.get(f"pointing/{name}/{number}", share_of, bench, name, four, number % 4, quick)


def share_of(bench: Bench, name: str, four: list[int], asked: int, maps: dict[str, Map]) -> dict[str, Any]:
    """{map: [share of it on the picture asked for, whether its most is there]}"""
    x = [bench.answered(name, i)[0] for i in four]
    grid = torch.cat([torch.cat(x[:2], 3), torch.cat(x[2:], 3)], 2)
    network, side = bench.opened(name).network, x[0].shape[-1]
    top, left = side * (asked // 2), side * (asked % 2)
    found = {}
    for what, made in maps.items():
        heat = made(network, grid, four[asked]).clamp(min=0)
        row, column = divmod(int(heat.argmax()), heat.shape[1])
        inside = top <= row < top + side and left <= column < left + side
        share = float(heat[top : top + side, left : left + side].sum() / heat.sum().clamp_min(1e-12))
        found[what] = [round(share, 5), int(inside)]
    return found


def complete(bench: Bench, results: Results) -> None:
    for name in NETWORKS:
        for number in range(0, 1000, 1000 // PICTURES):
            results.get(f"complete/{name}/{number}", errors_of, bench, name, number)


def errors_of(bench: Bench, name: str, number: int) -> dict[str, Any]:
    """{steps: error of neocog, of captum}, as shares of the score's difference."""
    x, answer, _ = bench.answered(name, number)
    network = bench.opened(name).network
    peer = imported("captum.attr")
    found = {}
    for steps in (32, 64):
        own = integrated(network, x, answer, steps=steps)
        errors = [abs(own.error / own.difference)]
        if peer:
            judge = peer.IntegratedGradients(network)
            whole = float(judge.attribute(x, target=answer, n_steps=steps, internal_batch_size=16).sum())
            errors.append(abs(whole / own.difference - 1))
        found[str(steps)] = [round(error, 6) for error in errors]
    return found


def pages(bench: Bench, results: Results) -> None:
    """Not kept: they are to be looked at."""
    explainer = Explainer(bench.opened("mobilenet_v2").run)
    names = read_classes(bench.classes)
    wanted = {True: 10, False: 10}
    for number in np.random.default_rng(0).permutation(1000).tolist():
        right = bench.answered("mobilenet_v2", number)[1] == number
        if wanted[right]:
            wanted[right] -= 1
            page = explainer.page(bench.files[number], truth=names[number])
            path = bench.place / f"{'right' if right else 'wrong'}-{number}.html"
            path.write_text(render_explain(page), "utf-8")
            print(f"{path}  {page.answers[0].name}, {page.answers[0].said:.1%}; {page.seconds:.1f} s", flush=True)
        if not any(wanted.values()):
            return


def page_time(bench: Bench, results: Results) -> None:
    """Seconds for a page as the command makes it, from its start to the file, of a run on pictures of clothes."""
    pictures = clothes(bench.data, bench.place)
    torch.manual_seed(0)
    save_file(neocog.create_model("resnet18", num_classes=1000).state_dict(), bench.place / "r18.safetensors")
    run = bench.place / "r18"
    neocog.train(pictures, "resnet18", weights=str(bench.place / "r18.safetensors"), regime="features", views=1,
                 epochs=1, image_size=224, out=run)  # fmt: skip
    picture = min((pictures / "test").rglob("*.jpg"))
    for number in range(3):
        began = time.monotonic()
        command = [sys.executable, "-m", "neocog", "explain", str(run), str(picture), "--json",
                   "--out", str(bench.place / f"time-{number}.html")]  # fmt: skip
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{time.monotonic() - began:.1f} s", flush=True)


WORK = {"areas": areas, "pointing": pointing, "complete": complete, "pages": pages, "time": page_time}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(WORK))
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--keep", type=Path, help="folder for pictures and pages (default: one that goes away)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        keep = arguments.keep or Path(place)
        keep.mkdir(parents=True, exist_ok=True)
        bench = Bench(arguments.data.resolve(), keep)
        WORK[arguments.what](bench, Results(RESULTS))


if __name__ == "__main__":
    main()
