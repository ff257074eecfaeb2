"""Where a command puts the one picture or page that it makes."""

from pathlib import Path

from neocog.core.errors import UsageError


def new_file(out: Path | None, run: Path, what: str, suffix: str = ".png") -> Path:
    """`out`, or a name beside the run that is not taken. UsageError where `out` exists, or ends in another suffix."""
    if out is None:
        base = run.resolve()
        names = (base.with_name(f"{base.name}-{what}{n}{suffix}") for n in ("", *(f"-{i}" for i in range(2, 10_000))))
        return next(path for path in names if not path.exists())
    if out.suffix.lower() != suffix:
        raise UsageError(f"--out {out} does not end in {suffix}", f"give a {suffix} file")
    if out.exists():
        raise UsageError(f"{out} exists already, and is not overwritten unasked", "give another --out")
    return out
