"""The clock of the benchmarks, once: single calls, sides that take turns, work in a process of its own."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import torch

START = "spawn"  # how a process of its own is started: with nothing of this one's


def clock(device="cpu"):
    """A function that returns seconds: CPU time of the process; on a GPU wall time, read when the device is
    idle."""
    if torch.device(device).type == "cpu":
        return time.process_time

    def read():
        torch.cuda.synchronize(torch.device(device))
        return time.perf_counter()

    return read


def timed(call, *, device="cpu", calls=1):
    """(seconds of one call, what the last one returned).  calls: made one after the other, between two looks
    at the clock."""
    read = clock(device)
    start = read()
    for _ in range(calls):
        result = call()
    return (read() - start) / calls, result


def in_turns(sides, *, number, seconds=0.0, device="cpu", calls=1) -> list[dict]:
    """[{side: seconds of one call}, ...] of so many rounds; each side is called once before, unmeasured.

    sides: {name: a function}; they take turns, `calls` calls at a time, so that a busy machine is busy for
    all of them.
    seconds: that a round is to last, about; at least one turn of each side.
    """
    for call in sides.values():
        call()
    once = (
        sum(calls * timed(call, device=device, calls=calls)[0] for call in sides.values()) if seconds else 0.0
    )
    turns, rounds = max(1, round(seconds / max(once, 1e-6))), []
    for _ in range(number):
        spent = dict.fromkeys(sides, 0.0)
        for _ in range(turns):
            for side, call in sides.items():
                spent[side] += timed(call, device=device, calls=calls)[0] / turns
        rounds.append(spent)
    return rounds


def own_process(prepare=None, *args):
    """A ProcessPoolExecutor of one fresh process, in which prepare(*args) is called first."""
    return ProcessPoolExecutor(1, multiprocessing.get_context(START), prepare, args)


def in_own_process(function, *args):
    """What a function returns in a fresh process: its peak of memory is its own."""
    with own_process() as pool:
        return pool.submit(function, *args).result()
