"""The pictures that a run was made with, known again by name, by place or by content."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neocog.app.pretrained import Pretrained
from neocog.app.run import Run
from neocog.core.errors import DataError, UsageError
from neocog.core.files import sha256_of
from neocog.data.dataset import in_channels
from neocog.data.decode import BadPicture, DecodeOptions, decode
from neocog.data.source import Source, open_source
from neocog.data.split import Row, read_split


@dataclass(frozen=True)
class Own:
    run: Run

    @cached_property
    def rows(self) -> dict[str, Row]:
        """By name. DataError where split.csv is damaged."""
        if isinstance(self.run, Pretrained):
            return {}
        return {row.file: row for row in read_split(self.run.folder / "split.csv")}

    @cached_property
    def root(self) -> Path:
        """What their names are relative to."""
        data = Path(self.run.config.data)
        return data if data.is_dir() else data.parent

    @cached_property
    def source(self) -> Source:
        config = self.run.config
        return open_source(
            config.data, follow_links=config.follow_links, allow_empty_classes=config.allow_empty_classes,
            unlabelled=config.task == "reconstruction",
        )  # fmt: skip

    def row(self, image: str | Path) -> Row | None:
        """What the run knows of a picture, wherever a copy of it lies; None where it is new to it."""
        path = Path(image)
        if not path.is_file():
            return self.rows.get(str(image))
        place = path.resolve()
        if place.is_relative_to(root := self.root.resolve()) and (
            row := self.rows.get(place.relative_to(root).as_posix())
        ):
            return row
        content = sha256_of(path) if self.rows else ""
        return next((row for row in self.rows.values() if row.sha256 == content), None)

    def find(self, name: str) -> str | Path:
        """What `decoded` takes for one of the run's pictures: its file, or its name in a packed set. DataError where it
        is gone."""
        if (path := self.root / name).is_file():
            return path
        if self.source.arrays is not None and any(item.file == name for item in self.source.items):
            return name
        raise DataError(f"the picture {path} is not there", "give pictures by name: `neocog explain RUN IMAGE`")

    def decoded(self, image: str | Path) -> NDArray[np.uint8]:
        """(H, W, C): a file's picture, or that of one of the run's own in a packed set, such as digits/01457.
        UsageError for a folder, DataError for what cannot be read."""
        path, card = Path(image), self.run.card
        if path.is_dir():
            raise UsageError(f"{path} is a folder", "give one picture")
        if not path.exists() and str(image) in self.rows and (arrays := self.source.arrays) is not None:
            number = [item.file for item in self.source.items].index(str(image))
            pixels: NDArray[np.uint8] = in_channels(arrays["pixels"][number : number + 1], card.in_channels)[0]
            return pixels
        try:
            return decode(path, DecodeOptions(card.in_channels, card.background, self.run.config.max_pixels)).pixels
        except BadPicture as bad:
            raise DataError(f"{path} could not be read, {bad.reason}: {bad.detail}", "give a picture") from None
