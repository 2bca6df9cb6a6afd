"""Print the table of latencies from the results.json files beside this script, and draw the README's picture:
costs.png, of study B's models on MRPC and of study V's, each as measured.

    python -m results.latency.table

Speed-up: the dense teacher's median over the model's, in the same runtime; MACs: its ratio if only they took
time.
"""

from pathlib import Path

from utils import plots
from utils.files import read_json
from utils.metrics import label as metric_label

HERE = Path(__file__).resolve().parent
SMALL = HERE.parent / "V/V1"  # the records of study V
MODELS = {"encoder": "22M encoder", "mpnet": "109M encoder (MPNet)", "bert_base": "BERT-base, random"}
SIZES = {
    "encoder": ("teacher", "direct_90S", "direct_95S"),
    "mpnet": ("teacher", "direct_90S"),
    "bert_base": ("teacher", "90S", "95S"),
}
DRAWN = {  # name in the picture: folder
    "109M": HERE / "mpnet_teacher",
    "109M, 90S": HERE / "mpnet_direct_90S",
    "22M": SMALL / "mrpc_30522_onnx_teacher",
    "22M, 90S": SMALL / "mrpc_30522_onnx_direct_90S",
}
RUNTIMES = ("torch", "onnx", "onnx int8")
CASES = ("1x128", "32x128")


def main():
    """One line for each model: what it is, then its times in each runtime."""
    hardware = {
        read_json(folder / "results.json")["hardware"]
        for folder in HERE.iterdir()
        if (folder / "results.json").exists()
    }
    print(
        "; ".join(sorted(hardware))
        + "; median ms of a batch of 1 and of 32 examples of 128 tokens (times as fast as the teacher)\n"
    )
    print(f"| model | MACs | acc_and_f1, int8 | MB, int8 | {' | '.join(RUNTIMES)} |")
    print("| --- " * (4 + len(RUNTIMES)) + "|")
    for model, label in MODELS.items():
        dense = rows(model, "teacher")
        for size in SIZES[model]:
            found = rows(model, size)
            ends = found["torch"], found["onnx int8"]
            random = model == "bert_base"
            scores = "" if random else ", ".join(f"{row['dev/acc_and_f1']:.3f}" for row in ends)
            megabytes = ", ".join(f"{(row['disk_bytes'] or row['bytes']) / 1e6:.0f}" for row in ends)
            ratio = f"1/{dense['torch']['macs'] / found['torch']['macs']:.1f}"
            cells = [f"{label}, {size.removeprefix('direct_')}", ratio, scores, megabytes]
            cells += [times(found[runtime], dense[runtime]) for runtime in RUNTIMES]
            print(f"| {' | '.join(cells)} |")
    draw(HERE / "costs.png")


def draw(path):
    """The scores of two encoders and their students over what they cost, in each runtime."""
    milliseconds, megabytes = [], []
    for name, folder in DRAWN.items():
        for runtime, row in read(folder).items():
            kind = "teacher" if runtime == "torch" and row["sparsity"] == 0 else runtime
            point = {"name": name, "metric": row["dev/f1"], "kind": kind}
            milliseconds.append({**point, "cost": row["speed"]["1x128"]["median_ms"]})
            megabytes.append({**point, "cost": (row["disk_bytes"] or row["bytes"]) / 1e6})
    panels = [("ms for one text of 128 tokens", milliseconds), ("MB on disk", megabytes)]
    title = "MRPC: encoders of 109M and 22M parameters, and their students of 90% sparsity"
    plots.costs(path, panels, metric=metric_label("dev", "f1"), title=title)


def times(row, dense):
    """Milliseconds of each case, with the ratio to the dense model's."""
    found = []
    for case in CASES:
        own, other = row["speed"][case]["median_ms"], dense["speed"][case]["median_ms"]
        found.append(f"{own:,.{0 if own >= 100 else 1}f}" + (f" ({other / own:.1f})" if row != dense else ""))
    return ", ".join(found)


def rows(model, size):
    """{runtime: row} of a model."""
    return read(HERE / f"{model}_{size}")


def read(folder):
    """{runtime: row} of a run of run_evaluation.py."""
    return {row["runtime"]: row for row in read_json(folder / "results.json")["rows"]}


if __name__ == "__main__":
    main()
