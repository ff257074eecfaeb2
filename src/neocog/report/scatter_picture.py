"""Points on a plane as a picture file, coloured as on the report's page."""

from neocog.core.words import counted
from neocog.report.cost_pictures import SOFT, safe, saved, settings
from neocog.report.cost_zoo import cut
from neocog.report.model import Scatter
from neocog.report.scatter import COLOURS, colours_of

INCHES, COLUMNS = 8, 5  # of the square, of its legend
LONGEST = 20  # letters of a class's name


def scatter_picture(found: Scatter, title: str) -> bytes:
    """A square PNG of 1200 pixels, with a legend where there are several classes and a colour for each."""
    with settings():
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D

        figure = Figure(figsize=(INCHES, INCHES), dpi=150)
        axes = figure.add_subplot()
        colours = colours_of(found.classes)
        x, y = zip(*found.points, strict=True)
        axes.scatter(x, y, s=12, alpha=0.75, linewidths=0, c=[colours[name] for name in found.classes])
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(safe(found.axes[0]), parse_math=False)
        axes.set_ylabel(safe(found.axes[1]), parse_math=False)
        axes.set_title(safe(cut(title, 80)), loc="left", parse_math=False)
        if 1 < len(colours) <= len(COLOURS):
            marks = [Line2D([], [], marker="o", linestyle="", color=colour) for colour in colours.values()]
            names = [safe(cut(name, LONGEST)) for name in colours]
            legend = axes.legend(marks, ["name"] * len(names), loc="upper center", bbox_to_anchor=(0.5, -0.05),
                                 ncols=min(COLUMNS, len(names)), frameon=False, handletextpad=0.1)  # fmt: skip
            for text, name in zip(legend.get_texts(), names, strict=True):
                text.set_parse_math(False)  # as labels, names with $ would be formulas, and such with _ be left out
                text.set_text(name)
        elif len(colours) > 1:
            axes.text(0.5, -0.08, f"{counted(len(colours), 'class', 'classes')}, too many for colours", color=SOFT,
                      ha="center", transform=axes.transAxes)  # fmt: skip
        figure.tight_layout()
        return saved(figure, "png")
