"""Pictures of sparsification, of MiniDisc's trade-off, of a run over its updates and of what models cost, as
PNG files."""

import math
import textwrap

from utils import files

# Colours that stay apart for the colour-blind (Okabe and Ito), each with its own marker for print in grey.
STYLES = [("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D")]
CHOSEN = "#000000"
X_LABEL = "Sparsity (% of heads and neurons removed)"
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
}


def tradeoff(path, rows, *, chosen, metric, title, lam):
    """Metric and trade-off t(A) over sparsity, one above the other, with the chosen assistant marked.

    path: PNG file to write; its folder exists.
    rows: {"sparsity": percent, "metric": value, "t": value}, one per candidate; without "t" (or None) a row
        is no candidate and appears only above (the student's own sparsity).
    chosen: sparsity of the assistant, or None where there was none.
    metric: its name as it is to be read on the axis, with the split: "dev F1 (fraction)".  lam: lambda, to be
    printed.
    Returns the matplotlib figure. Source: MiniDisc (Zhang et al. 2024).
    """
    rows = sorted(rows, key=lambda row: row["sparsity"])
    candidates = [row for row in rows if row.get("t") is not None]
    formula = f"t(A) = metric + {lam:g} (1 - scale)"
    panels = [("metric", metric, metric, rows, STYLES[0]), ("t", "t(A)", formula, candidates, STYLES[1])]

    def draw(figure):
        for axes, (key, label, legend, points, style) in zip(figure.subplots(2, 1, sharex=True), panels):
            _line(axes, points, key, legend, style)
            for row in points:
                if row["sparsity"] == chosen:
                    named = f"chosen: {chosen:g} %, {row[key]:.4f}"
                    axes.axvline(chosen, color=CHOSEN, linestyle=":", linewidth=1.2, zorder=1)
                    axes.plot(chosen, row[key], "*", color=CHOSEN, markersize=15, zorder=4, label=named)
            _y_label(axes, label)
            _legend(axes)
        axes.set_xlabel(X_LABEL)

    return _save(path, title, draw, rows, height=5.6)


def over_sparsity(path, rows, *, metric, title, reference=None):
    """Metric over sparsity: what a sparsified model keeps before any distillation.

    path: PNG file to write; its folder exists.
    rows: {"sparsity": percent, "metric": value}; with "series" (a name), one line for each; with "spread", an
    error bar.
    metric: its name as it is to be read on the axis, with the split.  reference: (name, value) of a
    horizontal line.
    Returns the matplotlib figure.
    """
    rows = sorted(rows, key=lambda row: row["sparsity"])
    names = list(dict.fromkeys(row.get("series", metric) for row in rows))
    assert len(names) <= len(STYLES), names

    def draw(figure):
        axes = figure.subplots()
        for name, style in zip(names, STYLES):
            _line(axes, [row for row in rows if row.get("series", metric) == name], "metric", name, style)
        if reference is not None:
            name, value = reference
            axes.axhline(value, color="#555555", linestyle="--", linewidth=1.2, label=f"{name}: {value:.4f}")
        _y_label(axes, metric)
        axes.set_xlabel(X_LABEL)
        if len(names) > 1 or reference is not None:
            _legend(axes)

    return _save(path, title, draw, rows, height=3.8)


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
                STYLES[number % len(STYLES)],
                x="step",
            )
            _legend(axes)
        figure.supylabel(value, fontsize=SETTINGS["font.size"])
        axes.set_xlabel("Updates")

    return _save(path, title, draw, None, height=1.2 + 1.5 * len(names))


def shares(path, rows, *, title):
    """Each expert's share of the tokens over the updates of a run, one panel for each sublayer of experts.

    path: PNG file to write; its folder exists.  rows: {"step": updates, sublayer: [share, ...], ...}, the
    same sublayers in each. Returns the matplotlib figure. Source: MiniMoE (Zhang et al. 2023).
    """
    sublayers = [name for name in rows[0] if name != "step"]

    def draw(figure):
        panels = figure.subplots(len(sublayers), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, sublayer in zip(panels, sublayers):
            even = 100 / len(rows[0][sublayer])
            axes.axhline(even, color="#555555", linestyle="--", linewidth=1.0, zorder=2)
            for expert in range(len(rows[0][sublayer])):
                points = [{"step": row["step"], "share": 100 * row[sublayer][expert]} for row in rows]
                color, marker = STYLES[expert % len(STYLES)]
                _line(axes, points, "share", None, (color, marker if len(rows) <= 40 else ""), x="step")
            lowest = 100 * min(rows[-1][sublayer])
            axes.set_title(
                f"{sublayer}: the smallest share at the end is {lowest:.1f} %",
                loc="left",
                fontsize=SETTINGS["font.size"],
            )
        axes.set_ylim(bottom=0)  # of all panels, once all are drawn
        figure.supylabel("Tokens of each expert (%)", fontsize=SETTINGS["font.size"])
        axes.set_xlabel("Updates")

    return _save(path, title, draw, None, height=1.2 + 1.5 * len(sublayers))


def costs(path, panels, *, metric, title):
    """Metric over costs, side by side: one point for each model, numbered, with the numbers' models named
    below.

    path: PNG file to write; its folder exists.
    panels: [(what a cost is, as it is to be read on its logarithmic axis, rows)].  rows: {"name", "metric",
    "cost", "kind"}, the same models in each panel; those of one kind share a marker, the teacher's is a star
    ("kind": "teacher").
    metric: its name as it is to be read on the axis, with the split.
    Returns the matplotlib figure.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    names = [row["name"] for row in panels[0][1]]
    free = iter(STYLES)
    styles = {}
    for row in panels[0][1]:
        if row["kind"] not in styles:
            styles[row["kind"]] = (CHOSEN, "*") if row["kind"] == "teacher" else next(free)
    lines = -(-(len(names) + len(styles)) // 3)

    def draw(figure):
        for axes, (label, rows) in zip(
            figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels
        ):
            numbers = {}
            for row in rows:
                color, marker = styles[row["kind"]]
                size = 13 if row["kind"] == "teacher" else SETTINGS["lines.markersize"]
                axes.plot(row["cost"], row["metric"], marker, color=color, markersize=size, zorder=3)
                numbers.setdefault((row["cost"], row["metric"]), []).append(str(names.index(row["name"]) + 1))
            for point, shared in numbers.items():
                axes.annotate(",".join(shared), point, xytext=(6, 5), textcoords="offset points", fontsize=10)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel(label)
            axes.margins(x=0.12, y=0.15)
        _y_label(figure.axes[0], metric)
        shown = [
            (Line2D([], [], linestyle="", marker=marker, color=color), kind)
            for kind, (color, marker) in styles.items()
        ]
        listed = [(Line2D([], [], linestyle=""), f"{number} {name}") for number, name in enumerate(names, 1)]
        legend = figure.legend(*zip(*shown, *listed), loc="outside lower left", ncols=3)
        for text in legend.get_texts():
            text.set_parse_math(False)

    return _save(path, title, draw, None, height=3.6 + 0.22 * lines, width=4.6 * len(panels))


def _line(axes, points, key, label, style, *, x="sparsity"):
    color, marker = style
    values = [math.nan if point[key] is None else point[key] for point in points]
    drawn = {"color": color, "marker": marker, "label": label, "zorder": 3}
    if any("spread" in point for point in points):
        axes.errorbar(
            [point[x] for point in points], values, [point["spread"] for point in points], capsize=3, **drawn
        )
    else:
        axes.plot([point[x] for point in points], values, **drawn)
    axes.margins(x=0.04, y=0.12)


def _y_label(axes, label):
    axes.set_ylabel(textwrap.fill(label, 22), parse_math=False)


def _legend(axes):
    """Above the axes, where no line can run through it."""
    legend = axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderaxespad=0.2)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _save(path, title, draw, rows, *, height, width=6.4):
    import matplotlib  # late: half a second that --help does not need
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(
            figsize=(width, height), dpi=160, layout="constrained"
        )  # no pyplot: no window, no state left behind
        draw(figure)
        figure.suptitle(title, parse_math=False, wrap=True)
        sparsities = [row["sparsity"] for row in rows or ()]
        for axes in figure.axes if sparsities else ():
            axes.xaxis.set_major_locator(MultipleLocator(10 if max(sparsities) - min(sparsities) > 30 else 5))
        with files.new_file(path) as aside:
            figure.savefig(aside, format="png", metadata={"Software": None})
    return figure
