"""Points on a plane, coloured by class: an autoencoder's codes."""

from collections.abc import Callable, Sequence

from markupsafe import Markup

from neocog.core.words import counted
from neocog.report.model import Scatter

SIDE, EDGE = 360, 8
# Ten colours that people with any colour vision tell apart in light and dark (Tableau 10, reordered).
COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#888888")


def colours_of(classes: Sequence[str]) -> dict[str, str]:
    """Class -> colour, in the order of their names; one for all where there are more than there are colours."""
    names = sorted(set(classes))
    if len(names) > len(COLOURS):
        return dict.fromkeys(names, COLOURS[0])
    return dict(zip(names, COLOURS, strict=False))


def scatter(found: Scatter) -> Markup:
    """A square SVG. The outermost hundredth of the points each way lies on the edge."""
    colours = colours_of(found.classes)
    scales = [_scale([point[axis] for point in found.points]) for axis in (0, 1)]
    body = Markup()
    for (x, y), name in zip(found.points, found.classes, strict=True):
        left, top = EDGE + scales[0](x) * (SIDE - 2 * EDGE), SIDE - EDGE - scales[1](y) * (SIDE - 2 * EDGE)
        body += Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.2" fill="{}" fill-opacity="0.75"/>').format(
            left, top, colours[name]
        )
    words = f"{counted(len(found.points), 'code')}; right: {found.axes[0]}, up: {found.axes[1]}."
    return Markup(
        '<svg viewBox="0 0 {0} {0}" role="img" aria-label="Codes"><title>Codes</title><desc>{1}</desc>{2}</svg>'
    ).format(SIDE, words, body)


def _scale(values: list[float]) -> Callable[[float], float]:
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 100], ordered[-1 - len(ordered) // 100]
    span = (high - low) or 1.0
    return lambda value: min(1.0, max(0.0, (value - low) / span)) if high > low else 0.5
