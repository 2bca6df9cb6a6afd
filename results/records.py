"""What is kept of a run, in the repository: everything but weights, and the dev predictions with one line for
each row."""

import platform
import shutil
from pathlib import Path

from utils import files

KEPT = ("args.json", "log.txt", "metrics.jsonl", "results.json", "*.png")
# Of a record: a label's word, a number, or the tags of a sentence on each line, in the file's order
PREDICTIONS = "dev.txt"


def keep(folder, record, *, seconds: dict):
    """Copy what is kept of a finished run.  seconds: {"cpu", "wall"} of all its pieces; not known where
    empty."""
    aside = Path(record).with_name(Path(record).name + ".tmp")
    files.remove(aside)
    aside.mkdir(parents=True)
    for pattern in KEPT:
        for path in sorted(Path(folder).glob(pattern)):
            shutil.copy2(path, aside)
    written = files.read_json(aside / "results.json").get("predictions", {}).get("dev")
    if written is not None:
        text = (Path(folder) / written).read_text(encoding="utf-8")
        lines = (
            [line.split("\t")[1] for line in text.splitlines()[1:]]
            if written.endswith(".tsv")
            else _sentences(text)
        )
        files.write_text(aside / PREDICTIONS, "".join(f"{line}\n" for line in lines))
    files.write_json(aside / "cost.json", {"seconds": seconds, "machine": _machine()})
    files.replace_folder(aside, record)


def _sentences(text):
    """The last column of CoNLL's, a sentence on each line."""
    return [
        " ".join(line.split()[-1] for line in block.splitlines()) for block in text.strip("\n").split("\n\n")
    ]


def _machine():
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return model


def score(record, split: str) -> float:
    """The selection metric of a record on a split.  Raises ValueError where it was not scored there."""
    results, args = (files.read_json(Path(record) / name) for name in ("results.json", "args.json"))
    if split not in results["metrics"]:
        found = ", ".join(results["metrics"]) or "none"
        raise ValueError(f"{record}: expected a score on {split} (a run with --hold_out), found {found}")
    return results["metrics"][split][args["settings"]["selection_metric"]]


def hours(record) -> float:
    """CPU hours of a record's run; 0 where they are not known."""
    return files.read_json(Path(record) / "cost.json")["seconds"].get("cpu", 0.0) / 3600
