"""PyTorch's transfer learning tutorial (pytorch.org/tutorials/beginner/transfer_learning_tutorial.html) on MobileNetV2.

Its recipe: a new last layer; SGD at 0.001 with momentum 0.9, a tenth of it every 7 epochs; batches of 4 from worker
processes; RandomResizedCrop(224) and a flip for training, Resize(256) and CenterCrop(224) otherwise; the validation
set after every epoch, and the weights of the best epoch are kept. With `--frozen` its second part, the network as
fixed feature extractor: the same loop, and only the new layer learns.

The tutorial has 25 epochs. Here another one is begun as long as it will fit, by the longest so far; where not even
the first one ends in time, it ships what it has then.
"""

import torchvision_loads  # noqa: F401

# isort: split
import copy
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import torch
from finetune_parts import answer, arguments, mobilenet, ship
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

# The tutorial has 4; more than there are cores, against which DataLoader warns, would slow it down.
WORKERS = min(4, os.cpu_count() or 1)
TO_INPUT = (transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
TRAIN = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *TO_INPUT])
VIEW = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *TO_INPUT])


class Over(Exception):
    """The deadline has come."""


def until(deadline: float, batches: Iterable[list[Tensor]]) -> Iterator[list[Tensor]]:
    for batch in batches:
        if time.time() > deadline:
            raise Over
        yield batch


def main() -> None:
    options = arguments()
    torch.manual_seed(options.seed)
    train, validation, test = (
        datasets.ImageFolder(options.data / name, TRAIN if name == "train" else VIEW)
        for name in ("train", "validation", "test")
    )
    seen, kept = (DataLoader(images, 4, shuffle=True, num_workers=WORKERS) for images in (train, validation))

    network = mobilenet(options.weights)
    if options.frozen:
        network.requires_grad_(False)  # batch norm goes on averaging, as in the tutorial
    network.classifier[1] = nn.Linear(1280, len(train.classes))
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.001, momentum=0.9)
    schedule = StepLR(optimizer, step_size=7, gamma=0.1)

    best, most, longest, epochs = None, -1, 0.0, 0
    with suppress(Over):
        while time.time() + longest < options.deadline:
            began = time.time()
            network.train()
            for images, labels in until(options.deadline, seen):
                optimizer.zero_grad()
                F.cross_entropy(network(images), labels).backward()
                optimizer.step()
            schedule.step()
            epochs += 1
            network.eval()
            with torch.no_grad():
                batches = until(options.deadline, kept)
                right = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in batches)
            if right > most:
                best, most = copy.deepcopy(network.state_dict()), right
            longest = max(longest, time.time() - began)
    if best is not None:
        network.load_state_dict(best)
    ship(network, options, f"torch {torch.__version__}", f"{epochs} epochs" if epochs else "a part of an epoch")

    network.eval()
    with torch.no_grad():
        found = [int(i) for images, _ in DataLoader(test, 64) for i in network(images).argmax(1)]
    answer(options.data, [Path(file) for file, _ in test.samples], [test.classes[i] for i in found])


if __name__ == "__main__":
    main()
