"""Print the table of results/README.md from the files beside this script:

python results/maxidisc/table.py
"""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent / "mrpc"
METRICS = ("f1", "acc", "acc_and_f1")
MINIDISC = ("minidisc_from_50", "minidisc_from_70")


def main():
    """A column for each path of MaxiDisc and for each MiniDisc run; then what each costs."""
    maxidisc, others = read("maxidisc"), {name: read(name) for name in MINIDISC}
    columns = {
        " > ".join(trial["path"][:-1]) or "none": trial["metrics"]["dev"]
        for trial in maxidisc["trials_in_full"]
    }
    for name, results in others.items():
        chosen = ", ".join(f"{s:g}S" for s in results["assistants"])
        columns[f"MiniDisc from {name[-2:]}%: {chosen}"] = results["metrics"]["dev"]
    print(f"| assistant | {' | '.join(columns)} |")
    print("| --- " * (1 + len(columns)) + "|")
    for metric in METRICS:
        print(f"| {metric} | {' | '.join(f'{dev[metric]:.3f}' for dev in columns.values())} |")
    whole = seconds("maxidisc")
    print(f"\nCPU seconds: MaxiDisc over all {len(maxidisc['trials_in_full'])} paths {whole:.0f}")
    for name in MINIDISC:
        print(f"{name}: {seconds(name):.0f}, {seconds(name) / whole:.3f} of it")


def read(name):
    """results.json of a run."""
    return json.loads((HERE / name / "results.json").read_text(encoding="utf-8"))


def seconds(name):
    """CPU seconds of a run, user and system."""
    return sum(map(float, (HERE / f"{name}.seconds").read_text().split()))


if __name__ == "__main__":
    main()
