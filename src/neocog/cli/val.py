"""`neocog val RUN [DATA]`: the numbers of a run, computed again; `--verify`: whether all that it says is still so."""

from pathlib import Path
from typing import Annotated, Any

import typer

from neocog.cli.out import JSON, as_json, line, table
from neocog.cli.progress import Watch
from neocog.core.errors import UsageError
from neocog.core.events import Events
from neocog.core.words import counted

SHOWN = 20  # files or numbers of a failed check; --json has all
VERIFY = (
    "Compare every file and number with what the run recorded, and run the network again. Exit code 0: all is well; "
    "3: pictures have changed; 4: a file of the run is damaged."
)


def add(app: typer.Typer, text: str) -> None:
    app.command("val", help=text)(val)


def val(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[str | None, typer.Argument(help="Other labelled pictures (default: the run's own).")] = None,
    split: Annotated[
        str | None, typer.Option(metavar="val|test|all", help="Which pictures of the data (default: test).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the predictions to this CSV file.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help=VERIFY)] = False,
    json: JSON = False,
) -> None:
    if verify:
        if (data, split, out) != (None, None, None):
            raise UsageError("--verify is about a run and its own pictures", "leave out DATA, --split and --out")
        raise typer.Exit(check(run, json))
    from neocog.app.validating import validate

    events = Events()
    with Watch(events, quiet=json):
        numbers = validate(run, data, split=split or "test", out=out, events=events)
    if json:
        as_json(numbers)
        return
    if "psnr" in numbers:
        tell_reconstructions(numbers)
        return
    low, high = numbers["top1_interval"]
    pictures = counted(numbers["pictures"], "picture")
    line("accuracy", f"{numbers['top1']:.4f} (95 % interval {low:.4f} to {high:.4f}) on {pictures}")
    if numbers["top5"] is not None:
        line("top-5", f"{numbers['top5']:.4f}")
    line("balanced", f"{numbers['balanced_accuracy']:.4f}")
    line("macro F1", f"{numbers['macro_f1']:.4f}")
    line("ECE", f"{numbers['ece']:.4f}")
    columns = ("class", "support", "precision", "recall", "f1")
    table(columns, [[row[name] for name in columns] for row in numbers["per_class"]])


def tell_reconstructions(numbers: dict[str, Any]) -> None:
    for name, unit in (("psnr", " dB"), ("input_psnr", " dB"), ("median_psnr", " dB"), ("ssim", ""), ("mse", ""),
                       ("bound", " nats"), ("tighter_bound", " nats")):  # fmt: skip
        if name in numbers:
            low, high = numbers[f"{name}_interval"]
            text = f"{numbers[name]:.4g}{unit} (95 % interval {low:.4g} to {high:.4g})"
            line(name.replace("_", " "), f"{text} on {counted(numbers['pictures'], 'picture')}")
    if "anomaly_auroc" in numbers:
        count, area = numbers["anomalies"], numbers["anomaly_auroc"]
        line("anomalies", f"{counted(count, 'picture')} of classes that the run does not know")
        line("AUROC", f"{area:.4f}: the squared error tells them from the others")


def check(run: Path, json: bool) -> int:
    """Shows the verdicts and returns the exit code."""
    from neocog.app.verifying import exit_code, verify

    events = Events()
    with Watch(events, quiet=json):
        checks = verify(run, events)
    code = exit_code(checks)
    if json:
        rows = [{"check": c.name, "verdict": c.verdict, "text": c.text, "items": list(c.items)} for c in checks]
        as_json({"run": run, "exit_code": code, "checks": rows})
        return code
    for one in checks:
        line(one.verdict, f"{one.name}: {one.text}")
        for item in one.items[:SHOWN]:
            line("", item)
        if len(one.items) > SHOWN:
            line("", f"and {len(one.items) - SHOWN:,} more; --json names all")
    failed = sum(one.verdict == "failed" for one in checks)
    line("verdict", f"{failed} of {len(checks)} checks failed" if failed else "all is as the run recorded it")
    return code
