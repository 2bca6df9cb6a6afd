"""Each script killed at its N-th file operation in the run folder and started again: the same bytes.

    python tests/kill_driver.py                                        # three moments of each case
    python tests/kill_driver.py minidisc stark --number 10             # ten moments, spread over a run
    python tests/kill_driver.py --all --write results/reliability/kills    # every one; kills.md, kills.json

Operations are what Python's audit events tell (files opened to be written, renamed, removed, linked; folders
made and removed), syncs, and weights written.  SIGKILL comes just before the operation; a file that is opened
is another moment, when it is there but empty, or ends in the middle of a line where it is appended to; so is
half a file of weights.  Every fourth time the process is not killed but gets SIGTERM there: it stops by
itself, with exit code 130.
"""

import os
import signal
import sys

import reliability

CASES = reliability.CASES


def count(report, folders, moment=None, number=signal.SIGKILL):
    """Write every file operation in some folders into a report, a line each; before the moment-th send the
    process a signal."""
    out = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    here = [os.path.abspath(folder) for folder in folders]
    busy, counted = False, 0

    def happens(what, path, cut=None):
        nonlocal counted
        counted += 1
        os.write(out, f"{what} {path}\n".encode())
        if counted == moment:
            if cut is not None and number == signal.SIGKILL:
                cut()
            os.kill(os.getpid(), number)

    def inside(path, parent=None):
        """The absolute path, if it lies in the folders."""
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        path = os.fsdecode(path)
        if parent is not None and parent >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{parent}"), path)
        path = os.path.abspath(path)
        return path if any(path == folder or path.startswith(folder + os.sep) for folder in here) else None

    def begun(path, appended):
        """Leave a file as it is just after it has been opened, or after half a line."""
        with open(path, "ab" if appended else "wb") as file:
            file.write(b'{"stage": "tr' if appended and path.endswith(".jsonl") else b"")

    def hear(event, arguments):
        nonlocal busy
        if busy:
            return
        busy = True
        try:
            if event == "open":
                path, flags = inside(arguments[0]), arguments[2]
                if path and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                    happens("open", path)
                    happens("begin", path, lambda: begun(path, flags & os.O_APPEND))
            elif event in ("os.rename", "os.link", "os.symlink"):
                if path := inside(arguments[1]) or inside(arguments[0]):
                    happens(event, path)
            elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
                if path := inside(arguments[0], arguments[-1] if event != "os.truncate" else None):
                    happens(event, path)
        finally:
            busy = False

    def synced(descriptor, sync=os.fsync):
        if path := inside(os.readlink(f"/proc/self/fd/{descriptor}")):
            happens("sync", path)
        sync(descriptor)

    import safetensors.torch

    def weights(tensors, filename, *, write=safetensors.torch.serialize_file, **options):
        path = inside(filename)
        if path:
            happens("weights", path)
        write(tensors, filename, **options)
        if path:
            happens("half", path, lambda: os.truncate(path, os.path.getsize(path) // 2))

    safetensors.torch.serialize_file = weights
    os.fsync = synced
    sys.addaudithook(hear)


# ---- Outside


def play(folder, cases, number):
    """Yield a row for each case, see reliability.table().  number: of moments, spread over a run; None for
    all of them."""
    places = reliability.inputs(folder / "inputs", cases)
    report = folder / "operations"
    for name in cases:
        case = reliability.Case(name, folder / "try", places)
        case.whole([(count, (report, case.folders))])
        total = len(report.read_text().splitlines())
        moments = (
            range(1, total + 1)
            if number is None
            else (int(total * (i + 0.5) / number) + 1 for i in range(number))
        )
        tries = (
            tried(case, report, moment, signal.SIGTERM if i % 4 == 3 else signal.SIGKILL)
            for i, moment in enumerate(moments)
        )
        yield {"case": name, "script": case.script, "operations": total, "tries": tries}


def tried(case, report, moment, number) -> dict:
    """One try: {"moment", "operation", "signal", "problem": None, or what went wrong}."""
    code = -signal.SIGKILL if number == signal.SIGKILL else 130
    problem = case.stopped([(count, (report, case.folders, moment, number))], code)
    operation = report.read_text().splitlines()[moment - 1].replace(f"{case.place}/", "")
    return {
        "moment": moment,
        "operation": operation,
        "signal": signal.Signals(number).name,
        "problem": problem,
    }


if __name__ == "__main__":
    sys.exit(
        reliability.main(
            __doc__, play, CASES, "Stopped at the N-th file operation in the run folder, and started again."
        )
    )
