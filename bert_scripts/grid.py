"""A grid of epochs and learning rates: the best setting on what chooses (dev, or with --hold_out the rows
held out), and tables of dev.  run_minilmv2_grid.sh reads it.

    python bert_scripts/grid.py pick outputs/grid/mrpc 42      # epochs and rate of the best run of this seed
    python bert_scripts/grid.py table outputs/grid             # a line for each task below
A folder of a task holds the run folders of run_finetuning.py, one for each setting and seed.
"""

import json
import statistics
import sys
from pathlib import Path


def main(command, folder, seed=None):
    """Print what is asked for."""
    if command == "pick":
        print(*picked(runs(Path(folder)), seed=seed))
        return
    print(
        "| task (dev) | metric | runs of the grid | best of the grid | its epochs, rate | mean over seeds | "
        "seeds |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for task in sorted(path for path in Path(folder).iterdir() if any(path.glob("*/results.json"))):
        print(f"| {' | '.join(row(runs(task)))} |")


def runs(folder) -> list[dict]:
    """The finished runs below a folder: settings as its name has them, the score that their epoch was chosen
    by, and that on dev (of mnli the matched one)."""
    found = []
    for path in sorted(folder.glob("*_epochs_*_seed_*/results.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        metric = json.loads((path.parent / "args.json").read_text(encoding="utf-8"))["settings"][
            "selection_metric"
        ]
        epochs, _, rate, _, seed = path.parent.name.split("_")
        metrics = results["metrics"]  # what chooses comes first
        dev = next(split for split in metrics if split.startswith("dev"))
        found.append(
            {
                "task": results["task"],
                "metric": metric,
                "score": metrics[next(iter(metrics))][metric],
                "dev": metrics[dev][metric],
                "setting": (epochs, rate),
                "seed": seed,
            }
        )
    if not found:
        raise SystemExit(f"{folder}: no finished run; expected */results.json of run_minilmv2_grid.sh")
    return found


def picked(found, *, seed):
    """(epochs, rate) of the best score among the runs of a seed; of equal ones the first."""
    return max((run for run in found if run["seed"] == seed), key=lambda run: run["score"])["setting"]


def row(found):
    """Cells: dev of the grid's best run, an optimistic figure where dev chose, and of its setting over
    seeds."""
    sizes = {seed: sum(run["seed"] == seed for run in found) for seed in {run["seed"] for run in found}}
    grid_seed = max(sizes, key=sizes.get)
    epochs, rate = picked(found, seed=grid_seed)
    same = [run for run in found if run["setting"] == (epochs, rate)]
    best = next(run["dev"] for run in same if run["seed"] == grid_seed)
    scores = [run["dev"] for run in same]
    spread = f" +- {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
    return [
        found[0]["task"],
        found[0]["metric"],
        str(sizes[grid_seed]),
        f"{best:.4f}",
        f"{epochs}, {rate}",
        f"{statistics.mean(scores):.4f}{spread}",
        str(len(scores)),
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
