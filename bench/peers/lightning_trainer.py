"""The same data and network under a Lightning Trainer with its defaults."""

import torchvision_loads  # noqa: F401

# isort: split
import tempfile

import lightning
import torch
from common import Rounds, arguments, report
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch_parts import dataset, network

options = arguments()


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network: nn.Module = network(options.network)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class InRounds(lightning.Callback):
    def on_train_start(self, *_: object) -> None:
        self.rounds = Rounds(options.batches, options.batch_size)

    def on_train_batch_end(self, *_: object) -> None:
        self.rounds.batch_done()


loader = DataLoader(
    dataset(options.network, options.data), options.batch_size, shuffle=True, num_workers=options.workers
)
report(ready=f"Lightning {lightning.__version__}")
with tempfile.TemporaryDirectory() as folder:
    trainer = lightning.Trainer(max_epochs=-1, accelerator="cpu", default_root_dir=folder, callbacks=[InRounds()])
    trainer.fit(Classifier(), loader)
