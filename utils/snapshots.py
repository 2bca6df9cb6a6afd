"""Snapshots: the state of training, and the best model so far, that a killed run continues from.

    state/<stage>/snapshot-<updates>/state.safetensors   weights and optimiser moments
                                     state.json          position, scores, patience
                                     best/               the selected checkpoint so far (a Hugging Face folder)
    state/<stage>/latest                                 the name of the snapshot to use

A snapshot is written aside, synced and renamed; only then does `latest` point at it, and the old one goes last: at any moment
`latest` names a whole snapshot in which state and best model belong together.
"""

import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from utils import files


def write(folder: Path, name: str, *, tensors: dict, values: dict, save_best=None):
    """Write a snapshot and point at it.

    tensors: flat {name: tensor}; may be empty.  values: what JSON can hold.  save_best(folder): writes the model that has just
    become the best; None keeps that of the snapshot before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    previous = latest(folder)
    aside = folder / "tmp"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    if tensors:
        save_file({key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}, aside / "state.safetensors")
    files.write_json(aside / "state.json", values)
    if save_best is not None:
        save_best(aside / "best")
    elif previous is not None and (previous / "best").exists():
        files.link_tree(previous / "best", aside / "best")
    target = folder / name
    if previous is not None and previous.name == name:  # replaces itself: `latest` must not point into a gap
        target = folder / f"{name}b"
    files.replace_folder(aside, target)
    files.write_text(folder / "latest", target.name)
    for entry in folder.iterdir():
        if entry.name not in (target.name, "latest"):
            shutil.rmtree(entry)


def latest(folder: Path) -> Path | None:
    """The snapshot to continue from, or None."""
    pointer = folder / "latest"
    return folder / pointer.read_text(encoding="utf-8") if pointer.exists() else None


def read(snapshot: Path, device) -> tuple[dict, dict]:
    """(tensors, values) of a snapshot."""
    return load_file(snapshot / "state.safetensors", device=str(device)), read_values(snapshot)


def read_values(snapshot: Path) -> dict:
    """What JSON holds of a snapshot."""
    return files.read_json(snapshot / "state.json")
