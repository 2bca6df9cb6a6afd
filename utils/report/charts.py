"""Charts as SVG inside a page: lines over steps, points over costs.  Made of text alone, so that a page needs
nothing else."""

import math
from dataclasses import dataclass
from html import escape

# Okabe and Ito's colours, without the yellow that is lost on white; further series are dashed
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("", "6 3", "2 3")
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 10, 40
_MOST_POINTS = 300  # of a series
_LONGEST_NAME = 32  # characters of a name beside a point
# Where a name may stand: (its anchor, to the right or left, pixels down), the first that is free
_PLACES = [
    ("start", 1, 0),
    ("end", -1, 0),
    ("middle", 0, -13),
    ("middle", 0, 15),
    ("start", 1, -12),
    ("start", 1, 12),
    ("end", -1, -12),
    ("end", -1, 12),
]


@dataclass
class Series:
    """One line, or one group of points.

    points: (x, y), (x, y, what is shown when it is pointed at), or with a name that stands beside it as a
    fourth.  line: whether points are joined.  marked: x that get a star.
    """

    name: str
    points: list
    line: bool = True
    marked: tuple = ()


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
    for value in across.ticks():
        place = across.place(value)
        parts.append(
            f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{height - _BOTTOM}"/>'
        )
        below = height - _BOTTOM + 16
        parts.append(f'<text x="{place:.1f}" y="{below}" text-anchor="middle">{short_number(value)}</text>')
    for value in up.ticks():
        place = up.place(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>'
        )
        parts.append(
            f'<text x="{_LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{short_number(value)}</text>'
        )
    parts.append(
        f'<text x="{(_LEFT + width - _RIGHT) / 2:.0f}" y="{height - 4}" '
        f'text-anchor="middle">{escape(x)}</text>'
    )
    placed = [(one, [(across.place(p[0]), up.place(p[1]), p) for p in points]) for one, points in shown]
    for index, (one, places) in enumerate(placed):
        parts += _drawn(one, places, *_style(index))
    parts += _named([place for _, places in placed for place in places if len(place[2]) > 3], width, height)
    legend = "".join(_entry(one, *_style(index)) for index, (one, _) in enumerate(shown))
    return (
        f"<figure><figcaption>{escape(y)}</figcaption>{''.join(parts)}</svg><div "
        f'class="legend">{legend}</div></figure>'
    )


def short_number(value) -> str:
    """A number as short as an axis wants it: 0.85, 120, 1.5k, 20M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.0e}"


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


def _style(index):
    return COLORS[index % len(COLORS)], _DASHES[index // len(COLORS) % len(_DASHES)]


def _drawn(one, places, color, dash):
    """The elements of a series.  places: (x, y, point)."""
    parts = []
    if one.line and len(places) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6" '
            f'stroke-dasharray="{dash}"/>'
        )
    for x, y, point in places if not one.line or len(places) <= 40 else ():
        told = escape(point[2] if len(point) > 2 else f"{one.name}: {point[0]:g}, {point[1]:.4g}")
        star = point[0] in one.marked
        shape = (
            f'<path d="{_star(x, y)}"'
            if star
            else f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2.5 if one.line else 4.5}"'
        )
        parts.append(
            f'{shape} fill="{"#000" if star else color}"><title>{told}</title>'
            f"</{'path' if star else 'circle'}>"
        )
    return parts


def _named(places, width, height):
    """The names beside the points that have one, as far as there is room for all that is said to be read;
    the others are named where they are pointed at.  places: (x, y, point)."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y, _ in places]
    parts = []
    for x, y, point in sorted(places, key=lambda place: -place[1]):
        name = (
            str(point[3])
            if len(str(point[3])) <= _LONGEST_NAME
            else f"...{str(point[3])[3 - _LONGEST_NAME :]}"
        )
        long = 6.2 * len(name)
        for anchor, left, shift in _PLACES:
            start = x + left * (8 + long * (left < 0)) if left else x - long / 2
            box = start, y + shift - 7, start + long, y + shift + 5
            inside = _LEFT <= box[0] and box[2] <= width and _TOP <= box[1] and box[3] <= height - _BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                across = x + 8 * left
                parts.append(
                    f'<text class="name" x="{across:.1f}" y="{y + shift + 4:.1f}" '
                    f'text-anchor="{anchor}">{escape(name)}</text>'
                )
                break
    return parts


def _overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _star(x, y, size=8):
    corners = [(size if i % 2 == 0 else size * 0.42, math.pi * (i / 5 - 0.5)) for i in range(10)]
    return "M" + " L".join(f"{x + r * math.cos(a):.1f},{y + r * math.sin(a):.1f}" for r, a in corners) + "Z"


def _entry(one, color, dash):
    mark = (
        f'<path d="{_star(11, 6, 6)}"/>' if one.marked else f'<circle cx="11" cy="6" r="4.5" fill="{color}"/>'
    )
    if one.line:
        mark = (
            f'<line x1="0" x2="22" y1="6" y2="6" stroke="{color}" stroke-width="3" '
            f'stroke-dasharray="{dash}"/>'
        )
    return f'<span><svg width="22" height="12" aria-hidden="true">{mark}</svg>{escape(one.name)}</span>'
