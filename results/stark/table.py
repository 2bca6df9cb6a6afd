"""Print the table of results/README.md from the results.json files beside this script:

    python -m results.stark.table [their folder]

Mean and standard deviation (of a sample, n - 1) over the seeds, on dev. The trial student was trained on all
rows and chosen on dev; the two others were trained on nine tenths and chosen on the last one, so that dev is
clean for them: compare these.
"""

import sys
from pathlib import Path

from results.systems import spread
from utils.files import read_json

TASKS = {"mrpc": ("MRPC", ("f1", "acc")), "sst2": ("SST-2", ("acc",))}
STUDENTS = {"70S": "70% sparse", "3L": "3 layers"}


def main(folder):
    """One line for each task, student and metric."""
    print(
        "| task (dev) | student | metric | trial | dense teacher, again | StarK | teacher sparsities chosen "
        "| seeds |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for task, (name, metrics) in TASKS.items():
        for student, label in STUDENTS.items():
            runs = [
                path.parent.parent for path in sorted((folder / task).glob(f"{student}_*/stark/results.json"))
            ]
            if not runs:
                continue
            trials, starks = (
                [read_json(run / stage / "results.json") for run in runs] for stage in ("trial", "stark")
            )
            chosen = ", ".join(f"{results['teacher_sparsity']:g}%" for results in starks)
            for metric in metrics:
                cells = [
                    spread([results["metrics"]["dev"][metric] for results in trials]),
                    spread([results["dense_metrics"]["dev"][metric] for results in starks]),
                    spread([results["metrics"]["dev"][metric] for results in starks]),
                ]
                print(f"| {' | '.join([name, label, metric, *cells, chosen, str(len(runs))])} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
