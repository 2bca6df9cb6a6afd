"""Files that are either whole or absent: written aside, synced, renamed.

What is written aside is called .NAME.<16 hexadecimal digits>.tmp, is made exclusively, and is locked as long
as its writer
lives: what a killed process has left is told from what another one is writing.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path

from utils import locks
from utils.errors import UserError

_ASIDE = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp")
_LARGEST_JSON = 1 << 28  # bytes: an index of ten million weights is smaller
_in_use = []  # descriptors that stay open as long as this process lives


def absolute(path) -> str:
    """The path of a file, by its own name, from the root of the file system, without .. in it."""
    path = Path(path)
    return str(path.parent.resolve() / path.name)


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


def permit(path):
    """Give a file, or all files below a folder, the permissions that the umask gives; safetensors' are for
    the owner alone."""
    os.umask(umask := os.umask(0o077))
    folders = os.walk(path) if os.path.isdir(path) else [("", (), [path])]
    for file in (os.path.join(parent, name) for parent, _, names in folders for name in names):
        with contextlib.suppress(PermissionError):  # a hard link to a file of somebody else
            if not os.path.islink(file) and os.stat(file).st_mode & 0o777 != 0o666 & ~umask:
                os.chmod(file, 0o666 & ~umask)


@contextlib.contextmanager
def writing(path):
    """What the disk refuses inside is an OSError that names `path`, where it names no file, whichever library
    meets it."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))  # Rust: safetensors, tokenizers
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


@contextlib.contextmanager
def new_file(path):
    """A new file beside `path`, to be filled under the name that is given; it takes the place of `path` when
    all is done.

    A reader sees the old file or the new one, also after a crash; where the block fails the old one stays.
    """
    path = Path(path)
    with writing(path):
        aside, descriptor = _make_aside(
            path, lambda name: os.close(os.open(name, os.O_CREAT | os.O_EXCL, 0o666))
        )
        try:
            yield aside
            sync(aside)
            os.replace(aside, path)
        except BaseException as error:
            _give_up(aside, path, error)
            raise
        finally:
            os.close(descriptor)
        sync(path.parent)


@contextlib.contextmanager
def new_folder(path, *, replace=True):
    """A new folder beside `path`, to be filled; it takes the place of `path`, as replace_folder() does, when
    all is done.

    replace=False: where another process was faster, its folder stays.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clean(path.parent, lambda name: name == path.name)
        aside, descriptor = _make_aside(path, os.mkdir)
        try:
            yield aside
            if replace or not path.is_dir():
                replace_folder(aside, path)
            else:
                remove(aside)
        except BaseException as error:
            _give_up(aside, path, error)
            raise
        finally:
            os.close(descriptor)


def scratch_folder(name) -> Path:
    """A new folder in the temporary directory, for its owner alone, which removes it.  What a killed process
    leaves is told from one in use, as beside files, and clean(tempfile.gettempdir(), ...) removes it."""
    aside, descriptor = _make_aside(Path(tempfile.gettempdir(), name), lambda folder: os.mkdir(folder, 0o700))
    _in_use.append(descriptor)
    return aside


def write_text(path, text: str):
    """Replace a file's content in one step.  What is not UTF-8, in names of files, is written as escapes."""
    how = {"encoding": "utf-8", "errors": "backslashreplace"}
    with new_file(path) as aside, open(aside, "w", **how) as file:
        file.write(text)


def write_json(path, value):
    """write_text of an indented JSON object.  NaN is refused: no reader but Python's would take it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path):
    """A JSON file's content.  Raises ValueError for what is none, also for what is nested too deeply, or too
    large."""
    if (size := os.stat(path).st_size) > _LARGEST_JSON:
        raise ValueError(f"{size} bytes; at most {_LARGEST_JSON} are read")
    return parse_json(Path(path).read_text(encoding="utf-8"))


def parse_json(text: str):
    """The value of a JSON text.  Raises ValueError for what is none, also for what is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_object(path, keys: dict, *, error: type[UserError], advice: str) -> dict:
    """The JSON object in a file that this program wrote.

    keys: {name: type, or types} of what it must hold.  Raises `error` where it cannot be read or is something
    else, with what was found and the advice.
    """
    try:
        value = read_json(path)
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as problem:  # ValueError: no JSON, no UTF-8, a number of thousands of digits
        said = problem.strerror if isinstance(problem, OSError) and problem.strerror else problem
        raise error(f"{path}: damaged ({said}); {advice}") from problem
    if not isinstance(value, dict):
        raise error(f"{path}: damaged (found a {type(value).__name__}, expected a JSON object); {advice}")
    check_object(value, keys, path=path, error=error, advice=advice)
    return value


def check_object(value: dict, keys: dict, *, path, error: type[UserError], advice: str):
    """Raise `error` where a part of what read_object() found in `path` is not as `keys` says."""
    for name, kind in keys.items():
        found = value.get(name)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if type(found) not in kinds and not (float in kinds and type(found) is int):
            expected = " or ".join("nothing" if k is type(None) else k.__name__ for k in kinds)
            raise error(f"{path}: damaged ({name}: found {str(found)[:80]!r}, expected {expected}); {advice}")


def replace_folder(aside, folder):
    """Put a finished folder in the place of another: sync it, rename the old one, rename, remove the old
    one."""
    permit(aside)
    sync_tree(aside)
    folder = Path(folder)
    old = _aside_name(folder) if os.path.lexists(folder) else None
    if old is not None:
        os.rename(folder, old)
    try:
        os.rename(aside, folder)
    except OSError:
        if old is not None:
            os.rename(old, folder)
        raise
    sync(folder.parent)
    if old is not None:
        remove(old)


def remove(path):
    """Remove a file, a link, or a folder with everything in it, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)


def clean(folder, is_ours):
    """Remove what killed processes left of writing a folder's files and folders.

    is_ours(name): whether the file or folder that was to be written is this program's.
    """
    for entry in Path(folder).iterdir():
        target = target_of(entry.name)
        if target is None or not is_ours(target) or entry.is_symlink():
            continue
        try:
            descriptor = os.open(entry, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            continue
        if locks.take(descriptor):  # its writer is dead
            remove(entry)
        os.close(descriptor)


def target_of(name: str) -> str | None:
    """The name of the file or folder that is written aside under this name; None where it is no such name."""
    found = _ASIDE.fullmatch(name)
    return found and found[1]


def link_tree(source, target):
    """Copy a folder by hard links (plain copies where the file system has none).  Its files must not be
    edited in place."""

    def link(old, new):
        try:
            os.link(old, new)
        except OSError:
            shutil.copy2(old, new)

    shutil.copytree(source, target, copy_function=link, dirs_exist_ok=True)


def _give_up(aside, path, error):
    """Remove what was written aside; an error of the disk names what it was to become."""
    remove(aside)
    for key in ("filename", "filename2") if isinstance(error, OSError) else ():
        if getattr(error, key) is not None:
            setattr(error, key, str(getattr(error, key)).replace(str(aside), str(path)))


def _aside_name(path):
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def _make_aside(path, make):
    """(name, locked descriptor) of something new beside a path.  An error of the disk names the path."""
    while True:
        aside = _aside_name(path)
        try:
            make(aside)
        except OSError as error:
            error.filename = str(path)
            raise
        # clean() of another process found it before it was locked
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(aside, os.O_RDONLY)
            if locks.take(descriptor) is not False:
                return aside, descriptor
            os.close(descriptor)
