"""Whether this Python has what the scripts import.  Nothing here imports more than Python's own library."""

import importlib.util
import os
import re
import sys
from importlib import metadata

from utils.printable import say

_OLDEST = {
    "torch": (2, 11),
    "transformers": (5, 17),
}  # what every script imports first, as requirements.txt has it
# What is imported where it is needed
LIBRARIES = ("datasets", "matplotlib", "pyarrow", "scipy", "sentencex", "seqeval", "sklearn", "tqdm")


def require():
    """End a script, before its imports, with exit code 2 and a message where a library is not there, or too
    old, or cannot be imported as Python was started."""
    if sys.flags.optimize > 1:
        _refuse(
            "python -OO (PYTHONOPTIMIZE=2): transformers, and --help, need docstrings; choose -O, or none"
        )
    try:
        os.getcwd()
    except FileNotFoundError:
        _refuse("the folder that this was started in is no longer there; change to another one")
    lacking = [name for name in _OLDEST if importlib.util.find_spec(name) is None]
    if not lacking:
        lacking = [
            f"{name} from {_words(oldest)} on" for name, oldest in _OLDEST.items() if _found(name) < oldest
        ]
    if lacking:
        _refuse(lack(*lacking))


def _refuse(said):
    say(f"error: {said}")
    sys.exit(2)


def _found(name) -> tuple[int, ...]:
    """(5, 17) of 5.17.0.dev0; what has no version is taken as it is."""
    try:
        return tuple(map(int, re.findall(r"\d+", metadata.version(name))[:2]))
    except metadata.PackageNotFoundError:
        return _OLDEST[name]


def _words(version):
    return ".".join(map(str, version))


def lack(*names) -> str:
    """What this Python lacks, and what to do about it."""
    return (
        f"{sys.executable}: this Python has no {' and no '.join(names)}; activate the environment that has "
        "it (source .venv/bin/activate, where bert_scripts/quickstart.sh has made one); python "
        "bert_scripts/missing.py requirements.txt lists all that is missing, and the command that installs it"
    )
