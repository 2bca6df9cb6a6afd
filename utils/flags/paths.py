"""The flags that name files and folders: which they are, whether the machine can take them, and that none is
the run folder."""

import errno
import glob
import itertools
import os
from pathlib import Path

from utils.checkpoints import EMPTY

_ENDINGS = ("_dir", "_path", "_file")
_OTHERS = ("corpus", "input", "predict", "report")
_NO_PATHS = ("layer_or_sparsity_path", "student_path")  # 90S,95S: a path of students
_LONGEST = 255  # bytes of a name, on all common file systems
# Folders of which single files are read or written by name: a run folder may lie in them
_BY_NAME = ("data_dir", "hops_dir", "export_dir", "cache_dir")


def of(args) -> dict[str, list[str]]:
    """{flag: the paths given} of the flags that name files or folders, URLs and hub names among them."""
    found = {}
    for flag, value in vars(args).items():
        if flag not in _NO_PATHS and (flag.endswith(_ENDINGS) or flag in _OTHERS):
            values = value if isinstance(value, list) else [value]
            found[flag] = [path for path in values if isinstance(path, str)]
    return found


def problems(args):
    """Yield what the machine cannot take of the paths in the flags; fills in the home folder for a ~."""
    for flag, values in of(args).items():
        expanded = [os.path.expanduser(path) for path in values]
        for path in expanded:
            if not path:
                yield f"--{flag}: {EMPTY}"
            elif path.startswith("~"):
                yield (
                    f"--{flag} {path}: no user {path.partition('/')[0][1:]}; for a folder of that name write "
                    f"./{path}"
                )
            elif (problem := unusable(path)) is not None:
                yield f"--{flag} {path}: {problem}"
        if expanded != values:
            setattr(args, flag, expanded if isinstance(getattr(args, flag), list) else expanded[0])


def unusable(path) -> str | None:
    """Why the machine cannot even look whether a path is there; None also for a URL."""
    if "://" in path:
        return None
    # Also below a folder that is not there yet
    if any(len(os.fsencode(part)) > _LONGEST for part in Path(path).parts):
        return os.strerror(errno.ENAMETOOLONG)
    try:
        os.stat(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            return error.strerror
    except ValueError as error:
        return str(error)
    return None


def inside_the_run(args):
    """Yield what is wrong where a path in the flags is the run folder, lies in it or holds it."""
    if args.dry_run or getattr(args, "predict", None) or getattr(args, "report", None):
        return  # these make no run folder there
    for flag, values in of(args).items():
        for path in values if flag != "output_dir" else ():
            if problem := overlap(path, args.output_dir, by_name=flag in _BY_NAME):
                yield f"--{flag} {path}: {problem}"


def overlap(path: str, folder, *, by_name: bool) -> str | None:
    """Why `path` cannot be used by the run in `folder`, which is emptied by --overwrite, or None.

    by_name: `path` is a file, or a folder of which only files of certain names are looked at, so that it may
    hold the run folder. Globs count as the folder that they begin in; URLs, and hub names, of which there is
    no folder, never overlap.
    """
    if "://" in path or not (by_name or os.path.lexists(path) or glob.has_magic(path)):
        return None
    if not os.path.lexists(path):
        path = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(path).parts))
    path, run = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    if path == run:
        return (
            f"it is the run folder (--output_dir {folder}), which holds nothing but the run; choose another "
            "--output_dir"
        )
    if run in path.parents:
        return (
            f"it lies in the run folder (--output_dir {folder}), which holds nothing but the run; choose "
            "another --output_dir"
        )
    if path in run.parents and not by_name:
        return f"the run folder lies in it (--output_dir {folder}); choose another --output_dir"
    return None
