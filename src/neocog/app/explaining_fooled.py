"""How little fools a network: its accuracy on the pictures kept from training, each changed against it."""

import torch

from neocog import report
from neocog.app.explaining_training import chosen, passing
from neocog.app.opened import Opened
from neocog.core.events import Events
from neocog.data.dataset import Dataset
from neocog.data.preprocess import denormalise
from neocog.explaining.adversarial import accuracy_against

STEPS = (0, 1, 2, 4, 8, 16)  # of 255
WORK = 10**11  # multiply-accumulates of one pass over the pictures that are changed
LEAST, MOST = 24, 200  # of these pictures


def fooled_by(opened: Opened, data: Dataset, macs: int, events: Events) -> report.Fooled | None:
    """By the fast gradient sign method. None where no picture was kept from training. `macs` of the network."""
    split = "test" if len(data.rows("test")) else "val"
    rows = chosen(data.rows(split), max(LEAST, min(MOST, WORK // max(macs, 1))))
    if not len(rows):
        return None
    pre = opened.run.card.preprocessing
    labels = torch.from_numpy(data.labels)
    batches = (
        (denormalise(images, pre).clamp(0, 1), labels[numbers].to(images.device))
        for numbers, images in passing(opened, data, rows, events)
    )
    epsilons = [step / 255 for step in STEPS]
    found = accuracy_against(opened.network, batches, epsilons, pre.mean, pre.std)
    shares = tuple((step, share) for step, (_, share) in zip(STEPS, found, strict=True))
    return report.Fooled(shares, len(rows), len(data.rows(split)), split)
