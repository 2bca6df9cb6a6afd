"""Charts as SVG inside a page: lines over steps, points over costs.  Made of text alone, so that a page needs
nothing else."""

import math
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from utils.styles import SERIES, TEACHER, Style, short_number

_DASHES = ("", "6 3", "2 3", "8 3 2 3")  # of lines of one colour in a chart, in this order
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 10, 40
_MOST_POINTS = 300  # of a series
_LONGEST_NAME = 32  # characters of a name beside a point
_LETTER = 6.6  # pixels across, of a name
# Where a name may stand: (its anchor, to the right or left, pixels down), the first that is free
_PLACES = [
    ("start", 1, 0),
    ("end", -1, 0),
    ("middle", 0, -14),
    ("middle", 0, 16),
    *((anchor, side, down) for down in (-13, 13, -24, 24) for anchor, side in (("start", 1), ("end", -1))),
]
_PLUS = [(-0.4, 1.2), (0.4, 1.2), (0.4, 0.4), (1.2, 0.4), (1.2, -0.4), (0.4, -0.4)]
_PLUS += [(-x, -y) for x, y in _PLUS]
# Corners around (0, 0) of the markers that are not round, y downwards
_CORNERS = {
    "s": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "D": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
    "^": [(0, -1.1), (1.1, 0.85), (-1.1, 0.85)],
    "v": [(0, 1.1), (1.1, -0.85), (-1.1, -0.85)],
    "<": [(-1.1, 0), (0.85, 1.1), (0.85, -1.1)],
    ">": [(1.1, 0), (-0.85, 1.1), (-0.85, -1.1)],
    "P": _PLUS,
    "X": [(0.75 * (x - y), 0.75 * (x + y)) for x, y in _PLUS],
    "*": [
        (size * math.cos(turn), size * math.sin(turn))
        for turn, size in ((math.pi * (i / 5 - 0.5), 0.75 if i % 2 else 1.8) for i in range(10))
    ],
}


@dataclass
class Series:
    """One line, or one group of points.

    points: (x, y), (x, y, what is shown when it is pointed at), or with a name that stands beside it as a
    fourth.  line: whether points are joined.  marked: x that get a star.  style: None: by its place in the
    chart.
    """

    name: str
    points: list
    line: bool = True
    marked: tuple = ()
    style: Style | None = None


def chart(series, *, x, y, log_x=False, log_y=False, width=520, height=250) -> str:
    """The chart with its legend, as HTML; nothing where there is no point.  x, y: what the axes are; y also
    names the chart.

    Points that are not finite, or cannot lie on a logarithmic axis, are left out.
    """
    shown = [(one, _thinned(_drawable(one.points, log_x, log_y))) for one in series]
    shown = [(one, points) for one, points in shown if points]
    if not shown:
        return ""
    across = _Axis([point[0] for _, points in shown for point in points], log_x, (_LEFT, width - _RIGHT))
    up = _Axis([point[1] for _, points in shown for point in points], log_y, (height - _BOTTOM, _TOP))
    named = f'role="img" aria-label="{escape(y)} over {escape(x)}"'
    parts = [f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" {named}>']
    for value, text in across.ticks():
        place = across.place(value)
        parts.append(
            f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{height - _BOTTOM}"/>'
        )
        below = height - _BOTTOM + 16
        parts.append(f'<text x="{place:.1f}" y="{below}" text-anchor="middle">{text}</text>')
    for value, text in up.ticks():
        place = up.place(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>'
        )
        parts.append(f'<text x="{_LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{text}</text>')
    parts.append(
        f'<text x="{(_LEFT + width - _RIGHT) / 2:.0f}" y="{height - 4}" '
        f'text-anchor="middle">{escape(x)}</text>'
    )
    placed = [(one, [(across.place(p[0]), up.place(p[1]), p) for p in points]) for one, points in shown]
    styles = _styles([one for one, _ in shown])
    sizes = _sizes(placed)
    for (one, places), (style, dash), radii in zip(placed, styles, sizes):
        parts += _drawn(one, places, style, dash, radii)
    names, left_out = _named(placed, sizes, width, height)
    legend = "".join(_entry(one, style, dash) for (one, _), (style, dash) in zip(shown, styles))
    legend += "".join(f"<span>{number}: {escape(name)}</span>" for number, name in left_out)
    return (
        f"<figure><figcaption>{escape(y)}</figcaption>{''.join([*parts, *names])}</svg><div "
        f'class="legend">{legend}</div></figure>'
    )


class _Axis:
    """Values to places; a little room is left at both ends."""

    def __init__(self, values, log, places):
        self.log, self.places = log, places
        low, high = (self._scaled(value) for value in (min(values), max(values)))
        room = (high - low) * 0.04 or abs(low) * 0.1 or 1.0
        self.low, self.high = low - room, high + room

    def _scaled(self, value):
        return math.log10(value) if self.log else value

    def place(self, value):
        share = (self._scaled(value) - self.low) / (self.high - self.low)
        return self.places[0] + share * (self.places[1] - self.places[0])

    def ticks(self):
        """[(round value within the axis, its text)]; on a linear axis all have as many decimals."""
        values = self._round_values()
        steps = {f"{b - a:.9g}" for a, b in pairwise(values)}
        if self.log or not steps or abs(values[-1]) >= 1e3:
            return [(value, short_number(value)) for value in values]
        decimals = max(len(step.partition(".")[2]) for step in steps)
        return [(value, f"{value:.{decimals}f}") for value in values]

    def _round_values(self):
        """Round values within the axis: multiples of 1, 2 or 5 times a power of ten."""
        if self.log:
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            factors = (1, 2, 5) if self.high - self.low < 2.5 else (1,)
            values = [factor * 10.0**power for power in powers for factor in factors]
            found = [value for value in values if self.low <= math.log10(value) <= self.high]
            if len(found) > 1:
                return found
        low, high = (10**end if self.log else end for end in (self.low, self.high))
        step = 10 ** math.floor(math.log10((high - low) / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= (high - low) / 6)
        return [round(step * i, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _drawable(points, log_x, log_y):
    def fits(value, log):
        return isinstance(value, int | float) and math.isfinite(value) and (value > 0 or not log)

    return [point for point in points if fits(point[0], log_x) and fits(point[1], log_y)]


def _thinned(points):
    step = -(-len(points) // _MOST_POINTS) or 1
    return [*points[::step], *(points[-1:] if (len(points) - 1) % step else [])]


def _styles(series):
    """[(style, dash)]: further lines of a colour are dashed."""
    found, lines = [], {}
    for index, one in enumerate(series):
        style = one.style or SERIES[index % len(SERIES)]
        number = lines.setdefault(style.color, 0)
        lines[style.color] += one.line
        found.append((style, _DASHES[number % len(_DASHES)]))
    return found


def _sizes(placed):
    """The radius of each mark, of each series: what lies under others' marks is larger, so that each is
    seen."""
    sizes = []
    for index, (one, places) in enumerate(placed):
        above = [(round(x), round(y)) for other, ends in placed[index + 1 :] for x, y, _ in ends]
        covered = [0 if one.line else min(3, above.count((round(x), round(y)))) for x, y, _ in places]
        sizes.append([(3 if one.line and len(places) > 1 else 4.5) + 2.2 * number for number in covered])
    return sizes


def _drawn(one, places, style, dash, radii):
    """The elements of a series.  places: (x, y, point).  radii: of each mark."""
    parts = []
    if one.line and len(places) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{style.color}" stroke-width="1.6" '
            f'stroke-dasharray="{dash}"/>'
        )
    # Of a long line every so many-th point is marked, each style's own
    every = 1 if not one.line or len(places) <= 40 else len(places) // 10
    first = SERIES.index(style) * every // len(SERIES) if style in SERIES else 0
    for (x, y, point), radius in [*zip(places, radii)][first::every]:
        told = escape(point[2] if len(point) > 2 else f"{one.name}: {point[0]:g}, {point[1]:.4g}")
        mark = (TEACHER, 4.5) if point[0] in one.marked else (style, radius)
        parts.append(_mark(x, y, *mark, told=f"<title>{told}</title>"))
    return parts


def _mark(x, y, style, radius, *, told=""):
    edged = f'fill="{style.color}" stroke="#fff" stroke-width="0.8"'  # apart in grey where they overlap
    if style.marker not in _CORNERS:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" {edged}>{told}</circle>'
    corners = " ".join(f"{x + radius * a:.1f},{y + radius * b:.1f}" for a, b in _CORNERS[style.marker])
    return f'<polygon points="{corners}" {edged}>{told}</polygon>'


def _named(placed, sizes, width, height):
    """The names beside the points that have one, where they cover no other name, no point and no line; of the
    others a number, as far as there is room for it.

    Returns (elements, [(number, name)]); what has no number is named where it is pointed at.
    """
    taken = [box for one, places in placed if one.line for box in _along(places)]
    points = []
    for (_, places), radii in zip(placed, sizes):
        for (x, y, point), radius in zip(places, radii):
            if len(point) > 3:
                points.append((x, y, radius, str(point[3])))
                taken.append((x - radius, y - radius, x + radius, y + radius))
    parts, rest, left_out = [], [], []
    for x, y, radius, name in sorted(points, key=lambda point: -point[1]):
        short = name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"
        if written := _written(x, y, radius, short, taken, width, height):
            parts.append(written)
        else:
            rest.append((x, y, radius, name))
    for x, y, radius, name in sorted(rest):
        number = len(left_out) + 1
        if written := _written(x, y, radius, str(number), taken, width, height):
            parts.append(written)
            left_out.append((number, name))
    return parts, left_out


def _written(x, y, radius, name, taken, width, height):
    """A name in the first place beside a point that is free, which it takes; None where none is."""
    long, away = _LETTER * len(name), radius + 3.5
    for anchor, left, shift in _PLACES:
        start = x + left * (away + long * (left < 0)) if left else x - long / 2
        box = start - 3, y + shift - 7, start + long + 3, y + shift + 6
        inside = _LEFT <= box[0] and box[2] <= width and _TOP <= box[1] and box[3] <= height - _BOTTOM
        if inside and not any(_overlap(box, other) for other in taken):
            taken.append(box)
            return (
                f'<text class="name" x="{x + away * left:.1f}" y="{y + shift + 4:.1f}" '
                f'text-anchor="{anchor}">{escape(name)}</text>'
            )
    return None


def _along(places):
    """Boxes of four pixels along a line."""
    for (x, y, _), (to_x, to_y, _) in pairwise(places):
        steps = max(1, math.ceil(math.hypot(to_x - x, to_y - y) / 4))
        for step in range(steps + 1):
            a, b = x + (to_x - x) * step / steps, y + (to_y - y) * step / steps
            yield a - 2, b - 2, a + 2, b + 2


def _overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _entry(one, style, dash):
    mark = _mark(11, 6, style, 3 if one.line or style == TEACHER else 4.5)
    if one.line:
        mark = (
            f'<line x1="0" x2="22" y1="6" y2="6" stroke="{style.color}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>{mark}'
        )
    return f'<span><svg width="22" height="12" aria-hidden="true">{mark}</svg>{escape(one.name)}</span>'
