"""Memory of scripts that run in processes of their own, as the system counts it."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ANONYMOUS = "RssAnon"  # resident now, without files that are mapped
HIGHEST = "VmHWM"  # the most that was resident so far, files that are mapped included


def run(script, *flags, counted, processes=1) -> tuple:
    """Run a script to its end; returns (what it has printed, [bytes of each process at most, the largest
    first]).

    counted: a line of /proc/<process>/status, read every 20 ms.  processes: more than one are joined by
    torchrun.  Ends this program where the script fails.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    words = [sys.executable, *(launcher if processes > 1 else []), str(ROOT / script), *map(str, flags)]
    peaks = {}
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(words, cwd=ROOT, stdout=printed, stderr=printed)
        while process.poll() is None:
            for number in _children(process.pid) if processes > 1 else [process.pid]:
                peaks[number] = max(peaks.get(number, 0), _status(number, counted))
            time.sleep(0.02)
        printed.seek(0)
        said = printed.read()
    if process.returncode != 0:
        sys.exit(f"{script}: exit code {process.returncode}\n{said[-6000:]}")
    return said, sorted(peaks.values(), reverse=True)[:processes]


def _children(number) -> list[int]:
    """The processes that a process has started."""
    try:
        return [int(each) for each in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
    except OSError:
        return []


def _status(number, counted) -> int:
    """Bytes that a process's status says; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(counted)), 0)
