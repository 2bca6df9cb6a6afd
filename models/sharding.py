"""Models that are shared out (--shard): each process holds its rows of every parameter, by FSDP2.

A layer's parameters are gathered when its forward begins and freed when it ends, once more for its backward,
after which each process gets its rows of the mean gradient; those outside all layers are gathered with the
model itself.  So a parameter may be read inside the forward of the layer, or of the model, that it belongs
to, where it is a plain tensor; elsewhere only this process's rows are at hand (utils/distributed.py).
"""

import contextlib
import os
import tempfile
import warnings

import torch

from models import architectures
from utils import allocator, distributed, files


def gather_for_forward(model):
    """Let a model without values gather its parameters layer by layer, in place; classes stay stock."""
    allocator.keep_no_freed_memory()
    for module in (*architectures.layer_modules(model), model):
        gather_at_once(module)


def gather_at_once(module):
    """Let a module gather its parameters when it is called (not where a part of it is), in place, but for
    those of modules inside that gather their own.

    Of parameters that have values, which are the same in all processes, each keeps its rows.
    """
    # An output that is a view matters to those who change it in place, which nobody here does
    warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module .* returned a view tensor")
    from torch.distributed.fsdp import fully_shard

    stock = type(module)
    # Also the outermost one frees: else it would go on with old values where they change without backward
    fully_shard(module, mesh=distributed.mesh(), reshard_after_forward=True)
    module.__class__ = stock  # not torch's subclass of it, which cannot be copied


@contextlib.contextmanager
def gathered(model, folder):
    """A context with a shared-out model's state_dict(), whole, in files mapped into memory.

    All processes must enter it; it is gathered tensor by tensor, and only the main process gets it, the
    others None.  folder: where the files lie for the while.
    """
    if not distributed.is_main():
        for tensor in model.state_dict().values():
            distributed.whole(tensor)
        yield None
        return
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        mapped = {}
        for name, tensor in model.state_dict().items():
            found = distributed.whole(tensor)
            file = os.path.join(aside, str(len(mapped)))
            _reserve(file, found.numel() * found.element_size())
            held = torch.from_file(file, shared=True, size=found.numel(), dtype=found.dtype)
            mapped[name] = held.view(found.shape).copy_(found)
        yield mapped


def _reserve(file, num_bytes):
    """A file that has its room on the disk: one that has none ends whoever writes into its map, without a
    word."""
    with files.writing(file), open(file, "wb") as made:
        if num_bytes and hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(made.fileno(), 0, num_bytes)
