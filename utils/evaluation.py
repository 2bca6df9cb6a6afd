"""Running a model over a split without gradients, each example once however many processes there are."""

import contextlib
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import torch

from utils import distributed, interruptions, logs

logger = logs.logger


@dataclass
class Score:
    """One evaluation.  metrics: {split: {name: value}}.  choice: what was selected, if anything.

    value: what is maximised; None: whatever comes later is better.
    """

    value: float | None
    metrics: dict
    choice: dict = field(default_factory=dict)


def autocast(device, precision: str):
    """The autocast context of --precision; float32 needs none."""
    if precision == "fp32":
        return contextlib.nullcontext()
    # Without gradients a copy of a weight is used once: kept until the end, they would be the whole model
    kept = torch.is_grad_enabled()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype, cache_enabled=kept)


def share(items):
    """This process's part of a list that all processes go through together, one item each in a round.

    Yields (item, whether to count it).  In the last round a process without an item of its own repeats
    another's (False: do not count it), as a shared-out model needs all processes.
    Raises Interrupted between two rounds, in all of them, where one has been asked to stop.
    """
    for start in range(0, len(items), distributed.world()):
        interruptions.check()
        own = start + distributed.rank()
        yield (items[own], True) if own < len(items) else (items[start], False)


def predict(model, split, *, batch_size: int, precision: str, variants=(None,), use=None) -> dict:
    """A model's outputs for every row of a split, in the split's order.

    variants, use: for nested models: use(variant) is called before each forward pass, so that one pass over
    the data serves all variants.  The model is put into eval mode and back.
    Returns {variant: outputs}, see collect().
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()

    def answer(batch):
        found = {}
        for variant in variants:
            if use is not None:
                use(variant)
            with autocast(device, precision):
                found[variant] = batch.through(model).logits.float()
        return found

    try:
        return collect(answer, split, batch_size=batch_size, device=device)
    finally:
        model.train(was_training)


def logits(model, split, *, batch_size: int, device):
    """What a model or a graph in eval mode says about every row of a split, see collect().  model: takes a
    batch's inputs."""
    return collect(
        lambda batch: {None: batch.through(model).logits.float()}, split, batch_size=batch_size, device=device
    )[None]


@torch.no_grad()
def collect(answer, split, *, batch_size: int, device) -> dict:
    """What answer(batch) -> {name: logits} says about every row of a split, in the split's order; the
    processes share the rows.

    Returns {name: outputs}: float32 logits [N, C] for one score vector per row, or a list of N arrays of what
    the split keeps of each row, without padding: int64 [L], the predicted label of each token, or for spans
    float32 [L, 2].
    """
    rows = defaultdict(list)
    for indices, own in share(split.in_order(batch_size)):
        batch = split.collate(indices).to(device)
        for name, logits in answer(batch).items():
            if own:
                rows[name].extend(zip(indices.tolist(), split.for_scoring(logits, batch.mask)))
    parts = distributed.gather(dict(rows))
    return {name: _in_order([part.get(name, []) for part in parts], len(split)) for name in parts[0]}


def _in_order(parts, number):
    ordered = [None] * number
    for part in parts:
        for index, output in part:
            ordered[index] = output
    assert all(output is not None for output in ordered)
    return np.stack(ordered) if ordered[0].ndim == 1 and ordered[0].dtype == np.float32 else ordered


def evaluate(model, splits: dict, *, batch_size: int, precision: str) -> dict:
    """{split name: metrics} of a model on labelled splits."""
    options = {"batch_size": batch_size, "precision": precision}
    return {name: split.score(predict(model, split, **options)[None]) for name, split in splits.items()}


def scorer(model, splits: dict, *, metric: str, batch_size: int, precision: str):
    """A function () -> Score of a model: the first split's metric decides, all splits are reported."""

    def score():
        metrics = evaluate(model, splits, batch_size=batch_size, precision=precision)
        return Score(metrics[next(iter(splits))][metric], metrics)

    return score


def with_dev(metrics: dict, model, data, *, batch_size: int, precision: str) -> dict:
    """The metrics of what has been chosen, and dev's: scored here, once, where rows that are held out have
    chosen.

    metrics: {split: values} of the chooser.  model: a function () -> the chosen model, on its device.
    """
    if data.selection == data.dev:
        return metrics
    return metrics | evaluate(model(), data.dev, batch_size=batch_size, precision=precision)


def outcome(result, load, data, *, batch_size: int, precision: str) -> dict:
    """What run.finish() keeps of training on a task: with dev's metrics.

    result: training.Result.  load: a function (folder) -> the model in it, on its device.  data: of the task.
    """
    options = {"batch_size": batch_size, "precision": precision}
    return {
        **result.outcome,
        "metrics": with_dev(result.metrics, lambda: load(result.checkpoint), data, **options),
    }


def test_and_infer(run, model, data):
    """What --do_test and --do_infer ask for, with the selected model; the results are added to results.json.

    data: the task's data.  Raises DataError where one is missing or, for --do_test, unlabelled.
    """
    if run.args.do_test:
        metrics = evaluate(model, data.tests, **run.inference)
        run.report(**metrics)
        if distributed.is_main():
            run.add_results(metrics=metrics)
    if run.args.do_infer:
        for name, split in data.inferred.items():
            outputs = predict(model, split, **run.inference)[None]
            if distributed.is_main():
                path = split.write_submission(outputs, run.folder / "predictions")
                logger.info("%s: predictions in %s", name, path)
                run.add_results(predictions={name: str(path.relative_to(run.folder))})
        distributed.barrier()
