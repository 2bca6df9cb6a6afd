"""Errors that a user can cause.  They are printed without a traceback and end the script with exit code 2."""

import errno
import re
import shutil

from utils import environment

_TO_DO = {
    errno.ENOSPC: "make room on this disk",
    errno.EDQUOT: "make room within the quota",
    errno.EFBIG: "larger files are not allowed here (ulimit -f)",
    errno.EROFS: "choose another place",
    errno.EACCES: "check whose it is",
    errno.EPERM: "check whose it is",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "expected a file",
    errno.ENOTDIR: "expected a folder",
    errno.EMFILE: "allow more open files (ulimit -n)",
}


class UserError(ValueError):
    """Something that the user can mend: says what was found, what was expected, and what to do."""


class FlagError(UserError):
    """One or more flags are wrong, or contradict each other, the task or a checkpoint."""


class DataError(UserError):
    """A data file is missing or malformed.  The message begins with file and line: `path:12: ...`."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, of another task, or of another structure than the stage needs."""


class RunError(UserError):
    """A run folder cannot be used as asked: settings changed, another kind of run, training diverged."""


def of_machine(error: Exception) -> str | None:
    """What the machine has refused, in one line: a full disk, a file that cannot be read, memory, a library;
    None for an error of another kind."""
    if isinstance(error, ModuleNotFoundError) and error.name in environment.LIBRARIES:
        return environment.lack(error.name)
    # One entry for each file of a folder
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        _, path, said = error.args[0][0]
        return f"{path}: {said}"
    if (lacking := _lack_of_memory(error)) is not None:
        return lacking
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return (
            f"--compile: torch.compile has failed ({_first_line(error)}); on a CPU it needs a C++ compiler "
            "(g++), on a GPU Triton; install what is missing, or leave --compile out, with --overwrite where "
            "the run has begun"
        )
    if isinstance(error, OSError):
        number, said = error.errno, error.strerror or str(error) or type(error).__name__
    elif isinstance(error, UnicodeEncodeError):
        if "\ud800" <= error.object[error.start] <= "\udfff":  # as Python reads such bytes
            return f"{error.object[:80]!a}: the name of a file or folder that is not UTF-8; rename it"
        return (
            f"{error.object[error.start]!a} cannot be written as {error.encoding}; set PYTHONIOENCODING=utf-8"
        )
    else:
        found = re.search(r"\(os error (\d+)\)", str(error))  # of libraries in Rust: safetensors, tokenizers
        if found is None:
            return None
        number, said = int(found[1]), str(error)
    names = [
        str(name) for key in ("filename", "filename2") if (name := getattr(error, key, None)) is not None
    ]
    return (
        (f"{' -> '.join(names)}: " if names else "")
        + said
        + (f"; {_TO_DO[number]}" if number in _TO_DO else "")
    )


def _lack_of_memory(error):
    """The line where what was asked for is memory, of the machine or of a GPU; else None."""
    said = _first_line(error)
    known = ("can't allocate memory", "out of memory")  # torch, on a CPU and on a GPU
    if not isinstance(error, MemoryError) and not (
        isinstance(error, RuntimeError) and any(words in said for words in known)
    ):
        return None
    return (
        f"not enough memory ({said}); choose smaller batches or shorter inputs "
        "(--per_device_train_batch_size, --per_device_eval_batch_size, --max_length; --num_grad_accum_steps "
        "keeps the update), or smaller sizes; with other settings a run starts afresh (--overwrite)"
    )


def _first_line(error):
    return str(error).strip().split("\n")[0] or type(error).__name__
