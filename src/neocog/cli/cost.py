"""`neocog cost MODEL...`: the table of a network's layers, several networks side by side, and what training takes."""

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neocog.cli.out import JSON, as_json, console, line, table
from neocog.cli.train import parse_knobs
from neocog.core.config import load_config
from neocog.core.errors import UsageError
from neocog.core.files import write_atomic

if TYPE_CHECKING:
    from neocog.app.costing import Cost

UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
NOTES = 5  # on screen
NARROW = 115  # columns of a terminal
MORE = ("offset", "smallest field", "input", "written KiB", "other ops", "calls")  # columns of --wide
NETWORK, TABLE, TRAINING, FILES = "The network", "The table", "Training", "Files"


def _in(panel: str, metavar: str, text: str, **more: Any) -> Any:
    return typer.Option(metavar=metavar, help=text, rich_help_panel=panel, **more)


def add(app: typer.Typer, text: str) -> None:
    app.command("cost", help=text)(cost)


def cost(
    models: Annotated[list[str], typer.Argument(help="Networks of `neocog models`, or run folders.")],
    input: Annotated[str, _in(NETWORK, "C,H,W", "One picture (default: the network's own size).")] = "",
    classes: Annotated[int | None, _in(NETWORK, "N", "Number of classes.", min=1, max=10**6)] = None,
    knob: Annotated[list[str], _in(NETWORK, "NAME=VALUE", "A network's own option.")] = [],  # noqa: B006
    dtype: Annotated[str, _in(NETWORK, "float32|bfloat16|float16|float64", "Of weights and outputs.")] = "float32",
    depth: Annotated[int | None, _in(TABLE, "N", "Fold the rows: 1 shows stem, stages and head.", min=1)] = None,
    wide: Annotated[bool, typer.Option("--wide", help="Every column.", rich_help_panel=TABLE)] = False,
    batch: Annotated[int | None, _in(TRAINING, "N", "What a step on so many pictures takes.", min=1)] = None,
    optimizer: Annotated[str, _in(TRAINING, "sgd|adam|adamw|rmsprop", "The update rule.")] = "adamw",
    regime: Annotated[str, _in(TRAINING, "scratch|probe|full", "What learns.")] = "scratch",
    accumulate: Annotated[int, _in(TRAINING, "N", "Batches whose gradients are added.", min=1)] = 1,
    precision: Annotated[str, _in(TRAINING, "auto|fp32|bf16", "auto: what this machine would use.")] = "auto",
    device: Annotated[str, _in(TRAINING, "DEVICE", "auto, cpu, cuda, cuda:N or mps.")] = "auto",
    memory: Annotated[str, _in(TRAINING, "SIZE", "What it must fit into, as 8G (default: what is free).")] = "",
    pictures: Annotated[int | None, _in(TRAINING, "N", "Time an epoch of so many: runs a few steps.", min=1)] = None,
    csv: Annotated[Path | None, _in(FILES, "FILE", "Write the rows to this CSV file.")] = None,
    html: Annotated[Path | None, _in(FILES, "FILE", "Write a page with tables and pictures.")] = None,
    picture: Annotated[Path | None, _in(FILES, "FILE", "Bars per layer, as .svg or .png.")] = None,
    zoo: Annotated[Path | None, _in(FILES, "FILE", "Accuracy against MACs over the zoo, as .svg or .png.")] = None,
    json: JSON = False,
) -> None:
    from neocog.app import costing

    if pictures is not None and batch is None:
        raise UsageError("--pictures needs the size of a batch", "add --batch 32")
    check_files(csv, html, picture, zoo)
    config = load_config(None, {
        "data": "", "regime": regime, "optimizer": optimizer, "accumulate": accumulate, "precision": precision,
        "device": device, "batch_size": batch,
        "weights": None if regime == "scratch" else "imagenet",  # a network that is transferred comes from somewhere
    })  # fmt: skip
    training = None if batch is None else config
    answers = [
        costing.answer(
            name,
            input_shape=parse_shape(input) if input else None,
            num_classes=classes,
            knobs=parse_knobs(knob),
            dtype=dtype,
            training=training,
            limit=parse_bytes(memory) if memory else None,
            pictures=pictures,
        )
        for name in models
    ]
    if depth is not None:
        answers = [answer.folded(depth) for answer in answers]
    write_files(answers, csv, html, picture, zoo)
    if json:
        as_json([answer.to_dict() for answer in answers])
        return
    show(answers, wide)
    for path in (csv, html, picture, zoo):
        if path is not None:
            line("written", str(path))


def show(answers: Sequence["Cost"], wide: bool) -> None:
    if len(answers) > 1:
        side_by_side(answers)
    else:
        rows_of(answers[0].table, wide)
    for answer in answers:
        totals(answer, named=len(answers) > 1)


def check_files(csv: Path | None, html: Path | None, picture: Path | None, zoo: Path | None) -> None:
    """Before anything is computed."""
    for path in (picture, zoo):
        if path is not None and path.suffix not in (".svg", ".png"):
            raise UsageError(f"{path} is no picture that can be drawn", "give a name that ends in .svg or .png")
    for path in (csv, html, picture, zoo):
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"the folder of {path} does not exist", f"make {path.parent} first")
        try:
            odd = path is not None and path.exists() and not path.is_file()
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror})", "give another name") from None
        if path is not None and odd:
            raise UsageError(f"{path} is {'a folder' if path.is_dir() else 'no file'}", "give the name of a file")
    given = [path.resolve() for path in (csv, html, picture, zoo) if path is not None]
    if len(set(given)) < len(given):
        raise UsageError("two of the files have one name", "give each its own")


def write_files(
    answers: Sequence["Cost"], csv: Path | None, html: Path | None, picture: Path | None, zoo: Path | None
) -> None:
    from neocog.app import cost_files, costing

    if csv is not None:
        write(csv, costing.to_csv([answer.table for answer in answers]))
    if html is not None:
        write(html, cost_files.to_html(answers, shlex.join(["neocog", *sys.argv[1:]])))
    if picture is not None:
        write(picture, cost_files.bars(answers, "png" if picture.suffix == ".png" else "svg"))
    if zoo is not None:
        write(zoo, cost_files.zoo(answers, "png" if zoo.suffix == ".png" else "svg"))


def write(path: Path, content: str | bytes) -> None:
    try:
        write_atomic(path.resolve(), content)  # where a link points, not in its place
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror})", "give another name") from None


def rows_of(found: Any, wide: bool) -> None:
    """The table. A narrow terminal gets shapes without spaces, and neither kinds nor windows."""
    narrow = not wide and console().width < NARROW
    times = "x" if narrow else " x "
    hidden = (*(() if wide else MORE), *(("kind", "window") if narrow else ()))
    rows = [{key: cell for key, cell in cells(row, times).items() if key not in hidden} for row in found.rows]
    table(list(rows[0]) if rows else ["layer"], [list(row.values()) for row in rows])


def cells(row: Any, times: str) -> dict[str, Any]:
    field = row.field
    return {
        "layer": row.name, "kind": row.kind or f"{row.calls} layers", "window": window(row),
        "output": by(row.out_shape, times), "KiB": tenth(row.memory_kib), "params": row.params,
        "MACs": f"at least {row.macs:,}" if row.unknown else row.macs,
        "field": "" if field is None else extent(field.largest, times), "stride": pair(row.stride),
        "offset": pair(row.offset), "smallest field": "" if field is None else extent(field.smallest, times),
        "input": by(row.in_shape, times), "written KiB": tenth(row.written_kib), "other ops": row.other_ops,
        "calls": row.calls,
    }  # fmt: skip


def tenth(kib: float) -> float:
    return round(kib, 1 if kib >= 1 else 3)


def by(sizes: Sequence[Any], times: str = " x ") -> str:
    return times.join(str(n) for n in sizes)


def pair(values: Sequence[float | None] | None) -> int | float | str | None:
    """A number where the axes agree, "2 x 1" where they do not, None where no grid is left."""
    known = [v for v in values or () if v is not None]
    if not known:
        return None
    if len(set(known)) == 1:
        return int(known[0]) if known[0] == int(known[0]) else known[0]
    return by([f"{v:g}" for v in known])


def extent(field: Sequence[Any], times: str = " x ") -> str:
    return "whole" if set(field) == {"whole"} else by(field, times)


def window(row: Any) -> str:
    """ "3x3 /2 +1": kernel, stride, padding; only what is not the rule."""
    w = row.window
    if w is None:
        return ""
    parts = ["x".join(map(str, w.kernel))]
    for sign, values, usual in (("/", w.stride, 1), ("+", w.padding, 0), ("d", w.dilation, 1)):
        if any(v != usual for v in values):
            parts.append(sign + (str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))))
    parts += [f"g{w.groups}"] if w.groups != 1 else []
    return " ".join([*parts, "transposed"] if w.transposed else parts)


def side_by_side(answers: Sequence["Cost"]) -> None:
    columns = ["network", "input", "params", "million MACs", "MiB written", "field", "layers"]
    training = any(answer.training for answer in answers)
    columns += ["training MiB", "largest batch"] if training else []
    rows = []
    for answer in answers:
        t, step = answer.table, answer.training
        row = [t.name, by(t.input_shapes[0]), t.params, t.macs / 1e6, t.memory_kib / 1024,
               "" if t.receptive_field is None else extent(t.receptive_field), len(t.rows)]  # fmt: skip
        rows.append(row + ([step.memory.peak / 2**20, step.largest_batch] if step else []))
    table(columns, rows)


def totals(answer: "Cost", named: bool) -> None:
    found, step = answer.table, answer.training
    if named and not (found.partial or step):
        return
    if named:
        line("network", found.name)
    else:
        params = f"{found.params:,} parameters"
        if found.unused_params:
            params += f" ({found.unused_params:,} of them unused in this pass)"
        partial = "at least " if found.partial else ""
        line("total", f"{params}; {partial}{found.macs:,} MACs, which is {partial}{found.flops:,} FLOPs (2 per MAC); "
                      f"{amount(found.memory_kib * 1024)} written for one input of {by(found.input_shapes[0])}, "
                      f"{found.dtype}")  # fmt: skip
    if found.partial:
        line("warning", f"partial: no formula for {', '.join(found.partial)}")
    for note in found.notes[:NOTES]:
        line("note", note)
    if len(found.notes) > NOTES:
        line("note", f"and {len(found.notes) - NOTES} more: --json has them all")
    if step is not None:
        memory_lines(step)


def memory_lines(step: Any) -> None:
    m = step.memory
    parts = [("weights", m.parameters), ("gradients", m.gradients), ("optimizer", m.optimizer_state),
             ("saved for backward", m.saved), ("pictures", m.inputs), ("the rest", m.rest)]  # fmt: skip
    shown = ", ".join(f"{name} {amount(size)}" for name, size in parts if size)
    line("training", f"{amount(m.peak)} at the worst moment ({m.moment}) with batches of {m.batch}, {step.optimizer}, "
                     f"{step.precision}, {step.regime}: {shown}")  # fmt: skip
    if m.kernels:
        line("", f"attention as {', '.join(m.kernels)} does it; another device may choose another kernel")
    if m.workspaces:
        line("warning", f"at least: {', '.join(m.workspaces)} keeps a workspace whose size is not known beforehand")
    fits = "fits" if step.fits else "does not fit"
    most = f"the largest batch is {step.largest_batch:,}" if step.largest_batch else "not even one picture fits"
    line("memory" if step.fits else "warning", f"it {fits}: {amount(step.limit)} {step.limit_name}; {most}")
    if step.seconds_per_epoch is not None:
        line("time", f"{step.seconds_per_epoch:,.1f} s an epoch of {step.pictures:,} pictures "
                     f"({step.seconds_per_step:.3f} s a step, measured; loading not included)")  # fmt: skip


def amount(size: float) -> str:
    """Bytes for people: 3.2 MiB."""
    for name, unit in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size:.0f} bytes"


def parse_shape(text: str) -> tuple[int, ...]:
    """ "3,224,224" or "3x224x224"."""
    parts = re.split(r"[,x]", text.replace(" ", ""))
    if not all(re.fullmatch(r"[0-9]{1,5}", part) and int(part) > 0 for part in parts):
        raise UsageError(f"--input {text!r} is no shape", "write channels, height and width: 3,224,224")
    return tuple(int(part) for part in parts)


def parse_bytes(text: str) -> int:
    """ "8G", "512M", "24 GiB"."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([kmgt])(?:i?b)?", text.strip().lower())
    if match is None:
        raise UsageError(f"--memory {text!r} is no amount of memory", "write it as 8G or 512M")
    return int(float(match[1]) * UNITS[match[2]])
