"""The page of a network: its filters, what its channels look for, and the test pictures as it lays them out."""

from dataclasses import dataclass

from markupsafe import Markup

from neocog.report import charts
from neocog.report.explain import ChannelView
from neocog.report.model import Stage
from neocog.report.page import _environment
from neocog.report.scatter import colours_of


@dataclass(frozen=True)
class Kernel:
    """A filter of the first convolution, grey where a weight is 0."""

    number: int
    png: bytes
    norm: float
    silent: bool


@dataclass(frozen=True)
class Grid:
    """Some kernels of a deeper convolution: a row for each filter, a column for each input; where a filter reads a
    single one (`inputs` is 1), filter after filter."""

    layer: str
    filters: int
    inputs: int  # that one filter reads
    kernel: tuple[int, int]
    rows: int
    columns: int
    png: bytes


@dataclass(frozen=True)
class Counted:
    """The filters of a stage: `silent` have no weights to speak of, `dead` never changed; None: nobody looked."""

    stage: str
    convolutions: int
    filters: int
    silent: int
    dead: int | None


@dataclass(frozen=True)
class Quiet:
    """A convolution with silent filters or dead channels, by their numbers."""

    layer: str
    filters: int
    silent: tuple[int, ...]
    dead: tuple[int, ...]


@dataclass(frozen=True)
class Filters:
    first: str  # the first convolution; "" where there is none
    reads: int  # its inputs; three are colours
    kernel: tuple[int, int]
    kernels: tuple[Kernel, ...]  # the largest norm first
    of: int  # filters that it has
    grids: tuple[Grid, ...]
    pointwise: tuple[str, ...]  # stages whose convolutions are all 1 x 1
    counted: tuple[Counted, ...]
    quiet: tuple[Quiet, ...]


@dataclass(frozen=True)
class StageChannels:
    """`share` of a channel is here its part of the variance of the stage's means; `adds`: what of that the channels
    before it do not say."""

    stage: str
    channels: tuple[ChannelView, ...]
    adds: tuple[float, ...]
    of: int
    sees: str  # what a unit sees of the picture, in words
    whole: bool  # a unit has no place


@dataclass(frozen=True)
class MadeClass:
    name: str
    picture: bytes


@dataclass(frozen=True)
class Spot:
    """A picture's place on the map: shares of its width from the left and of its height from the top. `thumbnail` None:
    another picture stands there already, and a dot is enough."""

    left: float
    top: float
    file: str
    label: str
    answer: str
    thumbnail: bytes | None

    @property
    def right(self) -> bool:
        return self.label == self.answer


@dataclass(frozen=True)
class PictureMap:
    """`axes`: what right and up mean. `of`: pictures that the set has."""

    method: str
    axes: str
    spots: tuple[Spot, ...]
    split: str
    of: int
    cells: int  # of thumbnails along a side


@dataclass(frozen=True)
class Fooled:
    """`shares`: (change of each value, of 255, accuracy 0..1) on `pictures` of the `of` that `split` has."""

    shares: tuple[tuple[int, float], ...]
    pictures: int
    of: int
    split: str


@dataclass(frozen=True)
class NetworkPage:
    """`looked`: training pictures that were looked at, of how many; (0, 0): none were. `made`: pictures that were made
    for each stage, `asked`: as somebody wanted it; `making`: their side, the steps each took, and what one more per
    stage would have cost in multiply-accumulates."""

    run: str  # as it is typed
    weights: str  # the option that goes with it, "" for a run
    costed: str  # what `neocog cost` is given, so that it counts this very network
    origin: str  # of the weights, in words
    model: str
    idea: str
    created: str
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    params: int
    macs: int
    filters: Filters
    channels: tuple[StageChannels, ...]
    stages_of: int  # that the network has; `channels` are some of them
    classes_made: tuple[MadeClass, ...]
    made: int
    asked: bool
    making: tuple[int, int, int]
    map: PictureMap | None
    stages: tuple[Stage, ...]
    looked: tuple[int, int]
    fooled: Fooled | None = None
    judged: bool = True  # whether the network's mistakes are known
    seconds: float = 0.0

    @property
    def silent(self) -> bool:
        """Whether nothing is to be said of channels, as somebody wanted no pictures of either kind."""
        return bool(self.channels) and not self.looked[1] and not self.made and self.asked


def render_network(page: NetworkPage) -> str:
    """The HTML, self-contained."""
    colours = colours_of([spot.label for spot in page.map.spots]) if page.map is not None else {}
    return _environment().get_template("network_page.html.j2").render(p=page, colours=colours, chart=falling(page))


def falling(page: NetworkPage) -> Markup:
    """Accuracy by the size of the change."""
    if page.fooled is None:
        return Markup()
    line = charts.Series("fast gradient sign", list(page.fooled.shares))
    return charts.curves("Accuracy", [line], form=charts.percent, most=1.0, across="change of each value, of 255")
