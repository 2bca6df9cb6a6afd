"""What a report shows of its runs: tables, trade-offs, learning curves, the choice of assistants, expert
shares."""

import re
from html import escape
from itertools import groupby

from utils import evaluation_tables, logs
from utils.metrics import label
from utils.report.charts import Series, chart
from utils.report.page import Html, Score, table
from utils.styles import OTHER, RUNTIMES, SERIES, STAGES

# What a run is judged by that does not say what chose: the first of these that it has
_KEYS = ("acc_and_f1", "corr", "matthews_corrcoef", "f1", "acc", "loss")
_NOT_TERMS = {
    "loss",
    "grad_norm",
    "lr",
    "examples_per_second",
    "eta_seconds",
    "score",
    "choice",
    "stage",
    "step",
}


def body(runs) -> str:
    """The page's HTML below its title.  runs: of utils.report.find_runs."""
    finished = sum(bool(run.results) for run in runs)
    evaluations = [run for run in runs if "rows" in run.results]
    trained = [run for run in runs if "rows" not in run.results]
    parts = [
        f'<p class="note">{finished} finished runs, {len(runs) - finished} unfinished. Click a column to '
        "sort by it, a run to see its curves and its other metrics; point at a mark to read its numbers. "
        "MACs: linear layers of the encoder, 128 tokens.</p>",
        '<label>Show runs whose name has <input id="filter" type="search" placeholder="mrpc 90S"></label>',
        "<h2>Runs</h2>",
        table([_summary(run) for run in trained], runs=[run.name for run in trained]),
        *(
            f'<p class="problem">{escape(run.name)}: {escape(text)}</p>'
            for run in runs
            for text in run.problems
        ),
        _tradeoffs(trained),
        *(_evaluation(run) for run in evaluations),
        "<h2>Each run</h2>",
        *(_details(run) for run in trained),
    ]
    return "\n".join(part for part in parts if part)


def judge(metrics, chosen_by=None) -> str | None:
    """The name of the metric, among these, that a model is judged by: the one that it was chosen by."""
    return next((key for key in (chosen_by, *_KEYS) if key in metrics), None)


def _summary(run):
    results, model = run.results, run.results.get("model", {})
    return {
        "run": Html(f'<a href="#{escape(run.name)}">{_breakable(run.name)}</a>'),
        "stage": results.get("stage", "unfinished"),
        "task": results.get("task"),
        "score": _score(run.metrics.get(run.key)),
        "which is": label(run.split, run.key) if run.key else None,
        "rows": (results.get("data") or {}).get(run.split),
        "sparsity": model.get("sparsity"),
        "layers": model.get("layers"),
        "experts": model.get("experts"),
        "parameters": model.get("parameters"),
        "of embeddings": model.get("embedding_parameters"),
        "of the encoder": model.get("encoder_parameters"),
        "MACs": model.get("macs"),
        "best step": results.get("best_step"),
        "seconds": results.get("seconds"),
    }


def _score(value):
    return Score(value) if isinstance(value, int | float) else value


def _breakable(name):
    """A name that may be broken after each of its parts."""
    return re.sub("([/_])", r"\1<wbr>", escape(name))


def _tradeoffs(runs):
    """Metric over MACs, a picture for each task and metric: every model, and the curves of nested ones."""
    usable = [
        run
        for run in runs
        if run.key and run.results.get("task") and run.results.get("model", {}).get("macs")
    ]

    def subject(run):
        return run.results["task"], run.split, run.key

    charts = []
    for (task, split, key), group in groupby(sorted(usable, key=subject), key=subject):
        group = list(group)
        series = []
        for stage, members in groupby(
            sorted(group, key=lambda run: run.results["stage"]), key=lambda run: run.results["stage"]
        ):
            points = [
                (
                    run.results["model"]["macs"],
                    run.metrics[key],
                    f"{run.name}: {run.metrics[key]:.4f}",
                    run.name,
                )
                for run in members
            ]
            series.append(Series(stage, points, line=False, style=STAGES.get(stage, OTHER)))
        for run in group:
            if run.results.get("curve") and run.curve_split == split:
                points = [
                    (row["macs"], row[key], f"{row['sparsity']:g}%: {row[key]:.4f}")
                    for row in run.results["curve"]
                ]
                style = STAGES.get(run.results["stage"], OTHER)
                series.append(Series(f"{run.name}, cut at each sparsity", points, style=style))
        charts.append(
            chart(series, x="MACs", y=f"{task}: {label(split, key)}", log_x=True, width=600, height=320)
        )
    return f'<h2>Metric over cost</h2><div class="charts">{"".join(charts)}</div>' if any(charts) else ""


def _evaluation(run):
    """The table and the pictures of an evaluation."""
    rows = run.results["rows"]
    splits = {
        key.partition("/")[0]
        for row in rows
        for key, value in row.items()
        if "/" in key and isinstance(value, float)
    }
    shown = []
    for row in rows:
        cells = {"model": row.get("name", row.get("model"))}
        cells |= {key: _score(value) for key, value in row.items() if key.partition("/")[0] in splits}
        for key, found in row.get("difference", {}).items():
            cells[f"{key} - {row['compared_with']}"] = logs.interval(found)
        cells |= evaluation_tables.sizes(row)
        cells |= {_ms(case): found["median_ms"] for case, found in row.get("speed", {}).items()}
        cells["peak MB"] = evaluation_tables.megabytes(row.get("peak_bytes"))
        shown.append(cells)
    names = {key.partition("/")[2]: key for key in reversed(rows[0]) if key.partition("/")[0] in splits}
    metric = names.get(judge(names, run.chosen_by))
    costs = [("MACs", lambda row: row["macs"])] if metric else []
    timed = [case for case in rows[0].get("speed", {}) if all(case in row.get("speed", {}) for row in rows)]
    for case in timed if metric else ():
        costs.append((_ms(case), lambda row, case=case: row["speed"][case]["median_ms"]))
    charts = []
    for axis, cost in costs:
        groups = {}
        for row in rows:
            kind = "teacher" if row.get("teacher") else row.get("runtime", "models")
            told = f"{row.get('name')}: {row[metric]:.4f} at {cost(row):.4g}"
            groups.setdefault(kind, []).append((cost(row), row[metric], told, row.get("name")))
        series = [
            Series(kind, points, line=False, style=RUNTIMES.get(kind, OTHER))
            for kind, points in groups.items()
        ]
        charts.append(chart(series, x=axis, y=label(*metric.split("/", 1)), log_x=True, width=400))
    task, hardware = run.results.get("task"), run.results.get("hardware", "")
    scored = ", ".join(f"{split}: {number} rows" for split, number in run.results.get("data", {}).items())
    hardware = "; ".join(filter(None, (hardware, scored)))
    return (
        f'<section data-run="{escape(run.name)}"><h2>Evaluation {escape(run.name)}: {escape(str(task))}</h2>'
        f'<p class="note">{escape(hardware)}</p>{table(shown)}<div class="charts">{"".join(charts)}</div>'
        "</section>"
    )


def _ms(case):
    return f"ms: {evaluation_tables.timed(case)}"


def _details(run):
    charts = [
        text for stage in dict.fromkeys(row.get("stage") for row in run.rows) for text in _curves(run, stage)
    ]
    curve = run.results.get("curve")
    if curve and run.key in curve[0]:
        points = [(row["sparsity"], row[run.key]) for row in curve]
        score = f"{label(run.curve_split, run.key)}, cut at each sparsity"
        style = STAGES.get(run.results["stage"], OTHER)
        charts.append(chart([Series(run.key, points, style=style)], x="sparsity (%)", y=score))
    metrics = [
        {"metric": label(split, name), "value": Score(value)}
        for split, values in (run.results.get("metrics") or {}).items()
        for name, value in values.items()
        if isinstance(value, float)
    ]
    parts = [
        table(metrics) if metrics else "",
        f'<div class="charts">{"".join(charts)}</div>',
        *_assistants(run),
        *_rewinds(run),
    ]
    value = (
        f"{label(run.split, run.key)} {run.metrics[run.key]:.4f}"
        if run.key
        else "unfinished"
        if not run.results
        else ""
    )
    head = (
        f"<summary>{escape(run.name)} <span>{escape(run.results.get('stage', ''))} "
        f"{escape(value)}</span></summary>"
    )
    return f'<details id="{escape(run.name)}" data-run="{escape(run.name)}">{head}{"".join(parts)}</details>'


def _curves(run, stage):
    """Charts of a stage: every loss term, every split's metrics, the shares of experts."""
    rows = [row for row in run.rows if row.get("stage") == stage]
    losses = [row for row in rows if "loss" in row]
    evaluated = [row for row in rows if "score" in row]
    terms = [
        key
        for row in losses
        for key, value in row.items()
        if key not in _NOT_TERMS and isinstance(value, int | float)
    ]
    found = [
        chart(
            _series(losses, list(dict.fromkeys(["loss", *terms]))),
            x="updates",
            y=f"{stage}: loss terms",
            log_y=True,
        )
    ]
    groups = {}
    for row in evaluated:
        for key, value in row.items():
            if key not in _NOT_TERMS and isinstance(value, float):
                groups.setdefault(key.partition("/")[0], {})[key] = None
    found += [
        chart(_series(evaluated, names), x="updates", y=f"{stage}: {split}")
        for split, names in groups.items()
    ]
    for sublayer in dict.fromkeys(
        key for row in losses for key, value in row.items() if isinstance(value, list)
    ):
        shares = [row for row in losses if sublayer in row]
        series = [
            Series(f"expert {expert}", [(row["step"], 100 * row[sublayer][expert]) for row in shares])
            for expert in range(len(shares[0][sublayer]))
        ]
        found.append(chart(series, x="updates", y=f"{stage}: {sublayer}, tokens of each expert (%)"))
    return found


def _series(rows, names):
    return [Series(name, [(row["step"], row[name]) for row in rows if name in row]) for name in names]


def _assistants(run):
    """Yield the choice of the assistant in each hop of MiniDisc: metric and trade-off over sparsity, the
    chosen one marked."""
    for hop in run.results.get("hops", ()):
        rows = hop.get("table") or ()
        if len(rows) < 2:
            continue
        chosen = [row["sparsity"] for row in rows].index(hop["pick"])
        title = f"Hop {hop['iteration']}: the assistant at {hop['pick']:g}% is chosen, t = {hop['t']:.4f}"
        charts = [
            chart(
                [
                    Series(
                        name,
                        [(row["sparsity"], row[name]) for row in rows],
                        marked=(hop["pick"],),
                        style=style,
                    )
                ],
                x="sparsity (%)",
                y=axis,
                width=400,
            )
            for style, (name, axis) in zip(
                SERIES,
                (
                    ("metric", "metric of the candidates"),
                    ("t", "trade-off: t = metric + lambda x sparsity / 100"),
                ),
            )
        ]
        told = [{**row, "metric": _score(row["metric"]), "t": _score(row["t"])} for row in rows]
        yield (
            f'<h3>{escape(title)}</h3><div class="charts">{"".join(charts)}</div>{table(told, chosen=chosen)}'
        )


def _rewinds(run):
    """Yield StarK's rewound students, one for each sparsity of the teacher."""
    rows = run.results.get("rewinds")
    if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
        flat = [
            {
                key: _score(value) if "/" in key else value
                for key, value in row.items()
                if not isinstance(value, dict | list)
            }
            for row in rows
        ]
        yield f"<h3>Rewound students</h3>{table(flat)}"
