"""Two processes that get SIGTERM or SIGINT in any phase, one of them or both: no hang, both end with 130.

    python tests/signal_driver.py                                            # three tries of each case
    python tests/signal_driver.py finetuning --number 20
    python tests/signal_driver.py --all --write results/reliability/signals  # writes signals.md, signals.json

Each process that gets a signal gets it from a thread of its own, some time after a phase has begun: up to
twice as long as the phase takes, so that it comes in the middle, at the end, or just after.  The same command
then continues, to the same bytes.  A signal that comes when everything is done changes nothing, and both end
with 0; then it is tried again, sooner.
"""

import importlib
import itertools
import os
import random
import signal
import sys
import threading
import time

import reliability

# A phase begins when a function is called for the so-many-th time: module, name, call; and lasts so many
# seconds
PHASES = {
    "start": (None, None, 0, 0.6),
    "update": ("utils.training", "_Loop._update", 5, 0.05),
    "evaluation": ("utils.training", "_Loop._evaluate", 1, 0.1),
    "saving": ("utils.training", "_Loop._snapshot", 1, 0.1),
    "second hop": ("utils.training", "_Loop._update", 9, 0.05),
    "scoring": ("modules.importance", "Accumulator.add", 1, 0.04),
    "measuring": ("models.measuring", "measure", 1, 0.2),
    "end": ("utils.runs", "Run.finish", 1, 0.1),
    "test": ("utils.evaluation", "test_and_infer", 1, 0.2),
}
CASES = {
    "finetuning": ("start", "update", "evaluation", "saving", "end", "test"),
    "sparsification": ("start", "scoring", "end", "test"),
    "minidisc": ("update", "evaluation", "saving", "second hop", "end"),
    "stark": ("scoring", "second hop", "saving"),
    "minimoe": ("update", "evaluation", "end"),
    "corpus sparsification": ("scoring", "end"),
    "comparison": ("start", "measuring"),
}
WHO = ((0,), (1,), (0, 1))
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def send(phase, number, delay):
    """Have this process send itself a signal some seconds after a phase has begun."""
    module, path, call, _ = PHASES[phase]

    def later():
        time.sleep(delay)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=later, daemon=True)
    if module is None:
        thread.start()
        return
    owner, name = importlib.import_module(module), path
    if "." in path:
        kind, name = path.split(".")
        owner = getattr(owner, kind)
    function, calls = getattr(owner, name), itertools.count(1)

    def begin(*arguments, **options):
        if next(calls) == call:
            thread.start()
        return function(*arguments, **options)

    setattr(owner, name, begin)


def play(folder, cases, number):
    """Yield a row for each case, see reliability.table().  number: of tries, drawn from all combinations;
    None for all."""
    places = reliability.inputs(folder / "inputs", cases)
    for name in cases:
        case = reliability.Case(name, folder / "try", places, processes=2)
        case.whole()
        combinations = [*itertools.product(CASES[name], WHO, SIGNALS)]
        chosen = (
            combinations
            if number is None
            else random.Random(name).sample(combinations, min(number, len(combinations)))
        )
        yield {
            "case": name,
            "script": case.script,
            "combinations": len(combinations),
            "tries": (tried(case, *combination) for combination in chosen),
        }


def tried(case, phase, who, number) -> dict:
    """One try: {"phase", "processes", "signal", "problem": None, or what went wrong}."""
    draw, problem, tries = random.Random(f"{case.name} {phase} {who} {number}"), reliability.LATE, 0
    while problem == reliability.LATE and tries < 10:
        delays = [draw.uniform(0, 2 * PHASES[phase][3] / 2**tries) for _ in range(2)]
        before = [(send, (phase, number, delays[rank])) if rank in who else None for rank in range(2)]
        problem, tries = case.stopped(before, 130), tries + 1
    name = signal.Signals(number).name
    return {"phase": phase, "processes": " and ".join(map(str, who)), "signal": name, "problem": problem}


if __name__ == "__main__":
    what = "Two processes, signalled in a phase, one or both, and started again."
    sys.exit(reliability.main(__doc__, play, CASES, what))
