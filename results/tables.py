"""Print the tables and verdicts of README.md from the records beside it:

    python -m results.tables [A1 B1 ...]

Mean +- standard deviation (n - 1) over the seeds.  Of the rates that were tried, the one that hold-out rows
chose.  A kind with a job that is not recorded yet is left out.  Verdicts need DATA_DIR, for the labels of
dev.
"""

import os
import statistics
import sys

from results import figure, jobs, verdicts
from results.runner import Runner
from results.systems import choice, spread, systems, table
from utils.errors import DataError

SIZES = {
    "parameters": "parameters",
    "of embeddings": "embedding_parameters",
    "of the encoder": "encoder_parameters",
}


def block_table(found, block):
    """A line for each kind of a block: dev, the choosing rows at the chosen and the last epoch, what was
    chosen, size, hours."""
    heads = [
        "system",
        "dev",
        "hold-out, chosen",
        "last epoch",
        "seeds",
        "rate",
        "best update",
        "chosen",
        *SIZES,
        "CPU h",
    ]
    rows = []
    for kind, system in found.items():
        if not kind.startswith(f"{block}/") or "rows" in system.results[0]:
            continue
        results, settings = system.results, system.settings
        dev = [
            f"{name} {spread(system.scores('dev', name))}" for name in results[0]["metrics"].get("dev", {})
        ]
        dev = dev or [
            f"loss {spread([run['metrics']['heldout']['loss'] for run in results])}"
            if _relations(results[0])
            else ""
        ]
        chosen = (
            [system.scores("hold_out"), system.scores("hold_out", results="last_metrics")]
            if system.task
            else [[], []]
        )
        rates = dict.fromkeys(_rates(setting) for setting in settings)
        steps = [
            f"{run['best_step']}/{run['num_steps']}"
            for run in results
            if "best_step" in run and "num_steps" in run
        ]
        lists = [", ".join(filter(None, values)) for values in (rates, steps, map(choice, results))]
        cells = [kind.split("/")[1], ", ".join(dev), *map(spread, chosen), len(system.folders), *lists]
        rows.append([*cells, *_sizes(results[0].get("model", {})), f"{system.hours:.2f}"])
    return table(heads, rows)


def _sizes(model):
    """The cells of SIZES; empty where a record does not say."""
    return [f"{model[key]:,}" if key in model else "" for key in SIZES.values()]


def _relations(results):
    return "loss" in results["metrics"].get("heldout", {})


def _rates(settings):
    rates = settings.get("learning_rates") or [settings.get("learning_rate")]
    return ",".join(f"{rate:g}" for rate in rates if rate)


def measured(found):
    """Size and speed of the exported models."""
    rows = []
    for kind, system in found.items():
        for row in system.results[0].get("rows", ()):
            megabytes = (row["disk_bytes"] or row["bytes"]) / 1e6
            cases = ("1x128", "32x128", "1xreal", "32xreal")
            times = [f"{row['speed'][case]['median_ms']:.1f}" for case in cases]
            metric = next(value for name, value in row.items() if name.startswith("dev/"))
            sizes = [*_sizes(row), f"{megabytes:.1f}"]
            rows.append([kind, row["runtime"], f"{metric:.4f}", *sizes, *times])
    heads = ["model", "runtime", "dev", *SIZES, "MB", "ms, 1 x 128 tokens", "ms, 32 x 128"]
    return table([*heads, "ms, 1 real row", "ms, 32 real rows"], rows)


def vocabularies(found):
    """What becomes of text that was not counted."""
    heads = ["vocabulary", "pieces", "covered", "tokens, as a multiple of before"]
    rows = []
    for kind, system in found.items():
        if row := system.results[0].get("not_counted"):
            rows.append([kind, f"{row['pieces']:,}", f"{row['covered']:.3f}", f"{row['growth']:.3f}"])
    return table(heads, rows)


def verdict_table(found, *, data_dir):
    """A line for each pair of each claim, in points (hundredths), and one for the claim."""
    rows = []
    for claim in verdicts.CLAIMS:
        outcomes, lines = [], []
        for kind, base in claim.pairs:
            known = [found[one] for one in ((base,) if isinstance(base, str) else base) if one in found]
            if kind not in found or not known or (not isinstance(base, str) and len(known) < len(base)):
                continue
            best = max(known, key=lambda system: statistics.mean(system.scores("hold_out")))
            pair = verdicts.compare(found[kind], best, data_dir=data_dir)
            low, gap, high = (100 * pair[key] for key in ("low", "difference", "high"))
            outcomes.append(verdicts.verdict(pair["low"], pair["high"], margin=claim.margin))
            title, metric = verdicts.METRICS[found[kind].task]
            lines.append(
                [
                    "",
                    f"{kind} - {best.kind}",
                    f"{title}, {metric}",
                    f"{gap:+.2f}",
                    f"{low:+.2f} to {high:+.2f}",
                    f"{(high - low) / 2:.2f}",
                    pair["seeds"],
                    outcomes[-1],
                ]
            )
        missing = len(claim.pairs) - len(outcomes)
        rows += [
            [claim.text, "", "", "", "", "", "", verdicts.overall(outcomes) if outcomes else "not run"],
            *lines,
        ]
        if missing and outcomes:
            rows.append(["", f"{missing} pairs not run yet", "", "", "", "", "", ""])
    heads = [
        "claim",
        "systems",
        "task, dev metric",
        "difference, points",
        "95% interval",
        "smallest visible",
        "seeds",
        "verdict",
    ]
    return table(heads, rows)


def main(blocks):
    """Print the tables of some blocks, or of all that have records, then the verdicts."""
    runner = Runner(jobs.all_jobs(), environment=os.environ)
    found = systems(runner)
    for block in blocks or jobs.BLOCKS:
        if any(kind.startswith(f"{block}/") for kind in found):
            print(f"### {block}: {jobs.BLOCKS[block][0]}\n\n{block_table(found, block)}\n")
    if any(kind.startswith("A1/qqp_over") for kind in found):
        picture = runner.kept / "A" / "A1" / "figure.png"
        figure.draw(found, picture)
        print(f"### The figure on QQP: {picture}\n\n{figure.over_scales(found)}\n\n{figure.choices(found)}\n")
    if any(kind.endswith("_vocabulary") for kind in found):
        print(f"### Vocabularies\n\n{vocabularies(found)}\n")
    if any("_onnx_" in kind for kind in found):
        print(f"### Sizes and times\n\n{measured(found)}\n")
    try:
        print(f"### Verdicts\n\n{verdict_table(found, data_dir=runner.variables['DATA_DIR'])}")
    except DataError as error:
        print(f"no verdicts: {error}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
