"""What a network costs before it is trained, as one HTML file with the look and the manners of a run's report.

Every number is written out here, and the template only places it. Bars are plain boxes: they stay sharp
and legible at any width, and a screen reader reads their numbers as a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from neocog.core.errors import one_line
from neocog.report.cost_model import CostNetwork, CostPage, CostRow, CostTraining, fold
from neocog.report.cost_pictures import PANELS
from neocog.report.cost_zoo import KIB, Unit, unit
from neocog.report.cost_zoo_chart import zoo
from neocog.report.page import LONG, _environment, count, duration, large, shape

BARS = 42  # rows of bars, a screen or two
SAME = 0.02  # a norm's statistics beside its output are no news


def render_cost(page: CostPage) -> str:
    """The HTML of the costs of one or several networks."""
    highlighted = {network.name for network in page.networks}
    known = {point.name for point in page.zoo}
    return (
        _environment()
        .get_template("cost.html.j2")
        .render(
            page=page,
            single=len(page.networks) == 1,
            networks=[_network(network) for network in page.networks],
            sums=_sums(page.networks),
            wide=zoo(page.zoo, highlighted, 720, 400, 14),
            narrow=zoo(page.zoo, highlighted, 360, 420, 7),
            drawn=[network.name for network in page.networks if network.name in known],
            missing=[network.name for network in page.networks if network.name not in known],
            trained=any(network.training for network in page.networks),
            LONG=LONG,
        )
    )


@dataclass(frozen=True)
class Bar:
    """One number and the share of the column's largest."""

    key: str  # memory, params, macs: the colour
    text: str
    share: float


@dataclass(frozen=True)
class Bars:
    """Rows of three bars; `heads`: (key, title, unit) of each column."""

    heads: list[tuple[str, str, str]]
    rows: list[list[Bar]]


def _sums(networks: Sequence[CostNetwork]) -> Bars:
    """One row per network, each number in the unit that suits it: networks differ by more than layers do."""
    bars = _bars(networks)
    written = [(amount(n.memory_kib), large(n.params), large(n.macs)) for n in networks]
    rows = [
        [replace(bar, text=text) for bar, text in zip(row, texts, strict=True)]
        for row, texts in zip(bars.rows, written, strict=True)
    ]
    return Bars([(key, title, "") for key, title, _ in bars.heads], rows)


def _bars(rows: Sequence[CostRow] | Sequence[CostNetwork]) -> Bars:
    heads, columns = [], []
    for panel in PANELS:
        values = [panel.of(row) for row in rows]
        most = max(values, default=0)
        scale = unit(most, panel.units)
        heads.append((panel.key, panel.title, scale.name))
        columns.append([Bar(panel.key, scale.text(v), round(v / most, 4) if most else 0) for v in values])
    return Bars(heads, [list(row) for row in zip(*columns, strict=True)])


@dataclass(frozen=True)
class Layer:
    """A row of the whole table, written out."""

    name: Markup
    kind: str
    sizes: tuple[str, str]
    window: str
    writes: str  # where that is not the output's size
    numbers: tuple[str, str, str, str]
    view: tuple[str, str, str, str]
    flag: str


@dataclass(frozen=True)
class Part:
    """One segment of the training memory."""

    key: str
    name: str
    text: str
    share: float


@dataclass(frozen=True)
class Training:
    """What a training step takes. `verdict` answers whether it fits; `limit` is the share at which memory ends."""

    facts: CostTraining
    verdict: str
    parts: list[Part]
    peak: str
    limit: float | None
    epoch: str


@dataclass(frozen=True)
class Shown:
    """A network with everything about it written out."""

    facts: CostNetwork
    input: str
    params: str
    macs: str
    flops: str
    memory: str
    field: str
    beyond: bool  # the field is larger than the picture
    bars: Bars
    bar_rows: list[tuple[Markup, list[Bar]]]
    how: str
    layers: list[Layer]
    training: Training | None


def _network(network: CostNetwork) -> Shown:
    folded = fold(network.rows, BARS)
    bars = _bars(folded.rows)
    field, picture = network.receptive_field, network.input_shapes[0] if network.input_shapes else ()
    beyond = field is not None and any(
        isinstance(seen, int) and seen > size for seen, size in zip(field, picture[1:], strict=False)
    )
    return Shown(
        facts=network,
        input=", ".join(shape(tuple(one)) for one in network.input_shapes),
        params=large(network.params),
        macs=large(network.macs),
        flops=large(network.flops),
        memory=amount(network.memory_kib),
        field=axes(field) if field else "–",
        beyond=beyond,
        bars=bars,
        bar_rows=[(dotted(row.name or row.kind), cells) for row, cells in zip(folded.rows, bars.rows, strict=True)],
        how=folded.how,
        layers=[_layer(row) for row in network.rows],
        training=_training(network.training) if network.training else None,
    )


def _layer(row: CostRow) -> Layer:
    flags = [f"no formula for {', '.join(row.unknown)}"] if row.unknown else []
    flags += [f"field lost at {row.field_lost_at}"] if row.field_lost_at else []
    return Layer(
        name=dotted(row.name or row.kind),
        kind=f"{row.calls:,} layers" if row.calls > 1 else "" if row.kind == row.name.split(".")[-1] else row.kind,
        sizes=(shape(tuple(row.in_shape)), shape(tuple(row.out_shape))),
        window=window(row),
        writes=small(row.written_kib) if abs(row.written_kib - row.memory_kib) > SAME * row.memory_kib else "",
        numbers=(small(row.memory_kib), count(row.params), count(row.macs), count(row.other_ops)),
        view=(axes(row.receptive_field), axes(row.smallest_field), axes(row.stride, True), axes(row.offset, True)),
        flag="; ".join(flags),
    )


def _training(t: CostTraining) -> Training:
    scale = max(t.peak, t.limit or 0, 1)
    parts = [
        ("saved", "outputs saved for the backward pass", t.saved_activations),
        ("weights", "parameters", t.parameters),
        ("gradients", "gradients", t.gradients),
        ("state", f"state of {t.optimizer}" if t.optimizer else "optimizer state", t.optimizer_state),
        ("inputs", "the batch itself", t.inputs),
        ("rest", "the rest", t.rest),
    ]
    epoch = ""
    if t.seconds_per_epoch is not None:
        pictures = f" of {count(t.pictures)} pictures" if t.pictures is not None else ""
        epoch = f"An epoch{pictures} takes about {duration(t.seconds_per_epoch)}."
    return Training(
        facts=t,
        verdict=verdict(t),
        parts=[Part(key, name, amount(n / 1024), round(n / scale, 4)) for key, name, n in parts if n],
        peak=amount(t.peak / 1024),
        limit=None if t.limit is None else round(t.limit / scale, 4),
        epoch=epoch,
    )


def verdict(t: CostTraining) -> str:
    """Will it fit, and what is the largest batch, in two sentences."""
    peak = amount(t.peak / 1024)
    if t.limit is None:
        said = f"A batch of {count(t.batch)} takes about {peak}."
    else:
        place = f"the {amount(t.limit / 1024)} of {t.limit_name}" if t.limit_name else amount(t.limit / 1024)
        said = (
            f"{'It fits' if t.fits else 'It does not fit'}: a batch of {count(t.batch)} takes about {peak} of {place}."
        )
    if t.largest_batch is None:
        return said
    if t.largest_batch == 0:
        return f"{said} Not even one picture at a time fits."
    return f"{said} The largest batch that fits is {count(t.largest_batch)}."


def dotted(name: str) -> Markup:
    """A layer's path that breaks after its dots first."""
    return Markup(".<wbr>").join(escape(part) for part in one_line(name).split("."))


def amount(kib: float) -> str:
    """1536 -> "1.5 MiB"."""
    scale: Unit = unit(kib, KIB)
    return f"{scale.text(kib) or '0'} {scale.name}"


def small(kib: float) -> str:
    """KiB of one layer in a column: three digits, thousands apart."""
    return f"{kib:,.0f}" if kib >= 100 else f"{kib:.3g}"


def axes(values: Sequence[int | float | str | None] | None, once: bool = False) -> str:
    """(7, 7) -> "7 × 7", or "7" where equal axes are said `once`; "–" where there is nothing to say."""
    if not values or all(value is None for value in values):
        return "–"
    words = ["–" if v is None else f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    same = len(set(words)) == 1
    return words[0] if same and (once or not isinstance(values[0], int)) else " × ".join(words)


def window(row: CostRow) -> str:
    """ "11 × 11, stride 4, padding 2": what differs from the plain window is said, the rest is not."""
    if not row.kernel:
        return ""
    words = [shape(tuple(row.kernel))]
    for name, values, plain in (
        ("stride", row.layer_stride, 1),
        ("padding", row.padding, 0),
        ("dilation", row.dilation, 1),
    ):
        if values and any(value != plain for value in values):
            words.append(f"{name} {axes(values, True)}")
    if row.groups is not None and row.groups != 1:
        words.append(f"groups {row.groups:,}")
    return ", ".join(words)
