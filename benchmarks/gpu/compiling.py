"""Section "compile": BERT-base fine-tuned with --compile and without, on real lengths; on a GPU also two
stages with it."""

import contextlib
import functools

import numpy as np
import torch

import run_finetuning
from benchmarks import timing, training_cases
from benchmarks.gpu import made_up, stages
from benchmarks.gpu.settings import attempt
from benchmarks.training_cases import WARMUP

SMALL = ("MiniLMv2", "MiniMoE")


def rows(settings):
    """One for each."""
    with stance(settings.device):
        for stage, script, words in stages.stages(settings, settings.work / "compiled"):
            if stage in settings.pick(SMALL, SMALL, ()):
                run = functools.partial(
                    stages.run, script, [*words, "--compile"], settings.precision, settings
                )
                yield attempt({"what": f"{stage}, small", "precision": settings.precision}, run, settings)
        if settings.pick(True, False, True):
            what = {"what": "fine-tuning, BERT-base", "precision": settings.precision}
            yield attempt(what, lambda: beside_eager(settings), settings)


def stance(device):
    """On a CPU, where nothing is measured, graphs are taken and run as they are: to compile them would take a
    minute."""
    if device == "cpu":
        return torch.compiler.set_stance("default", force_backend="eager")
    return contextlib.nullcontext()


def beside_eager(settings) -> dict:
    """The second half of the updates of both, and the seconds of all."""
    number, found = settings.pick(24, 24, 2), {}
    case = made_up.case(settings, batch_size=settings.pick(128, 128, 8), num_batches=WARMUP + number)
    for side, words in (("eager", ()), ("compiled", ("--compile",))):
        call = functools.partial(
            training_cases.time_updates, run_finetuning, case, *words, number=number, seed=0
        )
        seconds, (steps, _, _) = timing.timed(call, device=settings.device)
        found |= {f"{side} step ms": 1000 * float(np.median(steps[number // 2 :])), f"{side}, all s": seconds}
    return {**found, "eager / compiled": found["eager step ms"] / found["compiled step ms"]}
