"""`neocog embed RUN FILES...`: vectors of pictures, for whatever comes next."""

from pathlib import Path
from typing import Annotated

import typer

from neocog.cli.out import JSON, as_json, line
from neocog.core.errors import DataError, UsageError
from neocog.core.words import counted


def add(app: typer.Typer, text: str) -> None:
    app.command("embed", help=text)(embed)


def embed(
    run: Annotated[Path, typer.Argument(help="A run folder: an autoencoder's, or a classifier's.")],
    files: Annotated[list[str], typer.Argument(help="Pictures, or folders of pictures.")],
    out: Annotated[Path, typer.Option(help="vectors.csv: file, then one column a number; or vectors.npy, and the "
                                           "files' names in vectors.txt.")],
    picture: Annotated[Path | None, typer.Option(help="A PNG of the vectors on a plane, coloured by the "
                                                              "folders (classes) of the pictures.")] = None,
    method: Annotated[str, typer.Option(metavar="pca|tsne", help="How the plane is found.")] = "pca",
    json: JSON = False,
) -> None:  # fmt: skip
    import numpy as np

    from neocog.app.autoencoding import embed as embeddings
    from neocog.app.autoencoding import write_vectors
    from neocog.app.opened import Opened
    from neocog.app.plane import labels_of, map_of
    from neocog.core.files import write_atomic

    if out.suffix not in (".csv", ".npy"):
        raise UsageError(f"--out {out} ends neither in .csv nor in .npy", "give it one of the two endings")
    if method not in ("pca", "tsne"):
        raise UsageError(f"there is no map called {method!r}", "use pca or tsne")
    opened = Opened.of(run)
    found = list(embeddings(opened, files))
    good = [(one.file, one.vector) for one in found if one.vector is not None]
    for one in found:
        if one.vector is None:
            line("not read", f"{one.file}, {one.problem}")
    if not good:
        raise DataError("there are no pictures in what was given", "give picture files, or a folder that holds some")
    vectors = np.stack([vector for _, vector in good])
    paths = [file for file, _ in good]
    write_vectors(out, paths, vectors)
    if picture is not None:
        title = f"{opened.run.folder.name} ({opened.run.card.model}), {counted(len(vectors), 'picture')}"
        write_atomic(picture, map_of(vectors, labels_of(paths, files), "tsne" if method == "tsne" else "pca", title))
    if json:
        as_json({"out": out, "vectors": len(vectors), "numbers": vectors.shape[1], "picture": picture})
    else:
        line("vectors", f"{len(vectors):,} of {vectors.shape[1]:,} numbers: {out}")
        if picture is not None:
            line("picture", str(picture))
    if len(good) < len(found):
        raise DataError(f"{len(found) - len(good)} of {len(found)} files could not be read", "they are named above")
