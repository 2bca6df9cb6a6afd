"""Every script is killed and interrupted, at a fixed sample of the moments that the two drivers try with
--all.

And what kill_driver.py and signal_driver.py cannot reach: the imports, the worker processes of run_corpus.py,
a process that gets to no place to stop at.
"""

import os
import random
import signal
import subprocess
import sys
import time

import kill_driver
import pytest
import reliability
import signal_driver
from commands import ENVIRONMENT, ROOT, outcome, run
from corpus_texts import text
from records import difference, records

from utils import interruptions


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """What the cases read."""
    return reliability.inputs(tmp_path_factory.mktemp("inputs"), reliability.CASES)


@pytest.mark.parametrize("name", reliability.CASES)
def test_killed_at_a_file_operation(name, places, tmp_path):
    """At a moment of its own in each case, and interrupted at another one."""
    case, report = reliability.Case(name, tmp_path / "try", places), tmp_path / "operations"
    case.whole([(kill_driver.count, (report, case.folders))])
    total, draw = len(report.read_text().splitlines()), random.Random(name)
    for number in (signal.SIGKILL, signal.SIGTERM):
        tried = kill_driver.tried(case, report, draw.randint(1, total), number)
        assert tried["problem"] is None, tried


TWO = {
    "finetuning": [
        ("start", (0,), signal.SIGTERM),
        ("update", (1,), signal.SIGINT),
        ("evaluation", (1,), signal.SIGTERM),
        ("saving", (0, 1), signal.SIGTERM),
        ("end", (0,), signal.SIGINT),
        ("test", (1,), signal.SIGTERM),
    ],
    "sparsification": [("scoring", (1,), signal.SIGTERM)],
}


@pytest.mark.parametrize("name", TWO)
def test_two_processes_stop_together(name, places, tmp_path):
    """In each phase, where one of them or both get a signal: no hang, one exit code, the same bytes in the
    end."""
    case = reliability.Case(name, tmp_path / "try", places, processes=2)
    case.whole()
    for phase, who, number in TWO[name]:
        tried = signal_driver.tried(case, phase, who, number)
        assert tried["problem"] is None, tried


# ---- What the drivers cannot reach


def takes_signals(pid) -> bool:
    """Whether a process has a handler for SIGTERM."""
    with open(f"/proc/{pid}/status") as file:
        caught = next(line for line in file if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def start(*words, **options):
    """A script in a fresh interpreter and a session of its own."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **options,
    )


def wait_for(condition, process, seconds=60):
    deadline = time.time() + seconds
    while not condition():
        assert process.poll() is None and time.time() < deadline, process.communicate()
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_in_the_imports(number, tmp_path):
    """The first thing that a script does is to listen; there is no traceback out of a library's imports."""
    process = start("run_stark.py", "--task_name", "demo", "--output_dir", tmp_path / "run")
    wait_for(lambda: takes_signals(process.pid), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted: no run had begun\n")
    assert not (tmp_path / "run").exists()


def test_interrupted_corpus_with_its_workers(corpus_tokenizer_dir, tmp_path):
    """The whole group gets the signal, as from a terminal or a scheduler, when the workers have just been
    started."""
    document = "\n\n".join(document for document in text() if document)
    (tmp_path / "a.txt").write_text("\n\n".join([document] * (2_100_000 // len(document))))
    flags = (
        *f"--input {tmp_path / 'a.txt'} --tokenizer_name_or_path {corpus_tokenizer_dir}".split(),
        *"--max_seq_length 16 --num_workers 2".split(),
    )
    parts = tmp_path / "parts" / "run"
    process = start("run_corpus.py", *flags, "--output_dir", parts)
    wait_for((parts / "state" / "chunks").exists, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and "BrokenProcessPool" not in err, err
    assert f"interrupted: {parts / 'state'}" in err or f"interrupted: nothing that {parts}" in err
    for folder in (parts, tmp_path / "whole" / "run"):
        run("run_corpus.py", *flags, "--output_dir", folder)
    left, wanted = (records(tmp_path / name / "run") for name in ("parts", "whole"))
    assert difference(left, wanted) == ["run/args.json: differs"]  # the folder is in the command


def stuck(rank, seconds):
    """Have this process stop within a second, and rank 1 come to no place to stop at."""
    interruptions.GRACE = 1.0
    if rank == 1:
        from utils import training

        training._Loop._announce = lambda self: time.sleep(seconds)
    signal_driver.send("start", signal.SIGTERM, 2.0 + 0.2 * rank)


def test_process_that_comes_to_no_place_to_stop_ends_in_time(places, tmp_path):
    """One sleeps, the other waits for it: torchrun would kill both, which would not be their own exit
    code."""
    case = reliability.Case("finetuning", tmp_path / "try", places, processes=2)
    case.clear()
    began = time.time()
    codes, printed = outcome(
        case.script, *case.flags, processes=2, before=[(stuck, (rank, 100)) for rank in range(2)]
    )
    assert codes == [130, 130] and time.time() - began < 60, printed
    assert "no place to stop at within 1 seconds" in printed
