"""`neocog train`: every setting of `TrainConfig` is an option, generated from its field."""

import inspect
import os
import shlex
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from neocog.cli.out import JSON, as_json, line
from neocog.cli.progress import Watch
from neocog.cli.started import since_start
from neocog.core.config import TrainConfig, load_config
from neocog.core.errors import UsageError
from neocog.core.events import Events
from neocog.core.words import counted

RESUME = (
    "Where a run lies in --out already: never go on with it, go on (exact), or go on from the checkpoint before where "
    "the newest is damaged (auto). Without a run there, each starts one."
)
ENCODER = "A run folder of an autoencoder, whose encoder is to classify: its network, weights and size are taken over."
DEVICES = Annotated[int, typer.Option(min=1, max=1024, help="Processes on this machine, one for each device.")]

PANELS = {
    "The job": ("model", "regime", "weights", "time", "epochs", "seed", "task", "knobs", "folds", "repeats", "fold"),
    "The pictures": (
        "val_fraction", "test_fraction", "image_size", "channels", "background", "max_pixels", "max_excluded",
        "strict", "allow_empty_classes", "frames", "follow_links", "group_by", "threads",
    ),
    "Augmentation": (
        "augment", "crop", "crop_pad", "crop_scale", "flip", "rotation", "colour", "noise", "erasing", "mixup",
        "cutmix",
    ),
    "Autoencoders": ("latent", "sparse", "contractive", "beta", "annealed", "cd_steps", "persistent"),
    "The machine": ("device", "precision", "layout", "shard", "sync_batch_norm"),
}  # fmt: skip


def add(app: typer.Typer, text: str) -> None:
    app.command("train", help=text)(with_settings(train))


def train(
    *,
    data: Annotated[str | None, typer.Argument(help=TrainConfig.model_fields["data"].description)] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings; options override it.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder (default: a new one under runs/).")] = None,
    resume: Annotated[str, typer.Option(metavar="never|exact|auto", help=RESUME)] = "never",
    force: Annotated[bool, typer.Option("--force", help="Remove the run that lies in --out and start anew.")] = False,
    devices: DEVICES = 1,
    encoder: Annotated[Path | None, typer.Option(help=ENCODER)] = None,
    json: JSON = False,
    **settings: Any,
) -> None:
    if data is None and config is None:
        raise UsageError("there is nothing to train on", "give a folder of pictures: `neocog train PICTURES`")
    if resume not in ("never", "exact", "auto"):
        raise UsageError(f"--resume {resume} is not known", "use never, exact or auto")
    settings["knobs"] = parse_knobs(settings.pop("knobs")) or None
    if encoder is not None:
        from neocog.app.encoder import encoder_settings

        settings = encoder_settings(encoder, settings)
    chosen = load_config(config, {"data": data, **settings})
    if devices > 1:
        raise typer.Exit(on_devices(devices, chosen, out, resume, force))
    command = shlex.join(["neocog", *sys.argv[1:]])
    run_and_tell(lambda events: start_run(chosen, out, events, command, resume, force), json)


def start_run(config: TrainConfig, out: Path | None, events: Events, command: str, again: Any, force: bool) -> Any:
    from neocog.app.train import start

    return start(config, out, events, command=command, again=again, force=force, spent=since_start())


def on_devices(devices: int, config: TrainConfig, out: Path | None, again: Any, force: bool) -> int:
    """The same command in several processes, which must know one folder. Returns the exit code."""
    from neocog.app.processes import launch
    from neocog.app.train import folder_for

    folder = folder_for(config, out, again=again, force=force)
    return launch(devices, [*without_devices(sys.argv[1:]), "--out", str(folder)], folder, since_start())


def without_devices(words: list[str]) -> list[str]:
    """`--devices N` and `--devices=N` taken out."""
    kept, skip = [], False
    for word in words:
        if skip or word.startswith("--devices="):
            skip = False
        elif word == "--devices":
            skip = True
        else:
            kept.append(word)
    return kept


def run_and_tell(work: Callable[[Events], Any], json: bool) -> None:
    """Shows a run while it goes on and its result when it ends."""
    events = Events()
    # Of several processes the first one speaks.
    others = os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"
    with Watch(events, quiet=json or others):
        run = work(events)
    if others:
        return
    from neocog.app.folds import Folds

    if isinstance(run, Folds):
        tell_folds(run, json)
        return
    split = "test" if run.has("test") else "val"
    numbers, seen = run.metrics(split), diagnosis_of(run)
    if json:
        inside = {"watch": {"finding": seen.main.text, "numbers": seen.numbers}} if seen else {}
        as_json({"run": run.folder, "split": split, "report": run.report, "metrics": numbers} | inside)
        return
    if seen:
        line("watch", seen.summary)
    if run.card.task == "reconstruction":
        tell_reconstructions(run, split, numbers)
        return
    low, high = numbers["top1_interval"]
    line("result", f"{split} accuracy {numbers['top1']:.4f} (95 % interval {low:.4f} to {high:.4f}), "
                   f"balanced {numbers['balanced_accuracy']:.4f}, "
                   f"on {counted(numbers['pictures'], 'picture')}")  # fmt: skip
    line("report", str(run.report))
    line("next", f"neocog predict {run.folder} PICTURES")


def diagnosis_of(run: Any) -> Any:
    """What was seen of the training from inside; None where nobody looked."""
    if not run.config.watch:
        return None
    from neocog.app.watching import read

    return read(run.folder).diagnosis()


def tell_reconstructions(run: Any, split: str, numbers: dict[str, Any]) -> None:
    low, high = numbers["psnr_interval"]
    seen = f", of what it saw {numbers['input_psnr']:.2f} dB" if "input_psnr" in numbers else ""
    if "median_psnr" in numbers:
        seen += f", after a median filter {numbers['median_psnr']:.2f} dB"
    line("result", f"{split} PSNR {numbers['psnr']:.2f} dB (95 % interval {low:.2f} to {high:.2f}){seen}, "
                   f"squared error {numbers['mse']:.5f}, SSIM {numbers['ssim']:.3f}, "
                   f"on {counted(numbers['pictures'], 'picture')}")  # fmt: skip
    if "bound" in numbers:
        line("bound", f"{numbers['bound']:.2f} nats a picture, {numbers['tighter_bound']:.2f} with importance weights")
    line("report", str(run.report))


def tell_folds(folds: Any, json: bool) -> None:
    """The result of several runs: over them, and of all their predictions together."""
    numbers = folds.numbers
    if json:
        as_json({"run": folds.folder, "split": "test", "report": folds.report, "metrics": folds.metrics(),
                 "folds": numbers})  # fmt: skip
        return
    over, pooled = numbers["over"]["top1"], numbers["pooled"]
    least, most = pooled["top1_interval"]
    count = len(numbers["runs"])
    if over["interval"]:
        low, high = over["interval"]
        spread = f"+- {over['standard_deviation']:.4f} (95 % interval {low:.4f} to {high:.4f} over {count} folds"
    else:
        spread = f"(the same in all {count} folds"
    line("result", f"accuracy {over['mean']:.4f} {spread}; pooled {pooled['top1']:.4f}, {least:.4f} to {most:.4f}, "
                   f"on {pooled['pictures']:,} pictures)")  # fmt: skip
    line("note", numbers["note"])
    line("report", str(folds.report))
    line("next", f"neocog predict {folds.runs[0].folder} PICTURES")


def parse_knobs(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE: whole numbers, fractions, true and false are what they look like, all else is text."""
    knobs: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"the knob {pair!r} has no value", "write it as NAME=VALUE")
        knobs[name] = typed(value)
    return knobs


def typed(value: str) -> bool | int | float | str:
    if value in ("true", "false"):
        return value == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with one more keyword per setting, which is what typer reads as options."""
    parameters = [p for p in inspect.signature(command).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name, field in TrainConfig.model_fields.items():
        if name != "data":
            parameters.append(option(name, field))

    def run(**arguments: Any) -> None:
        command(**arguments)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def option(name: str, field: FieldInfo) -> inspect.Parameter:
    panel = next((panel for panel, names in PANELS.items() if name in names), "Learning")
    text = field.description or ""
    if field.default not in (None, {}):
        text += f" (default: {str(field.default).lower() if isinstance(field.default, bool) else field.default})"
    if name == "knobs":
        made = typer.Option("--knob", metavar="NAME=VALUE", help=text, rich_help_panel=panel)
        annotation: Any = Annotated[list[str], made]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=[], annotation=annotation)
    kind, choices = plain_type(field.annotation)
    metavar = "|".join(choices) if choices else None
    made = typer.Option(help=text, metavar=metavar, rich_help_panel=panel, show_default=False)
    # None stands for "not given", so that a configuration file is overridden only on purpose.
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, made]
    )


def plain_type(annotation: Any) -> tuple[Any, tuple[str, ...]]:
    """The type that typer parses, and the choices where there are some. Ranges are checked by TrainConfig."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        return str, get_args(annotation)
    return annotation, ()
