"""The zoo as inline SVG, coloured by the page's style sheet.

Drawn once for a desk and once for a phone: scaled down from one canvas, names would be too small to read.
"""

import math
from collections.abc import Collection, Sequence

from markupsafe import Markup

from neocog.core.errors import one_line
from neocog.report.cost_model import ZooPoint
from neocog.report.cost_zoo import circles, macs_axis, place, radius, short, sizes, top1_axis
from neocog.report.page import large

LEFT, RIGHT, TOP, BOTTOM = 30, 8, 44, 40


def zoo(points: Sequence[ZooPoint], highlighted: Collection[str], width: int, height: int, most: int) -> Markup:
    """Accuracy against MACs on a canvas of this size, with up to `most` names beside the highlighted ones."""
    if not points:
        return Markup()
    low, high, marks = macs_axis([p.macs for p in points], most=width // 80)
    bottom, top, percents = top1_axis([p.top1 for p in points])
    right, floor = width - RIGHT, height - BOTTOM

    def x(macs: float) -> float:
        return round(LEFT + (right - LEFT) * math.log(macs / low) / math.log(high / low), 1)

    def y(top1: float) -> float:
        return round(TOP + (floor - TOP) * (top - top1) / (top - bottom), 1)

    body = Markup('<text x="0" y="12">ImageNet top-1, %</text>')
    for percent in percents:
        body += Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/><text x="{}" y="{}" text-anchor="end">{:.0f}</text>'
        ).format(LEFT, right, LEFT - 7, y(percent) + 4, percent, y=y(percent))
    for mark in marks:
        body += Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(x(mark), floor + 16, short(mark))
    body += Markup('<text x="{}" y="{}" text-anchor="end">MACs of one picture</text>').format(right, height - 6)
    widest = width / 30 + 4
    body += _size_legend(points, right, widest)
    spots = circles(points, highlighted, widest, x, y)
    pairs = sorted(zip(spots, points, strict=True), key=lambda pair: (pair[0].bold, -pair[0].r))
    for spot, point in pairs:
        body += Markup('<circle class="net{}" cx="{}" cy="{}" r="{:.1f}"><title>{}</title></circle>').format(
            Markup(" mine") if spot.bold else "", spot.x, spot.y, spot.r, one_line(_said(point))
        )
    for p in place(spots, 11.5, (LEFT, TOP - 8, right, floor), most):
        if p.lead:
            body += Markup('<line class="lead" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(*p.lead)
        anchor, at = p.anchor
        body += Markup('<text class="name{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
            Markup(" mine") if p.label.bold else "", at, p.base, anchor, p.label.text
        )
    shown = "; ".join(_said(point) for spot, point in pairs if spot.bold) or "none of this page's networks"
    description = f"{len(points)} published networks, circle area by parameters. Highlighted: {one_line(shown)}."
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="Accuracy against cost"><desc>{}</desc>{}</svg>'
    ).format(width, height, description, body)


def _size_legend(points: Sequence[ZooPoint], right: float, widest: float) -> Markup:
    """Circles of round numbers of parameters, above the plane on the right."""
    body, left = Markup(), right
    for params in reversed(sizes([p.params for p in points])):
        r = radius(params, points, widest)
        word = short(params).replace(" million", " M").replace(" billion", " G").replace(" thousand", " k")
        body += Markup('<text x="{:.1f}" y="12" text-anchor="end">{}</text>').format(left, word)
        left -= 7 * len(word) + r + 5
        body += Markup('<circle class="key" cx="{:.1f}" cy="8" r="{:.1f}"/>').format(left, r)
        left -= r + 12
    if left < 220:  # a phone has no room for the word; the sentence above the picture says it
        return body
    return body + Markup('<text x="{:.1f}" y="12" text-anchor="end">parameters</text>').format(left)


def _said(point: ZooPoint) -> str:
    year = f" ({point.year})" if point.year is not None else ""
    return f"{point.name}{year}: {point.top1:.4g}% top-1, {large(point.macs)} MACs, {large(point.params)} parameters"
