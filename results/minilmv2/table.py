"""Print the table of results/README.md from the files beside this script:

    python -m results.minilmv2.table [their folder]

Mean and standard deviation (of a sample, n - 1) over the seeds of fine-tuning, on dev; one seed of
distillation.
"""

import sys
from pathlib import Path

from results.systems import spread
from utils.files import read_json

STARTS = {"distilled": "distilled", "slice": "rows and columns of the teacher", "random": "random weights"}
TASKS = {
    "sst2": ("SST-2", "acc"),
    "cola": ("CoLA", "matthews_corrcoef"),
    "mrpc": ("MRPC", "f1"),
    "conll": ("CoNLL-2003", "f1"),
}

EMBEDDINGS = (30_522 + 512 + 2) * 192  # pieces, positions, segments: these records do not count them


def main(folder):
    """One line for each student and each of its starts."""
    metrics = [f"{name}, {metric}" for name, metric in TASKS.values()]
    print(f"| student | starts from | held-out relation loss | {' | '.join(metrics)} | seeds |")
    print("| --- " * (4 + len(metrics)) + "|")
    for student in sorted(path for path in folder.iterdir() if path.is_dir()):
        for start, label in STARTS.items():
            if not (student / start / "results.json").exists():
                continue
            results = read_json(student / start / "results.json")
            scores = {
                task: [
                    read_json(path)["metrics"]["dev"][metric] for path in sorted(tuned(student, start, task))
                ]
                for task, (_, metric) in TASKS.items()
            }
            name = (
                f"{student.name.replace('_', ', ')} wide, "
                f"{results['model']['parameters'] / 1e6:.1f}M ({EMBEDDINGS / 1e6:.1f}M in embeddings, "
                f"{results['model']['encoder_parameters'] / 1e6:.1f}M in layers)"
            )
            cells = [
                name,
                label,
                f"{results['metrics']['heldout']['loss']:.4f}",
                *map(spread, scores.values()),
            ]
            seeds = sorted({len(found) for found in scores.values()})
            print(f"| {' | '.join([*cells, ' to '.join(map(str, seeds))])} |")


def tuned(student, start, task):
    """results.json of the fine-tuned models."""
    return (student / f"grid_{start}" / task).glob("*/results.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
