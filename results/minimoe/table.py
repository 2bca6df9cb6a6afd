"""Print the table of results/README.md from the files beside this script:

    python -m results.minimoe.table [their folder]

Mean and standard deviation (of a sample, n - 1) over the seeds, of distillation and fine-tuning together;
scores on dev. The smallest share of the tokens that an expert got is that of the last logged updates of
distillation, over layers and seeds.
"""

import json
import sys
from pathlib import Path

from results.systems import spread
from utils.files import read_json

STUDENTS = {"1-1": "dense (1,1)", "1-4": "4 experts (1,4)"}
TASKS = {
    "sst2": ("SST-2", "acc"),
    "cola": ("CoLA", "matthews_corrcoef"),
    "mrpc": ("MRPC", "f1"),
    "conll": ("CoNLL-2003", "f1"),
}

EMBEDDINGS = (30_522 + 512 + 2) * 192  # pieces, positions, segments: these records do not count them


def main(folder):
    """One line for each student."""
    metrics = [f"{name}, {metric}" for name, metric in TASKS.values()]
    sizes = ["parameters", "of embeddings", "of the encoder", "GMACs"]
    heads = ["student", *sizes, "held-out relation loss", *metrics, "smallest share", "seeds"]
    print(f"| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
    for student, label in STUDENTS.items():
        runs = sorted(path.parent.parent for path in folder.glob(f"{student}_*/student/results.json"))
        if not runs:
            continue
        distilled = [read_json(run / "student" / "results.json") for run in runs]
        size = distilled[0]["model"]
        scores = [
            spread(
                [
                    read_json(run / task / "results.json")["metrics"]["dev"][metric]
                    for run in runs
                    if (run / task).exists()
                ]
            )
            for task, (_, metric) in TASKS.items()
        ]
        smallest = [share for run in runs for share in shares(run / "student" / "metrics.jsonl")]
        cells = [
            label,
            f"{size['parameters']:,}",
            f"{EMBEDDINGS:,}",
            f"{size['encoder_parameters']:,}",
            f"{size['macs'] / 1e9:.4f}",
            spread([results["metrics"]["heldout"]["loss"] for results in distilled]),
            *scores,
            f"{100 * min(smallest):.1f} %" if smallest else "",
            str(len(runs)),
        ]
        print(f"| {' | '.join(cells)} |")


def shares(path):
    """All experts' shares in the last row of metrics.jsonl that has any; [] for a dense student."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [
        [share for name, values in row.items() if name.startswith("experts/") for share in values]
        for row in rows
    ]
    return next((each for each in reversed(found) if each), [])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
