"""Processes: torchrun starts them, torch's own process group joins them; without torchrun there is one."""

import os

import torch
import torch.distributed as dist


def start(use_cpu: bool) -> torch.device:
    """Join the process group that torchrun's environment describes, if any, and return this process's device."""
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
    if dist.is_initialized():
        dist.destroy_process_group()


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process writes logs and checkpoints."""
    return rank() == 0


def barrier():
    """Wait for all processes."""
    if dist.is_initialized():
        dist.barrier()


def gather(value) -> list:
    """Every process's picklable value, by rank, on every process.  Objects, not tensors: predictions may be ragged."""
    if not dist.is_initialized():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def all_reduce(tensor, op: str = "sum"):
    """Sum (or "max") of a tensor over the processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor, dist.ReduceOp.SUM if op == "sum" else dist.ReduceOp.MAX)
    return tensor
