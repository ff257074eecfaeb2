"""Settings that an autoencoder's run decides where its encoder is to classify."""

from pathlib import Path
from typing import Any

from neocog.app.run import Run
from neocog.core.errors import UsageError

OF_THE_NETWORK = ("model", "knobs", "latent", "sparse", "image_size", "channels")


def encoder_settings(run_folder: str | Path, given: dict[str, Any]) -> dict[str, Any]:
    """`given`, with what the run's network needs to be built again and its weights; a sparse, not otherwise penalised
    code stays what it is. UsageError where the run is no autoencoder's, or `given` has another network or weights."""
    run = Run.open(run_folder)
    run.must_be("reconstruction", "has no encoder to lend: give it as --weights")
    own = run.config
    for name in ("model", "weights"):
        if given.get(name) is not None and given[name] != getattr(own, name):
            raise UsageError(f"--encoder {run_folder} brings its own {name}", f"leave --{name} out")
    taken = {name: getattr(own, name) for name in OF_THE_NETWORK}
    asked = {name: value for name, value in given.items() if value is not None}
    return taken | asked | {"task": "classification", "weights": str(run_folder)}
