"""The training loop of PyTorch's tutorials: Dataset, DataLoader, Adam, float32, NCHW."""

import torch
from common import Rounds, arguments, report
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch_parts import Digits, dataset, network

options = arguments()
torch.manual_seed(options.seed)
model = network(options.network)
loader = DataLoader(
    dataset(options.network, options.data), options.batch_size, shuffle=True, num_workers=options.workers
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
report(ready=f"PyTorch {torch.__version__}")
rounds = None if options.epochs else Rounds(options.batches, options.batch_size)

epoch = 0
while rounds or epoch < options.epochs:
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        if rounds:
            rounds.batch_done()
    epoch += 1

model.eval()
correct = 0
with torch.no_grad():
    for images, labels in DataLoader(Digits(options.data, "t10k"), 1000):
        correct += int((model(images).argmax(1) == labels).sum())
report(accuracy=correct / 10_000)
