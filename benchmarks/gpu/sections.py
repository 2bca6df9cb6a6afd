"""The sections of the GPU benchmark, each in a process of its own: one that fails, hangs or dies leaves the
others alone."""

import contextlib
import gc
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from multiprocessing import connection
from pathlib import Path

import torch

from benchmarks import reporting
from benchmarks.gpu import agreement, attention, beside, compiling, machine, resuming, speed, stages
from benchmarks.gpu.settings import in_short, plain

ROOT = Path(__file__).resolve().parents[2]
# Name: (a generator of rows, the seconds that it may take)
SECTIONS = {
    "machine": (machine.rows, 120),
    "gradients": (agreement.rows, 60),
    "resume": (resuming.rows, 110),
    "finetuning": (speed.finetuning, 90),
    "relations": (beside.relations, 45),
    "experts": (beside.experts, 45),
    "distillation": (speed.distillation, 45),
    "minidisc": (speed.minidisc, 60),
    "deterministic": (speed.deterministic, 30),
    "attention": (attention.rows, 45),
    "stages": (stages.rows, 120),
    "compile": (compiling.rows, 150),
}
# What a server of forks imports once, so that no section has to; none of it may touch the GPU
IMPORTED = [
    "scipy.stats",
    "sklearn.metrics",
    "safetensors.torch",
    "matplotlib.pyplot",
    "transformers.models.bert.modeling_bert",
    "transformers.models.deberta_v2.modeling_deberta_v2",
    "transformers.models.auto.tokenization_auto",
    "data.task_data",
    "benchmarks.gpu.sections",
]
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MPLBACKEND": "agg",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # or to ask whether there is a GPU would keep forks from using it
}
_LINES = 15  # of a log, where something has failed
_SECONDS_TO_LEAVE = 10  # for a process that has said that it is done


def prepare():
    """Set the environment of all processes to come.  To be called before the first section runs."""
    os.environ.update(ENVIRONMENT)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    multiprocessing.get_context("forkserver").set_forkserver_preload(IMPORTED)


def run(name, settings, seconds, *, generate=None) -> dict:
    """Run a section for so long at most: {"status", "seconds", "rows"}; where it went wrong also "error",
    "log" (its last lines).

    status: "ok"; "failed": a row has an error or did not pass, or the section itself failed; "out of time".
    Rows made before are kept.  generate: what makes the rows, in place of the section's own.
    """
    context = multiprocessing.get_context(settings.start)
    receiver, sender = context.Pipe(duplex=False)
    log, started = settings.work / f"{name}.log", time.monotonic()
    process = context.Process(target=_section, args=(generate or SECTIONS[name][0], settings, log, sender))
    process.start()
    sender.close()
    rows, found = [], {"status": None}
    try:
        while found["status"] is None:
            found.update(_next(receiver, process, started + seconds - time.monotonic(), rows))
        process.join(_SECONDS_TO_LEAVE if found["status"] != "out of time" else 0)
    finally:
        _end(process)
    if found["status"] == "ok" and any("error" in row or row.get("passed") is False for row in rows):
        found["status"] = "failed"
    if found["status"] != "ok" and log.exists():
        found["log"] = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:]
    return {**found, "seconds": round(time.monotonic() - started, 1), "rows": rows}


def _next(receiver, process, seconds, rows) -> dict:
    """Wait for what the section says next: a row is added, anything else is the end."""
    ready = connection.wait([receiver, process.sentinel], max(0.0, seconds))
    if not ready:
        return {"status": "out of time", "error": "stopped at the end of its time"}
    if receiver in ready or receiver.poll():
        with contextlib.suppress(EOFError):
            kind, value = receiver.recv()
            if kind == "row":
                rows.append(value)
                return {}
            return {"status": "ok"} if kind == "done" else {"status": "failed", "error": value}
    process.join()
    return {"status": "failed", "error": f"its process ended with exit code {process.exitcode}"}


def _end(process):
    """Stop a section's process and all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _section(generate, settings, log, sender):
    """What the process does: sends the section's rows, then how it ended; prints into the log."""
    os.setsid()  # a group of its own, which ends with it
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    tempfile.tempdir = str(settings.work)
    torch.set_num_threads(1)
    reporting.quiet()
    gc.freeze()  # what is imported stays: settings.attempt() need not look through it after each row
    try:
        for row in generate(settings):
            sender.send(("row", plain(row)))
        sender.send(("done", None))
    except BaseException as error:
        traceback.print_exc()
        sender.send(("failed", in_short(error)))
