"""Processes: torchrun starts them, torch's own process group joins them; without torchrun there is one.

Tensors may be shared out (--shard): each process has its rows of them, as torch's DTensor.  What is said of
such a tensor here holds of plain ones too, which are whole and local.

torch is imported when it is first needed: the run scripts import this before they know whether --help is all
that is asked for.
"""

import functools
import math
import os
import re
import sys

from utils.errors import RunError, UserError, of_machine

_LOST = re.compile(r"gloo/|Connection (closed|reset) by peer|NCCL (error|communicator)")


def _group():
    """torch.distributed if this process has joined a group, else None."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def wanted() -> int:
    """The number of processes that the environment describes; 1 where it says nothing, or nonsense."""
    number = os.environ.get("WORLD_SIZE", "")
    return int(number) if number.isdecimal() else 1


def start(use_cpu: bool):
    """Join the process group that torchrun's environment describes, if any; returns this process's
    torch.device.

    Raises RunError where that cannot be done, or where there are fewer GPUs than processes.
    """
    import torch
    import torch.distributed as dist

    described = {name: os.environ.get(name, "") for name in ("WORLD_SIZE", "LOCAL_RANK")}
    for name, value in described.items():
        if value and not value.isdecimal():
            raise RunError(
                f"{name}={value!r} in the environment: expected a number, as torchrun sets it; unset it"
            )
    cuda = torch.cuda.is_available() and not use_cpu
    local_rank, there = int(described["LOCAL_RANK"] or 0), torch.cuda.device_count()
    if cuda and local_rank >= there:
        raise RunError(
            f"torchrun has started more processes than there are GPUs ({there}) on this machine; choose "
            f"--nproc_per_node {there}, or --use_cpu"
        )
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if wanted() > 1 and not dist.is_initialized():
        try:
            dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
        except (ValueError, dist.DistError) as error:
            raise RunError(
                f"WORLD_SIZE={wanted()} in the environment, but the processes cannot join "
                f"({_line(error)}); start them with torchrun, or unset WORLD_SIZE for one alone"
            ) from error
    return device


def lost(error: Exception) -> str | None:
    """What to say of an error that means that another process has ended or cannot be reached; None of
    others."""
    dist = sys.modules.get("torch.distributed")
    if dist is None or not (
        isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and _LOST.search(str(error)))
    ):
        return None
    return (
        f"the connection to another process is lost ({_line(error)}); what that one said last tells why, or, "
        "where it said nothing, it was killed: for lack of memory, maybe. The same command with as many "
        "processes goes on from what was saved"
    )


def _line(error):
    """The first line of an error of torch's, without the place in its source."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^\[\S+\] ", "", lines[0]).partition(". This is typically")[0]


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


def from_main(work):
    """What work() returns, done by the main process, on all of them; picklable.

    Its error, of a user or the machine, is raised by all: they would wait for the main process for ever.
    """
    if not _group():
        return work()
    answer, problem = None, None
    if is_main():
        try:
            answer = work()
        except (UserError, OSError) as error:
            problem = str(error) if isinstance(error, UserError) else of_machine(error)
    answer, problem = gather((answer, problem))[0]
    if problem is not None:
        raise RunError(problem)
    return answer


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


# ---- Tensors that are shared out


@functools.cache
def mesh():
    """torch's device mesh over all processes."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh("cuda" if _group().get_backend() == "nccl" else "cpu", (world(),))


def is_shared_out(module) -> bool:
    """Whether each process holds its rows of a module's parameters."""
    return any(hasattr(parameter, "full_tensor") for parameter in module.parameters())


def local(tensor):
    """This process's rows of a tensor."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor):
    """A tensor with the rows of all processes, all of which must call it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def share_out(tensor):
    """A tensor of which this process keeps its rows, copied; all processes have it, mapped from a file
    maybe."""
    parts = tensor.chunk(world())
    rows = parts[rank()] if rank() < len(parts) else tensor[:0]
    return as_rows(rows.to(mesh().device_type, copy=True).contiguous(), tensor)


def as_rows(rows, tensor):
    """These rows, which are this process's, as a part of a tensor that is like another."""
    from torch.distributed.tensor import DTensor, Shard

    strides = tuple(math.prod(tensor.shape[dim + 1 :]) for dim in range(tensor.dim()))
    return DTensor.from_local(rows, mesh(), (Shard(0),), run_check=False, shape=tensor.shape, stride=strides)


def changed(tensor, function):
    """function(tensor), which needs it whole: one that is shared out is gathered for it, and shared out
    again."""
    return share_out(function(whole(tensor))) if hasattr(tensor, "full_tensor") else function(tensor)
