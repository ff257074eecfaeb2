"""The training loop of PyTorch's tutorials: Dataset, DataLoader, Adam, float32, NCHW."""

from typing import Any

import torch
from common import Rounds, arguments, report
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch_parts import dataset, network

options = arguments()
torch.manual_seed(options.seed)
model = network(options.network)
loader = DataLoader(
    dataset(options.network, options.data), options.batch_size, shuffle=True, num_workers=options.workers
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
report(ready=f"PyTorch {torch.__version__}")
rounds = None if options.epochs else Rounds(options.batches, options.batch_size)


def loss_of(outputs: Any, images: Tensor, labels: Tensor) -> Tensor:
    if options.network == "conv_ae":
        return F.mse_loss(outputs.logits.sigmoid(), images)
    return F.cross_entropy(outputs, labels)


epoch = 0
while rounds or epoch < options.epochs:
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = loss_of(model(images), images, labels)
        loss.backward()
        optimizer.step()
        if rounds:
            rounds.batch_done()
    epoch += 1

model.eval()
total = 0.0
with torch.no_grad():
    for images, labels in DataLoader(dataset(options.network, options.data, "t10k"), 1000):
        if options.network == "conv_ae":
            total += float((model(images) - images).square().flatten(1).mean(1).sum())
        else:
            total += int((model(images).argmax(1) == labels).sum())
report(**{"squared_error" if options.network == "conv_ae" else "accuracy": total / 10_000})
