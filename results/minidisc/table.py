"""Print the README's table from the results.json files beside this script:   python results/minidisc/table.py"""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
TASKS = {
    "mrpc": ("MRPC", "f1", "acc"),
    "stsb": ("STS-B", "pearson", "spearman"),
    "sst2": ("SST-2", "acc", None),
    "conll": ("CoNLL-2003", "f1", "precision"),
}
ROWS = {
    "teacher": "teacher",
    "direct_90S": "90S, direct",
    "minidisc_90S": "90S, MiniDisc",
    "direct_95S": "95S, direct",
    "minidisc_95S": "95S, MiniDisc",
}


def main():
    """One line for each model that has been run."""
    print("| task (dev) | model | metric | second | encoder parameters | GMACs | assistant |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for task, (name, first, second) in TASKS.items():
        for folder, label in ROWS.items():
            path = HERE / task / folder / "results.json"
            if not path.exists():
                continue
            results = json.loads(path.read_text(encoding="utf-8"))
            dev, size = results["metrics"]["dev"], results["model"]
            cells = [name, label, f"{first} {dev[first]:.4f}", f"{second} {dev[second]:.4f}" if second else ""]
            cells += [f"{size['encoder_parameters']:,}", f"{size['macs'] / 1e9:.3f}"]
            cells += [", ".join(f"{s:g}S" for s in results.get("assistants", []))]
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
