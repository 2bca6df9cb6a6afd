"""Print the tables and verdicts of README.md from the records beside it:   python -m results.tables [A1 B1 ...]

Mean +- standard deviation (n - 1) over the seeds.  Of the rates that were tried, the one that hold-out rows chose.  A kind with a
job that is not recorded yet is left out.  Verdicts need DATA_DIR, for the labels of dev.
"""

import os
import statistics
import sys
from dataclasses import dataclass
from functools import cache

from results import jobs, records, verdicts
from results.runner import Runner
from utils import files
from utils.errors import DataError

PUBLISHED = {30: (0.8874, 0.8428), 40: (0.8858, 0.8430), 50: (0.8827, 0.8443), 60: (0.8812, 0.8442), 70: (0.8771, 0.8454),
             80: (0.8695, 0.8468), None: (None, 0.8436)}  # fmt: skip


@dataclass(frozen=True)
class System:
    """The best recorded job of a kind for each seed: {seed: folder of its record}.  hours: CPU, of all that were tried."""

    kind: str
    folders: dict
    hours: float

    @property
    def results(self):
        """results.json of each seed."""
        return [_json(folder / "results.json") for folder in self.folders.values()]

    @property
    def settings(self):
        """The resolved flags of each seed."""
        return [_json(folder / "args.json")["settings"] for folder in self.folders.values()]

    @property
    def task(self):
        """The task's name."""
        return self.settings[0].get("task_name")

    def scores(self, split, metric=None, results="metrics"):
        """A metric of each seed on a split, the one that chooses where none is named; [] where it was not scored there."""
        pairs = zip(self.results, self.settings)
        found = [(run.get(results, {}).get(split), metric or settings["selection_metric"]) for run, settings in pairs]
        return [] if None in [values for values, _ in found] else [values[name] for values, name in found]


@cache
def _json(path):
    return files.read_json(path)


def systems(runner) -> dict[str, System]:
    """{kind: System} of all kinds that are recorded with every seed and rate, in the list's order."""
    found = {}
    for kind in runner.jobs.kinds():
        members = runner.jobs.of(kind)
        if members[0].script.endswith(".py") and all(runner.is_done(job) for job in members):
            folders = {seed: runner.record(runner.best(kind, seed)) for seed in dict.fromkeys(job.seed for job in members)}
            found[kind] = System(kind, folders, sum(records.hours(runner.record(job)) for job in members))
    return found


# ---- Tables


def table(heads, rows):
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in [heads, ["---"] * len(heads), *rows])


def spread(values, digits=4):
    """Mean +- standard deviation; the value where there is one, nothing where there is none."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} +- {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def block_table(found, block):
    """A line for each kind of a block: dev, the choosing rows at the chosen and the last epoch, what was chosen, size, hours."""
    heads = [
        "system",
        "dev",
        "hold-out, chosen",
        "last epoch",
        "seeds",
        "rate",
        "best update",
        "chosen",
        "encoder parameters",
        "CPU h",
    ]
    rows = []
    for kind, system in found.items():
        if not kind.startswith(f"{block}/") or "rows" in system.results[0]:
            continue
        results, settings = system.results, system.settings
        dev = [f"{name} {spread(system.scores('dev', name))}" for name in results[0]["metrics"].get("dev", {})]
        dev = dev or [f"loss {spread([run['metrics']['heldout']['loss'] for run in results])}" if _relations(results[0]) else ""]
        chosen = [system.scores("hold_out"), system.scores("hold_out", results="last_metrics")] if system.task else [[], []]
        rates = dict.fromkeys(_rates(setting) for setting in settings)
        steps = [f"{run['best_step']}/{run['num_steps']}" for run in results if "best_step" in run and "num_steps" in run]
        size = results[0].get("model", {}).get("encoder_parameters")
        lists = [", ".join(filter(None, values)) for values in (rates, steps, map(_choice, results))]
        cells = [kind.split("/")[1], ", ".join(dev), *map(spread, chosen), len(system.folders), *lists]
        rows.append([*cells, f"{size:,}" if size else "", f"{system.hours:.2f}"])
    return table(heads, rows)


def _relations(results):
    return "loss" in results["metrics"].get("heldout", {})


def _rates(settings):
    rates = settings.get("learning_rates") or [settings.get("learning_rate")]
    return ",".join(f"{rate:g}" for rate in rates if rate)


def _choice(results):
    """The assistants, or the sparsity of StarK's teacher."""
    if "assistants" in results:
        return "+".join(f"{s:g}S" for s in results["assistants"])
    return f"{results['teacher_sparsity']:g}%" if "teacher_sparsity" in results else ""


def figure(found):
    """MiniDisc's figure on QQP, assistant and student over the assistant's scale, beside the published one; then its choices."""
    rows, direct = [], found.get("A1/qqp_direct_90S")
    for sparsity, (assistant, student) in PUBLISHED.items():
        ours = found.get(f"A1/qqp_over_{sparsity}S_90S") if sparsity else direct
        pair = (found.get(f"A1/qqp_assistant_{sparsity}S"), ours)
        cells = [spread(system.scores("dev", "f1")) if system else "" for system in pair]
        gains = zip(ours.scores("dev", "f1"), direct.scores("dev", "f1")) if sparsity and ours and direct else ()
        cells.append(spread([100 * (value - base) for value, base in gains], 2))
        published = [f"{value:.4f}" if value else "" for value in (assistant, student)]
        scale = f".{(100 - sparsity) // 10}" if sparsity else "none"
        rows.append([scale, *cells, *published, f"{100 * (student - PUBLISHED[None][1]):+.2f}"])
    heads = ["assistant's scale", "assistant", "student", "points over none"]
    heads += ["published: assistant", "student", "points over none"]
    text = table(heads, rows)
    paths = [system for kind, system in found.items() if kind.startswith(("A1/qqp_over_", "A1/qqp_assistant_", "A1/qqp_direct"))]
    whole = sum(records.hours(folder) for system in paths for folder in system.folders.values()) / len(jobs.SEEDS)
    rows = []
    for kind, system in found.items():
        if kind.startswith("A1/qqp_minidisc"):
            hours = statistics.mean(records.hours(folder) for folder in system.folders.values())
            slices = [run["slice_of_first_hop"]["metrics"]["dev"]["f1"] for run in system.results if "slice_of_first_hop" in run]
            rows.append([kind.rpartition("_")[2], ", ".join(map(_choice, system.results)), spread(system.scores("dev", "f1")),
                         spread(slices), f"{hours:.2f}", f"{hours / whole:.2f}" if whole else ""])  # fmt: skip
    heads = ["lambda", "picks", "student", "its slice of the first hop", "CPU h", "of MaxiDisc's, one seed"]
    return f"{text}\n\n{table(heads, rows)}"


def measured(found):
    """Size and speed of the exported models."""
    rows = []
    for kind, system in found.items():
        for row in system.results[0].get("rows", ()):
            megabytes = (row["disk_bytes"] or row["bytes"]) / 1e6
            times = [f"{row['speed'][case]['median_ms']:.1f}" for case in ("1x128", "32x128")]
            metric = next(value for name, value in row.items() if name.startswith("dev/"))
            rows.append([kind, row["runtime"], f"{metric:.4f}", f"{megabytes:.0f}", *times])
    return table(["model", "runtime", "dev", "MB", "ms, 1 x 128 tokens", "ms, 32 x 128"], rows)


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
            lines.append(["", f"{kind} - {best.kind}", f"{title}, {metric}", f"{gap:+.2f}", f"{low:+.2f} to {high:+.2f}",
                          f"{(high - low) / 2:.2f}", pair["seeds"], outcomes[-1]])  # fmt: skip
        missing = len(claim.pairs) - len(outcomes)
        rows += [[claim.text, "", "", "", "", "", "", verdicts.overall(outcomes) if outcomes else "not run"], *lines]
        if missing and outcomes:
            rows.append(["", f"{missing} pairs not run yet", "", "", "", "", "", ""])
    heads = ["claim", "systems", "task, dev metric", "difference, points", "95% interval", "smallest visible", "seeds", "verdict"]
    return table(heads, rows)


def main(blocks):
    """Print the tables of some blocks, or of all that have records, then the verdicts."""
    runner = Runner(jobs.all_jobs(), environment=os.environ)
    found = systems(runner)
    for block in blocks or jobs.BLOCKS:
        if any(kind.startswith(f"{block}/") for kind in found):
            print(f"### {block}: {jobs.BLOCKS[block][0]}\n\n{block_table(found, block)}\n")
    if any(kind.startswith("A1/qqp_over") for kind in found):
        print(f"### The figure on QQP\n\n{figure(found)}\n")
    if any("_onnx_" in kind for kind in found):
        print(f"### Sizes and times\n\n{measured(found)}\n")
    try:
        print(f"### Verdicts\n\n{verdict_table(found, data_dir=runner.variables['DATA_DIR'])}")
    except DataError as error:
        print(f"no verdicts: {error}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
