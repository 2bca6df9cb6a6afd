"""Is a score better than that of an answer that never changes?  Constant answers, and a paired bootstrap
beside them.

The constant answer is the one that scores highest on the same rows: of all classes (for accuracy the most
frequent one; for F1 of class 1 that class, however rare), of all tags, the mean of all scores (correlations
of a constant are 0), "no answer" for spans. A score is above chance where the whole 95% interval of its
difference from that (percentiles of 1,000 samples of the rows, with replacement, the same for both;
utils.bootstrap) is above 0.  That holds for whatever the metric is, and for any number of rows.
"""

from dataclasses import dataclass

import numpy as np

from utils import answers, bootstrap, metrics

SAMPLES, SEED = 1000, 0
_BEST = "best"  # of the metrics of spans that take the best threshold; others are of some questions alone
_QUESTIONS = {"HasAns": bool, "NoAns": lambda texts: not texts}


@dataclass
class Constant:
    """The constant answer that scores highest.  answers: one for each example of the split.  score: in the
    metric."""

    answers: list
    score: float


def constant(split, metric) -> Constant:
    """The constant answer of a labelled split (data.splits.Split).  metric: one of its task's."""
    task, gold = split.task, split.readable()
    if task.kind == "spans":
        found = answers.score([""] * len(gold), np.zeros(len(gold)), gold, threshold=0.0)
        return Constant([""] * len(gold), found[metric])
    if task.kind == "tagging":
        every = [[[name] * len(tags) for tags in gold] for name in task.label_names]
        return max(
            (Constant(each, metrics.entities(each, gold, [metric])[metric]) for each in every),
            key=lambda found: found.score,
        )
    of = {"kind": task.kind, "label_names": task.label_names}
    values = [float(np.mean(gold))] if task.kind == "regression" else range(task.num_labels)
    if task.kind == "multilabel":  # each label alone, all, none
        values = [(), tuple(values), *((number,) for number in values)]
    every = [[value] * len(gold) for value in values]
    return max(
        (Constant(each, metrics.score([metric], each, gold, **of)[metric]) for each in every),
        key=lambda found: found.score,
    )


def beside_constant(split, outputs, metric, base: Constant) -> dict:
    """{"score", "baseline", "low", "high", "above"} of a model's outputs (see split.score) beside the
    constant answer.

    low, high: the interval of the difference, as it is defined above.  Metrics of spans: those of questions
    with or without an answer are resampled among these, the best ones at the threshold that is best for all
    rows.
    """
    scores = split.score(outputs)
    kind, gold = split.task.kind, split.readable()
    group, _, name = metric.rpartition("_") if kind == "spans" else ("", "", metric)
    found = (
        split.answers(outputs).predictions(scores[f"{metric}_thresh"])
        if group == _BEST
        else split.readable(outputs)
    )
    rows = (
        [row for row, labels in enumerate(gold) if _QUESTIONS[group](labels)]
        if group in _QUESTIONS
        else range(len(gold))
    )
    low = high = 0.0
    if rows:
        picked = ([column[row] for row in rows] for column in (base.answers, found, gold))
        options = {"samples": SAMPLES, "seed": SEED, "label_names": split.task.label_names}
        interval = bootstrap.compare(kind, [name], *picked, **options)[name]
        low, high = interval["low"], interval["high"]
    return {"score": scores[metric], "baseline": base.score, "low": low, "high": high, "above": low > 0}
