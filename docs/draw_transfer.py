"""The picture of docs/transfer.md as SVG: what fine-tuning everything gains over a classifier on frozen features."""

from collections.abc import Mapping, Sequence

CELL = 62, 34  # width, height
LEFT, TOP, GAP = 190, 58, 26
MOST = 20.0  # points of the darkest cell
BETTER, WORSE = (31, 119, 116), (190, 90, 40)  # fine-tuning is
STYLE = "text{font:13px system-ui,sans-serif;fill:#1b1b1b}.small{font-size:12px;fill:#555}.dark{fill:#fff}"


def draw(panels: Mapping[str, Mapping[str, Sequence[float]]], columns: Sequence[object]) -> str:
    """`panels`: title -> row -> points per column."""
    width, height = CELL
    rows = len(next(iter(panels.values())))
    panel = width * len(columns)
    whole = LEFT + len(panels) * panel + (len(panels) - 1) * GAP + 8, TOP + rows * height + 62
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole[0]} {whole[1]}" width="{whole[0]}" '
        f'height="{whole[1]}" role="img"><title>Fine-tuning less features, in points of accuracy</title>'
        f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for number, (title, lines) in enumerate(panels.items()):
        left = LEFT + number * (panel + GAP)
        parts.append(f'<text x="{left}" y="22" font-weight="600">{title}</text>')
        parts += [
            f'<text class="small" x="{left + (i + 0.5) * width}" y="{TOP - 8}" text-anchor="middle">{column}</text>'
            for i, column in enumerate(columns)
        ]
        for j, (name, values) in enumerate(lines.items()):
            y = TOP + j * height
            if not number:
                parts.append(f'<text x="{LEFT - 10}" y="{y + height / 2 + 4.5}" text-anchor="end">{name}</text>')
            for i, value in enumerate(values):
                x, strength = left + i * width, min(abs(value) / MOST, 1)
                tint = tuple(round(255 + (c - 255) * strength) for c in (BETTER if value > 0 else WORSE))
                dark = ' class="dark"' if strength > 0.6 else ""
                parts.append(
                    f'<rect x="{x}" y="{y}" width="{width - 2}" height="{height - 2}" rx="3" fill="rgb{tint}" '
                    f'stroke="#ddd"/><text{dark} x="{x + width / 2 - 1}" y="{y + height / 2 + 4}" text-anchor="middle">'
                    f"{value:+.1f}</text>"
                )
    y = TOP + rows * height + 22
    parts.append(f'<text class="small" x="{LEFT}" y="{y}">training pictures of each class</text>')
    words = (
        "fine-tuning everything less features, in points of test accuracy after the same time; green: fine-tuning is "
        "better, brown: features are"
    )
    parts.append(f'<text class="small" x="10" y="{y + 26}">{words}</text>')
    return "".join(parts) + "</svg>\n"
