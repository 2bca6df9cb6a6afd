"""Pictures of sparsification, of MiniDisc's trade-off, of vocabularies, of a run over its updates and of what
models cost.

Each is written twice: as the PNG file that is named, for a look, and beside it as SVG, for a paper.
"""

import math
import textwrap
from pathlib import Path

from utils import files
from utils.styles import RUNTIMES, SERIES, TEACHER, short_number

CHOSEN = TEACHER.color
X_LABEL = "Sparsity (% of heads and neurons removed)"
LEGEND_WIDTH = 55  # characters of the longest labels of two columns
SETTINGS = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "svg.hashsalt": "compression",  # the same picture gives the same bytes
}


def tradeoff(path, rows, *, chosen, metric, title, lam, teacher):
    """Metric and trade-off t over sparsity, one above the other, with the chosen assistant marked.

    path: PNG file to write; its folder exists.
    rows: {"sparsity": percent, "metric": value, "t": value}, one per candidate.  chosen: sparsity of the
    assistant.
    metric: its name as it is to be read on the axis, with the split: "dev F1 (fraction)".  lam: lambda, to be
    printed.  teacher: its metric, a line above.
    Returns the matplotlib figure. Source: MiniDisc (Zhang et al. 2024).
    """
    rows = sorted(rows, key=lambda row: row["sparsity"])
    formula = f"t = metric + {lam:g} x sparsity / 100"
    panels = [("metric", metric, metric, SERIES[0]), ("t", "t", formula, SERIES[1])]

    def draw(figure):
        for axes, (key, label, legend, style) in zip(figure.subplots(2, 1, sharex=True), panels):
            _line(axes, rows, key, legend, style)
            for row in rows:
                if row["sparsity"] == chosen:
                    axes.axvline(chosen, color=CHOSEN, linestyle=":", linewidth=1.2, zorder=1)
                    _star(axes, chosen, row[key], f"chosen: {chosen:g} %, {row[key]:.4f}")
            if key == "metric":
                _level(axes, "teacher", teacher)
            _y_label(axes, label)
            _legend(axes)
        axes.set_xlabel(X_LABEL)

    return _save(path, title, draw, rows, height=5.6)


def over_sparsity(path, rows, *, metric, title, x_label=X_LABEL, reference=None, best=None):
    """Metric over sparsity: of a nested model, of students, or of the students of nested teachers.

    path: PNG file to write; its folder exists.
    rows: {"sparsity": percent, "metric": value}; with "series" (a name), one line for each; with "spread", an
    error bar.
    metric: its name as it is to be read on the axis, with the split.  x_label: what the sparsities are
    percentages of.  reference: (name, value) of a horizontal line.  best: (name, sparsity, value) of a point
    that gets a star.
    Returns the matplotlib figure.
    """
    rows = sorted(rows, key=lambda row: row["sparsity"])
    names = list(dict.fromkeys(row.get("series", metric) for row in rows))
    assert len(names) <= len(SERIES), names

    def draw(figure):
        axes = figure.subplots()
        for name, style in zip(names, SERIES):
            _line(axes, [row for row in rows if row.get("series", metric) == name], "metric", name, style)
        if reference is not None:
            _level(axes, *reference)
        if best is not None:
            name, sparsity, value = best
            _star(axes, sparsity, value, f"{name}: {value:.4f}")
        _y_label(axes, metric)
        axes.set_xlabel(x_label)
        if len(names) > 1 or reference is not None or best is not None:
            _legend(axes)

    return _save(path, title, draw, rows, height=3.8)


def growth(path, rows, *, chosen, title):
    """Tokens that text becomes over the size of the vocabulary, as a multiple of those of the whole one.

    path: PNG file to write; its folder exists.  rows: {"pieces", "growth"}.  chosen: the row to be marked.
    Returns the matplotlib figure.
    """
    rows = sorted(rows, key=lambda row: row["pieces"])

    def draw(figure):
        axes = figure.subplots()
        _line(axes, rows, "growth", "text that was not counted", SERIES[0], x="pieces")
        named = f"{chosen['pieces']:,} pieces: {chosen['growth']:.3f}"
        axes.plot(chosen["pieces"], chosen["growth"], "*", color=CHOSEN, markersize=15, zorder=4, label=named)
        _logarithmic(axes)
        axes.set_xlabel("Pieces of the vocabulary")
        _y_label(axes, "Tokens, as a multiple of those before")
        _legend(axes)

    return _save(path, title, draw, None, height=3.8)


def history(path, rows, *, value, title):
    """Values over the updates of a run, one panel for each, as their levels differ.

    path: PNG file to write; its folder exists.  rows: {"step": updates, name: value, ...}, the same names in
    each.
    value: what they are, as it is to be read on the axis.
    Returns the matplotlib figure.
    """
    rows = sorted(rows, key=lambda row: row["step"])
    names = [name for name in rows[0] if name != "step"]

    def draw(figure):
        panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
        for number, (axes, name) in enumerate(zip(panels, names)):
            _line(
                axes,
                rows,
                name,
                f"{name}: {rows[-1][name]:.4f} at the end",
                SERIES[number % len(SERIES)],
                x="step",
            )
            axes.ticklabel_format(axis="y", style="plain", useOffset=False)  # no power of ten in the legend
            _legend(axes)
        figure.supylabel(value, fontsize=SETTINGS["font.size"])
        _over_updates(axes)

    return _save(path, title, draw, None, height=1.2 + 1.5 * len(names))


def shares(path, rows, *, title):
    """Each expert's share of the tokens over the updates of a run, one panel for each sublayer of experts.

    path: PNG file to write; its folder exists.  rows: {"step": updates, sublayer: [share, ...], ...}, the
    same sublayers in each. Returns the matplotlib figure. Source: MiniMoE (Zhang et al. 2023).
    """
    sublayers = [name for name in rows[0] if name != "step"]
    most = max(sublayers, key=lambda sublayer: len(rows[0][sublayer]))

    def draw(figure):
        panels = figure.subplots(len(sublayers), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, sublayer in zip(panels, sublayers):
            even = 100 / len(rows[0][sublayer])
            axes.axhline(even, color="#555555", linestyle="--", linewidth=1.0, zorder=2, label="equal shares")
            for expert in range(len(rows[0][sublayer])):
                points = [{"step": row["step"], "share": 100 * row[sublayer][expert]} for row in rows]
                style = SERIES[expert % len(SERIES)]
                _line(axes, points, "share", f"expert {expert}", style, x="step")
            lowest = 100 * min(rows[-1][sublayer])
            axes.set_title(
                f"{sublayer}: the smallest share at the end is {lowest:.1f} %",
                loc="left",
                fontsize=SETTINGS["font.size"],
            )
        axes.set_ylim(bottom=0)  # of all panels, once all are drawn
        figure.supylabel("Tokens of each expert (%)", fontsize=SETTINGS["font.size"])
        _over_updates(axes)
        named = panels[sublayers.index(most)].get_legend_handles_labels()
        figure.legend(*named, loc="outside lower center", ncols=5)

    return _save(path, title, draw, None, height=1.6 + 1.5 * len(sublayers))


def costs(path, panels, *, metric, title):
    """Metric over costs, side by side: one point for each model, with its name.

    path: PNG file to write; its folder exists.
    panels: [(what a cost is, as it is to be read on its logarithmic axis, rows)].  rows: {"name", "metric",
    "cost", "kind"}, the same models in each panel.  kind: of utils.styles.RUNTIMES, the same style in every
    picture.
    metric: its name as it is to be read on the axis, with the split.
    Returns the matplotlib figure.
    """
    from matplotlib.lines import Line2D

    kinds = {row["kind"] for row in panels[0][1]}
    styles = {kind: style for kind, style in RUNTIMES.items() if kind in kinds}

    def draw(figure):
        for axes, (label, rows) in zip(
            figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels
        ):
            for row, size in zip(rows, _sizes(rows)):
                color, marker = styles[row["kind"]]
                drawn = {"color": color, "markersize": size, "markeredgecolor": "white"}
                axes.plot(row["cost"], row["metric"], marker, **drawn, markeredgewidth=0.8, zorder=3)
            _logarithmic(axes)
            axes.set_xlabel(label)
            axes.margins(x=0.25, y=0.2)
        _y_label(figure.axes[0], metric)
        shown = [
            (Line2D([], [], linestyle="", marker=marker, color=color), kind)
            for kind, (color, marker) in styles.items()
        ]
        figure.legend(*zip(*shown), loc="outside lower left", ncols=len(shown))

    def name_points(figure):
        for axes, (_, rows) in zip(figure.axes, panels):
            covers, named, largest = _covers(rows), {}, {}
            for row, size in zip(rows, _sizes(rows)):
                first = next(other for other in rows if covers(other, row))
                point = first["cost"], first["metric"]
                named.setdefault(point, {})[row["name"]] = None  # a name once
                largest[point] = max(size, largest.get(point, 0))
            _name(axes, {point: "\n".join(names) for point, names in named.items()}, largest)

    width = 4.6 * len(panels)
    return _save(path, title, draw, None, height=4.2, width=max(width, 6.4), once_laid_out=name_points)


def _covers(rows):
    """The function that tells whether the markers of two rows lie on each other, on a logarithmic axis of all
    rows."""
    costs = [row["cost"] for row in rows]
    near = 0.03 * math.log(max(costs) / min(costs))
    return lambda one, other: (
        one["metric"] == other["metric"] and abs(math.log(one["cost"] / other["cost"])) <= near
    )


def _sizes(rows):
    """Of the markers, in points: what lies under others is larger, so that each is seen."""
    covers = _covers(rows)
    return [
        (14 if row["kind"] == "teacher" else 7) + 6 * sum(covers(other, row) for other in rows[number + 1 :])
        for number, row in enumerate(rows)
    ]


def _name(axes, names, sizes):
    """Write names beside points, each where it covers no other name and no point, with a line where that is
    further away.

    names: {(x, y): text}.  sizes: {(x, y): of the marker, in points}.  The figure has been laid out.
    """
    pixels = axes.figure.dpi / 72
    # Boxes around the markers, then those of the names that stand already
    taken = [_box(*axes.transData.transform(point), half=pixels * sizes[point] / 2) for point in names]
    for point, name in sorted(names.items(), key=lambda item: (item[0][1], item[0][0])):
        at = {"textcoords": "offset points", "fontsize": 9, "parse_math": False, "zorder": 4}
        text = axes.annotate(textwrap.fill(name, 30, replace_whitespace=False), point, xytext=(0, 0), **at)
        best, least = None, math.inf
        for distance in (0, 12, 24, 36, 48, 60):
            beside = sizes[point] / 2 + 4
            for side, across in (("left", beside), ("right", -beside), ("center", 0)):
                for up in {distance, -distance} if side != "center" else {distance + 10, -distance - 10}:
                    text.set(ha=side, va="center", position=(across, up))
                    box = text.get_window_extent().padded(2)
                    inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
                    inside = inside and axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
                    cost = sum(box.overlaps(other) for other in taken) + 2 * (not inside)
                    if cost < least:
                        best, least = (side, across, up, box), cost
            if least == 0:
                break
        side, across, up, box = best
        text.set(ha=side, position=(across, up))
        if abs(up) > 10:
            line = {"color": "#999999", "linewidth": 0.8, "zorder": 2}
            axes.annotate(
                "",
                point,
                xytext=(across, up),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", **line},
            )
        taken.append(box)


def _box(x, y, *, half):
    from matplotlib.transforms import Bbox

    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _star(axes, x, y, label):
    axes.plot(x, y, "*", color=CHOSEN, markersize=15, zorder=4, label=label)


def _level(axes, name, value):
    axes.axhline(value, color="#555555", linestyle="--", linewidth=1.2, label=f"{name}: {value:.4f}")


def _line(axes, points, key, label, style, *, x="sparsity"):
    color, marker = style
    values = [math.nan if point[key] is None else point[key] for point in points]
    drawn = {"color": color, "marker": marker, "label": label, "zorder": 3}
    # Of many points every so many-th is marked, each series' own, so that no marker covers another's
    every = 1 if len(points) <= 40 else len(points) // 12
    drawn["markevery"] = SERIES.index(style) * every // len(SERIES), every
    if any("spread" in point for point in points):
        axes.errorbar(
            [point[x] for point in points], values, [point["spread"] for point in points], capsize=3, **drawn
        )
    else:
        axes.plot([point[x] for point in points], values, **drawn)
    axes.margins(x=0.04, y=0.12)


def _logarithmic(axes):
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def _y_label(axes, label):
    axes.set_ylabel(textwrap.fill(label, 22), parse_math=False)


def _over_updates(axes):
    axes.set_xlabel("Updates")
    axes.locator_params(axis="x", integer=True)


def _legend(axes):
    """Above the axes, where no line can run through it; in one column where two would not fit."""
    labels = axes.get_legend_handles_labels()[1]
    rows = math.ceil(len(labels) / 2)  # of two columns
    width = sum(max(map(len, column), default=0) for column in (labels[:rows], labels[rows:]))
    ncols = 2 if width <= LEGEND_WIDTH else 1
    legend = axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=ncols, borderaxespad=0.2)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _save(path, title, draw, rows, *, height, width=6.4, once_laid_out=None):
    import matplotlib  # late: half a second that --help does not need
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        # No pyplot: no window, no state left behind
        figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
        draw(figure)
        figure.suptitle(title, parse_math=False, wrap=True)
        for axes in figure.axes if rows else ():
            axes.set_xticks(_sparsity_ticks([row["sparsity"] for row in rows]))
        if once_laid_out is not None:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
            once_laid_out(figure)
        as_svg, as_png = {"Date": None, "Creator": None}, {"Software": None}
        for file, metadata in ((Path(path).with_suffix(".svg"), as_svg), (Path(path), as_png)):
            with files.new_file(file) as aside:
                figure.savefig(aside, format=file.suffix[1:], metadata=metadata)
    return figure


def _sparsity_ticks(sparsities):
    """Multiples of 5 or 10 from the first to the last sparsity, and the last one itself."""
    low, high = min(sparsities), max(sparsities)
    step = 10 if high - low > 30 else 5
    ticks = [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [*(tick for tick in ticks if high - tick > 0.4 * step), high]
