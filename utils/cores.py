"""How many processor cores there are for this process."""

import os


def usable() -> int:
    """Cores that this process may run on; where the system does not tell (macOS, Windows), those of the
    machine."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
