"""Snapshots: the state of training, and the best model so far, that a killed run continues from.

    state/<stage>/snapshot-<updates>/state.safetensors   weights and optimiser moments
                                     state-0-of-2.safetensors, ...: the rows of each process, where the
                                                         student is shared out among them
                                     state.json          position, scores, patience
                                     best/               the selected checkpoint so far (a Hugging Face
                                                         folder)
    state/<stage>/latest                                 the name of the snapshot to use

A snapshot is written aside, synced and renamed; only then does `latest` point at it, and the old one goes
last: at any moment `latest` names a whole snapshot in which state and best model belong together.  What else
is found there was damaged by others.
"""

import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from utils import distributed, files
from utils.errors import RunError

_NAME = re.compile(r"snapshot-\d+(-done)?b*")
# position, step: updates tried and done.  evaluation_due: whether the weights are still to be scored.
# window, rows: what the next row of metrics.jsonl sums up so far, and the number of those that are written.
# save_seconds: what the state before took
_VALUES = {
    "done": bool,
    "position": int,
    "step": int,
    "evaluation_due": bool,
    "best_step": int,
    "best": (dict, type(None)),
    "last": (dict, type(None)),
    "scaler": dict,
    "window": dict,
    "rows": int,
    "seconds": float,
    "save_seconds": float,
}
_WINDOW = {"sums": list, "logged": dict, "seconds": float}
_SCORE = {"value": float, "metrics": dict, "choice": dict}
_ADVICE = "the run cannot be continued from it; --overwrite starts afresh"


def write(folder: Path, name: str, *, tensors: dict, values: dict, save_best=None, shared_out=False):
    """Write a snapshot and point at it.

    tensors: flat {name: tensor}; may be empty.  values: what JSON can hold.  save_best(folder): writes the
    model that has just become the best; None keeps that of the snapshot before.
    shared_out: all processes call it, each with its rows of the tensors, which it writes and syncs itself.
    """
    if distributed.is_main():
        _write(folder, name, tensors, values, save_best, shared_out)
        return
    distributed.barrier()  # the folder is there
    aside = folder / "tmp"
    if tensors:
        with files.writing(folder):
            _save(tensors, aside / _file_name(shared_out))
        files.sync(aside / _file_name(shared_out))
    distributed.gather(_shapes(tensors))
    if save_best is not None:
        save_best(aside / "best")


def _write(folder, name, tensors, values, save_best, shared_out):
    folder.mkdir(parents=True, exist_ok=True)
    previous = latest(folder)
    aside = folder / "tmp"
    files.remove(aside)
    aside.mkdir()
    if shared_out:
        distributed.barrier()
    try:
        with files.writing(folder):
            if tensors:
                _save(tensors, aside / _file_name(shared_out))
            shapes = distributed.gather(_shapes(tensors)) if shared_out else _shapes(tensors)
            files.write_json(aside / "state.json", {**values, "tensors": shapes})
            if save_best is not None:
                save_best(aside / "best")
            elif previous is not None and (previous / "best").exists():
                files.link_tree(previous / "best", aside / "best")
        target = folder / name
        # Replaces itself: `latest` must not point into a gap
        if previous is not None and previous.name == name:
            target = folder / f"{name}b"
        files.replace_folder(aside, target)
    except BaseException:
        files.remove(aside)
        raise
    files.write_text(folder / "latest", target.name)
    for entry in folder.iterdir():
        if entry.name not in (target.name, "latest"):
            files.remove(entry)


def _file_name(shared_out):
    """Of this process's tensors."""
    if not shared_out:
        return "state.safetensors"
    return f"state-{distributed.rank()}-of-{distributed.world()}.safetensors"


def _save(tensors, file):
    save_file({key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}, file)


def _shapes(tensors):
    return {key: list(tensor.shape) for key, tensor in tensors.items()}


def latest(folder: Path) -> Path | None:
    """The snapshot to continue from, or None.  Raises RunError where the pointer is damaged."""
    pointer = folder / "latest"
    if not pointer.exists():
        return None
    try:
        name = pointer.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RunError(f"{pointer}: damaged ({error}); {_ADVICE}") from error
    if not _NAME.fullmatch(name) or not (folder / name).is_dir():
        raise RunError(
            f"{pointer}: damaged (found {name[:80]!r}, expected the name of a snapshot beside it); {_ADVICE}"
        )
    return folder / name


def read(snapshot: Path, device, *, shared_out=False) -> tuple[dict, dict]:
    """(tensors, values) of a snapshot.  Raises RunError where it is damaged, or not all tensors are there.

    shared_out: each process reads its own rows.
    """
    values, file = read_values(snapshot), snapshot / _file_name(shared_out)
    try:
        tensors = load_file(file, device=str(device))
    except (OSError, SafetensorError) as error:
        raise RunError(f"{file}: damaged ({error}); {_ADVICE}") from error
    shapes = _shapes(tensors)
    expected = values.get("tensors", shapes)  # states of earlier versions say nothing
    if shared_out and isinstance(expected, list) and len(expected) == distributed.world():
        expected = expected[distributed.rank()]
    if not isinstance(expected, dict):
        raise RunError(f"{snapshot / 'state.json'}: damaged (tensors: found {str(expected)[:80]}); {_ADVICE}")
    if shapes != expected:
        wrong = next(key for key in {**expected, **shapes} if shapes.get(key) != expected.get(key))
        found, wanted = (x.get(wrong, "nothing") for x in (shapes, expected))
        raise RunError(f"{file}: damaged ({wrong}: found {found}, expected {wanted}); {_ADVICE}")
    return tensors, values


def read_values(snapshot: Path) -> dict:
    """What JSON holds of a snapshot.  Raises RunError where it is damaged, or the best model is missing."""
    file = snapshot / "state.json"
    values = files.read_object(file, _VALUES, error=RunError, advice=_ADVICE)
    window = values["window"]
    files.check_object(window, _WINDOW, path=f"{file}: window", error=RunError, advice=_ADVICE)
    for sums in (*window["sums"], window["logged"]):
        if not isinstance(sums, dict) or not all(type(value) in (int, float) for value in sums.values()):
            raise RunError(
                f"{file}: damaged (window: found {str(sums)[:80]}, expected sums by name); {_ADVICE}"
            )
    for name in ("best", "last"):
        if values[name] is None and values["done"]:
            raise RunError(f"{file}: damaged ({name}: found nothing of a stage that is done); {_ADVICE}")
        if values[name] is not None:
            files.check_object(values[name], _SCORE, path=f"{file}: {name}", error=RunError, advice=_ADVICE)
            values[name] = {key: values[name][key] for key in _SCORE}
    if values["best"] is not None and not (snapshot / "best").is_dir():
        raise RunError(f"{snapshot / 'best'}: no such folder; expected the best model so far; {_ADVICE}")
    return values
