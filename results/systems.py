"""Systems, the kinds of jobs.py as far as they are recorded, and how their scores are printed."""

import statistics
from dataclasses import dataclass
from functools import cache

from results import records
from utils import files


@dataclass(frozen=True)
class System:
    """The best recorded job of a kind for each seed: {seed: folder of its record}.  hours: CPU, of all that
    were tried."""

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
        """A metric of each seed on a split, the one that chooses where none is named; [] where it was not
        scored there."""
        pairs = zip(self.results, self.settings)
        found = [
            (run.get(results, {}).get(split), metric or settings.get("selection_metric"))
            for run, settings in pairs
        ]
        return [] if None in [values for values, _ in found] else [values[name] for values, name in found]


@cache
def _json(path):
    return files.read_json(path)


def systems(runner) -> dict[str, System]:
    """{kind: System} of all kinds that are recorded with every seed and rate, in the list's order."""
    found = {}
    for kind in runner.jobs.kinds():
        members = runner.jobs.of(kind)
        if members[0].is_run and all(runner.is_done(job) for job in members):
            folders = {
                seed: runner.record(runner.best(kind, seed))
                for seed in dict.fromkeys(job.seed for job in members)
            }
            found[kind] = System(kind, folders, sum(records.hours(runner.record(job)) for job in members))
    return found


def table(heads, rows):
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in [heads, ["---"] * len(heads), *rows])


def spread(values, digits=4):
    """Mean +- standard deviation; the value where there is one, nothing where there is none."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} +- {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def choice(results) -> str:
    """What a run chose: MiniDisc's assistants, or the sparsity of StarK's teacher."""
    if "assistants" in results:
        return "+".join(f"{s:g}S" for s in results["assistants"])
    return f"{results['teacher_sparsity']:g}%" if "teacher_sparsity" in results else ""
