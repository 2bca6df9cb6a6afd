"""Speed of relation distillation: the loss and a whole training step, beside the naive forms; peak memory of
the loss.

    OMP_NUM_THREADS=1 python -m benchmarks.relation_speed --output speed.json  # about 3 minutes on one core
Prints tables, writes JSON. Nothing is read: models and ids are random, which speed does not depend on.

What is compared, and how:
    rounds      ours, naive, ours, naive, ... each side in a process of its own, so that each has its own
                memory allocator (utils/allocator.py sets ours, as in training; naive has the C library's
                defaults), one at a time and on one thread; a ratio is taken within each round, and the median
                is given with the smallest and the largest
    time        CPU time of the processes, forward and backward; of a step also clipping and the optimiser
    loss        QQ, KK and VV of given projections, 768 wide against 384
    step        12 layers, 768 wide -> 6 layers, 384 wide, from token ids to updated weights, dropout on;
                "bf16": both bodies under autocast, beside the naive step in fp32
    memory      of the loss: the highest resident set of a process of its own, less that before the loss is
                computed
    naive       benchmarks/naive_relations.py
That both sides find the same loss is tested in tests/test_relation_speed.py.
"""

import argparse
import contextlib
import functools
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

import models
from benchmarks import naive_relations, timing
from benchmarks.reporting import begin, finish, median, peak, quiet, spread
from models.relation_encoder import RelationEncoder
from models.relation_objective import RelationObjective
from modules.relation_losses import relation_losses
from utils import allocator, logs, updates
from utils.batch import Batch
from utils.evaluation import autocast

AIMS = {"loss, time": 5, "loss, memory": 15, "step, fp32": 1.5}
RELATIONS = {"qq": 1.0, "kk": 1.0, "vv": 1.0}
WIDTHS = {"student": 384, "teacher": 768}
SETTINGS = updates.Settings(learning_rate=6e-4)


def parse(argv=None):
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--batch_size", type=int, default=16)
    add("--num_tokens", type=int, default=128)
    add("--num_relation_heads", type=int, default=48)
    add("--student_layer", type=int, default=6)
    add("--teacher_layer", type=int, default=12)
    add("--vocabulary", type=int, default=30522)
    add("--num_rounds", type=int, default=5)
    add("--num_steps", type=int, default=2, help="of each side, timed per round")
    add("--output", type=Path, help="JSON file")
    return parser.parse_args(argv)


def main(argv=None):
    """Measure, print, write; returns what is written."""
    args = parse(argv)
    found = begin("relation_speed", argv)
    found["memory_mib"] = {side: memory(side, args) for side in SIDES["loss"]}
    with contextlib.ExitStack() as stack:
        workers = {}
        for kind, sides in SIDES.items():
            for side in sides:
                workers[kind, side] = stack.enter_context(timing.own_process(_start, kind, side, args))
        for kind in SIDES:
            found[f"{kind}_s"] = [time_round(workers, kind, args) for _ in range(args.num_rounds)]
    return finish(found, report, args.output)


def time_round(workers: dict, kind: str, args) -> dict:
    """{side: CPU seconds of one call}, one side after the other.  kind: "loss" or "step"."""
    return {
        side: worker.submit(_time, kind, args.num_steps).result()
        for (each, side), worker in workers.items()
        if each == kind
    }


def _start(kind, side, args):
    """What a worker process does first: it makes what it will time, with the allocator of its side."""
    torch.set_num_threads(1)
    quiet()
    if side != "naive":
        allocator.keep_freed_memory()
    _work[kind] = SIDES[kind][side](args)


def _time(kind, num_steps):
    _work[kind]()
    return timing.timed(_work[kind], calls=num_steps)[0]


_work = {}  # of a worker process


# ---- The loss alone


def projections(args, device):
    """Student, teacher and mask: full blocks."""
    generator = torch.Generator().manual_seed(0)
    shape = (args.batch_size, args.num_tokens)
    student, teacher = (
        {kind: torch.randn(*shape, WIDTHS[side], generator=generator).to(device) for kind in "qkv"}
        for side in ("student", "teacher")
    )
    mask_BL = torch.ones(shape, dtype=torch.bool, device=device)
    return {kind: tensor.requires_grad_() for kind, tensor in student.items()}, teacher, mask_BL


def our_loss(args, *, device="cpu"):
    """A function that computes the loss and its gradient and returns the loss."""
    student, teacher, mask_BL = projections(args, device)
    options = {"relations": RELATIONS, "num_heads": args.num_relation_heads, "weighting": "token"}
    return lambda: _backward(sum(relation_losses(student, teacher, mask_BL, **options).values()), student)


def naive_loss(args, *, device="cpu"):
    """The same, naive."""
    student, teacher, mask_BL = projections(args, device)
    sides = [[side[kind] for kind in "qkv"] for side in (student, teacher)]
    options = {"num_heads": args.num_relation_heads}
    return lambda: _backward(naive_relations.loss_of_projections(*sides, mask_BL, **options), student)


def _backward(loss, student):
    loss.backward()
    for tensor in student.values():
        tensor.grad = None
    return loss.item()


def memory(side, args) -> float:
    """Extra peak of one loss with its gradient in a process of its own, in MiB."""
    return timing.in_own_process(_memory, side, args)


def _memory(side, args):
    torch.set_num_threads(1)
    small = argparse.Namespace(**{**vars(args), "batch_size": 1, "num_tokens": 8})
    SIDES["loss"][side](small)()  # the libraries' own memory
    work = SIDES["loss"][side](args)
    before = peak()
    work()
    return peak() - before


# ---- A whole step


def our_step(args, *, precision="fp32", device="cpu"):
    """A function that makes one update and returns its loss."""
    student, teacher = (model.to(device) for model in _models(args, attention="sdpa"))
    student = RelationEncoder(student, layer=args.student_layer).train()
    teacher = RelationEncoder(models.freeze(teacher), layer=args.teacher_layer)
    objective = RelationObjective(
        teacher, relations=RELATIONS, num_heads=args.num_relation_heads, weighting="sequence"
    )
    optimizer, batch = updates.optimizer(student, SETTINGS), _batch(args).to(device)

    def loss_of():
        with autocast(student.model.device, precision):
            return sum(objective(student, batch).values())

    return lambda: _update(loss_of, student, optimizer)


def naive_step(args, *, precision="fp32", device="cpu"):
    """The same, naive."""
    student, teacher = (model.to(device) for model in _models(args, attention="eager"))
    student.train()
    options = {
        "lr": SETTINGS.learning_rate,
        "eps": SETTINGS.adam_epsilon,
        "weight_decay": SETTINGS.weight_decay,
    }
    optimizer, batch = torch.optim.AdamW(student.parameters(), **options), _batch(args).to(device)
    layers = {"student_layer": args.student_layer, "teacher_layer": args.teacher_layer}

    def loss_of():
        with autocast(student.device, precision):
            return naive_relations.loss_of_models(
                student, teacher, batch.inputs, num_heads=args.num_relation_heads, **layers
            )

    return lambda: _update(loss_of, student, optimizer)


def _update(loss_of, student, optimizer):
    loss = loss_of()
    loss.backward()
    trained = [parameter for parameter in student.parameters() if parameter.grad is not None]
    torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def _models(args, *, attention):
    torch.manual_seed(0)
    made = []
    for side, depth in (("student", args.student_layer), ("teacher", args.teacher_layer)):
        width = WIDTHS[side]
        config = BertConfig(
            vocab_size=args.vocabulary,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=12,
            intermediate_size=4 * width,
            max_position_embeddings=max(512, args.num_tokens),
            attn_implementation=attention,
        )
        made.append(BertModel(config).eval())
    return made


def _batch(args):
    ids = torch.randint(
        1000, args.vocabulary, (args.batch_size, args.num_tokens), generator=torch.Generator().manual_seed(0)
    )
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
    return Batch(inputs, None, None, {"examples": float(len(ids)), "tokens": float(ids.numel())})


SIDES = {
    "loss": {"ours": our_loss, "naive": naive_loss},
    "step": {
        "ours": our_step,
        "naive": naive_step,
        "ours, bf16": functools.partial(our_step, precision="bf16"),
    },
}


# ---- What is printed


def report(found) -> str:
    """The table."""
    loss, step, extra = found["loss_s"], found["step_s"], found["memory_mib"]
    rows = [
        _row("loss, time", [row["ours"] for row in loss], [row["naive"] for row in loss], "s"),
        _row("loss, memory", [extra["ours"]], [extra["naive"]], "MiB"),
        _row("step, fp32", [row["ours"] for row in step], [row["naive"] for row in step], "s"),
        _row("step, bf16", [row["ours, bf16"] for row in step], [row["naive"] for row in step], "s"),
    ]
    return f"\nNaive over ours: the median over the rounds (smallest-largest)\n{logs.table(rows)}\n"


def _row(what, ours, naive, unit):
    rounds = [{"ours": a, "naive": b, "ratio": b / a} for a, b in zip(ours, naive)]
    aim = AIMS.get(what)
    met = "" if aim is None else f"{aim} {'met' if median(rounds, 'ratio') >= aim else 'missed'}"
    values = {side: f"{median(rounds, side):.3g} {unit}" for side in ("ours", "naive")}
    return {"": what, **values, "naive / ours": spread(rounds, "ratio"), "aim": met}


if __name__ == "__main__":
    main()
