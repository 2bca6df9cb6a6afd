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
import shlex
import signal
import subprocess
import sys
import time
from concurrent import futures
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
    # Flags that no command gets, with spaces between them: on a GPU a teacher answers anew sooner than its
    # answers are fetched, and "--cache_teacher" only costs memory
    "WITHOUT": "",
}
# What jobs that are no runs leave: the encoder; text without labels
MADE = (("config.json", "model.safetensors"), ("sentences.jsonl", "pairs.tsv"))
INTERRUPTED = 130  # exit code of a script that has saved its state
_LINES = 15  # of a job's output, where it failed and nobody saw them


class Stopped(Exception):
    """The time is over, or a signal has arrived; a running job has saved its state."""


class Failed(Exception):
    """A job that cannot be done; the message says why."""


class Runner:
    """jobs: the list.  until: seconds from now; then nothing is started any more, and what runs is
    interrupted.  processes: how many jobs run at a time; where more than one, each one's output is in a file
    beside its run folder."""

    def __init__(self, jobs, *, until=math.inf, processes=1, environment=os.environ):
        self.jobs, self.deadline, self.processes = jobs, time.monotonic() + until, processes
        self.variables = {name: environment.get(name) or default for name, default in DEFAULTS.items()}
        self.output, self.kept = (ROOT / self.variables[name] for name in ("OUTPUT", "RECORDS"))
        self.failed, self.running, self.children, self.stopping = {}, {}, set(), False

    # ---- Where things are, and whether they are there

    def record(self, job) -> Path:
        """The folder of what is kept of a job."""
        return self.kept / job.study / job.name

    def folder(self, job) -> Path:
        """The run folder of a job, or where it puts what it makes."""
        return self.output / job.study / job.name if job.is_run else ROOT / self._text(job.flags[""], job)

    def is_done(self, job) -> bool:
        """Whether there is a record."""
        return (self.record(job) / "results.json").exists() if job.is_run else self.is_whole(job)

    def is_whole(self, job) -> bool:
        """Whether the run has finished and what other jobs read is still there."""
        folder = self.folder(job)
        if not job.is_run:
            return any(all((folder / name).exists() for name in names) for names in MADE)
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
        words, without = [job.script], self.variables["WITHOUT"].split()
        for flag, value in job.flags.items():
            if flag in without:
                continue
            parts = [self._text(part, job) for part in (value if isinstance(value, tuple) else (value,))]
            words += [word for word in (flag, *([] if value is True else [",".join(parts)])) if word]
        return words + (["--output_dir", _relative(self.folder(job))] if job.is_run else [])

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

    def make(self, wanted, *, weights=False) -> dict:
        """Run jobs unless they are done, each after what it needs; returns {name of one that cannot be done:
        why}.

        weights: a record alone will not do.  Raises Stopped.
        """
        with futures.ThreadPoolExecutor(self.processes) as pool:
            while True:
                waiting = self._waiting(wanted, weights)
                if waiting and not self.running and self._is_over():
                    raise Stopped
                for job in waiting[: self.processes - len(self.running)] if not self._is_over() else ():
                    self.running[job.name] = pool.submit(self._run, job)
                if not self.running:
                    return {job.name: self.failed[job.name] for job in wanted if job.name in self.failed}
                self._settle()

    def _is_over(self):
        return self.stopping or time.monotonic() >= self.deadline

    def _waiting(self, wanted, weights) -> list:
        """The jobs that can be started now, in the order of those that want them."""
        found = {}
        for job in wanted:
            with contextlib.suppress(Failed):
                found.update((other.name, other) for other in self._next(job, weights=weights))
        return [job for name, job in found.items() if name not in self.running]

    def _next(self, job, *, weights=False) -> list:
        """What has to be run, or is running, before a job is done: itself, or what it needs; nothing where it
        is done."""
        if job.name in self.failed:
            raise Failed(self.failed[job.name])
        if job.name in self.running:
            return [job]
        if self.is_done(job) and (self.is_whole(job) or not weights):
            return []
        try:
            if self.is_whole(job):
                self._keep(job)
                return []
            return self._needed(job) or [job]
        except Failed as error:
            self.failed[job.name] = str(error)
            raise

    def _needed(self, job) -> list:
        references = (*job.references(listed.Chosen), *job.references(listed.Run))
        rivals = [
            other
            for value in references
            for other in self.rivals(
                value.kind, value.seed if isinstance(value, listed.Run) else listed.FIRST
            )
        ]
        before = [first for other in rivals for first in self._next(other)]
        if before:  # what is best of them is not known yet
            return before
        best = [self.best(value.kind, value.seed) for value in job.references(listed.Run)]
        return [first for other in best for first in self._next(other, weights=True)]

    def _settle(self):
        """Wait until a running job ends, or the time is over."""
        left = self.deadline - time.monotonic() if not self._is_over() else math.inf
        ended, _ = futures.wait(
            self.running.values(), None if left == math.inf else left, futures.FIRST_COMPLETED
        )
        if not ended:
            self.stop()
        for name in [name for name, future in self.running.items() if future in ended]:
            try:
                self.running.pop(name).result()
                self._keep(self.jobs[name])
            except Failed as error:
                self.failed[name] = str(error)
            except Stopped:
                self.stopping = True

    def _keep(self, job):
        if not self.is_done(job):
            records.keep(self.folder(job), self.record(job), seconds=self._cost(job))
            print(f"{job.name}: recorded in {_relative(self.record(job))}", flush=True)

    def rivals(self, kind, seed) -> list:
        """The jobs that have to be recorded for best() to be known: those with the rates that are tried."""
        tried = self.jobs.of(kind, seed)
        return tried if len(tried) > 1 else []

    def _run(self, job):
        folder = self.folder(job)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder, job):
            words = self.words(job)
            if (folder / "results.json").exists() and not self._has_weights(job):
                words.append("--overwrite")
            spent = self._cost(job) if folder.exists() else {}
            print(f"\n== {job.name}: {self.state(job)}\n+ {shlex.join(words)}", flush=True)
            output = folder.with_name(folder.name + ".out") if self.processes > 1 else None
            code, used = self._call(
                [sys.executable if job.script.endswith(".py") else "bash", *words], output
            )
            files.write_json(
                _cost_file(folder), {key: round(spent.get(key, 0) + used[key], 1) for key in used}
            )
        if code in (INTERRUPTED, -signal.SIGTERM):
            raise Stopped
        if code != 0 or not self.is_whole(job):
            if output:
                print("".join(output.read_text(errors="replace").splitlines(True)[-_LINES:]), file=sys.stderr)
            raise Failed(f"{job.name}: {f'exit code {code}' if code else f'left nothing whole in {folder}'}")

    def _call(self, command, output) -> tuple:
        """Run a command to its end: its exit code, and {"cpu", "wall"} in seconds.

        output: a file; None: this program's.
        """
        started = time.monotonic()
        with open(output, "ab") if output else contextlib.nullcontext() as file:
            # A session of its own: Ctrl-C reaches it once, through stop(), and not from the terminal too
            child = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=file, stderr=file)
        self.children.add(child.pid)
        if self.stopping:  # stop() may have come before
            os.kill(child.pid, signal.SIGTERM)
        _, status, usage = os.wait4(child.pid, 0)
        self.children.discard(child.pid)
        child.returncode = os.waitstatus_to_exitcode(status)
        used = {"cpu": usage.ru_utime + usage.ru_stime, "wall": time.monotonic() - started}
        return child.returncode, used

    def stop(self, *_):
        """Start nothing any more; ask the running scripts to save their states and end."""
        self.stopping = True
        for child in tuple(self.children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    def _cost(self, job):
        path = _cost_file(self.folder(job))
        return files.read_json(path) if path.exists() else {}


def _cost_file(folder):
    """CPU and wall seconds of all pieces of a run; beside its folder, which the script makes."""
    return folder.with_name(folder.name + ".cost.json")


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
