"""Processes: torchrun starts them, torch's own process group joins them; without torchrun there is one.

torch is imported when it is first needed: the run scripts import this before they know whether --help is all
that is asked for.
"""

import os
import sys


def _group():
    """torch.distributed if this process has joined a group, else None."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def start(use_cpu: bool):
    """Join the process group that torchrun's environment describes, if any; returns this process's
    torch.device."""
    import torch
    import torch.distributed as dist

    cuda = torch.cuda.is_available() and not use_cpu
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
    return device


def stop():
    """Leave the process group."""
    if _group():
        _group().destroy_process_group()


def world() -> int:
    """Number of processes."""
    return _group().get_world_size() if _group() else 1


def rank() -> int:
    """This process's number; 0 writes files."""
    return _group().get_rank() if _group() else 0


def is_main() -> bool:
    """Whether this process writes logs and checkpoints."""
    return rank() == 0


def barrier():
    """Wait for all processes."""
    if _group():
        _group().barrier()


def gather(value) -> list:
    """Every process's picklable value, by rank, on every process.  Objects, not tensors: predictions may be
    ragged."""
    if not _group():
        return [value]
    values = [None] * world()
    _group().all_gather_object(values, value)
    return values


def any_of(flag: bool) -> bool:
    """Whether something holds in any of the processes; all of them learn it."""
    if not _group():
        return flag
    import torch

    device = "cuda" if _group().get_backend() == "nccl" else "cpu"
    return bool(all_reduce(torch.tensor(float(flag), device=device), "max"))


def all_reduce(tensor, op: str = "sum"):
    """Sum (or "max") of a tensor over the processes, in place."""
    if _group():
        operation = _group().ReduceOp
        _group().all_reduce(tensor, operation.SUM if op == "sum" else operation.MAX)
    return tensor
