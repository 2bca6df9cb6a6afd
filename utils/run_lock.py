"""The marker of a run folder, .run_folder, and the lock on it: one process tree at a time works in a run
folder."""

import os
from pathlib import Path

from utils import files, locks, logs
from utils.errors import RunError

MARKER = ".run_folder"
CONTENT = (
    "A run of bert-compression. args.json says of which stage; whoever works here holds a lock on this "
    "file.\n"
)
_held = {}  # (device, inode) of a marker: the descriptor that this process has it locked with


def is_marker(path) -> bool:
    """Whether a file is such a marker; also one that is empty or cut, which a kill has left before its line
    was written."""
    try:
        with open(path, "rb") as file:
            return CONTENT.encode().startswith(file.read(len(CONTENT) + 1))
    except OSError:
        return False


def lock(folder, *, shared=False):
    """Keep other process trees out of a folder until this process and all that share the lock have ended.

    shared: of a process beside the main one, which has called share_lock() before.  Makes the marker where
    there is none.
    Raises RunError where another run has the folder.  Where the file system has no locks the log says so, and
    nothing is kept out.
    """
    path = Path(folder) / MARKER
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    entry = os.fstat(descriptor)
    if (entry.st_dev, entry.st_ino) in _held:
        os.close(descriptor)
        return
    taken = locks.take(descriptor, shared=shared)
    if taken is False:
        problem = _in_use(folder, descriptor)
        os.close(descriptor)
        raise problem
    if taken is None:
        logs.logger.warning(
            "%s: this file system has no locks (flock): do not start two runs into this folder", folder
        )
    _held[entry.st_dev, entry.st_ino] = descriptor
    if entry.st_size < len(CONTENT) and not shared:
        with files.writing(path):
            os.pwrite(descriptor, CONTENT.encode(), 0)


def share_lock(folder) -> bool:
    """Let the other processes of this run join the lock of the main one, if it has one; whoever comes later
    is still kept out."""
    path = Path(folder) / MARKER
    if not path.exists():
        return False
    entry = os.stat(path)
    descriptor = _held.get((entry.st_dev, entry.st_ino))
    if descriptor is None:  # another's, whose run is reported only
        return False
    if locks.take(descriptor, shared=True) is False:  # the change is no single step
        raise _in_use(folder, descriptor)
    return True


def _in_use(folder, descriptor):
    by = ", ".join(map(str, locks.holders(descriptor)))
    known = f" (process {by})" if by else ""
    return RunError(
        f"--output_dir {folder}: another run works in it{known}; wait for its end, stop it, or choose another"
    )
