"""Running the scripts as a user does: a process of its own, real files, the exit code and what it printed."""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""
}  # fmt: skip


def command(script, *flags, processes=1):
    """The words of a script's command line."""
    words = [sys.executable, str(ROOT / script), *map(str, flags)]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        words = [*launcher, *words[1:]]
    return words


def run(script, *flags, processes=1, code=0):
    """Run a script to its end and check its exit code; returns the finished process with its output as text."""
    words = command(script, *flags, processes=processes)
    done = subprocess.run(words, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, f"{' '.join(words)}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def kill_when(condition, script, *flags, signal="kill", seconds=300) -> bool:
    """Start a script and stop it as soon as condition() holds; False if it ended before that.

    signal: "kill" (SIGKILL, nothing can be saved) or "interrupt" (SIGINT).
    """
    import signal as signals

    process = subprocess.Popen(
        command(script, *flags), env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.time() + seconds
    while process.poll() is None and time.time() < deadline:
        if condition():
            process.send_signal(signals.SIGKILL if signal == "kill" else signals.SIGINT)
            process.communicate()
            assert process.returncode == (-9 if signal == "kill" else 130), process.returncode
            return True
        time.sleep(0.002)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return False
