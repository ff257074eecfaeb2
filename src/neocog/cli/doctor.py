"""`neocog doctor`: what this machine has and what neocog will make of it. Imports no torch."""

from pathlib import Path

import typer

from neocog.cli.out import JSON, as_json, line


def add(app: typer.Typer, text: str) -> None:
    app.command("doctor", help=text)(doctor)


def doctor(json: JSON = False) -> None:
    from neocog.app.doctor import examine

    facts = examine(Path.cwd())
    if json:
        as_json(facts)
        return
    line("neocog", f"{facts['neocog']}, Python {facts['python']}, {facts['system']}")
    line("packages", ", ".join(f"{name} {installed or 'missing'}" for name, installed in facts["packages"].items()))
    cpu = facts["processor"]
    numbers = "bf16" if cpu["bf16"] else "no bf16"
    line(
        "processor",
        f"{cpu['name']}: {cpu['usable']:g} of {cpu['cores']} cores usable; {', '.join([*cpu['flags'], numbers])}",
    )
    line("memory", f"{size(facts['memory']['free'])} free of {size(facts['memory']['total'])}")
    for use, place in facts["disk"].items():
        line(use, f"{place['folder']}: {size(place['free'])} free, {'writable' if place['writable'] else 'read-only'}")
    if facts["shared_memory"] is not None:
        line("/dev/shm", f"{size(facts['shared_memory'])}; pictures are decoded in threads, which do not need it")
    for gpu in facts["gpus"]:
        line("GPU", f"{gpu['name']}, {size(gpu['memory'])}, driver {gpu['driver'] or 'unknown'}")
    if not facts["gpus"]:
        line("GPU", "none found")
    for extra, packages in facts["extras"].items():
        missing = [name for name, installed in packages.items() if installed is None]
        remedy = f'{", ".join(missing)} missing: pip install "neocog[{extra}]"'
        line("extra", f"{extra}: {remedy if missing else 'complete'}")
    for problem in facts["problems"]:
        line("warning", problem)


def size(value: int | None) -> str:
    return "unknown" if value is None else f"{value / 2**30:,.1f} GiB"
