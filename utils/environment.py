"""Whether this Python has what the scripts import.  Nothing here imports more than Python's own library."""

import importlib.util
import sys

from utils.printable import say

_FIRST = ("torch", "transformers")  # of every script's imports
# What is imported where it is needed
LIBRARIES = ("datasets", "matplotlib", "pyarrow", "scipy", "sentencex", "seqeval", "sklearn", "tqdm")


def require():
    """End a script, before its imports, with exit code 2 and a message where a library is not there."""
    lacking = [name for name in _FIRST if importlib.util.find_spec(name) is None]
    if lacking:
        say(f"error: {lack(*lacking)}")
        sys.exit(2)


def lack(*names) -> str:
    """What this Python lacks, and what to do about it."""
    return (
        f"{sys.executable}: this Python has no {' and no '.join(names)}; activate the environment that has "
        "it (source .venv/bin/activate, where bert_scripts/quickstart.sh has made one); python "
        "bert_scripts/missing.py requirements.txt lists all that is missing, and the command that installs it"
    )
