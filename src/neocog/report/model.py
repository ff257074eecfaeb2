"""What a report can say, as plain data. A part that is None or empty leaves its section out.

Nothing here is computed from pictures or networks: the caller fills it in. Text may hold anything (class names,
paths, error messages); the page escapes it.
"""

from dataclasses import dataclass
from typing import Any

from neocog.report.watch_model import WatchFacts


@dataclass(frozen=True)
class Picture:
    """A thumbnail: the bytes of a PNG file, the name of the picture's file and what to say below it."""

    png: bytes
    file: str
    caption: str = ""

    @property
    def width(self) -> int:
        """Pixels, from the PNG's header."""
        return int.from_bytes(self.png[16:20], "big")


@dataclass(frozen=True)
class ClassCount:
    """Pictures of one class, one number per set in the order of `DataFacts.splits`."""

    name: str
    counts: tuple[int, ...]


@dataclass(frozen=True)
class DataFacts:
    """What was found, what was left out and how the rest was divided."""

    source: str  # folder, CSV or named set
    splits: tuple[str, ...]  # ("train", "val", "test")
    classes: tuple[ClassCount, ...]
    unlabelled: bool = False  # the one class is the folder, whose pictures have none
    how_split: str = ""  # "Drawn by seed 0, stratified by class."
    excluded: tuple[tuple[str, str], ...] = ()  # (file, reason)
    duplicates: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (what it means: "leak between sets", the equal files)
    modes: tuple[tuple[str, int], ...] = ()  # (how the files are stored: "RGB", "CMYK"; pictures)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One row of the network's table."""

    name: str
    shape: tuple[int, ...]  # of the output, without the batch: (C, H, W) or (D,)
    params: int
    macs: int
    field: tuple[int | str, ...] = ()  # what one of its units sees of the picture: (height, width), or "whole"


@dataclass(frozen=True)
class NetworkFacts:
    """The function that was trained. `params` and `macs` are for one picture of `input_shape` (C, H, W)."""

    name: str
    input_shape: tuple[int, ...]
    params: int
    macs: int
    idea: str = ""
    trained_params: int | None = None  # None: all of them
    stages: tuple[Stage, ...] = ()
    preprocessing: str = ""  # "short side to 256, centre 224, mean ..., std ..."
    weights: tuple[tuple[str, str], ...] = ()  # facts of the weights it started from: source, licence, ...
    paper: str = ""  # title
    year: int | None = None
    link: str = ""  # printed as text: the page loads and follows nothing


@dataclass(frozen=True)
class Epoch:
    """One point of the learning curves; None where a number was not measured."""

    epoch: int  # from 1
    train_loss: float | None = None
    val_loss: float | None = None
    train_accuracy: float | None = None  # 0..1
    val_accuracy: float | None = None
    learning_rate: float | None = None  # of the classifier
    first_rate: float | None = None  # of the part nearest to the input, where it is another one
    val_psnr: float | None = None  # decibels
    parts: tuple[tuple[str, float], ...] = ()  # of the training loss, by name
    free_energy_gap: float | None = None  # of a Boltzmann machine: of pictures kept from it less that of others


@dataclass(frozen=True)
class Scores:
    """The numbers of `neocog.evaluate.summarise`, field by field: `Scores(**summarise(predictions))`."""

    pictures: int
    unlabelled: int
    classes: list[str]
    top1: float | None
    top1_interval: list[float] | None
    top5: float | None
    balanced_accuracy: float | None
    macro_f1: float | None
    baseline: float | None
    imbalanced: bool
    nll: float | None
    ece: float | None
    per_class: list[dict[str, Any]]
    confusion: list[list[int]]
    most_confused: list[dict[str, Any]]
    reliability: list[dict[str, Any]]


@dataclass(frozen=True)
class ConfusedPair:
    """Pictures of one class that were called by another's name."""

    truth: str
    predicted: str
    count: int
    examples: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction and how sure the network was of it (0..1)."""

    picture: Picture
    truth: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Evaluation:
    """How the network did on one set."""

    split: str  # "test"; "val" makes the page say that the figure flatters
    scores: Scores
    pairs: tuple[ConfusedPair, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


@dataclass(frozen=True)
class GivenBack:
    """A picture and what an autoencoder made of it, each a PNG. `seen`: where what it saw had been made worse."""

    file: str
    seen: bytes | None
    truth: bytes
    output: bytes
    difference: bytes
    psnr: float  # decibels


@dataclass(frozen=True)
class Pair:
    """A picture that was made, and the training picture nearest to it."""

    made: bytes
    nearest: bytes
    file: str


@dataclass(frozen=True)
class Path:
    """Pictures of codes along a line, in one PNG."""

    what: str
    strip: bytes


@dataclass(frozen=True)
class Scatter:
    """Codes on a plane, each with the class of its picture."""

    points: tuple[tuple[float, float], ...]
    classes: tuple[str, ...]
    axes: tuple[str, str]


@dataclass(frozen=True)
class ReconstructionFacts:
    """How an autoencoder did on one set. `numbers`: of `neocog.evaluate.summarise_reconstructions`; `baselines`: what
    each is, and its number. `shortfalls`: a sentence on each of these that does better than the network, for the page's
    warnings. `plane`: a PNG of decoded codes of two numbers."""

    split: str
    numbers: dict[str, Any]
    code_shape: tuple[int, ...]
    code_kind: str  # what there are so many of: "numbers"
    noise: str
    baselines: tuple[tuple[str, str], ...]
    some: tuple[GivenBack, ...]
    worst: tuple[GivenBack, ...]
    scatter: Scatter
    samples: tuple[Pair, ...] = ()
    paths: tuple[Path, ...] = ()
    plane: bytes | None = None
    shortfalls: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingFacts:
    """How the training went. None leaves a line out."""

    seconds: float | None = None
    epochs: int | None = None
    images_per_second: float | None = None
    device: str = ""
    precision: str = ""
    layout: str = ""
    versions: tuple[tuple[str, str], ...] = ()  # ("torch", "2.13.0")
    more: tuple[tuple[str, str], ...] = ()  # any other fact


@dataclass(frozen=True)
class Setting:
    """One key of the run's configuration; `changed` where it differs from the default."""

    name: str
    value: str
    changed: bool = False


@dataclass(frozen=True)
class RateSearch:
    """The losses of a short training with rising learning rates, and the rate to take (None: none stands out)."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None


@dataclass(frozen=True)
class Choices:
    """What was measured to decide on settings that were left open. `rule`: per row of a two-by-two table its name and
    two cells (text, whether the pictures stand there)."""

    evidence: tuple[str, ...] = ()
    rule: tuple[tuple[str, tuple[tuple[str, bool], ...]], ...] = ()
    rates: RateSearch | None = None
    rate_words: str = ""


@dataclass(frozen=True)
class Report:
    """One run, from its pictures to its mistakes."""

    model: str
    regime: str
    data_name: str
    done: str = ""  # what was done, in one sentence
    created: str = ""  # "2025-11-21 02:24 UTC"
    warnings: tuple[str, ...] = ()  # what a careful reader must know
    data: DataFacts | None = None
    samples: tuple[Picture, ...] = ()  # training pictures as the network sees them
    network: NetworkFacts | None = None
    history: tuple[Epoch, ...] = ()
    kept_epoch: int | None = None  # the epoch whose weights were kept
    evaluation: Evaluation | None = None
    reconstruction: ReconstructionFacts | None = None
    training: TrainingFacts | None = None
    choices: Choices | None = None
    watch: WatchFacts | None = None
    settings: tuple[Setting, ...] = ()
    command: str = ""
