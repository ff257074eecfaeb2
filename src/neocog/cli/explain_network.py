"""`neocog explain RUN`: the page of the network."""

from pathlib import Path

from neocog.cli.out import as_json, line
from neocog.cli.progress import Watch
from neocog.cli.sheets import new_file
from neocog.core.errors import UsageError
from neocog.core.events import Events
from neocog.core.words import counted


def network(
    run: Path, out: Path | None, json: bool, *, training: bool, made: int | None, method: str | None,
    weights: str | None, classes: Path | None,
) -> None:  # fmt: skip
    from neocog.app.explaining_network import explain_network
    from neocog.app.pretrained import open_run

    if method not in (None, "pca", "tsne"):
        raise UsageError(f"there is no map called {method!r}", "use pca or tsne")
    opened = open_run(run, weights, classes)
    events = Events()
    with Watch(events, quiet=json):
        found = explain_network(
            opened, out=new_file(out, run, "network", ".html"), training=training, made=made,
            method="tsne" if method == "tsne" else "pca", events=events,
        )  # fmt: skip
    page = found.page
    filters = page.filters
    if json:
        stages = {one.stage: {"convolutions": one.convolutions, "filters": one.filters, "silent": one.silent,
                              "dead": one.dead} for one in filters.counted}  # fmt: skip
        spots = None if page.map is None else {
            "method": page.map.method, "set": page.map.split, "pictures": page.map.of, "shown": len(page.map.spots),
            "thumbnails": sum(spot.thumbnail is not None for spot in page.map.spots),
        }  # fmt: skip
        against = None if page.fooled is None else {str(step): share for step, share in page.fooled.shares}
        as_json({"model": page.model, "params": page.params, "macs": page.macs, "first": filters.first,
                 "filters": stages, "quiet": {one.layer: {"silent": one.silent, "dead": one.dead}
                                               for one in filters.quiet},
                 "channels": {one.stage: [channel.number for channel in one.channels] for one in page.channels},
                 "made": page.made, "looked": page.looked[0], "map": spots,
                 "accuracy_against": against,
                 "page": found.path})  # fmt: skip
        return
    silent, dead = sum(len(one.silent) for one in filters.quiet), sum(len(one.dead) for one in filters.quiet)
    many = sum(one.filters for one in filters.counted)
    if filters.first:
        told = f", {counted(dead, 'channel is dead', 'channels are dead')}" if page.looked[1] else ""
        layers = counted(sum(one.convolutions for one in filters.counted), "convolution")
        line("filters", f"{many:,} in {layers}, "
                        f"{counted(silent, 'is silent', 'are silent')}{told}")  # fmt: skip
    else:
        line("filters", "none, as there is no convolution")
    line("page", str(found.path))
