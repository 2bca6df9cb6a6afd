"""What the training benchmarks train: a task's rows and checkpoints, and the scripts' own training with a
stopwatch in it."""

import argparse
import contextlib
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import models
import run_distillation
import run_finetuning
import run_minidisc
from benchmarks import plain_recipe, timing
from data import tasks
from data.model_tokenizer import load_tokenizer
from data.tokenising import tokenise_examples
from modules import importance, losses, objectives, tradeoff
from modules.objectives import Objective
from utils import checkpoints, evaluation, training, updates
from utils.evaluation import Score
from utils.flags.model_types import objective_options
from utils.run import Run

GRID = (0, 50, 60, 70, 80, 85, 90)
TARGET = 90
WARMUP = plain_recipe.NUM_WARMUP_STEPS
CPU = torch.device("cpu")
SHARED = Path(__file__).resolve().parents[2] / "shared"


def parser_of_paths(doc) -> argparse.ArgumentParser:
    """A parser with the flags of what is read and written."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    data_dir = os.environ.get("DATA_DIR") or SHARED / "datasets"
    encoder = os.environ.get("MODEL_DIR") or SHARED / "models" / "all-MiniLM-L6-v2"
    parser.add_argument("--data_dir", default=data_dir, help="parent of the <task>/ folders; $DATA_DIR")
    parser.add_argument("--encoder", default=encoder, help="checkpoint; $MODEL_DIR")
    parser.add_argument("--output", type=Path, help="JSON file")
    return parser


def prepare(name, args, folder, *, num_batches, longest=False, device="cpu", precision="fp32"):
    """A task's rows to train on and checkpoints to train from.

    args: .data_dir, .encoder, .batch_size.  folder: holds, or gets, a nested teacher/ and its 90% student/.
    num_batches: batches of one real epoch, evenly spaced in length; or with `longest` the longest.
    device, precision: to train on and in.
    Returns a namespace that the stages take for a TaskData: train, dev (one batch), task, tokenizer; and
    texts and labels for the plain recipe, the checkpoints' paths, and facts about the whole training data.
    """
    task, folder = tasks.get(name), Path(folder)
    tokenizer = load_tokenizer(args.encoder)

    def encode(examples):
        return tokenise_examples(examples, tokenizer, task=task, max_length=plain_recipe.MAX_LENGTH)

    examples = task.read(args.data_dir, "train")
    tokenising, whole = timing.timed(lambda: encode(examples))
    batches = [rows for rows in whole.epoch(0, 0, args.batch_size) if len(rows) == args.batch_size]
    batches.sort(key=lambda rows: whole.lengths[rows].max())
    evenly = (np.arange(num_batches) + 0.5) * len(batches) / num_batches
    chosen = batches[-num_batches:] if longest else [batches[int(position)] for position in evenly]
    examples = examples.take(np.concatenate(chosen).tolist())
    dev = {"dev": encode(examples.take(range(args.batch_size)))}
    case = SimpleNamespace(
        task=task,
        tokenizer=tokenizer,
        train=encode(examples),
        dev=dev,
        selection=dev,
        texts=list(zip(examples.first, examples.second or [None] * len(examples))),
        labels=examples.labels,
        kinds={"kind": task.kind, "label_names": task.label_names},
        args=args,
        encoder=args.encoder,
        teacher=folder / "teacher",
        student=folder / "student",
        device=torch.device(device),
        precision=precision,
    )
    if not folder.exists():
        _nest(case)
    config = checkpoints.read_config(case.teacher)
    state_bytes = (1 + config["num_hidden_layers"]) * config["hidden_size"] * 4
    mean_length = float(np.mean([whole.lengths[rows].max() for rows in batches]))
    case.facts = {
        "examples": len(whole),
        "mean_padded_length": mean_length,
        "padding_allows": plain_recipe.MAX_LENGTH / mean_length,
        "tokenising_examples_per_s": len(whole) / tokenising,
        "teacher_cache_gib": int(whole.lengths.sum()) * state_bytes / 2**30,
    }
    return case


def _nest(case):
    """Write the teacher and the student: what run_sparsification.py and a crop make, from a few batches and a
    random head."""
    torch.manual_seed(0)
    teacher = models.load_model(case.encoder, new_head=True, **case.kinds).to(case.device)
    with models.scoring_masks(teacher) as masks:
        scores = importance.Accumulator(masks)
        for indices in case.train.epoch(0, 0, case.args.batch_size)[:4]:
            batch = case.train.collate(indices).to(case.device)
            loss = losses.task_loss(teacher(**batch.inputs).logits, batch.labels, kind=case.task.kind)
            scores.add(loss, weight=len(indices))
    models.sort_units(teacher, scores.heads, scores.neurons, grid=GRID)
    models.save_model(teacher, case.teacher, tokenizer=case.tokenizer)
    models.save_model(models.crop(teacher, TARGET), case.student, tokenizer=case.tokenizer)


class Enough(Exception):
    """All updates that were wanted are done."""


class Stopwatch:
    """Stands where the writer of metrics.jsonl does, and so learns when an update is done.

    read: what to note down then.  marks: what it returned after each update.
    last: the number of updates after which it raises Enough, before anything is evaluated or saved; None:
    never.
    """

    def __init__(self, read, last=None):
        self.read, self.last, self.marks = read, last, []

    def add(self, stage, step, values):
        """A row; that of an evaluation has no learning rate."""
        if "lr" in values:
            self.marks.append(self.read())
            if len(self.marks) == self.last:
                raise Enough

    def rewind(self, stage, number, *, step):
        """A run begins: there is nothing to drop."""

    def sync(self, stage):
        """A state is saved: nothing is on a disk."""
        return 0


def train(script, case, *flags, number, seed=0, read=None, stop=False):
    """Train as a script does, with its default flags but for those given, for some updates, without
    evaluation.

    script: run_finetuning, run_distillation (to 90%) or run_minidisc (all candidates; flags decide which).
    read: see Stopwatch; the clock of the case's device where it is None.  stop: after the last update,
    without saving anything. Returns the Stopwatch's marks, one after each update, and the seconds that the
    teacher's cache took.
    """
    path = (
        ("--model_path", case.encoder) if script is run_finetuning else ("--teacher_model_path", case.teacher)
    )
    student = ("--layer_or_sparsity", f"{TARGET}S") if script is run_distillation else ()
    words = [
        "--task_name",
        case.task.name,
        "--data_dir",
        case.args.data_dir,
        *path,
        *student,
        "--precision",
        case.precision,
        "--per_device_train_batch_size",
        case.args.batch_size,
        "--log_interval",
        1,
        "--max_steps",
        number,
        "--seed",
        seed,
        *flags,
    ]
    args = script.parse([str(word) for word in words])
    torch.manual_seed(seed)
    caching = 0.0
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder, args, case.device, finished=False)
        run.metrics = Stopwatch(read or timing.clock(case.device), number if stop else None)
        with contextlib.suppress(Enough):
            if script is run_finetuning:
                model = models.load_model(case.encoder, new_head=True, **case.kinds)
                objective = Objective("ft", case.task.kind, layers=[])
                _fit(model, lambda student, batch: objective(student, batch, None), case, run)
            else:
                teacher = models.freeze(models.load_model(case.teacher, **case.kinds)).to(case.device)
                if script is run_minidisc:
                    points, trained = first_hop(teacher, args)
                    run_minidisc.hop(1, teacher, trained, points, data=case, run=run)
                else:
                    student = models.shrink(teacher, args.layer_or_sparsity)
                    caching, (objective, targets) = timing.timed(
                        lambda: teaching(student, teacher, case, args, cached=run.cached), device=case.device
                    )
                    _fit(student, lambda student, batch: objective(student, batch, targets(batch)), case, run)
    return run.metrics.marks, caching


def _fit(student, objective, case, run):
    training.fit(
        student,
        objective,
        case.train,
        evaluate=lambda: Score(0.0, {}),
        save=lambda folder, _: folder.mkdir(),
        settings=run.training,
        run=run,
    )


def teaching(student, teacher, case, args, *, cached=None):
    """(objective, function from a batch to the teacher's targets) that the flags ask for.

    cached: where outputs are kept, see models.teacher_targets().
    """
    options = objective_options(args, objectives)
    objective = models.objective_for(student, teacher, kind=case.task.kind, **options)
    sizes = {"batch_size": args.per_device_eval_batch_size, "precision": case.precision}
    return objective, models.teacher_targets(teacher, objective, case.train, cached=cached, **sizes)


def first_hop(teacher, args):
    """(candidates, the sparsities that run_minidisc.py trains together) of its first hop."""
    grid, smallest = models.grid(teacher), args.trunc_sparsity
    points = tradeoff.candidates(
        grid, own=0, target=args.target_sparsity, smallest=smallest, wanted=args.candidates
    )
    return points, tradeoff.trained_together(grid, points, own=0, smallest=smallest)


def time_updates(script, case, *flags, number, seed):
    """Seconds of each of some updates after the warm-up, the padded length of each, seconds of the teacher's
    cache."""
    marks, caching = train(script, case, *flags, number=WARMUP + number, seed=seed, stop=True)
    return np.diff(marks)[WARMUP - 1 :], padded_lengths(case, number, seed), caching


def order(case, number, seed):
    """The rows of each of the updates that are timed, and before them those of the warm-up."""
    return case.train.epoch(seed, 0, case.args.batch_size)[: WARMUP + number]


def padded_lengths(case, number, seed):
    """Tokens to which the examples of each timed update are padded."""
    return np.array([case.train.lengths[rows].max() for rows in order(case, number, seed)[WARMUP:]])


def time_parts(case, *, number, seed):
    """Seconds of what a MiniDisc step is made of, for the updates that time_updates times: {part: [seconds]}.

    The parts: the teacher's forward pass; forward and backward of each candidate, cropped; one clipped update
    of the largest.
    """
    args = run_minidisc.parse(
        [
            "--task_name",
            case.task.name,
            "--data_dir",
            str(case.args.data_dir),
            "--teacher_model_path",
            str(case.teacher),
            "--precision",
            case.precision,
        ]
    )
    torch.manual_seed(seed)
    teacher = models.freeze(models.load_model(case.teacher, **case.kinds)).to(case.device)
    students = {s: models.crop(teacher, s).train() for s in reversed(first_hop(teacher, args)[1])}
    *_, largest = students.values()
    objective, targets_of = teaching(largest, teacher, case, args)
    optimizer = updates.optimizer(largest, updates.Settings.of(vars(args)))
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parts = {"teacher": [], **{f"{s:g}%": [] for s in students}, "update": []}

    def timed(part, work):
        seconds, result = timing.timed(work, device=case.device)
        parts[part].append(seconds)
        return result

    def both(student, batch, targets):
        with evaluation.autocast(case.device, case.precision):
            loss = sum(objective(student, batch, targets).values())
        loss.backward()

    def update():
        torch.nn.utils.clip_grad_norm_(trained, args.max_grad_norm, foreach=True)
        optimizer.step()
        optimizer.zero_grad()

    for rows in order(case, number, seed):
        batch = case.train.collate(rows).to(case.device)
        targets = timed("teacher", lambda batch=batch: targets_of(batch))
        for sparsity, student in students.items():
            student.zero_grad()
            timed(
                f"{sparsity:g}%",
                lambda student=student, batch=batch, targets=targets: both(student, batch, targets),
            )
        timed("update", update)
    return {part: times[WARMUP:] for part, times in parts.items()}
