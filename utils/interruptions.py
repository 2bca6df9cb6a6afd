"""Interruptions: SIGINT and SIGTERM ask a script to stop, and all its processes stop at the same place.

One process by itself stops at once, by an exception, wherever it is: files are whole or absent, so that this
is no worse than a kill.  Inside held() a signal is only noted, and so it is always where there are several
processes: one that left alone would leave the others waiting.  They stop where check() lets them agree, or
where training.fit() does.
"""

import contextlib
import math
import os
import signal
import threading
import time

from utils import distributed

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds from which on a signal is a second request, not the first one sent to a group and to each of it
AGAIN = 1.0
GRACE = 27.0  # seconds that a process takes at most to stop if torchrun has started it, which kills after 30


class Interrupted(KeyboardInterrupt):
    """The script has been asked to stop.  A KeyboardInterrupt, so that no `except Exception` on the way keeps
    it."""


_several = distributed.wanted() > 1
_hurried = False  # whether torchrun waits for an end
_held = False
_signalled = _asked = (
    None  # when the first signal came to this process; when it or another one was asked first
)
_watched = None  # writing here starts the clock of _watch()
_clean_up = None  # see listen()


def listen(clean_up=None):
    """Take the signals from now on: the first thing that a script does, before the imports that take seconds.

    clean_up: given by runs.guard(), which catches Interrupted: what is left to do where a process does not
    get there in time. Until then nothing has begun, and one process by itself ends at once.
    """
    global _several, _hurried, _watched, _clean_up
    _clean_up = clean_up
    _several = distributed.wanted() > 1
    _hurried = _several or "TORCHELASTIC_RUN_ID" in os.environ
    if _hurried and _watched is None:
        reader, _watched = os.pipe()
        os.set_blocking(_watched, False)
        signal.set_wakeup_fd(_watched, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    for number in SIGNALS:
        signal.signal(number, _on_signal)


def leave():
    """The script has nothing more to do but to end: from now on signals change nothing, nor its exit code."""
    for number in SIGNALS:
        # The interpreter's own end would set a handler of ours back to the default
        signal.signal(number, signal.SIG_IGN)


def asked() -> bool:
    """Whether this process has been asked to stop."""
    return _asked is not None


def note():
    """This process stops because it or another one has been asked to."""
    global _asked
    if _asked is None:
        _asked = time.monotonic()
        if _watched is not None:
            os.write(_watched, b"\0")


def check():
    """Raise Interrupted in all processes if one of them has been asked to stop.  All of them must call it."""
    if distributed.any_of(asked()):
        note()
        raise Interrupted


@contextlib.contextmanager
def held():
    """A context in which a signal is noted only; afterwards it is acted upon."""
    global _held
    _held = True
    try:
        yield
    finally:
        _held = False
    if asked() and not _several:
        raise Interrupted


@contextlib.contextmanager
def blocked():
    """A context in which signals wait; a process that is started in it never gets any."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def seconds_left() -> float:
    """Seconds that this process may take to stop; any number of them where nobody would kill it."""
    return math.inf if _asked is None or not _hurried else GRACE - (time.monotonic() - _asked)


def _on_signal(*_):
    global _signalled
    now = time.monotonic()
    if _signalled is not None and now - _signalled > AGAIN:
        raise KeyboardInterrupt  # the second time: at once, from the last saved state
    first, _signalled = _signalled is None, _signalled or now
    note()
    if _several or _held:
        if first and os.environ.get("RANK", "0") == "0":
            # A log may be in the middle of a line
            _say("\ninterrupted: stopping soon (once more: at once)")
    elif _clean_up is None:
        _say("interrupted: no run had begun")
        os._exit(130)
    elif first:
        raise Interrupted


def _say(text):
    """Print a line on stderr as printable.say() does, where a handler or a thread may not use sys.stderr."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())


def _watch(reader):
    """End this process in time, whatever it is waiting for: better its own exit code than that of a kill."""
    os.read(reader, 1)
    time.sleep(GRACE)
    _say(f"interrupted: no place to stop at within {GRACE:g} seconds; what was saved last stays")
    if _clean_up is not None:
        _clean_up()
    os._exit(130)
