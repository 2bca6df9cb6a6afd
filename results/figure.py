"""The figure of MiniDisc on QQP, the student over its assistant's scale, beside the published one; what
MiniDisc picks."""

import json
import math
import statistics

from modules.tradeoff import choose
from results import jobs, records
from results.systems import spread, table
from utils import plots

# Sparsity of the assistant: (its F1, the student's), digitised, error about .0005; student: 10% of BERT-base
PUBLISHED = {
    30: (0.8874, 0.8428),
    40: (0.8858, 0.8430),
    50: (0.8827, 0.8443),
    60: (0.8812, 0.8442),
    70: (0.8771, 0.8454),
    80: (0.8695, 0.8468),
}
PUBLISHED_DIRECT = 0.8436
DIRECT, PUBLISHED_LAM = "A1/qqp_direct_90S", "A1/qqp_minidisc_lam_0.2"


def gains(found, sparsity) -> list[float]:
    """Points of F1 that the path over this assistant has over no assistant, seed by seed; [] where one is not
    there yet."""
    sides = [found.get(kind) for kind in (f"A1/qqp_over_{sparsity}S_90S", DIRECT)]
    return (
        [100 * (path - direct) for path, direct in zip(*(side.scores("dev", "f1") for side in sides))]
        if all(sides)
        else []
    )


def over_scales(found) -> str:
    """A line for each assistant, and for none."""
    heads = [
        "assistant's scale",
        "assistant, F1",
        "student, F1",
        "points over none",
        "published: assistant",
        "student",
        "over none",
    ]
    rows = []
    for sparsity, (assistant, student) in PUBLISHED.items():
        ours = [found.get(kind) for kind in (f"A1/qqp_assistant_{sparsity}S", f"A1/qqp_over_{sparsity}S_90S")]
        cells = [spread(system.scores("dev", "f1")) if system else "" for system in ours]
        published = [f"{assistant:.4f}", f"{student:.4f}", f"{100 * (student - PUBLISHED_DIRECT):+.2f}"]
        rows.append([f".{(100 - sparsity) // 10}", *cells, spread(gains(found, sparsity), 2), *published])
    direct = spread(found[DIRECT].scores("dev", "f1")) if DIRECT in found else ""
    return table(heads, [*rows, ["none", "", direct, "", "", f"{PUBLISHED_DIRECT:.4f}", ""]])


def draw(found, path):
    """Points over no assistant, ours with the standard deviation over seeds; returns the matplotlib
    figure."""
    rows = [
        {"sparsity": sparsity, "series": "published, one run", "metric": 100 * (student - PUBLISHED_DIRECT)}
        for sparsity, (_, student) in PUBLISHED.items()
    ]
    for sparsity in PUBLISHED:
        if values := gains(found, sparsity):
            row = {
                "sparsity": sparsity,
                "series": f"here, {len(values)} seeds",
                "metric": statistics.mean(values),
            }
            rows.append({**row, "spread": statistics.stdev(values) if len(values) > 1 else 0.0})
    metric = "dev F1 of the 90S student, points over no assistant"
    return plots.over_sparsity(
        path,
        rows,
        metric=metric,
        title="QQP: the student over its assistant's sparsity",
        reference=("none", 0.0),
    )


def pick(record, lam) -> float:
    """The assistant that a recorded run of MiniDisc would have chosen with this lambda: it changes no update
    of the first hop."""
    best, chosen = -math.inf, None
    for line in (record / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["stage"] == "iteration_1" and "choice" in row:
            sparsity, candidates = choose(
                {each["sparsity"]: each["metric"] for each in row["choice"]["table"]}, lam=lam
            )
            score = next(each["t"] for each in candidates if each["sparsity"] == sparsity)
            if score > best:
                best, chosen = score, sparsity
    return chosen


def choices(found) -> str:
    """What MiniDisc picks with each lambda, for all seeds of the runs with .2; its cost beside MaxiDisc's
    with one seed."""
    paths = [
        system
        for kind, system in found.items()
        if kind == DIRECT or kind.startswith(("A1/qqp_over_", "A1/qqp_assistant_"))
    ]
    whole = sum(records.hours(folder) for system in paths for folder in system.folders.values()) / len(
        jobs.SEEDS
    )
    rows = []
    for kind, system in found.items():
        if kind.startswith("A1/qqp_minidisc"):
            hours = statistics.mean(records.hours(folder) for folder in system.folders.values())
            slices = [
                run["slice_of_first_hop"]["metrics"]["dev"]["f1"]
                for run in system.results
                if "slice_of_first_hop" in run
            ]
            share = f"{hours / whole:.2f}" if whole else ""
            lam = kind.rpartition("_")[2]
            picks = ", ".join(
                f"{pick(record, float(lam)):g}S"
                for record in found.get(PUBLISHED_LAM, system).folders.values()
            )
            rows.append(
                [lam, picks, spread(system.scores("dev", "f1")), spread(slices), f"{hours:.2f}", share]
            )
    return table(
        ["lambda", "picks", "student, F1", "its slice of the first hop", "CPU h", "of MaxiDisc's"], rows
    )
