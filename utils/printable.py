"""Text from files as it may be printed: nothing in it moves a terminal's cursor, renames its window or hides
what follows."""

import contextlib
import re
import sys

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST = 20000  # characters of a message


def printable(text: str) -> str:
    """The text with control characters, all but tab and line feed, and halves of surrogate pairs as escapes:
    \\x1b."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def say(text: str):
    """Print a line on stderr; a stderr that is full, or that nobody reads any more, ends no run."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)


def message(text: str) -> str:
    """A printable message of a length that can be read; how long it was is said where it is cut."""
    if len(text) <= _LONGEST:
        return printable(text)
    return f"{printable(text[:2000])} ... ({len(text)} characters in all)"
