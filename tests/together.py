"""What one process, or several under `torchrun`, make of the same runs: `python together.py DATA FOLDER`.

Writes FOLDER/NAME.safetensors (weights, losses of every epoch) for each run of RUNS, FOLDER/watched.json (the rows of
the one that is watched), and FOLDER/same *.npz, the predictions of one fixed network.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from draw import draw
from neocog.app.building import evaluation_loader
from neocog.app.preparing import prepare
from neocog.app.processes import joined, predict_together
from neocog.app.session import Session
from neocog.core.config import load_config
from neocog.core.events import Events
from neocog.training.world import World, whole

COMMON = {"epochs": 2, "batch_size": 9, "device": "cpu", "precision": "fp32", "augment": "light", "image_size": 16}
RUNS = {
    "plain": {"model": "lenet5", "optimizer": "sgd"},
    "weighted": {"model": "lenet5", "class_weights": "balanced", "label_smoothing": 0.1, "l1": 1e-4, "clip_norm": 1.0},
    "accumulated": {"model": "lenet5", "accumulate": 3, "ema": 0.9, "watch": True},
    "adversarial": {"model": "lenet5", "optimizer": "sgd", "noise": "adversarial:0.03", "accumulate": 2},
    "adversarial divided": {"model": "lenet5", "optimizer": "sgd", "noise": "adversarial:0.03", "shard": True},
    "divided": {"model": "lenet5", "optimizer": "sgd", "shard": True},
    "synchronised": {"model": "resnet20", "optimizer": "sgd", "lr": 1e-4, "sync_batch_norm": True},
}


def session_of(name: str, data: str, folder: Path, world: World) -> Session:
    config = load_config(None, {"data": data, **COMMON, **RUNS[name]})
    run = folder / f"run {name}"
    if world.first:
        run.mkdir()
    return prepare(config, run, Events(), world)


def main(data: str, folder: Path) -> None:
    torch.set_num_threads(1)
    with joined("cpu") as world:
        for name in RUNS:
            session = session_of(name, data, folder, world)
            best = session.trainer.fit()
            state = {
                key: whole(value).contiguous().clone() for key, value in session.loaded.network.state_dict().items()
            }
            rows = session.trainer.progress.history
            columns = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
            losses = torch.tensor([[row[column] for column in columns] for row in rows], dtype=torch.float64)
            if world.first:
                save_file({**state, "losses": losses, **{f"best {key}": best[key].contiguous() for key in best}},
                          folder / f"{name}.safetensors")  # fmt: skip
                if session.watching is not None:
                    (folder / "watched.json").write_text(json.dumps(session.trainer.progress.watched))
        session = session_of("plain", data, folder / "same", world)
        draw(session.loaded.network, (3, 16, 16))
        rows = np.arange(len(session.dataset), dtype=np.int64)[::-1].copy()
        for number in (len(rows), 5):  # several batches; one, for two processes
            loader = evaluation_loader(session.dataset, rows[:number], session.preprocessing, session.machine, 1, world)
            found = predict_together(session.loaded.network, loader, world, bf16=False)
            if world.first:
                np.savez(folder / f"same {number > 5}.npz", *found)
        world.meet()  # as runs end: a thread that still holds a message when Python shuts down aborts the process


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    (folder / "same").mkdir(parents=True, exist_ok=True)
    main(sys.argv[1], folder)
