"""neocog as a user calls it; listening to its events is all that is added."""

import os
import tempfile
from pathlib import Path

from common import Rounds, arguments, report

import neocog
from neocog.core.events import Events

options = arguments()
events = Events()
report(ready=f"neocog {neocog.__version__}")  # the scan belongs to the warm-up
if options.epochs == 0:

    def begin(**_: object) -> None:
        rounds = Rounds(options.batches, options.batch_size)
        events.on("step_ended", lambda **_: rounds.batch_done())

    events.on("run_started", begin)

# The same work as the peers': no augmentation for digits, random resized crop and flip for photographs.
if options.network == "convnet":
    model, settings = "mnist_convnet", {"dropout": 0.5, "augment": "none"}
elif options.network == "conv_ae":
    model, settings = "conv_ae", {}
else:
    model, settings = "resnet18", {"augment": "photo", "crop_scale": 0.08, "colour": 0.0, "channels": "rgb"}

# And the same recipe: Adam at a constant rate. What differs is the engine.
recipe = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "schedule": "constant", "warmup_epochs": 0.0}

with tempfile.TemporaryDirectory() as folder:
    os.environ["XDG_CACHE_HOME"] = folder
    run = neocog.train(
        options.data, model, out=Path(folder) / "run", events=events, device="cpu", seed=options.seed,
        epochs=options.epochs or 100_000, batch_size=options.batch_size, val_fraction=0.0,
        **recipe, **settings,
    )  # fmt: skip
    numbers = run.metrics("test")
    report(accuracy=numbers.get("top1"), squared_error=numbers.get("mse"))
