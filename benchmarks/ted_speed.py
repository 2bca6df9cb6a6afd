"""Speed of TED on real data: stage I with the frozen model's states cached or not, a distillation step beside
the naive form.

    OMP_NUM_THREADS=1 python -m benchmarks.ted_speed --data_dir datasets --encoder path/to/encoder \\
        --output speed.json
Needs a task's real files and a BERT checkpoint with its tokenizer; about 4 minutes on one core. Prints
tables, writes JSON.

What is compared, and how:
    rounds      one side, the other, ... in one process and on one thread; a ratio is taken within each round,
                and the median over the rounds is given with the smallest and the largest
    time        CPU time of the process
    rows        batches of one real epoch, evenly spaced in length
    stage I     models.filter_learning, a filter on every second layer; one update with the states recomputed
                and cached, the pass that fills the cache, and from these all of stage I at the published
                number of epochs
    step        models.layerwise_distillation, 6 layers to 3 through filters, with and without the teacher's
                outputs cached, timed from update to update (without the pass that fills the cache); the
                naive form on the same batches makes the same update
    naive       the teacher is not frozen, so that its graph is kept and run backward, and all hidden states
                of both models are kept for the loss; both see all padded positions
    memory      highest resident set of a process of its own that makes updates on the longest examples
The encoder has a random head and random filters: speed does not depend on what the weights are.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import models
import run_ted
from benchmarks import timing
from benchmarks.reporting import begin, finish, median, peak, quiet, spread
from benchmarks.training_cases import CPU, WARMUP, Stopwatch, order, parser_of_paths, prepare
from models import filter_learning, layerwise_distillation
from modules import losses
from modules.filters import LayerwiseObjective
from utils import logs, updates
from utils.flags import how_trained
from utils.flags.ted import objective_options
from utils.frozen_outputs import FrozenOutputs
from utils.run import Run

NUM_EPOCHS = 6  # of the published stage I on the small tasks
WEIGHTS = {"kl_alpha": 20, "mse_alpha": 100}
MEMORY_UPDATES = 2


def parse(argv=None):
    """The flags."""
    parser = parser_of_paths(__doc__)
    add = parser.add_argument
    add("--task", default="mrpc", help="a classification task")
    add("--batch_size", type=int, default=32)
    add("--num_rounds", type=int, default=3)
    add("--num_updates", type=int, default=5, help="of each side, timed per round")
    return parser.parse_args(argv)


def main(argv=None):
    """Measure, print, write; returns what is written."""
    args = parse(argv)
    found = begin("ted_speed", argv, task=args.task)
    with tempfile.TemporaryDirectory() as folder:
        case = prepare(args.task, args, Path(folder, args.task), num_batches=WARMUP + args.num_updates)
        found["memory_mib"] = {side: memory(side, args, Path(folder, args.task)) for side in SIDES}
        found["stage_one"] = [stage_one(case, seed) for seed in range(args.num_rounds)]
        found["step_s"] = [
            {
                side: float(np.mean(np.diff(SIDES[side](case, args.num_updates, seed))[WARMUP - 1 :]))
                for side in SIDES
            }
            for seed in range(args.num_rounds)
        ]
    return finish(found, report, args.output)


def start(case, folder, *flags, number, seed, read=time.process_time):
    """A run of run_ted.py with these flags; its metrics are a Stopwatch."""
    words = [
        "--task_name",
        case.task.name,
        "--data_dir",
        case.args.data_dir,
        "--precision",
        "fp32",
        "--seed",
        seed,
        "--per_device_train_batch_size",
        case.args.batch_size,
        "--log_interval",
        1,
        "--max_steps",
        WARMUP + number,
        *flags,
    ]
    run = Run(folder, run_ted.parse([str(word) for word in words]), CPU, finished=False)
    run.metrics = Stopwatch(read)
    torch.manual_seed(seed)
    return run


# ---- Stage I


def stage_one(case, seed) -> dict:
    """CPU seconds of an update with the states recomputed and cached, of filling the cache, and of a whole
    stage for both."""
    found = {}
    for side, flags in (("recomputed", ()), ("cached", ("--cache_teacher",))):
        model = models.freeze(models.load_model(case.teacher, **case.kinds))
        filters, spec = models.new_filters(model, task=case.task.name, interval=2)
        with tempfile.TemporaryDirectory() as folder:
            number = case.args.num_updates
            run = start(
                case,
                folder,
                "--mode",
                "filters",
                "--model_path",
                case.teacher,
                *flags,
                number=number,
                seed=seed,
            )
            options = {"metric": run.args.selection_metric, "cached": run.cached, "run": run}
            filter_learning.learn_filters(model, filters, spec, case, dropout=0.1, **options)
        found[f"{side}_update_s"] = float(np.mean(np.diff(run.metrics.marks)[WARMUP - 1 :]))
    options = {"spec": spec, "kind": case.task.kind, "cached": run.cached, **run.inference}
    per_example = timing.timed(lambda: models.FrozenStates(model, [case.train], **options))[0] / len(
        case.train
    )
    found["filling_examples_per_s"] = 1 / per_example
    updates = NUM_EPOCHS * case.facts["examples"] / case.args.batch_size
    found["recomputed_stage_s"] = updates * found["recomputed_update_s"]
    found["cached_stage_s"] = case.facts["examples"] * per_example + updates * found["cached_update_s"]
    return {**found, "ratio": found["recomputed_stage_s"] / found["cached_stage_s"]}


# ---- A distillation step


def pair(case, run):
    """(student, teacher): 3 layers of 6, both with filters, in training and eval mode."""
    teacher = models.load_model(case.teacher, **case.kinds)
    student = models.for_training(models.keep_layers(teacher, 3, which="even"), **how_trained(run.args))
    sides = [
        models.FilteredModel(model, models.new_filters(model, task=case.task.name, interval=interval)[0])
        for model, interval in ((student, 1), (teacher, 2))
    ]
    return sides[0].train(), sides[1].eval()


def _ours(case, number, seed, *flags, read=time.process_time):
    """Marks after each update of run_ted.py's second stage."""
    with tempfile.TemporaryDirectory() as folder:
        weights = [word for name, value in WEIGHTS.items() for word in (f"--{name}", value)]
        flags = (
            "--mode",
            "ted",
            "--teacher_model_path",
            "hub/teacher",
            "--student_model_path",
            "hub/student",
            *weights,
            *flags,
        )
        run = start(case, folder, *flags, number=number, seed=seed, read=read)
        student, teacher = pair(case, run)
        outputs = FrozenOutputs(models.freeze(teacher), layers=range(3), precision="fp32")
        objective = LayerwiseObjective(case.task.kind, **objective_options(run.args))
        options = {"metric": run.args.selection_metric, "cached": run.cached, "run": run}
        layerwise_distillation.train(student, student.model, objective, outputs, case, **options)
        return run.metrics.marks


def _cached(case, number, seed, *, read=time.process_time):
    return _ours(case, number, seed, "--cache_teacher", read=read)


def _naive(case, number, seed, *, read=time.process_time):
    """Marks after each update of the naive form."""
    with tempfile.TemporaryDirectory() as folder:
        run = start(
            case,
            folder,
            "--mode",
            "ft",
            "--student_model_path",
            "hub/student",
            number=number,
            seed=seed,
            read=read,
        )
        student, teacher = pair(case, run)
    optimizer, marks = updates.optimizer(student, run.training), []
    for rows in order(case, number, seed):
        batch = case.train.collate(rows)
        naive_loss(student, teacher, batch).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), run.args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        teacher.zero_grad()
        marks.append(read())
    return marks


def naive_loss(student, teacher, batch):
    """The objective with both models' graphs and all their hidden states alive, over padding too."""
    outputs = [side.model(**batch.inputs, output_hidden_states=True) for side in (student, teacher)]
    stacks = [torch.stack(output.hidden_states) for output in outputs]
    pairs = [
        [side.filters[layer](stack_KBLD[int(layer)]) for layer in side.filters]
        for side, stack_KBLD in zip((student, teacher), stacks)
    ]
    mse = sum(F.mse_loss(ours, theirs) for ours, theirs in zip(*pairs)) / len(pairs[0])
    logs_BC, targets_BC = F.log_softmax(outputs[0].logits / 2, -1), F.softmax(outputs[1].logits / 2, -1)
    kl = 4 * F.kl_div(logs_BC, targets_BC, reduction="batchmean")
    task = losses.task_loss(outputs[0].logits, batch.labels, kind="classification")
    return task + WEIGHTS["kl_alpha"] * kl + WEIGHTS["mse_alpha"] * mse


SIDES = {"ours": _ours, "teacher cached": _cached, "naive": _naive}


def memory(side, args, folder) -> float:
    """Peak of a process of its own, in MiB."""
    return timing.in_own_process(_memory, side, args, folder)


def _memory(side, args, folder):
    torch.set_num_threads(1)
    quiet()
    case = prepare(folder.name, args, folder, num_batches=WARMUP + MEMORY_UPDATES, longest=True)
    return SIDES[side](case, MEMORY_UPDATES, 0, read=peak)[-1]


# ---- What is printed


def report(found) -> str:
    """The tables."""
    stage = found["stage_one"]
    steps = [
        {**row, "ratio": row["naive"] / row["ours"], "cached ratio": row["naive"] / row["teacher cached"]}
        for row in found["step_s"]
    ]
    first = {
        "update, recomputed ms": f"{1000 * median(stage, 'recomputed_update_s'):.1f}",
        "cached ms": f"{1000 * median(stage, 'cached_update_s'):.1f}",
        "filling, examples/s": f"{median(stage, 'filling_examples_per_s'):.0f}",
        "whole, recomputed s": f"{median(stage, 'recomputed_stage_s'):.0f}",
        "cached s": f"{median(stage, 'cached_stage_s'):.0f}",
        "ratio": spread(stage, "ratio"),
    }
    rows = [
        {
            "": side,
            "step ms": f"{1000 * median(steps, side):.0f}",
            "peak MiB": f"{found['memory_mib'][side]:.0f}",
        }
        for side in SIDES
    ]
    lines = [
        f"Stage I on {found['task']}, {NUM_EPOCHS} epochs: states cached or recomputed",
        logs.table([first]),
    ]
    lines += ["A distillation step and the peak memory of training", logs.table(rows)]
    lines += [
        f"naive over ours: {spread(steps, 'ratio')}, over ours with the teacher cached: "
        f"{spread(steps, 'cached ratio')}"
    ]
    return "\n".join(["", *lines])


if __name__ == "__main__":
    main()
