"""Section "resume": runs that are killed and started again end with the same bytes as one that was not, on
this device.

A run is made whole, then killed in the middle and started again.  Where the two differ it is made whole once
more: if even these two differ, it is not resuming but the kernels.  On a GPU all this also with
torch.use_deterministic_algorithms(True).
The GPU is not touched in this section's own process, so that its forks can use it.
"""

import functools
import multiprocessing
import os
import runpy
import sys
import time
from pathlib import Path

import torch

from benchmarks.gpu import made_up
from benchmarks.gpu.settings import attempt
from utils import files

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60  # that a run may take
# Updates, evaluated and saved at 10, 20 and 30
SHORT = (
    "--per_device_train_batch_size",
    16,
    "--max_steps",
    30,
    "--eval_interval",
    10,
    "--log_interval",
    1,
    "--save_minutes",
    0,
)
KILLED_AT = 14  # rows of metrics.jsonl: after the evaluation at 10, before that at 20


def rows(settings):
    """One for each script and way."""
    first, more = (
        ("run_finetuning", False),
        [("run_finetuning", True), ("run_minidisc", True), ("run_minimoe", True)],
    )
    for name, deterministic in [first, *settings.pick(more, more[:1], [])]:
        what = {"script": name, "deterministic": deterministic}
        yield attempt(
            what, functools.partial(compare, name, deterministic, settings), settings, elsewhere=True
        )


def compare(name, deterministic, settings) -> dict:
    """Whether what was killed and continued is what was not."""
    words, folder = words_of(name, settings), settings.work / "resume" / f"{name}_{deterministic}"
    start = time.monotonic()

    def finished(part):
        return finish(name, words, folder / part, settings, deterministic)

    whole = finished("whole")
    kill(name, words, folder / "parts", settings, deterministic)
    same = finished("parts") == whole
    found = {"passed": same, "killed, whole equal": same, "seconds": round(time.monotonic() - start, 1)}
    return found if same else {**found, "two whole ones equal": finished("again") == whole}


def words_of(name, settings) -> list:
    """The script's flags; what it starts from is made."""
    short = [*SHORT, *made_up.here(settings)]
    if name == "run_minimoe":
        return [*made_up.student_of_text(settings), "--num_heldout_blocks", 32, "--moe", "1,4", *short]
    task = ["--task_name", "demo", "--data_dir", made_up.demo_data(settings), *short, "--learning_rate", 1e-3]
    task += ["--hidn_dropout", 0.1, "--att_dropout", 0.1]
    if name == "run_finetuning":
        return task
    folder, scored = settings.work / "resume", [*task[:4], *made_up.here(settings)]
    if not (folder / "nested").exists():
        finish("run_finetuning", task, folder / "tuned", settings)
        finish("run_sparsification", [*scored, "--model_path", folder / "tuned"], folder / "nested", settings)
    return [*task, "--teacher_model_path", folder / "nested"]


def finish(name, words, folder, settings, deterministic=False) -> str:
    """Run to the end, or on to it; returns a hash of the checkpoint's weights."""
    process = launch(name, words, folder, settings, deterministic)
    process.join(SECONDS)
    alive = process.is_alive()
    process.kill()
    process.join()
    if alive or process.exitcode:
        log = folder.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(
            f"{name}: {'did not end' if alive else f'exit code {process.exitcode}'}: {log.strip()[-300:]}"
        )
    return files.sha256(folder / "ckpt" / "model.safetensors")


def kill(name, words, folder, settings, deterministic):
    """Start, and stop with SIGKILL in the middle of an epoch."""
    process, metrics = launch(name, words, folder, settings, deterministic), folder / "metrics.jsonl"
    deadline = time.monotonic() + SECONDS
    while process.is_alive() and time.monotonic() < deadline:
        if metrics.exists() and len(metrics.read_bytes().splitlines()) >= KILLED_AT:
            break
        time.sleep(0.002)
    process.kill()
    process.join()
    if (folder / "results.json").exists() or not (folder / "state").exists():
        raise RuntimeError(
            f"{name}: it ended, or stopped, before it could be killed; see {folder.with_suffix('.log')}"
        )


def launch(name, words, folder, settings, deterministic):
    """A process that runs the script as a user does."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn" if settings.start == "spawn" else "fork")
    words = [str(word) for word in [*words, "--output_dir", folder]]
    process = context.Process(target=_script, args=(name, words, folder.with_suffix(".log"), deterministic))
    process.start()
    return process


def always_the_same_bits():
    """Let this process take deterministic kernels only, from now on; an operation that has none raises."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what torch asks for
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads such memory


def _script(name, words, log, deterministic):
    """What the process does: it prints into the log."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if deterministic:
        always_the_same_bits()
    path = str(ROOT / f"{name}.py")
    sys.argv = [path, *words]
    runpy.run_path(path, run_name="__main__")
