"""Print the README's TED table from the results.json files beside this script:   python results/ted/table.py [folder]

Mean and standard deviation (n - 1) over the seeds, of the selected epoch; of the first metric also of the last epoch.
"""

import json
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SPANS = ("f1", "exact", "HasAns_f1", "NoAns_f1", "best_f1")
TASKS = {
    "mrpc": ("MRPC", ("f1", "acc")),
    "stsb": ("STS-B", ("pearson", "spearman")),
    "sst2": ("SST-2", ("acc",)),
    "squad2": ("SQuAD 2.0, a sample", SPANS),
    "deberta": ("the same, random DeBERTaV3", SPANS),
}
MODES = {"ft": "fine-tuned further", "kd": "KD", "lwd": "LWD", "ted": "TED"}


def main(folder=HERE):
    """One line for each task and model that has been run."""
    print("| task (dev) | model | layers | metrics | last epoch | seeds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for task, (title, names) in TASKS.items():
        runs = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in (folder / task).glob("*/results.json")}
        if "student" not in runs:
            continue
        student = runs["student"]
        rows = "windows" if names is SPANS else "rows"
        data = f"{title}: {student['data']['train']:,} {rows} of train, {student['data']['dev']:,} of dev"
        rows = [("teacher", student["teacher"]["layers"], [student["teacher_metrics"]], None)]
        rows += [("student, the start of all", student["model"]["layers"], [student["metrics"]], None)]
        for mode, label in MODES.items():
            found = [run for key, run in sorted(runs.items()) if key.startswith(f"{mode}_")]
            selected, last = ([run[key] for run in found] for key in ("metrics", "last_metrics"))
            rows += [(label, found[0]["model"]["layers"], selected, last)] if found else []
        for label, layers, selected, last in rows:
            metrics = ", ".join(_cell(selected, name) for name in names)
            print(f"| {data} | {label} | {layers} | {metrics} | {_cell(last, names[0]) if last else ''} | {len(selected)} |")
            data = ""
        for side in ("teacher", "student"):
            if f"{side}_filters" in runs:
                heads = runs[f"{side}_filters"]["metrics"]["dev"]
                print(f"| | heads of the {side}'s filters | | {', '.join(f'{key} {v:.4f}' for key, v in heads.items())} | | 1 |")


def _cell(metrics, name):
    """Mean and deviation of a metric over some runs."""
    values = [run["dev"][name] for run in metrics]
    spread = f" +- {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{name} {statistics.mean(values):.4f}{spread}"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
