"""Locks that die with their holders: flock on an open file or folder, kept by every process that still has it
open."""

import errno
import fcntl
import os

_NOT_THERE = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # a file system without locks


def take(descriptor, *, shared=False) -> bool | None:
    """Lock an open file or folder at once, or change the lock: True; False where another process has it; None
    where the file system has no locks."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    return True


def holders(descriptor) -> list[int]:
    """Numbers of the processes on this machine that have a lock on this file; none where the system does not
    tell."""
    entry = os.fstat(descriptor)
    file = f"{os.major(entry.st_dev):02x}:{os.minor(entry.st_dev):02x}:{entry.st_ino}"
    try:
        with open("/proc/locks", encoding="ascii") as lines:
            return [
                int(words[4]) for line in lines if (words := line.split())[1] == "FLOCK" and words[5] == file
            ]
    except (OSError, ValueError, IndexError):
        return []
