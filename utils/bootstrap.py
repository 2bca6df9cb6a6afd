"""Paired bootstrap: how far a difference of two models' metrics would scatter over other dev sets of the same
kind.

Examples are drawn with replacement, the same ones for both models, and the metric is computed anew of every
sample (Efron and Tibshirani 1993, chapter 13; percentile intervals).  Each metric is a function of sums over
examples, so that a sample is a row of counts and all samples are one matrix product; ranks are counted again
for each sample.
N examples, R samples, S sums or seeds.
"""

import numpy as np

from utils import answers, metrics

_CELLS = 4_000_000  # counts drawn at once; bounds the memory


def compare(
    kind, names, reference, other, labels, *, samples, seed, label_names=(), confidence=0.95
) -> dict[str, dict]:
    """{metric: {"difference", "low", "high"}}: the other model's metric minus the reference's, and its
    confidence interval.

    kind: of the task.  reference, other: predictions; for tagging lists of tag names per sentence.
    labels: as predictions; for spans a list of gold texts per question.  names: some of
    resampled(kind, label_names).  samples: how many are drawn.  label_names: the task's classes, in the order
    of their ids.
    """
    options = {"samples": samples, "seed": seed, "label_names": label_names, "confidence": confidence}
    return compare_runs(kind, names, [reference], [other], labels, **options)


def compare_runs(
    kind, names, references, others, labels, *, samples, seed, label_names=(), confidence=0.95
) -> dict[str, dict]:
    """As compare(), of two systems that were trained with several seeds each: the mean over the seeds of the
    difference.

    references, others: predictions for each of n seeds, the same ones in the same order.  Each sample draws
    examples, for all runs at once, and n - 1 of the seeds with replacement, the same for both systems: then
    the variance that seeds add is, as it should be, that of a mean of n (Rao and Wu 1988).  With one seed the
    interval knows of examples alone.
    """
    assert len(references) == len(others) >= 1, f"{len(references)} runs beside {len(others)}"
    number = len(others)
    drawn_of = np.random.default_rng([seed, number]).integers(number, size=(samples, max(1, number - 1)))
    weights_SR = np.stack([(drawn_of == index).mean(1) for index in range(number)])
    pairs = [*zip(references, others)]
    makers = _makers(kind, label_names)
    functions = {name: [[makers[name](found, labels) for found in pair] for pair in pairs] for name in names}
    whole = np.ones((1, len(labels)))
    drawn, start = {name: [] for name in names}, 0
    for counts_RN in draws(len(labels), samples, seed=seed):
        weights = weights_SR[:, start : start + len(counts_RN)]
        start += len(counts_RN)
        for name, values in functions.items():
            gaps_SR = np.stack([after(counts_RN) - before(counts_RN) for before, after in values])
            drawn[name].append((weights * gaps_SR).sum(0))
    tails = 50 * (1 - confidence)
    result = {}
    for name, values in functions.items():
        low, high = np.percentile(np.concatenate(drawn[name]), [tails, 100 - tails])
        difference = np.mean([(after(whole) - before(whole))[0] for before, after in values])
        result[name] = {"difference": float(difference), "low": float(low), "high": float(high)}
    return result


def resampled(kind, label_names=()) -> list[str]:
    """The metrics of a kind of task that compare() knows, those of its classes, labels or types of entities
    included."""
    return list(_makers(kind, label_names))


def draws(number, samples, *, seed):
    """Yield how often each of N examples is drawn, float64 [R, N], a part of the samples at a time."""
    generator = np.random.default_rng(seed)
    size = max(1, _CELLS // number)
    for start in range(0, samples, size):
        rows = min(size, samples - start)
        picked = generator.integers(number, size=(rows, number)) + number * np.arange(rows)[:, None]
        yield np.bincount(picked.ravel(), minlength=rows * number).reshape(rows, number).astype(np.float64)


# ---- Metrics as functions of counts_RN; each maker takes (predictions, labels)


def _of_sums(columns_NS, value):
    """The function counts_RN -> [R] of a metric that is value(sums), sums being one [R] array per column."""
    columns_NS = np.asarray(columns_NS, np.float64)
    return lambda counts_RN: value(*(counts_RN @ columns_NS).T)


def _ratio(above, below):
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _mean(values_N):
    return _of_sums(np.stack([values_N, np.ones(len(values_N))], 1), _ratio)


def _accuracy(found, gold):
    return _mean(np.asarray(found) == np.asarray(gold))


def _of_class(number, value):
    """The maker of a metric of one class: value(right, found, there)."""

    def make(found, gold):
        found, gold = np.asarray(found) == number, np.asarray(gold) == number
        return _of_sums(np.stack([found & gold, found, gold], 1), value)

    return make


def _precision(right, found, there):
    return _ratio(right, found)


def _recall(right, found, there):
    return _ratio(right, there)


def _f1(right, found, there):
    return _ratio(2 * right, found + there)


def _macro(value):
    """The maker of the mean of a metric over the classes that are found or there in a sample."""

    def make(found, gold):
        parts = [[np.asarray(side) == each for side in (found, gold)] for each in np.union1d(found, gold)]
        columns = [column for f, g in parts for column in (f & g, f, g)]

        def mean(*sums):
            values = [value(*sums[index : index + 3]) for index in range(0, len(sums), 3)]
            there = [sums[index + 1] + sums[index + 2] > 0 for index in range(0, len(sums), 3)]
            return _ratio(np.where(there, values, 0.0).sum(0), np.sum(there, 0))

        return _of_sums(np.stack(columns, 1), mean)

    return make


def _of_label(number, value):
    """The maker of a metric of one label, of rows that have several."""
    one = _of_class(True, value)
    return lambda found, gold: one(*([number in ids for ids in side] for side in (found, gold)))


def _all_right(found, gold):
    return _mean(np.array([tuple(f) == tuple(g) for f, g in zip(found, gold)], np.float64))


def _micro_f1(found, gold):
    rows = [(len({*f} & {*g}), len(f), len(g)) for f, g in zip(found, gold)]
    return _of_sums(np.array(rows), _f1)


def _macro_f1(found, gold):
    number = 1 + max((i for row in (*found, *gold) for i in row), default=0)
    found_NC, gold_NC = metrics.indicators(found, number), metrics.indicators(gold, number)

    def mean(*sums):
        right, found, there = np.split(np.stack(sums), 3)
        counts = (found + there > 0).sum(0)
        return _ratio(_f1(right, found, there).sum(0), counts.astype(float))

    return _of_sums(np.concatenate([found_NC & gold_NC, found_NC, gold_NC], 1), mean)


def _squared_error(found, gold):
    return _mean(-((np.asarray(found, np.float64) - np.asarray(gold)) ** 2))


def _matthews(found, gold):
    """Of any number of classes (Gorodkin 2004); 0 where either side has one class only."""
    found, gold = np.asarray(found), np.asarray(gold)
    classes = np.union1d(found, gold)
    counted = [side == each for side in (found, gold) for each in classes]

    def value(right, number, *sums):
        f, g = np.stack(sums[: len(classes)]), np.stack(sums[len(classes) :])
        spread_f, spread_g = number**2 - (f**2).sum(0), number**2 - (g**2).sum(0)
        return _ratio(right * number - (f * g).sum(0), np.sqrt(spread_f * spread_g))

    return _of_sums(np.stack([found == gold, np.ones(len(gold)), *counted], 1), value)


def _correlation(n, x, y, xx, yy, xy):
    """Pearson's from sums over examples: their number, of x, y, x^2, y^2, x y; 0 where one side is
    constant."""
    spread_x, spread_y = (
        np.where(n * ss - s * s > 1e-12 * n * ss, n * ss - s * s, 0.0) for s, ss in ((x, xx), (y, yy))
    )
    return _ratio(n * xy - x * y, np.sqrt(spread_x * spread_y))


def _pearson(found, gold):
    x, y = (np.asarray(side, np.float64) - np.mean(side) for side in (found, gold))
    return _of_sums(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], 1), _correlation)


def _spearman(found, gold):
    (order_x, group_x), (order_y, group_y) = _sorted(found), _sorted(gold)

    def value(counts_RN):
        x, y = _ranks(counts_RN, order_x, group_x), _ranks(counts_RN, order_y, group_y)
        sums = [(counts_RN * part).sum(1) for part in (np.ones_like(x), x, y, x * x, y * y, x * y)]
        return _correlation(*sums)

    return value


def _sorted(values):
    """(order of the values, [N] for each sorted one the place of the first that equals it)."""
    values = np.asarray(values)
    order = np.argsort(values, kind="stable")
    return order, np.searchsorted(values[order], values[order], side="left")


def _ranks(counts_RN, order, first):
    """[R, N]: ranks in each sample, equal values sharing the mean of theirs, around the middle one."""
    drawn_RN = counts_RN[:, order]
    below_RN = np.cumsum(drawn_RN, 1) - drawn_RN
    last = np.searchsorted(first, first, side="right") - 1
    ends_RN = (below_RN + drawn_RN)[:, last]
    ranks_RN = np.empty_like(drawn_RN)
    ranks_RN[:, order] = (below_RN[:, first] + ends_RN) / 2 - counts_RN.shape[1] / 2
    return ranks_RN


def _both(first, second):
    """The mean of two metrics."""

    def make(found, gold):
        functions = first(found, gold), second(found, gold)
        return lambda counts_RN: sum(function(counts_RN) for function in functions) / 2

    return make


def _entities(value, of=None):
    """The maker of a metric of entities.  of: their type; None for all."""
    return lambda found, gold: _of_sums(metrics.entity_counts(found, gold, of), value)


def _answers(column):
    return lambda found, gold: _mean(
        [answers.exact_and_f1(text, texts)[column] for text, texts in zip(found, gold)]
    )


def _makers(kind, label_names):
    """{metric: its maker} of a kind of task, with those of its classes as metrics.of_kind() names them."""
    made = dict(_METRICS[kind])
    for name, value in _OF_CLASS.items():
        if kind == "tagging":
            types = metrics.entity_types(label_names)
            made |= {f"{name}_{each}": _entities(value, each) for each in types}
        elif kind in ("classification", "multilabel"):
            make = _of_class if kind == "classification" else _of_label
            made |= {f"{name}_{each}": make(number, value) for number, each in enumerate(label_names)}
    return made


_OF_CLASS = {"precision": _precision, "recall": _recall, "f1": _f1}
_F1 = _of_class(1, _f1)
_METRICS = {
    "classification": {
        "acc": _accuracy,
        "f1": _F1,
        "acc_and_f1": _both(_accuracy, _F1),
        "matthews_corrcoef": _matthews,
        "micro_f1": _accuracy,
        "macro_f1": _macro(_f1),
        "macro_precision": _macro(_precision),
        "macro_recall": _macro(_recall),
        "precision": _of_class(1, _precision),
        "recall": _of_class(1, _recall),
    },
    "multilabel": {"acc": _all_right, "macro_f1": _macro_f1, "micro_f1": _micro_f1},
    "regression": {
        "pearson": _pearson,
        "spearman": _spearman,
        "corr": _both(_pearson, _spearman),
        "neg_mse": _squared_error,
    },
    "tagging": {name: _entities(value) for name, value in _OF_CLASS.items()},
    "spans": {"exact": _answers(0), "f1": _answers(1)},
}
