"""What training takes of memory and disk, before it is begun: what --dry_run prints.

Weights, gradients and optimiser follow from the numbers of parameters.  What a forward and a backward pass
allocate is counted, tensor by tensor, on a batch of the longest rows.  What lies between the tensors on a
CPU, where the C library's allocator finds no place for blocks of other sizes, is measured on batches of
several lengths.  The rest, the program with its libraries and data, is what is resident beside all that.
"""

import dataclasses
import math
import os
import shutil
import sys
import weakref
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from utils import cost, distributed, logs, memory
from utils.errors import RunError
from utils.frozen_outputs import FrozenOutputs

_DEVICES = 4  # that --shard is proposed for
_SHARED = ("weights", "gradients", "optimizer", "frozen")  # what of it each gets a part of
_NO_THREAD_CACHE = "GLIBC_TUNABLES=glibc.malloc.tcache_count=0"  # results/README.md, Memory
_STEP = 4  # bytes: AdamW counts the updates of each parameter in a float32


class Allocations(TorchDispatchMode):
    """A context that counts the bytes of the tensors that are made inside, while they are there.

    parameters: whose gradients are told from the rest.  peak: the most at a time; activations: the most that
    a forward pass has at a time, or a part of one that is computed once more, beside gradients.  What
    operations need for themselves is not seen.
    """

    def __init__(self, parameters):
        super().__init__()
        self.peak = self.activations = 0
        # A gradient is as large as its parameter; to ask one that is shared out takes long
        self._parameters, self._there = [(each, tensor_bytes([each])) for each in parameters], {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        """Run an operation, and look at what it returns."""
        result = operation(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}
        made = [storage for storage in _storages(result) if storage._cdata not in given]
        new = [storage for storage in made if self._there.get(storage._cdata, lambda: None)() is None]
        for storage in new:
            self._there[storage._cdata] = weakref.ref(storage)
        if new:
            self._count()
        return result

    def _count(self):
        there = {key: storage for key, each in self._there.items() if (storage := each()) is not None}
        self._there = {key: self._there[key] for key in there}
        total = sum(storage.nbytes() for storage in there.values())
        self.peak = max(self.peak, total)
        if torch.is_grad_enabled():  # not in the backward
            gradients = sum(size for parameter, size in self._parameters if parameter.grad is not None)
            self.activations = max(self.activations, total - gradients)


def _storages(values):
    for value in tree_leaves(values):
        if isinstance(value, torch.Tensor) and not hasattr(value, "full_tensor"):  # their parts are seen too
            yield value.untyped_storage()


def tensor_bytes(tensors) -> int:
    """Bytes of tensors, each once; of those that are shared out this process's rows."""
    mine = {id(tensor): distributed.local(tensor) for tensor in tensors}
    return sum(tensor.numel() * tensor.element_size() for tensor in mine.values())


def tensors_of(module) -> list:
    """The parameters and buffers of a module."""
    return [*module.parameters(), *module.buffers()]


@dataclass(frozen=True)
class Need:
    """Bytes that one process takes.

    resident: what it has now.  program: of that libraries and data, with the data that a whole run reads.
    weights, gradients, optimizer: of what is trained; buckets: in which processes exchange gradients.
    activations: at most; passes: at most of activations and gradients at a time; gaps: between them.
    frozen: of models that are not trained.  kept, kept_on_disk: of their outputs for all rows.
    state: on the disk, while one takes the place of another.
    """

    resident: int
    program: int
    weights: int
    gradients: int
    buckets: int
    optimizer: int
    activations: int
    passes: int
    gaps: int
    frozen: int
    kept: int
    kept_on_disk: int
    state: int

    @property
    def peak(self) -> int:
        """The most memory at a time."""
        lasting = self.program + self.weights + self.buckets + self.optimizer + self.frozen + self.kept
        return lasting + max(self.passes, self.gradients) + self.gaps

    @property
    def more(self) -> int:
        """What it takes beyond what it has now."""
        return max(0, self.peak - self.resident)

    @property
    def rows(self) -> dict:
        """{what: bytes} as people read them."""
        return {
            "program, libraries, data": self.program,
            "weights (with 16 bits these are the fp32 master copies)": self.weights,
            "gradients": self.gradients + self.buckets,
            "optimiser": self.optimizer,
            "activations, at most": self.activations,
            "between all these": self.gaps,
            "frozen models": self.frozen,
            "their outputs, for all rows": self.kept,
            "peak, not all of it at a time": self.peak,
            "on the disk: state": self.state,
            "on the disk: outputs, for all rows": self.kept_on_disk,
        }


def arithmetic(student) -> dict:
    """What follows from a student's parameters: bytes of weights, gradients, AdamW's moments, a state."""
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    weights, gradients = tensor_bytes(tensors_of(student)), tensor_bytes(trained)
    optimizer = 2 * gradients + _STEP * len(trained)
    return {"weights": weights, "gradients": gradients, "optimizer": optimizer, "state": weights + optimizer}


def gathered(student) -> int:
    """Bytes that a process has whole for a while where a student is shared out: weights and gradients of two
    layers, one of which is on its way, and of what lies outside all layers."""
    layers = max(
        (module for module in student.modules() if isinstance(module, nn.ModuleList)),
        key=lambda module: tensor_bytes(module.parameters()),
        default=[student],
    )
    sizes = [tensor_bytes(layer.parameters()) for layer in layers]
    return 2 * (tensor_bytes(student.parameters()) - sum(sizes) + 2 * max(sizes))


class Plan:
    """What this process needs to train a student, as far as that is known before.

    try_batch(number) -> Allocations of a forward and a backward pass of so many of the longest rows; with
    share=0.5 of rows in the middle.
    batch_size: rows of a micro-batch.  num_accumulated: micro-batches of an update.  beside: what else is in
    memory: modules, and FrozenOutputs.  whole: data.splits.Whole, where the split has few of its rows, or
    None.  in_buckets: whether processes exchange gradients in buckets.  writes: whether this process writes a
    state.  spare: flags that take less memory and are not given.  folder: of the run that is planned.
    """

    def __init__(
        self,
        student,
        try_batch,
        *,
        batch_size,
        num_accumulated,
        beside,
        whole,
        device,
        in_buckets,
        writes,
        spare,
        folder,
    ):
        self._batch_size, self._num_accumulated, self._device = batch_size, num_accumulated, device
        self._spare, self._folder = spare, folder
        outputs = [each for each in beside if isinstance(each, FrozenOutputs)]
        modules = [each.model if isinstance(each, FrozenOutputs) else each for each in beside]
        own = {id(tensor) for tensor in tensors_of(student)}
        tensors = {id(tensor): tensor for module in modules for tensor in tensors_of(module)}
        known, resident = arithmetic(student), cost.memory_now(device)
        frozen = tensor_bytes(tensor for key, tensor in tensors.items() if key not in own)
        there = known["weights"] + frozen + sum(each.in_memory for each in outputs)
        need = Need(
            resident=resident,
            program=max(0, resident - there) + (whole.num_bytes if whole else 0),
            weights=known["weights"],
            gradients=known["gradients"],
            buckets=known["gradients"] * in_buckets,
            optimizer=known["optimizer"],
            activations=0,
            passes=0,
            gaps=0,
            frozen=frozen,
            kept=sum(each.planned["memory"] for each in outputs),
            kept_on_disk=sum(each.planned["disk"] for each in outputs),
            # The best model is beside it; all of it twice, while one takes the place of another
            state=2 * (known["state"] + known["weights"]) * writes,
        )
        self._gathered = gathered(student)
        self._one, two = (try_batch(number).activations for number in (1, 2))
        self._per_row = max(0, two - self._one)
        self.need = self._with_batches(need, batch_size)
        if not distributed.any_of(not self._fits(self.need)):
            cost.forget_peak(device)
            for share in (1.0, 0.5):
                try_batch(batch_size, share=share)
            found = try_batch(batch_size)
            taken = cost.peak_memory(device) - resident
            gaps = max(0, taken - found.peak) if device.type == "cpu" else 0
            self.need = dataclasses.replace(need, activations=found.activations, passes=found.peak, gaps=gaps)

    def say(self):
        """Print the table, of all processes.  Raises RunError in all of them where it does not fit in one,
        with the flags that would make it fit."""
        needs = distributed.gather(self.need)
        names = ["MiB"] if len(needs) == 1 else [f"process {rank}, MiB" for rank in range(len(needs))]
        rows = [
            {"": what, **{name: round(need.rows[what] / 2**20) for name, need in zip(names, needs)}}
            for what in self.need.rows
        ]
        room, on_disk = self._room(), sum(need.state for need in needs) + needs[0].kept_on_disk
        free = self._free()
        said = (
            f"{memory.in_words(self.need.more)} of memory beyond what this process has, "
            f"{'free memory unknown' if free is None else memory.in_words(free) + ' free'}; "
            f"{memory.in_words(on_disk)} of disk, {memory.in_words(room)} free"
        )
        table = logs.table(rows)
        logs.logger.info("plan, for batches of %d of the longest rows:\n%s", self._batch_size, table)
        if distributed.any_of(not self._fits(self.need) or on_disk > room):
            raise RunError("\n".join([f"it does not fit: {said}", *self._advice(on_disk > room)]))
        logs.logger.info("it fits: %s", said)

    def say_measured(self, peak: int):
        """Print what it was."""
        found = self.need.peak / 2**20, peak / 2**20, 100 * (self.need.peak / peak - 1)
        logs.logger.info("peak of memory: %.0f MiB estimated, %.0f MiB measured (%+.1f%%)", *found)

    def _free(self) -> int | None:
        """Bytes that this process can still take, the other ones on this machine beside it."""
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            return free + torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        free = memory.available()
        return None if free is None else free // int(os.environ.get("LOCAL_WORLD_SIZE", 1))

    def _room(self) -> int:
        """Bytes of disk that are free where the run would be."""
        folder = self._folder.absolute()
        return shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.is_dir())).free

    def _fits(self, need) -> bool:
        free = self._free()
        return free is None or need.more <= free

    def _with_batches(self, need, number) -> Need:
        """With micro-batches of so many rows, and as many of them as it takes."""
        activations = self._one + (number - 1) * self._per_row
        waiting = need.gradients if self._num_accumulated > 1 or number < self._batch_size else 0
        gaps = need.gaps * number // self._batch_size
        return dataclasses.replace(need, activations=activations, passes=activations + waiting, gaps=gaps)

    def _advice(self, lacks_disk):
        """Yield what would make it fit: each way that does alone; where none does, all of them together."""
        if lacks_disk:
            yield "make room on the disk, or choose an --output_dir (and --cache_dir) on another one"
        if self._fits(self.need):
            return
        ways = [*self._ways()]
        alone = [(way, need) for way, change in ways if self._fits(need := change(self.need))]
        if alone:
            yield "what would make it fit, each alone:"
            yield from (f"  {way}: peak {memory.in_words(need.peak)}" for way, need in alone)
        elif ways:
            need = self.need
            for _, change in ways:
                need = change(need)
            together = "would make it fit" if self._fits(need) else "would not do"
            yield f"together these {together}, peak {memory.in_words(need.peak)}:"
            yield from (f"  {way}" for way, _ in ways)
        if "gradient_checkpointing" in self._spare:
            yield "--gradient_checkpointing: fewer activations; a dry run with it says how many"
        on_cpu = self._device.type == "cpu" and sys.platform == "linux"
        if on_cpu and "GLIBC_TUNABLES" not in os.environ:
            yield f"{_NO_THREAD_CACHE} before the command: less between tensors; a dry run says how much"

    def _ways(self):
        """Yield (flags that the script has, a function (Need) -> Need with them)."""
        sizes = [self._batch_size >> number for number in range(1, 30) if self._batch_size >> number]
        if sizes:
            size = next((n for n in sizes if self._fits(self._with_batches(self.need, n))), 1)
            accumulated = self._num_accumulated * math.ceil(self._batch_size / size)
            flags = f"--per_device_train_batch_size {size} --num_grad_accum_steps {accumulated}"
            yield flags, lambda need: self._with_batches(need, size)
        if "cache_teacher" in self._spare and self.need.kept:
            yield "--cache_teacher disk", lambda need: dataclasses.replace(need, kept=0)
        if "teacher_dtype" in self._spare and self.need.frozen:
            yield "--teacher_dtype bf16", lambda need: dataclasses.replace(need, frozen=need.frozen // 2)
        if "shard" in self._spare:
            flag = f"--shard, torchrun on {_DEVICES} devices or machines like this one"
            yield flag, self._shared_out

    def _shared_out(self, need) -> Need:
        """Shared out among so many as --shard is proposed for."""
        parts = {name: getattr(need, name) // _DEVICES for name in _SHARED}
        beside = (need.passes - need.activations) // _DEVICES  # gradients
        passes = need.activations + self._gathered + beside
        return dataclasses.replace(need, **parts, buckets=0, passes=passes)
