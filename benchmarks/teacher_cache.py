"""An epoch of distillation with the teacher's outputs from the disk, beside from memory, beside recomputed.

    OMP_NUM_THREADS=1 python -m benchmarks.teacher_cache --data_dir datasets --encoder path/to/encoder \\
        --output results/teacher_cache/results.json
Needs the task's real files and a BERT checkpoint with its tokenizer; about 15 minutes on one core.

What is compared: one epoch over all full batches of the task's training rows, a student of 90% sparsity,
hidden states and soft labels, in training.fit with the script's default flags.
    recomputed   the teacher runs for every batch
    memory       --cache_teacher
    disk, cold   --cache_teacher disk: none of the files is in the system's page cache when the epoch begins
    disk, warm   the same once more, as an epoch after the first or another run finds them
Each in a process of its own, in turns; the median over the rounds is given with the smallest and the largest
value.  CPU time says what the processor does, wall time also what it waits for: for the disk, and on a busy
machine for others.  Filling: of the pass that computes the outputs; on the disk also hashes and writes.
Memory: the highest resident set, in which pages of mapped files count that the system can take back at once.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import run_distillation
from benchmarks import timing
from benchmarks.reporting import begin, finish, median, peak, quiet, spread
from benchmarks.training_cases import parser_of_paths, prepare, train
from data import tasks
from utils import logs

DISK = ("--cache_teacher", "disk", "--cache_dir")
SIDES = {"recomputed": (), "memory": ("--cache_teacher",), "disk, cold": DISK, "disk, warm": DISK}


def main(argv=None):
    """Measure, print, write; returns what is written."""
    parser = parser_of_paths(__doc__)
    parser.add_argument("--task", default="mrpc", help="a classification task")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_batches", type=int, help="at most so many (default: all)")
    parser.add_argument("--num_rounds", type=int, default=3)
    args = parser.parse_args(argv)
    found = begin("teacher_cache", argv)
    number = len(tasks.get(args.task).read(args.data_dir, "train")) // args.batch_size
    number = min(number, args.max_batches or number)
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        for each in range(args.num_rounds):
            kept, made, row = Path(folder, f"kept{each}"), Path(folder, "models"), {}
            for side in SIDES:
                if side == "disk, cold":
                    filled = timing.in_own_process(epoch, side, args, made, kept, number, True)
                    forget(kept)
                row[side] = timing.in_own_process(epoch, side, args, made, kept, number)
            row["disk, cold"]["filling_cpu_s"] = filled["filling_cpu_s"]
            print(row, flush=True)
            rounds.append(row)
        size = sum(file.stat().st_size for file in kept.rglob("*.bin"))
    found |= {"task": args.task, "updates": number, "batch_size": args.batch_size, "bytes": size}
    return finish(found | {"rounds": rounds}, report, args.output)


def epoch(side, args, folder, kept, number, fill_only=False) -> dict:
    """Train for an epoch of so many updates; seconds, and the highest resident set in MiB.

    fill_only: no more than it takes to have the outputs on the disk.
    """
    torch.set_num_threads(1)
    quiet()
    case = prepare(args.task, args, folder, num_batches=number)
    flags = [*SIDES[side], *([kept] if SIDES[side] == DISK else [])]
    marks, filling = train(
        run_distillation,
        case,
        *flags,
        number=2 if fill_only else number,
        read=lambda: np.array([time.process_time(), time.perf_counter()]),
        stop=True,
    )
    cpu, wall = (marks[-1] - marks[0]) * number / (len(marks) - 1)
    return {"cpu_s": float(cpu), "wall_s": float(wall), "filling_cpu_s": filling, "peak_mib": peak()}


def forget(folder):
    """Ask the system to keep nothing of the files in a folder in its page cache."""
    for file in folder.rglob("*.bin"):
        with open(file, "rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def report(found) -> str:
    """The table."""
    lines = []
    for side in SIDES:
        rows = [row[side] for row in found["rounds"]]
        lines.append(
            {
                "outputs": side,
                "epoch, CPU s": spread(rows, "cpu_s"),
                "epoch, wall s": spread(rows, "wall_s"),
                "filling, CPU s": spread(rows, "filling_cpu_s"),
                "peak MiB": f"{median(rows, 'peak_mib'):.0f}",
            }
        )
    return (
        f"\nOne epoch of {found['task']}, {found['updates']} updates of {found['batch_size']}; outputs of "
        f"{found['bytes'] / 2**20:.0f} MiB\n{logs.table(lines)}\n"
    )


if __name__ == "__main__":
    main()
