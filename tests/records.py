"""What a run leaves behind, without what may differ between two runs of the same command: the clock, and what
is told of it."""

import json

from utils.files import sha256

CLOCK = {"seconds", "total_seconds", "started", "examples_per_second", "eta_seconds", "speed", "peak_bytes"}


def records(*folders) -> dict:
    """{file of a run folder: its content}: JSON without clocks, the hash of everything else; log.txt only
    tells the story."""
    found = {}
    for folder in folders:
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "log.txt"):
            found[f"{folder.name}/{file.relative_to(folder)}"] = _content(file)
    return found


def difference(one, other) -> list[str]:
    """Where two records differ, as text."""
    return [
        f"{name}: {'missing' if name not in one else 'left over' if name not in other else 'differs'}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def _content(file):
    if file.suffix == ".json":
        return _timeless(json.loads(file.read_text(encoding="utf-8")))
    if file.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    return sha256(file)


def _timeless(value):
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in CLOCK}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
