"""The page of one picture: what the network saw, what it answered, where it looked, and what lies behind that."""

from dataclasses import dataclass

from markupsafe import Markup

from neocog.report import charts
from neocog.report.model import Picture
from neocog.report.page import _environment


@dataclass(frozen=True)
class Answer:
    """A class with its probability as the network says it, and calibrated, 0..1."""

    name: str
    said: float
    calibrated: float


@dataclass(frozen=True)
class Look:
    """A map of what mattered, laid over the picture. `deletion`, `insertion`: areas, 0..1, None where they were not
    measured; `note`: what must be known of it."""

    name: str
    png: bytes
    deletion: float | None = None
    insertion: float | None = None
    survives: float | None = None  # rank correlation with the map of shuffled weights; None where it was not asked
    note: str = ""


@dataclass(frozen=True)
class StageView:
    """A stage: its cost, and the maps that were strongest for this picture, `channels` their numbers; of these `flat`
    are the same everywhere."""

    name: str
    shape: tuple[int, ...]
    params: int
    macs: int
    sees: str  # of the picture, in words
    channels: tuple[int, ...]
    maps: tuple[bytes, ...]
    flat: tuple[int, ...] = ()


@dataclass(frozen=True)
class ChannelView:
    """A channel of the layer that was looked at. `share`: its part of what speaks for the class. `patches`: (cut from a
    training picture, what comes back from the unit); `made`: the picture that excites it most."""

    number: int
    share: float
    patches: tuple[tuple[bytes, bytes], ...]
    made: bytes | None = None


@dataclass(frozen=True)
class Neighbour:
    picture: Picture
    label: str
    similarity: float  # cosine
    same: bool  # as the answer


@dataclass(frozen=True)
class Flip:
    """The smallest step of the gradient's sign that was found to change the answer; `epsilon` on the 0..1 scale, None
    where there is none up to `limit`; `levels`: the smallest of whole levels of 255, which a picture of 8 bits can
    hold. What follows is of that one, or, where no whole level changes it, of `epsilon`."""

    epsilon: float | None
    limit: float
    levels: int | None = None
    answer: str = ""
    probability: float = 0.0
    changed: bytes = b""
    difference: bytes = b""  # around grey, made stronger
    stronger: float = 1.0


@dataclass(frozen=True)
class ExplainPage:
    """`temperature`: by which scores were divided to calibrate them; None where no validation pictures tell it."""

    file: str
    origin: str  # of the weights, in words
    model: str
    created: str
    original: bytes
    seen: bytes
    answers: tuple[Answer, ...]
    target: str  # the class that is explained
    truth: str | None
    kept: str  # the set of the run in which the picture, or a copy of it, stands: "train", ...; "": it is new to it
    temperature: float | None
    layer: str
    looks: tuple[Look, ...]
    random: tuple[float, float]  # deletion and insertion area of random orders, the mean
    stages: tuple[StageView, ...]
    channels: tuple[ChannelView, ...]
    neighbours: tuple[Neighbour, ...]
    looked: tuple[int, int]  # training pictures that were looked at, of how many
    flip: Flip
    courses: tuple[tuple[str, tuple[float, ...]], ...] = ()  # deletion, by name
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def render_explain(page: ExplainPage) -> str:
    """The HTML, self-contained."""
    lucky = {look.name for look in page.looks if is_lucky(look, page.random)}
    return (
        _environment()
        .get_template("explain.html.j2")
        .render(p=page, best=page.answers[0], chart=courses(page), lucky=lucky)
    )


def is_lucky(look: Look, random: tuple[float, float]) -> bool:
    """Whether it predicts neither what happens when pixels go nor when they come back better than random orders."""
    if look.deletion is None or look.insertion is None:
        return False
    return look.deletion >= random[0] and look.insertion <= random[1]


def courses(page: ExplainPage) -> Markup:
    """Probability of the class by the share of pixels gone."""
    lines = [
        charts.Series(name, [(100 * i / (len(course) - 1), value) for i, value in enumerate(course)])
        for name, course in page.courses
    ]
    return charts.curves("Probability", lines, form=charts.percent, least=0.0, most=1.0, across="percent of the pixels")


def render_explained(pages: tuple[tuple[str, ExplainPage], ...], title: str) -> str:
    """An index of several pages, (its file beside this one, the page)."""
    return _environment().get_template("explained.html.j2").render(pages=pages, title=title)
