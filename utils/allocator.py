"""The C library's memory allocator, as training and measuring on a CPU want it."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # of glibc's mallopt


def keep_freed_memory():
    """Let this process reuse the memory that it frees, instead of giving it back to the system; process-wide,
    for good.

    By default glibc gets each block above 32 MiB from the system anew (the gradient of every vocabulary is
    one) and returns the end of its heap whenever that is free (the activations of every update are there);
    the system then clears each page before it is used again. That is about a tenth of the time of an update
    (benchmarks/training_speed.py; medians of three rounds with and without: 1.07 to 1.12). The numbers
    computed are the same. Does nothing where the C library is another.
    """
    libc = _libc()
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)


def keep_no_freed_memory():
    """Let this process give each block of a MiB and more back to the system as soon as it is free;
    process-wide, for good.

    What is gathered and freed layer by layer would else leave holes that nothing fits in. Does nothing where
    the C library is another.
    """
    libc = _libc()
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 2**20)


def give_back():
    """Give freed memory back to the system, as far as whole pages are free; does nothing where the C library
    is another."""
    libc = _libc()
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _libc():
    return ctypes.CDLL(None) if sys.platform == "linux" else None
