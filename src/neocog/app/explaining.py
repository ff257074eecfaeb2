"""One picture, from its pixels to the answer and to the training pictures behind it: the page of `neocog explain`."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neocog import report
from neocog.app.explaining_looks import is_flat, looks_of, paint
from neocog.app.explaining_network import ExplainedNetwork, explain_network
from neocog.app.explaining_training import Behind, Training, behind
from neocog.app.opened import Opened
from neocog.app.pictures import png
from neocog.app.plane import Method
from neocog.app.pretrained import Pretrained, open_run
from neocog.app.run import Run
from neocog.core.errors import DataError, UsageError, did_you_mean
from neocog.core.files import write_atomic
from neocog.costs.cost import cost
from neocog.data.preprocess import denormalise
from neocog.evaluate import evaluating, probabilities_of
from neocog.explaining.adversarial import answers, fgsm, smallest_epsilon
from neocog.explaining.maps import activations
from neocog.metrics.calibration import scaled, temperature

SIDE = 320  # pixels of the two large pictures, at most
SHOWN = 5  # answers
CHANNELS = 8  # maps of a stage
MAP_SIDE = 96
LIMIT = 0.25  # the largest change that is tried


@dataclass(frozen=True)
class Explained:
    """What stands on the page, and where it is."""

    page: report.ExplainPage
    path: Path


class Explainer:
    """A run that answers for its pictures. What belongs to the run is found once: open it once for several."""

    def __init__(self, run: Run, *, layer: str | None = None, training: bool = True, made: int = 0) -> None:
        """`training`: look at training pictures too, where there are some. `made`: for how many of the channels that
        spoke most a picture is made. UsageError where the run is no classifier's."""
        run.must_be("classification", "classifies nothing")
        self.opened = Opened.of(run)
        self.layer, self.training, self.made = layer, training and not isinstance(run, Pretrained), made
        self._seen: dict[str, Training] = {}  # by the layer whose patches are wanted

    @cached_property
    def temperature(self) -> float | None:
        """None where the run has no validation pictures."""
        try:
            known = self.opened.run.predictions("val")
        except DataError:
            return None
        return temperature(known.probabilities, known.labels)

    def beliefs(self, x: Tensor) -> NDArray[np.float32]:
        """(1, C, S, S) normalised -> (K,) probabilities, in full precision."""
        network = self.opened.network
        with evaluating(network), torch.inference_mode():
            found: NDArray[np.float32] = probabilities_of(network, network(x).float())[0].cpu().numpy()
        return found

    def behind(self, x: Tensor, target: int, layer: str, name: str) -> Behind:
        if not self.training:
            return Behind()
        if layer not in self._seen:
            self._seen[layer] = Training.of(self.opened, layer)
        return behind(self.opened, self._seen[layer], x, target, self.made, name)

    def page(self, file: str | Path, *, target: str | None = None, truth: str | None = None) -> report.ExplainPage:
        """`file`: a picture, or one of the run's own by its name. `target`: the class that is explained (default: the
        answer). `truth`: the picture's own class, which is known too where the picture, or a copy of it, is one of the
        run's. UsageError where the run has no such class, DataError where the file is no picture."""
        began = time.monotonic()
        opened, run = self.opened, self.opened.run
        pre = run.card.preprocessing
        x = opened.one(file)
        beliefs = self.beliefs(x)
        sure = beliefs if self.temperature is None else scaled(beliefs, self.temperature)
        order = np.argsort(-beliefs, kind="stable").tolist()
        number = order[0] if target is None else self.number(target)
        row = opened.own.row(file)
        kept, name, label = (row.set, row.file, row.label) if row is not None else ("", "", None)
        truth = label if truth is None else truth
        looks = looks_of(opened, x, number, self.layer)
        pixels = denormalise(x, pre)[0].cpu().clamp(0, 1)
        found = self.behind(x, number, looks.layer, name)
        shown = order[:SHOWN] if number in order[:SHOWN] else [*order[: SHOWN - 1], number]
        return report.ExplainPage(
            file=str(file), origin=run.origin, model=run.card.model,
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            original=self.original(file), seen=png(pixels, SIDE),
            answers=tuple(report.Answer(run.classes[i], float(beliefs[i]), float(sure[i])) for i in shown),
            target=run.classes[number], truth=truth, kept=kept, temperature=self.temperature, layer=looks.layer,
            looks=looks.shown, random=looks.random, courses=looks.courses, stages=self.stages(x),
            channels=found.channels, neighbours=found.neighbours, looked=found.looked,
            flip=self.flip(pixels, order[0]), seconds=time.monotonic() - began, notes=looks.notes,
        )  # fmt: skip

    def number(self, name: str) -> int:
        classes = self.opened.run.classes
        if name not in classes:
            known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
            raise UsageError(f"there is no class {name!r}", did_you_mean(name, classes) or f"the classes are {known}")
        return classes.index(name)

    def original(self, image: str | Path) -> bytes:
        return png(torch.from_numpy(self.opened.own.decoded(image)).permute(2, 0, 1) / 255, SIDE)

    def stages(self, x: Tensor) -> tuple[report.StageView, ...]:
        network = self.opened.network
        rows = cost(network, tuple(x.shape[1:])).rows
        found = []
        for one in activations(network, x):
            own = [row for row in rows if row.name.startswith(f"{one.layer}.") or row.name == one.layer]
            field = next((row.field for row in reversed(own) if row.field is not None), None)
            sees = " x ".join(str(n) for n in field.largest) if field is not None else ""
            chosen = one.order[:CHANNELS].tolist() if one.maps[0].numel() > 1 else []
            found.append(
                report.StageView(
                    one.layer.removeprefix("stages."), tuple(one.maps.shape), sum(row.params for row in own),
                    sum(row.macs for row in own), f"{sees} pixels" if sees else "", tuple(chosen),
                    tuple(png(scaled_map(one.maps[i]), MAP_SIDE) for i in chosen),
                    tuple(i for i in chosen if is_flat(one.maps[i])),
                )
            )  # fmt: skip
        return tuple(found)

    def flip(self, pixels: Tensor, answer: int) -> report.Flip:
        """`pixels` (C, S, S) in 0..1"""
        network, pre, classes = self.opened.network, self.opened.run.card.preprocessing, self.opened.run.classes
        labels = torch.tensor([answer])
        found = smallest_epsilon(network, pixels[None], labels, pre.mean, pre.std, limit=LIMIT)
        epsilon = float(found.epsilon[0])
        if np.isnan(epsilon):
            return report.Flip(None, LIMIT)
        # What is less than a level of 255 is lost in a picture of 8 bits: that is shown with whole ones.
        changed, levels = found.pixels[0], None
        for level in range(max(1, math.ceil(255 * epsilon)), round(255 * LIMIT) + 1):
            tried = fgsm(network, pixels[None], labels, level / 255, pre.mean, pre.std)
            if int(answers(network, tried, pre.mean, pre.std)) != answer:
                changed, levels = tried[0], level
                break
        difference = changed - pixels
        stronger = 0.5 / max(float(difference.abs().max()), 1e-6)
        beliefs = self.beliefs(self.opened.normalised(255 * changed[None]))
        number = int(beliefs.argmax())
        return report.Flip(
            epsilon, LIMIT, levels, classes[number], float(beliefs[number]), png(changed, SIDE),
            png((0.5 + stronger * difference).clamp(0, 1), SIDE), stronger,
        )  # fmt: skip

    def mistakes(self, most: int) -> list[tuple[str | Path, str]]:
        """(picture, its class) of the test pictures with the surest wrong answers, the surest first. DataError where
        they are gone."""
        run = self.opened.run
        found = run.predictions("test" if run.has("test") else "val")
        wrong = np.flatnonzero(found.predicted != found.labels)
        sure = found.probabilities[wrong].max(1)
        order = wrong[np.argsort(-sure, kind="stable")][:most].tolist()
        return [(self.opened.own.find(found.files[i]), found.classes[found.labels[i]]) for i in order]


def scaled_map(values: Tensor) -> Tensor:
    """(h, w) -> (3, h, w) painted from its least to its most."""
    low, high = values.min(), values.max()
    return paint((values - low) / (high - low).clamp_min(1e-12))


@overload
def explain(
    run: str | Path, image: str | Path, *, out: str | Path | None = None, target: str | None = None,
    layer: str | None = None, training: bool = True, made: int | None = None, weights: str | None = None,
    classes: str | Path | Sequence[str] | None = None,
) -> Explained: ...  # fmt: skip


@overload
def explain(
    run: str | Path, *, out: str | Path | None = None, training: bool = True, made: int | None = None,
    method: Method = "pca", weights: str | None = None, classes: str | Path | Sequence[str] | None = None,
) -> ExplainedNetwork: ...  # fmt: skip


def explain(
    run: str | Path, image: str | Path | None = None, *, out: str | Path | None = None, target: str | None = None,
    layer: str | None = None, training: bool = True, made: int | None = None, method: Method | None = None,
    weights: str | None = None, classes: str | Path | Sequence[str] | None = None,
) -> Explained | ExplainedNetwork:  # fmt: skip
    """Writes the page of one picture, by default beside the run as RUN-explained.html; without a picture that of the
    network, RUN-network.html. `made`: of how many channels (of each stage) a picture is made. With `weights`, as
    `create_model` takes them, `run` is the name of a network and `classes` are the names of its classes or a file of
    them."""
    opened = open_run(run, weights, classes)
    if image is None:
        if target is not None or layer is not None:
            raise UsageError("a class and a layer belong to one picture", "give the picture, or leave them out")
        return explain_network(opened, out=out, training=training, made=made, method=method or "pca")
    if method is not None:
        raise UsageError("the map belongs to the page of the network", "leave out the picture, or the map")
    explainer = Explainer(opened, layer=layer, training=training, made=made or 0)
    page = explainer.page(image, target=target)
    path = Path(out) if out is not None else Path(f"{Path(run)}-explained.html")
    write_atomic(path, report.render_explain(page))
    return Explained(page, path)
