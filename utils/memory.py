"""Main memory: how much of it this process can still have, and whether that is enough for what is asked for;
the same of the disk.

The limits of a container or a batch system (cgroups, version 1 or 2) count as much as the machine's own.
"""

import os
import shutil
from pathlib import Path

from utils.errors import RunError

_MEMINFO, _OF_PROCESS, _MOUNT = "/proc/meminfo", "/proc/self/cgroup", "/sys/fs/cgroup"
_NAMES = {  # version: its limit, what is used, the part of memory.stat that the system gives up when asked
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available(*, meminfo=_MEMINFO, of_process=_OF_PROCESS, mount=_MOUNT) -> int | None:
    """Bytes that this process can still take; None on systems that do not tell.

    The arguments are where Linux tells it.
    """
    found = [_of_machine(meminfo), *_of_cgroups(of_process, Path(mount))]
    return min((value for value in found if value is not None), default=None)


def require(num_bytes: int, *, what: str, advice: str, folder=None):
    """Raise RunError where so many bytes, for each process of this run on this machine, are not there.

    what: what takes them, with the numbers that it follows from.  advice: what to do instead.
    folder: they are needed there, on the disk, once for all processes.
    """
    processes = 1 if folder else int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    free = shutil.disk_usage(folder).free if folder else available()
    if free is not None and processes * num_bytes > free:
        each = f" in each of {processes} processes" if processes > 1 else ""
        where = f"on the disk of {folder}" if folder else "of memory"
        raise RunError(
            f"{what} need {in_words(num_bytes)}{each}; only {in_words(free)} {where} are free; {advice}"
        )


def in_words(num_bytes: int) -> str:
    """A number of bytes as people read it."""
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"


def _of_machine(meminfo):
    try:
        lines = dict(line.split(":") for line in Path(meminfo).read_text(encoding="ascii").splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        return None


def _of_cgroups(of_process, mount):
    """What is left in the groups of this process, and in those above them."""
    try:
        lines = Path(of_process).read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, group = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        version, root = (2, mount) if number == "0" else (1, mount / "memory")
        inside = root / group.lstrip("/")
        # In a container the path is often that of the machine, and the mount that of the container
        for folder in (root, *(part for part in (inside, *inside.parents) if root in part.parents)):
            yield _left(folder, *_NAMES[version])


def _left(folder, limit, used, reclaimable):
    try:
        most = int((folder / limit).read_text(encoding="ascii"))  # "max": no limit
        taken = int((folder / used).read_text(encoding="ascii"))
        stat = dict(
            line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        )
    except (OSError, ValueError):
        return None
    return max(0, most - taken + int(stat.get(reclaimable, 0)))
