"""Print the README's table from the results.json files beside this script:   python results/latency/table.py

Speed-up: the dense teacher's median over the model's, in the same runtime; of the ideal: that over the ratio of their MACs.
"""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODELS = {"encoder": "22M encoder", "bert_base": "BERT-base, random"}
SIZES = {"encoder": ("teacher", "direct_90S", "direct_95S"), "bert_base": ("teacher", "90S", "95S")}
CASES = ("1x128", "32x128")


def main():
    """One line for each model and runtime that has been measured."""
    hardware = {read(folder / "results.json")["hardware"] for folder in HERE.iterdir() if (folder / "results.json").exists()}
    print("; ".join(sorted(hardware)) + "; median ms of a batch of 1 and of 32 examples of 128 tokens\n")
    print("| model | | runtime | F1 + acc / 2 | MB | ms, 1 | speed-up | ms, 32 | speed-up | MACs ratio | of it, 32 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for model, label in MODELS.items():
        dense = rows(model, "teacher")
        for size in SIZES[model]:
            for runtime, row in rows(model, size).items():
                gains = [dense[runtime]["speed"][case]["median_ms"] / row["speed"][case]["median_ms"] for case in CASES]
                ratio = dense[runtime]["macs"] / row["macs"]
                size_mb = (row["disk_bytes"] or row["bytes"]) / 1e6
                times = [f"{row['speed'][case]['median_ms']:.4g}" for case in CASES]
                metric = f"{row['dev/acc_and_f1']:.4f}" if model == "encoder" else ""
                cells = [label, size.removeprefix("direct_"), runtime, metric, f"{size_mb:.1f}", times[0], f"{gains[0]:.1f}"]
                cells += [times[1], f"{gains[1]:.1f}", f"{ratio:.1f}", f"{gains[1] / ratio:.2f}"]
                print(f"| {' | '.join(cells)} |")


def rows(model, size):
    """{runtime: row} of a model's results; {} where it has not been measured."""
    path = HERE / f"{model}_{size}" / "results.json"
    return {row["runtime"]: row for row in read(path)["rows"]} if path.exists() else {}


def read(path):
    """A JSON file's content."""
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
