"""Print the README's table from the files beside this script:   python results/maxidisc/table.py"""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent / "mrpc"
METRICS = ("f1", "acc", "acc_and_f1")


def main():
    """One line for each path of MaxiDisc and for each MiniDisc run; then what each costs."""
    print("| student (90S) | assistant | dev f1 | dev acc | dev acc_and_f1 |")
    print("| --- | --- | --- | --- | --- |")
    maxidisc = read("maxidisc")
    for trial in maxidisc["trials_in_full"]:
        line("MaxiDisc", " > ".join(trial["path"][:-1]) or "none", trial["metrics"]["dev"])
    for name in ("minidisc_from_50", "minidisc_from_70"):
        results = read(name)
        chosen = ", ".join(f"{s:g}S" for s in results["assistants"])
        line(f"MiniDisc, candidates from {name[-2:]}%", f"{chosen} (chosen)", results["metrics"]["dev"])
    whole = seconds("maxidisc")
    print(f"\nCPU seconds: MaxiDisc over all {len(maxidisc['trials_in_full'])} paths {whole:.0f}")
    for name in ("minidisc_from_50", "minidisc_from_70"):
        print(f"{name}: {seconds(name):.0f}, {seconds(name) / whole:.3f} of it")


def line(label, assistant, metrics):
    """One row of the table."""
    print(f"| {label} | {assistant} | {' | '.join(f'{metrics[name]:.4f}' for name in METRICS)} |")


def read(name):
    """results.json of a run."""
    return json.loads((HERE / name / "results.json").read_text(encoding="utf-8"))


def seconds(name):
    """CPU seconds of a run, user and system."""
    return sum(map(float, (HERE / f"{name}.seconds").read_text().split()))


if __name__ == "__main__":
    main()
