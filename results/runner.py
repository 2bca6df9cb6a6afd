"""Runs the jobs of jobs.py: `bash results/run.sh` says how.

A job is done when its record is in RECORDS.  A job that runs needs the weights of others, in OUTPUT; those
that are gone are made again, and their records stay as they are.  The variables of DEFAULTS may be set in the
environment.
"""

import contextlib
import fcntl
import math
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from results import jobs as listed
from results import records
from utils import files

ROOT = Path(__file__).resolve().parent.parent
DEFAULTS = {  # paths relative to the repository
    "MODEL": "../shared/models/all-MiniLM-L6-v2",  # 6 layers, 384 wide, 22M parameters
    # 12 layers, 768 wide, 109M parameters; B1/model brings it
    "BASE_MODEL": "outputs/models/all-mpnet-base-v2",
    "DATA_DIR": "../shared/datasets",
    "OUTPUT": "outputs/results",  # run folders, with weights
    "RECORDS": "results",  # what is kept of them
    "PRECISION": "bf16",
}
INTERRUPTED = 130  # exit code of a script that has saved its state


class Stopped(Exception):
    """The time is over, or a signal has arrived; a running job has saved its state."""


class Failed(Exception):
    """A job that cannot be done; the message says why."""


class Runner:
    """jobs: the list.  until: seconds from now; then nothing is started any more, and what runs is
    interrupted."""

    def __init__(self, jobs, *, until=math.inf, environment=os.environ):
        self.jobs, self.deadline = jobs, time.monotonic() + until
        self.variables = {name: environment.get(name) or default for name, default in DEFAULTS.items()}
        self.output, self.kept = (ROOT / self.variables[name] for name in ("OUTPUT", "RECORDS"))
        self.failed, self.child, self.stopping = {}, None, False

    # ---- Where things are, and whether they are there

    def record(self, job) -> Path:
        """The folder of what is kept of a job."""
        return self.kept / job.study / job.name

    def folder(self, job) -> Path:
        """The run folder of a job; of the one that brings the encoder, the encoder's."""
        return (
            self.output / job.study / job.name
            if job.script.endswith(".py")
            else ROOT / self.variables["BASE_MODEL"]
        )

    def is_done(self, job) -> bool:
        """Whether there is a record."""
        return (
            (self.record(job) / "results.json").exists() if job.script.endswith(".py") else self.is_whole(job)
        )

    def is_whole(self, job) -> bool:
        """Whether the run has finished and what other jobs read is still there."""
        folder = self.folder(job)
        if not job.script.endswith(".py"):
            return (folder / "config.json").exists() and (folder / "model.safetensors").exists()
        if not (folder / "results.json").exists() or not self._has_weights(job):
            return False
        return "--do_infer" not in job.flags or "predictions" in files.read_json(folder / "results.json")

    def _has_weights(self, job):
        kept = [self.folder(job) / name for name in ("ckpt/config.json", "corpus.json")]
        return job.script == "run_evaluation.py" or any(path.exists() for path in kept)

    def state(self, job) -> str:
        """One word for the list; recorded: done, but the weights are gone."""
        if self.is_done(job):
            return "done" if self.is_whole(job) else "recorded"
        return "begun" if self.folder(job).exists() else "open"

    def best(self, kind, seed):
        """The job of a kind and seed that was best on hold-out rows; all of them have been recorded."""
        tried = self.jobs.of(kind, seed)
        return (
            tried[0]
            if len(tried) == 1
            else max(tried, key=lambda job: records.score(self.record(job), "hold_out"))
        )

    # ---- The command of a job

    def words(self, job) -> list[str]:
        """The script and its flags, with every reference replaced."""
        words = [job.script]
        for flag, value in job.flags.items():
            parts = [self._text(part, job) for part in (value if isinstance(value, tuple) else (value,))]
            words += [word for word in (flag, *([] if value is True else [",".join(parts)])) if word]
        return words + (["--output_dir", _relative(self.folder(job))] if job.script.endswith(".py") else [])

    def _text(self, value, job):
        if isinstance(value, listed.Run):
            return _relative(self.folder(self.best(value.kind, value.seed)) / value.inside)
        if isinstance(value, listed.Chosen):
            return str(self.best(value.kind, listed.FIRST).flags[value.flag])
        if isinstance(value, listed.Beside):
            own = self.folder(job)
            return _relative(own.with_name(f"{own.name}_{value.name}"))
        return re.sub(r"\$([A-Z_]+)", lambda match: self.variables[match[1]], str(value))

    # ---- Running

    def make(self, job, *, weights=False):
        """Run a job unless it is done, after what it needs.  weights: a record alone will not do.

        Raises Stopped; Failed where this job, or one that it needs, cannot be done.
        """
        if job.name in self.failed:
            raise Failed(self.failed[job.name])
        if self.is_done(job) and (self.is_whole(job) or not weights):
            return
        try:
            if not self.is_whole(job):
                self._make_needed(job)
                self._run(job)
            if not self.is_done(job):
                records.keep(self.folder(job), self.record(job), seconds=self._cost(job))
                print(f"{job.name}: recorded in {_relative(self.record(job))}", flush=True)
        except Failed as error:
            self.failed[job.name] = str(error)
            raise

    def _make_needed(self, job):
        for value in (*job.references(listed.Chosen), *job.references(listed.Run)):
            for other in self.rivals(
                value.kind, value.seed if isinstance(value, listed.Run) else listed.FIRST
            ):
                self.make(other)
        for value in job.references(listed.Run):
            self.make(self.best(value.kind, value.seed), weights=True)

    def rivals(self, kind, seed) -> list:
        """The jobs that have to be recorded for best() to be known: those with the rates that are tried."""
        tried = self.jobs.of(kind, seed)
        return tried if len(tried) > 1 else []

    def _run(self, job):
        if self.stopping or time.monotonic() >= self.deadline:
            raise Stopped
        folder = self.folder(job)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder, job):
            words = self.words(job)
            if (folder / "results.json").exists() and not self._has_weights(job):
                words.append("--overwrite")
            spent = self._cost(job) if folder.exists() else {}
            print(f"\n== {job.name}: {self.state(job)}\n+ {shlex.join(words)}", flush=True)
            before, started = _children_seconds(), time.monotonic()
            code = self._wait([sys.executable if job.script.endswith(".py") else "bash", *words])
            used = {"cpu": _children_seconds() - before, "wall": time.monotonic() - started}
            files.write_json(
                _cost_file(folder), {key: round(spent.get(key, 0) + used[key], 1) for key in used}
            )
        if code in (INTERRUPTED, -signal.SIGTERM):
            raise Stopped
        if code != 0 or not self.is_whole(job):
            raise Failed(f"{job.name}: {f'exit code {code}' if code else f'left nothing whole in {folder}'}")

    def _wait(self, command) -> int:
        """Run a command to its end, or interrupt it when the time is over; returns its exit code."""
        # A session of its own: Ctrl-C reaches it once, through stop(), and not from the terminal too
        self.child = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            left = self.deadline - time.monotonic()
            return self.child.wait(None if left == math.inf else max(0, left))
        except subprocess.TimeoutExpired:
            self.stop()
            return self.child.wait()
        finally:
            self.child = None

    def stop(self, *_):
        """Start nothing any more; ask the running script to save its state and end."""
        self.stopping = True
        if self.child is not None:
            self.child.send_signal(signal.SIGTERM)

    def _cost(self, job):
        path = _cost_file(self.folder(job))
        return files.read_json(path) if path.exists() else {}


def _cost_file(folder):
    """CPU and wall seconds of all pieces of a run; beside its folder, which the script makes."""
    return folder.with_name(folder.name + ".cost.json")


def _children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _relative(path):
    return os.path.relpath(path, ROOT) if path.is_relative_to(ROOT) else str(path)


@contextlib.contextmanager
def _alone(folder, job):
    """Nobody else runs the job in this folder meanwhile.  Raises Failed where somebody does."""
    with open(folder.with_name(folder.name + ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed(f"{job.name}: another call of this command is running it") from None
        yield
