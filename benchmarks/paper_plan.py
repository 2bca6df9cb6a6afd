"""What MiniDisc on T5-3B and T5-11B (EncT5) takes of each of eight GPUs, on paper: tensors without values.

    OMP_NUM_THREADS=1 python -m benchmarks.paper_plan --output results/scale/paper.json
Needs no data, no checkpoint, no GPU and no other process; some minutes on one core, 1 GB.

The models and the update are those of run_minidisc.py --shard --gradient_checkpointing --teacher_dtype bf16
--precision bf16 (models.crop, models.frozen_in, the objective, passes of the smallest and of the largest
sub-network), made of torch's fake tensors, which have sizes and no values, in a fake process
group, of which one member is there. Of this member, the first, is counted what a dry run counts, by the same
functions (utils/plan.py):

exact       weights, gradients and AdamW's moments of the student, which is shared out; the teacher's rows in
            bf16; the state on the disk.
estimated   activations: the most that an update has at a time, with the layers that are gathered and their
            copies in bf16, as operations on a CPU make them. Kernels of a GPU keep more or less.
not there   what kernels need for themselves, CUDA's context (about 0.5 GiB), NCCL's buffers, gaps between
            tensors in torch's cache.
The heads and neurons that go are drawn at random, evenly over layers: their sum is exact.
"""

import argparse
import contextlib
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore

import models
from benchmarks.reporting import begin, finish
from benchmarks.sharding import T5_3B, T5_PIECES
from models import enct5
from modules.tradeoff import candidates, trained_together
from utils import distributed, logs, plan
from utils.batch import Batch
from utils.evaluation import autocast

SIZES = {
    "T5-3B": {**T5_3B, "num_layers": 24, "vocab_size": T5_PIECES},
    "T5-11B": {**T5_3B, "num_heads": 128, "d_ff": 65536, "num_layers": 24, "vocab_size": T5_PIECES},
}
GRID = (0, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95)  # as run_sparsification.py makes it
TRUNCATED = (50, 0)  # --trunc_sparsity
TARGET, PRECISION = 90, "bf16"
GIB = 2**30


def main(argv=None):
    """Compute, print and write the plans; returns them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--devices", type=int, default=8, help="that share everything out (default: 8)")
    add("--device_gib", type=float, default=80, help="memory of each, in GiB (default: 80)")
    add("--rows", type=int, default=4, help="examples for each device and update (default: 4, 32 in all)")
    add("--tokens", type=int, default=128, help="of each example (default: 128)")
    add("--output", type=Path, help="JSON file")
    args = parser.parse_args(argv)
    found = begin("paper_plan", argv) | {"devices": args.devices, "device_bytes": int(args.device_gib * GIB)}
    found |= {"rows": args.rows, "tokens": args.tokens, "plans": []}
    with one_of(args.devices):
        for name, sizes in SIZES.items():
            for smallest in TRUNCATED:
                need, facts = planned(sizes, smallest=smallest, rows=args.rows, tokens=args.tokens)
                row = {"model": name, "trunc_sparsity": smallest, **facts, "bytes": need.rows}
                found["plans"].append(row | {"fits": need.peak <= found["device_bytes"]})
                print(report({**found, "plans": found["plans"][-1:]}), flush=True)
    return finish(found, report, args.output)


@contextlib.contextmanager
def one_of(devices):
    """A context in which this process is the first of so many; the others are not there."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=devices)
    try:
        distributed.mesh()
        yield
    finally:
        dist.destroy_process_group()


def planned(sizes, *, smallest, rows, tokens):
    """(plan.Need of one process, facts) of the first hop of MiniDisc from a nested teacher of these sizes.

    sizes: settings of T5's config.  smallest: --trunc_sparsity.
    rows, tokens: of a micro-batch of one process.
    """
    nested = nested_on_paper(sizes)
    grid = models.grid(nested)
    bounds = {"own": 0, "smallest": smallest}
    points = trained_together(grid, candidates(grid, target=TARGET, **bounds), **bounds)
    with FakeTensorMode(allow_non_fake_inputs=True):
        nested.to_empty(device="cpu").tie_weights()
        whole = models.freeze(models.share_out(nested))
        student = models.crop(whole, points[0])
        student = models.for_training(student, gradient_checkpointing=True).train()
        teacher = models.frozen_in(whole, "bf16")
        objective = models.objective_for(student, teacher, name="sparse", kind="classification")
        options = {"cached": None, "batch_size": rows, "precision": PRECISION}
        targets_of = models.teacher_targets(teacher, objective, None, **options)
        ids = torch.ones(rows, tokens, dtype=torch.int64)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        divisors = {"examples": rows, "labels": rows, "tokens": rows * tokens}
        batch = Batch(inputs, torch.zeros(rows, dtype=torch.int64), np.arange(rows), divisors)
        with plan.Allocations(student.parameters()) as found:
            targets = targets_of(batch)
            for sparsity in (points[-1], points[0]):  # the least, for its gradients; the most
                models.set_sparsity(student, sparsity)
                with autocast(ids.device, PRECISION):
                    loss = sum(objective(student, batch, targets).values())
                loss.backward()
    known = plan.arithmetic(student)
    need = plan.Need(
        resident=0,
        program=0,
        weights=known["weights"],
        gradients=known["gradients"],
        buckets=0,
        optimizer=known["optimizer"],
        activations=found.activations,
        passes=found.peak,
        gaps=0,
        frozen=plan.tensor_bytes(plan.tensors_of(teacher)),
        kept=0,
        kept_on_disk=0,
        state=2 * (known["state"] + known["weights"]),
    )
    counts = {"teacher_parameters": teacher, "student_parameters": student}
    facts = {name: sum(each.numel() for each in model.parameters()) for name, model in counts.items()}
    return need, {**facts, "trained": points}


def nested_on_paper(sizes):
    """A nested EncT5 of these sizes without values, on the meta device; which units matter is random."""
    config = enct5.config_class("t5")(**sizes)
    with torch.device("meta"):
        model = enct5.model_class("t5", "classification")(config)
    kept = {unit: len(counts) for unit, counts in models.kept(model).items()}
    torch.manual_seed(0)
    heads = torch.rand(kept["heads"], config.num_heads)
    models.sort_units(model, heads, torch.rand(kept["neurons"], config.d_ff), grid=GRID)
    return model


def report(found) -> str:
    """The table, in GiB."""
    rows = [
        {
            "": f"{row['model']}, {100 - row['trained'][0]}% of its units",
            **{what: f"{number / GIB:.2f}" for what, number in row["bytes"].items() if number},
        }
        for row in found["plans"]
    ]
    return f"\n{logs.table(rows)}\n"


if __name__ == "__main__":
    main()
