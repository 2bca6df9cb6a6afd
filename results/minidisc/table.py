"""Print the table of results/README.md from the results.json files beside this script:

python results/minidisc/table.py
"""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
TASKS = {
    "mrpc": ("MRPC", "f1"),
    "stsb": ("STS-B", "pearson"),
    "sst2": ("SST-2", "acc"),
    "conll": ("CoNLL-2003", "f1"),
}
MODELS = {
    "teacher": "teacher",
    "direct_90S": "90S, direct",
    "minidisc_90S": "90S, MiniDisc",
    "direct_95S": "95S, direct",
    "minidisc_95S": "95S, MiniDisc",
}

EMBEDDINGS = (30_522 + 512 + 2) * 384  # pieces, positions, segments: these records do not count them


def main():
    """One line for each task, with the assistant that MiniDisc chose; then what the models cost."""
    print(f"| dev | {' | '.join(MODELS.values())} |")
    print("| --- " * (1 + len(MODELS)) + "|")
    sizes = {}
    for task, (name, metric) in TASKS.items():
        cells = []
        for folder in MODELS:
            path = HERE / task / folder / "results.json"
            results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
            cells.append(cell(results, metric) if results else "")
            if results:
                sizes.setdefault(folder, results["model"])
        print(f"| {name}, {metric} | {' | '.join(cells)} |")
    rows = {
        "parameters": [f"{size['parameters']:,}" for size in sizes.values()],
        "of embeddings": [f"{EMBEDDINGS:,}" for _ in sizes],
        "of the encoder": [f"{size['encoder_parameters']:,}" for size in sizes.values()],
    }
    rows["GMACs"] = [f"{size['macs'] / 1e9:.3f}" for size in sizes.values()]
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")


def cell(results, metric):
    """The metric and the assistants, if any."""
    assistants = ", ".join(f"{s:g}S" for s in results.get("assistants", []))
    return f"{results['metrics']['dev'][metric]:.4f}" + (f" ({assistants})" if assistants else "")


if __name__ == "__main__":
    main()
