"""fastai's `vision_learner(...).fine_tune(n)` with its defaults, on MobileNetV2's body and fastai's own head.

The pictures as in its quick start, `item_tfms=Resize(224)`, or with `--augment` as in chapter 2 of its book,
`RandomResizedCrop(224, min_scale=0.5)` and `aug_transforms()`. The last step of the schedule depends on n, so n is
asked for beforehand (`--epochs`); should it not end in time, it stops there and ships what it has.

With `--budget inf` it reports its paces, from which n can be chosen: seconds until the training begins, of the first
epoch, in which only the head learns, and of each later one.
"""

import torchvision_loads  # noqa: F401

# isort: split
import time

import fastai
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.callback.schedule import Learner  # with fine_tune
from fastai.data.transforms import get_image_files
from fastai.torch_core import set_seed
from fastai.vision.augment import RandomResizedCrop, Resize, aug_transforms
from fastai.vision.core import imagenet_stats
from fastai.vision.data import ImageDataLoaders
from fastai.vision.learner import default_split, model_meta, vision_learner
from finetune_parts import answer, arguments, mobilenet, ship
from torch import nn


class Clock(Callback):
    """Notes when each fit begins and ends, and ends it at the deadline."""

    def __init__(self, deadline: float) -> None:
        self.deadline, self.times, self.epochs = deadline, [], 0

    def before_fit(self) -> None:
        self.times.append(time.time())

    def before_epoch(self) -> None:
        self.before_batch()  # before the workers of another epoch are started

    def before_batch(self) -> None:
        if time.time() > self.deadline:
            raise CancelFitException

    def after_epoch(self) -> None:
        self.epochs += 1

    def after_fit(self) -> None:
        self.times.append(time.time())


def main() -> None:
    options = arguments()

    def network(pretrained: bool) -> nn.Module:
        assert pretrained
        return mobilenet(options.weights)

    # fastai knows this network by no table of its own: the body is everything but the classifier.
    model_meta[network] = {"cut": -1, "split": default_split, "stats": imagenet_stats}
    set_seed(options.seed)
    transforms = (
        {"item_tfms": RandomResizedCrop(224, min_scale=0.5), "batch_tfms": aug_transforms()}
        if options.augment
        else {"item_tfms": Resize(224)}
    )
    loaders = ImageDataLoaders.from_folder(options.data, train="train", valid="validation", **transforms)
    clock = Clock(options.deadline)
    learner: Learner = vision_learner(loaders, network, cbs=clock)
    learner.fine_tune(options.epochs)
    opened, frozen, thawed, done = clock.times
    ship(
        learner.model, options, f"fastai {fastai.__version__}",
        f"fine_tune({options.epochs})" + (", cut short" if clock.epochs <= options.epochs else ""),
        paces={"start": opened - options.began, "frozen": frozen - opened, "epoch": (done - thawed) / options.epochs},
    )  # fmt: skip

    files = get_image_files(options.data / "test")
    learner.remove_cb(clock)
    scores, _ = learner.get_preds(dl=loaders.test_dl(files))
    answer(options.data, files, [loaders.vocab[int(i)] for i in torch.as_tensor(scores).argmax(1)])


if __name__ == "__main__":
    main()
