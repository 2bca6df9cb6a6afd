"""Print the README's TED table from the results.json files beside this script:

    python -m results.ted.table [their folder]

Mean and standard deviation (n - 1) over the seeds, of the selected epoch. Then the scores of the filters'
heads, layer by layer.
"""

import sys
from pathlib import Path

from results.systems import spread
from utils.files import read_json

HERE = Path(__file__).resolve().parent
SPANS = ("HasAns_f1", "f1", "best_f1")
TASKS = {
    "mrpc": ("MRPC", ("f1", "acc")),
    "stsb": ("STS-B", ("pearson", "spearman")),
    "sst2": ("SST-2", ("acc",)),
    "squad2": ("SQuAD 2.0, a sample", SPANS),
}
MODES = {"ft": "fine-tuned further", "kd": "KD", "lwd": "LWD", "ted": "TED"}


def main(folder=HERE):
    """One line for each task and metric; one for each side's filters."""
    print(
        f"| dev | trained on | teacher | student, the start of all | {' | '.join(MODES.values())} | seeds |"
    )
    print("| --- " * (5 + len(MODES)) + "|")
    heads = []
    for task, (title, names) in TASKS.items():
        runs = {path.parent.name: read_json(path) for path in (folder / task).glob("*/results.json")}
        if "student" not in runs:
            continue
        student = runs["student"]
        data = f"{student['data']['train']:,} {'windows' if names is SPANS else 'rows'}"
        groups = [[student["teacher_metrics"]], [student["metrics"]]]
        groups += [
            [run["metrics"] for key, run in runs.items() if key.startswith(f"{mode}_")] for mode in MODES
        ]
        for name in names:
            scores = [spread([metrics["dev"][name] for metrics in group]) for group in groups]
            print(f"| {title}, {name} | {data} | {' | '.join(scores)} | {len(groups[-1])} |")
        for side in ("teacher", "student"):
            if f"{side}_filters" in runs:
                found = runs[f"{side}_filters"]["metrics"]["dev"]
                heads.append(
                    f"{title}, heads of the {side}'s filters: "
                    f"{', '.join(f'{key} {v:.4f}' for key, v in found.items())}"
                )
    print("", *heads, sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
