"""What a run is made from: versions, commit, the hashes of its inputs; and what of it has changed when a run
is continued."""

import contextlib
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from utils import checkpoints, files, run_folder
from utils.errors import RunError
from utils.logs import logger

_read = set()


def this_start() -> dict:
    """Command, versions, commit and time of this start."""
    versions = {"python": platform.python_version()}
    for name in ("torch", "transformers", "tokenizers", "numpy", "safetensors"):
        versions[name] = metadata.version(name)
    commit = None
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        here = Path(__file__).resolve().parent
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=here,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    return {
        "command": sys.argv,
        "versions": versions,
        "git_commit": commit,
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def note_read(path):
    """Remember that this process has read a data file: cards list no other."""
    _read.add(Path(path).name)


def names_read() -> frozenset:
    """Names of the data files that this process has read."""
    return frozenset(_read)


def ancestry(inputs: dict) -> dict:
    """What the checkpoints among a run's inputs were made by and of.

    Returns {"before": [{"stage", "command"}, ...], the first stage first; "base_models": names on the hub}.
    """
    before, base = [], []
    for value in inputs.values():
        if not isinstance(value, str | Path):
            continue
        folder = Path(checkpoints.folder_of(value))
        if not folder.is_dir():
            base.append(str(value))
            continue
        with contextlib.suppress(RunError):  # none, or a damaged one: nothing that stops this run
            record = run_folder.read_record(folder.parent)
            before += [*(record.get("before") or ()), {key: record.get(key) for key in ("stage", "command")}]
            base += record.get("base_models") or ()
    return {
        "before": [
            each for number, each in enumerate(before) if each not in before[:number] and _is_stage(each)
        ],
        "base_models": [*dict.fromkeys(filter(_is_text, base))],
    }


def _is_stage(value):
    words = value.get("command") if isinstance(value, dict) else None
    return isinstance(words, list) and all(map(_is_text, words))


def _is_text(value):
    return isinstance(value, str)


def hashes(inputs: dict) -> dict[str, str]:
    """The hash of each input.  inputs: {name: path of a checkpoint, list of data files, or {file: hash}}."""
    found = {}
    for name, value in inputs.items():
        if isinstance(value, list | tuple):
            paths = [Path(path) for path in value]
            names = [path.name for path in paths]
            for path in paths:
                known_as = path.name if names.count(path.name) == 1 else f"{path.parent.name}/{path.name}"
                found[f"{name}/{known_as}"] = files.sha256(path)
        elif isinstance(value, dict):
            found.update({f"{name}/{path}": digest for path, digest in value.items()})
        elif value is not None:
            found[name] = checkpoints.fingerprint(value)
    return found


def paths(inputs: dict) -> list[tuple[str, str]]:
    """[(name, path)] of everything that is read, of the same inputs; hub names and URLs among them."""
    found = []
    for name, value in inputs.items():
        values = value if isinstance(value, list | tuple | dict) else [value]
        found += [(name, str(path)) for path in values if path is not None]
    return found


def note_tests(folder, hashes: dict):
    """Say in the log, and in args.json of a run that goes on, that its test files are others than before.

    hashes: of hashes().
    """
    record = run_folder.read_record(folder)
    old = record["inputs"]
    new = {name: digest for name, digest in hashes.items() if name.startswith(run_folder.TESTS)}
    changed = [name for name, digest in new.items() if old.get(name, digest) != digest]
    for name in changed:
        logger.warning("%s: another file than before; answers and scores of it are of this one", name)
    if new.items() - old.items():
        files.write_json(Path(folder) / run_folder.RECORD, {**record, "inputs": {**old, **new}})


def note_versions(folder, now: dict):
    """Say in the log, and in args.json of a run that is continued, under which other versions it has been
    before.

    now: of this_start().  args.json keeps those of the start; each later start under others than the one
    before it is added to `resumed`.
    """
    record = run_folder.read_record(folder)
    last = {**record, **(record.get("resumed") or [{}])[-1]}
    old, new = last["versions"], now["versions"]
    found = [
        f"{name} {new.get(name)} (before: {old.get(name)})"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    if last["git_commit"] != now["git_commit"]:
        found.append(f"commit {now['git_commit']} (before: {last['git_commit']})")
    if found:
        said = ", ".join(found)
        logger.warning(
            "continued under other versions: %s; the bits may differ from those of an uninterrupted run", said
        )
        part = {key: now[key] for key in ("started", "versions", "git_commit")}
        files.write_json(
            Path(folder) / run_folder.RECORD, {**record, "resumed": [*record.get("resumed", []), part]}
        )
