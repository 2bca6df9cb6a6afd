"""Outputs of frozen models on the disk, which all runs of one model and data share.

    <folder>/<hash of the description>/about.json    what they are of; there when they are whole
                                       <name>.bin    the numbers of one tensor, nothing else
                                       filling.json  how far they are, while they are not whole
                                       lock          who fills them holds a lock on it

A kill leaves filling.json, which names no batch whose outputs are not on the disk: whoever comes next goes on
from there.  Nothing is removed: a folder that no run needs any more can go.
"""

import contextlib
import hashlib
import json
import math
import os
import time
from pathlib import Path

import torch

from utils import distributed, evaluation, files, interruptions, locks, logs, memory
from utils.errors import RunError

_WHOLE, _FILLING, _LOCK = "about.json", "filling.json", "lock"
_PARTS = 20  # after each of so many parts of the work what is done is safe
_POLL = 1.0  # seconds between two looks at whether another run is done


def tensors(folder, description: dict, *, sizes, batches, compute, what: str, advice: str) -> dict:
    """{name: tensor}, memory-mapped: what runs have kept in a folder under a description, or what is computed
    now.

    description: what JSON can hold; the same one means the same bits.  sizes: {name: (shape, dtype)}.
    compute(batch) -> {name: (row in the tensor at which it begins, rows)}, of each of `batches`, which cover
    the tensors.  what, advice: as of memory.require(), about the disk.
    The processes of a run share the work, and must all see the folder.  Where another run is at it, this one
    waits.  Raises RunError where there is no room, and for what others have damaged.
    """
    key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]
    place, waits = Path(folder) / key, False
    with contextlib.ExitStack() as held, files.writing(place):

        def claim():
            return _claim(place, description, sizes, len(batches), held, what=what, advice=advice)

        while (done := distributed.from_main(claim)) is None:
            if not waits:
                logs.logger.info("%s: another run is filling it; waiting for its end", place)
            waits = True
            interruptions.check()
            time.sleep(_POLL)
        if done < len(batches):
            _fill(place, description, sizes, batches, done, compute)
        return {name: _mapped(place, name, *size) for name, size in sizes.items()}


def _claim(place, description, sizes, num_batches, held, *, what, advice) -> int | None:
    """How many batches are there; unless all, the lock is this run's until `held` ends.  None where it is
    another's."""
    total = sum(_num_bytes(size) for size in sizes.values())
    if not _is_whole(place, description, sizes):
        place.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        held.callback(os.close, descriptor)
        taken = locks.take(descriptor)
        if taken is False:
            return None
        if taken is None:
            logs.logger.warning("%s: this file system has no locks (flock): fill it by one run", place)
        if not _is_whole(place, description, sizes):  # by the one before
            return _begin(place, sizes, total, what=what, advice=advice)
    logs.logger.info("outputs of the frozen model, %s: kept before, in %s", memory.in_words(total), place)
    return num_batches


def _begin(place, sizes, total, *, what, advice) -> int:
    """How many batches an earlier filling has left; makes the files."""
    done = 0
    if (place / _FILLING).exists():
        done = files.read_object(
            place / _FILLING, {"batches": int}, error=RunError, advice=f"remove {place}"
        )["batches"]
    there = sum(file.stat().st_blocks * 512 for file in place.glob("*.bin"))
    memory.require(max(0, total - there), what=f"--cache_teacher disk: {what}", advice=advice, folder=place)
    for name in sizes:
        (place / f"{name}.bin").touch()
    logs.logger.info(
        "outputs of the frozen model, %s (%s), written to %s", memory.in_words(total), what, place
    )
    if done:
        logs.logger.info("%s: filled from batch %d on, where a run before has stopped", place, done)
    return done


def _fill(place, description, sizes, batches, done, compute):
    """Compute and write what is not there, all processes together; then it is whole."""
    with contextlib.ExitStack() as opened:
        written = {name: opened.enter_context(_open(place, name)) for name in sizes}
        every = max(1, len(batches) // (_PARTS * distributed.world()))  # rounds
        for number, (batch, own) in enumerate(evaluation.share(batches[done:]), 1):
            for name, (row, part) in compute(batch).items():
                if own:
                    shape, dtype = sizes[name]
                    written[name].seek(row * math.prod(shape[1:]) * dtype.itemsize)
                    written[name].write(part.contiguous().view(-1).view(torch.uint8).numpy())
            if number % every == 0:
                _save(place, written, {"batches": done + number * distributed.world()})
        _save(place, written, {"batches": len(batches)})
    if distributed.is_main():
        kept = {name: [*shape, str(dtype)] for name, (shape, dtype) in sizes.items()}
        files.write_json(place / _WHOLE, {"description": description, "sizes": kept})
        files.remove(place / _FILLING)
    distributed.barrier()


def _save(place, written, progress):
    """What has been written so far is on the disk, of all processes, before it is said.

    Raises RunError where somebody has removed the files: what is there now may be another run's.
    """
    gone = False
    for file in written.values():
        file.flush()
        os.fsync(file.fileno())
        gone = gone or not (os.path.exists(file.name) and os.path.samefile(file.name, file.fileno()))
    if distributed.any_of(gone):
        raise RunError(f"{place}: removed while it was filled; the same command fills it again")
    if distributed.is_main():
        files.write_json(place / _FILLING, progress)


def _is_whole(place, description, sizes) -> bool:
    if not (place / _WHOLE).exists():
        return False
    advice = f"remove {place}: it is made again"
    found = files.read_object(place / _WHOLE, {"description": dict}, error=RunError, advice=advice)
    wrong = [] if found["description"] == description else [_WHOLE]
    for name, size in sizes.items():
        file = place / f"{name}.bin"
        if not file.exists() or file.stat().st_size != _num_bytes(size):
            wrong.append(file.name)
    if wrong:
        raise RunError(f"{place}: damaged ({', '.join(wrong)}: not as it was written); {advice}")
    return True


def _open(place, name):
    """A file that is filled.  Raises RunError where this process does not see what the main one has made."""
    try:
        return open(place / f"{name}.bin", "r+b")
    except FileNotFoundError as error:
        raise RunError(
            f"--cache_dir {place.parent}: this process does not see what the main one has made there; "
            "expected a file system that all machines share"
        ) from error


def _mapped(place, name, shape, dtype):
    file = str(place / f"{name}.bin")
    return torch.from_file(file, shared=False, size=math.prod(shape), dtype=dtype).view(shape)


def _num_bytes(size) -> int:
    shape, dtype = size
    return math.prod(shape) * dtype.itemsize
