"""Print the README's TED table from the results.json files beside this script:   python results/ted/table.py [folder]

Mean and standard deviation (n - 1) over the seeds, of the selected epoch and of the last one.
"""

import json
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TASKS = {"mrpc": ("MRPC", "f1", "acc"), "stsb": ("STS-B", "pearson", "spearman"), "sst2": ("SST-2", "acc", None)}
MODES = {"ft": "fine-tuned further", "kd": "KD", "lwd": "LWD", "ted": "TED"}


def main(folder=HERE):
    """One line for each task and model that has been run."""
    print("| task (dev) | model | metric | second | last epoch | seeds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for task, (name, *metrics) in TASKS.items():
        runs = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in (folder / task).glob("*/results.json")}
        if "student" in runs:
            rows = [("teacher, 6 layers", [runs["student"]["teacher_metrics"]], None)]
            rows += [("student, 3 layers, the start", [runs["student"]["metrics"]], None)]
            for mode, label in MODES.items():
                found = [run for key, run in sorted(runs.items()) if key.startswith(f"{mode}_")]
                rows += [(label, *([run[key] for run in found] for key in ("metrics", "last_metrics")))] if found else []
            for label, selected, last in rows:
                cells = [name, label, *(_cell(selected, metric) for metric in metrics)]
                print(f"| {' | '.join([*cells, _cell(last, metrics[0]) if last else '', str(len(selected))])} |")
        for side in ("teacher", "student"):
            if f"{side}_filters" in runs:
                heads = runs[f"{side}_filters"]["metrics"]["dev"]
                print(
                    f"| {name} | {side}'s filters | {', '.join(f'{key} {value:.4f}' for key, value in heads.items())} | | | 1 |"
                )


def _cell(metrics, name):
    """Mean and deviation of a metric over some runs; nothing without a name."""
    if name is None:
        return ""
    values = [run["dev"][name] for run in metrics]
    spread = f" +- {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{name} {statistics.mean(values):.4f}{spread}"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
