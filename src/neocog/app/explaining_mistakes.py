"""A page for each of the surest wrong answers of a run, and an index of them."""

from dataclasses import dataclass
from pathlib import Path

from neocog import report
from neocog.app.explaining import Explained, Explainer
from neocog.app.pretrained import open_run
from neocog.core.errors import UsageError
from neocog.core.files import write_atomic


@dataclass(frozen=True)
class Mistakes:
    pages: list[Explained]
    index: Path


def explain_mistakes(
    run: str | Path, most: int, *, out: str | Path | None = None, layer: str | None = None, training: bool = True,
    made: int = 0,
) -> Mistakes:  # fmt: skip
    """Writes index.html and a page each into `out`, a new folder (default: RUN-mistakes)."""
    folder = Path(out) if out is not None else Path(f"{Path(run)}-mistakes")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already, and is not overwritten unasked", "give another --out")
    explainer = Explainer(open_run(run), layer=layer, training=training, made=made)
    files = explainer.mistakes(most)
    folder.mkdir(parents=True, exist_ok=True)
    pages = []
    for number, (file, truth) in enumerate(files, start=1):
        page = explainer.page(file, truth=truth)
        path = folder / f"{number:02d}.html"
        write_atomic(path, report.render_explain(page))
        pages.append(Explained(page, path))
    index = folder / "index.html"
    title = f"{len(pages)} surest mistakes of {explainer.opened.run.folder.name}"
    write_atomic(index, report.render_explained(tuple((one.path.name, one.page) for one in pages), title))
    return Mistakes(pages, index)
