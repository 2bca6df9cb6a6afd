"""Running the scripts as a user does: a process of its own, real files, the exit code and what it printed.

The processes are forked from one that has imported the libraries (forked.py); fresh=True starts Python and
torchrun anew.
"""

import contextlib
import multiprocessing
import os
import signal as signals
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from multiprocessing import forkserver
from pathlib import Path

import forked

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "MPLBACKEND": "agg",
}


def run(script, *flags, processes=1, code=0, fresh=False, seconds=300):
    """Run a script to its end and check its exit code; returns a subprocess.CompletedProcess with its output
    as text.

    processes: more than one are joined as torchrun joins them; stdout is that of the first.
    """
    if fresh:
        done = subprocess.run(
            _command(script, flags, processes),
            env={**os.environ, **ENVIRONMENT},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    else:
        with tempfile.TemporaryDirectory() as folder:
            done = _wait(_start(script, flags, processes, folder), [script, *flags], folder, seconds)
    assert done.returncode == code, (
        f"{' '.join(map(str, done.args))}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done


def alone(code, folder, *words, cache):
    """Python started anew in a folder, with none but the installed packages; its last line.

    words: its arguments.  cache: a folder for the code of models.
    """
    environment = {**os.environ, **ENVIRONMENT, "HF_MODULES_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, *map(str, words)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout.strip().splitlines()[-1]


def outcome(script, *flags, processes=1, before=(), seconds=300):
    """Run a script to whatever end: ([exit code of each process], what it printed, errors included).

    before: for each process (function, arguments) to be called in it just before the script, or None.  A
    process that is alive after so many seconds is killed: exit code None.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = _start(script, flags, processes, folder, before or [None] * processes)
        deadline = time.time() + seconds
        for process in started:
            process.join(max(0.0, deadline - time.time()))
        codes = [process.exitcode for process in started]
        for process in started:
            process.kill()
            process.join()
        return codes, "".join(file.read_text() for file in sorted(Path(folder).iterdir()))


def scarce_memory(num_bytes):
    """Have this process believe that so little memory is free; for outcome()."""
    from utils import memory

    memory.available = lambda: num_bytes


def forked_processes(function, arguments, seconds=120) -> list:
    """Call a function of a test module in a process for each tuple of arguments; returns the exit codes."""
    started = [server().Process(target=function, args=each) for each in arguments]
    for process in started:
        process.start()
    deadline = time.time() + seconds
    for process in started:
        process.join(max(0.0, deadline - time.time()))
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
        process.join()
    return codes


def checked_processes(function, arguments, folder, *, joined=False):
    """The same; fails with what they have printed where one does not end well.

    joined: they are a group of gloo's, which finds itself by a file in the folder.
    """
    number, files = len(arguments), [folder / f"said{rank}" for rank in range(len(arguments))]
    groups = [(rank, number, folder) if joined else None for rank in range(number)]
    codes = forked_processes(_checked, [(function, *each) for each in zip(arguments, files, groups)])
    assert codes == [0] * number, f"{codes}\n" + "".join(file.read_text() for file in files)


def _checked(function, arguments, file, group):
    import torch

    torch.set_num_threads(1)
    with open(file, "w") as sys.stdout, contextlib.redirect_stderr(sys.stdout):
        try:
            if group is not None:
                rank, number, folder = group
                join = {"init_method": f"file://{folder}/join", "rank": rank, "world_size": number}
                torch.distributed.init_process_group("gloo", **join)
            function(*arguments)
            if group is not None:
                torch.distributed.destroy_process_group()
        except BaseException:
            traceback.print_exc()
            sys.stdout.flush()
            os._exit(1)  # at once: the others would be waited for


def kill_when(condition, script, *flags, processes=1, signal="kill", seconds=300) -> bool:
    """Start a script and stop it as soon as condition() holds; False if it ended before that.

    signal: "kill" (SIGKILL, nothing can be saved) or "interrupt" (SIGINT).
    """
    with tempfile.TemporaryDirectory() as folder:
        started = _start(script, flags, processes, folder)
        deadline = time.time() + seconds
        while all(process.is_alive() for process in started) and time.time() < deadline:
            if condition():
                for process in started:
                    os.kill(process.pid, signals.SIGKILL if signal == "kill" else signals.SIGINT)
                done = _wait(started, [script, *flags], folder, seconds)
                assert done.returncode in (0, -9 if signal == "kill" else 130), done
                return done.returncode != 0
            time.sleep(0.002)
        done = _wait(started, [script, *flags], folder, deadline - time.time())
        assert done.returncode == 0, done
        return False


def _command(script, flags, processes):
    words = [str(ROOT / script), *map(str, flags)]
    if processes == 1:
        return [sys.executable, *words]
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={processes}",
        *words,
    ]


def _start(script, flags, processes, folder, before=None):
    """Forked processes; more than one find each other by the variables that torchrun sets.  before: see
    outcome()."""
    started = []
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    for rank in range(processes):
        joined = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": processes,
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": port,
        }
        environment = {
            **ENVIRONMENT,
            **({key: str(value) for key, value in joined.items()} if processes > 1 else {}),
        }
        out, err = (os.path.join(folder, f"{kind}{rank}") for kind in ("out", "err"))
        words = [str(word) for word in flags]
        hook = before[rank] if before else None
        process = server().Process(
            target=forked.script, args=(str(ROOT / script), words, environment, str(ROOT), out, err, hook)
        )
        process.start()
        started.append(process)
    return started


def _wait(started, words, folder, seconds):
    deadline = time.time() + seconds
    for process in started:
        process.join(max(0.0, deadline - time.time()))
        if process.exitcode is None:
            process.kill()
            process.join()
    files = [Path(folder, f"{kind}{rank}") for kind in ("out", "err") for rank in range(len(started))]
    texts = [file.read_text() if file.exists() else "" for file in files]
    codes = {process.exitcode for process in started}
    assert len(codes) == 1, f"exit codes {codes}\n{texts}"
    return subprocess.CompletedProcess(
        [str(word) for word in words], *codes, texts[0], "".join(texts[len(started) :])
    )


def server():
    """The fork server.  It imports forked.py by name, so its path must be known when it starts, with the
    first process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["forked", *forked.IMPORTED])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    for name in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):  # a user's Python does neither
        os.environ.pop(name, None)
    return context


def start_server():
    """Start the fork server, if it has not been."""
    server()
    forkserver.ensure_running()
