"""What the benchmarks have in common: begin and end, the machine, the peak of memory, medians over
interleaved rounds."""

import os
import platform
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers

from utils import cost, files


def begin(name, argv, **facts) -> dict:
    """Take one thread, silence transformers; print and return what a benchmark's results begin with: its
    command, the machine.

    name: of its module.  argv: as it was given to main(), or None.  facts: of the command that belong to the
    results.
    """
    torch.set_num_threads(1)
    quiet()
    command = shlex.join(["python", "-m", f"benchmarks.{name}", *(sys.argv[1:] if argv is None else argv)])
    found = {"command": command, **facts, "machine": machine()}
    if facts.get("device") == "cuda":
        found["machine"]["gpu"] = torch.cuda.get_device_name()
    print(command, *(f"{key}: {value}" for key, value in found["machine"].items()), sep="\n", flush=True)
    return found


def finish(found, report, output) -> dict:
    """Print the report of what was found, write it as JSON where an output is wanted, and return it."""
    found["machine"]["load at the end"] = load()
    print(report(found), flush=True)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(output, found)
    return found


def machine() -> dict:
    """What the numbers depend on."""
    name = next(
        (line.split(": ")[1] for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    versions = (
        f"python {platform.python_version()}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}"
    )
    return {
        "cpu": f"{name}, {os.cpu_count()} cores, 1 thread used",
        "versions": versions,
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "load at the start": load(),
    }


def _lines(path):
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def load() -> float:
    """Processes that wanted a core in the last minute, this one among them; 1 on a quiet machine."""
    return round(os.getloadavg()[0], 2)


def quiet():
    """Without transformers' messages and bars."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def peak() -> float:
    """Highest resident set of this process so far, in MiB."""
    return cost.peak_memory("cpu") / 2**20


def median(rounds, key) -> float:
    """Of the rounds' values of a key."""
    return float(np.median([row[key] for row in rounds]))


def spread(rounds, key) -> str:
    """The median, and the smallest and the largest value."""
    values = [row[key] for row in rounds]
    return f"{np.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"
