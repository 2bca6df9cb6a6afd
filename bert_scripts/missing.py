"""What this environment lacks of requirements files, and the command that installs it.  setup.sh asks;
nothing is installed here.

    python bert_scripts/missing.py requirements-dev.txt
Exit code 0 where nothing is missing, else 2.  A version is compared by its numbers: a 2.13.0+cpu or a
2.13.0a0 is a 2.13.0.
"""

import operator
import re
import shlex
import sys
from importlib import metadata
from itertools import zip_longest
from pathlib import Path

COMPARED = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def main(*paths):
    """Print what is missing; returns the exit code."""
    wanted = dict(line for path in paths for line in requirements(Path(path)))
    lacking = {
        name: (found, spec) for name, spec in wanted.items() if not fits(found := installed(name), spec)
    }
    if not lacking:
        return 0
    width = max(map(len, lacking))
    print(f"{sys.prefix}: this environment lacks what {', '.join(paths)} lists:", file=sys.stderr)
    for name, (found, spec) in lacking.items():
        print(f"  {name:{width}}  found {found or 'none'}, expected {spec or 'any'}", file=sys.stderr)
    command = shlex.join(
        ["python", "-m", "pip", "install", *(name + spec for name, (_, spec) in lacking.items())]
    )
    print(
        f"It is left as it is. This installs them beside what is there:\n  {command}\n"
        "Or deactivate the environment: where none is active, .venv is made, with all in the versions of "
        "constraints.txt.",
        file=sys.stderr,
    )
    return 2


def requirements(file):
    """Yield (name, specifiers) of a requirements file and of those that it includes."""
    for line in file.read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].replace(" ", "")
        if line.startswith("-r"):
            yield from requirements(file.parent / line[2:])
        elif line:
            name = re.match(r"[\w.-]+", line).group()
            yield name, line[len(name) :]


def installed(name):
    """The version of a package; None where it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def fits(found, spec):
    """Whether a version, or None, is what specifiers ask for, like >=5.17,<6."""
    if found is None:
        return False
    for part in filter(None, spec.split(",")):
        sign, version = re.fullmatch(r"([<>=!]+)([\d.]+)", part).groups()
        pairs = [*zip_longest(numbers(found), numbers(version), fillvalue=0)]
        if not COMPARED[sign]([a for a, _ in pairs], [b for _, b in pairs]):
            return False
    return True


def numbers(version):
    """(2, 13, 0) of 2.13.0+cpu."""
    return [int(part) for part in re.match(r"\d+(\.\d+)*", version).group().split(".")]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
