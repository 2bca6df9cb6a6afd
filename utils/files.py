"""Files that are either whole or absent: written aside, synced, renamed."""

import hashlib
import json
import os
import shutil
from pathlib import Path


def sha256(path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path):
    """Flush a file's or a folder's entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder):
    """Flush a folder with everything below it."""
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(os.path.join(parent, name))
        sync(parent)


def write_text(path, text: str):
    """Replace a file's content in one step; a reader sees the old text or the new one, also after a crash."""
    path = Path(path)
    aside = path.with_name(path.name + ".tmp")
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    sync(path.parent)


def write_json(path, value):
    """write_text of an indented JSON object.  NaN is refused: no reader but Python's would take it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path):
    """A JSON file's content."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def replace_folder(aside, folder):
    """Put a finished folder in the place of another: sync it, remove the old one, rename."""
    sync_tree(aside)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(aside, folder)
    sync(Path(folder).parent)


def remove(path):
    """Remove a folder with everything in it, if it is there."""
    shutil.rmtree(path, ignore_errors=True)


def link_tree(source, target):
    """Copy a folder by hard links (plain copies where the file system has none).  Its files must not be edited in place."""

    def link(old, new):
        try:
            os.link(old, new)
        except OSError:
            shutil.copy2(old, new)

    shutil.copytree(source, target, copy_function=link)
