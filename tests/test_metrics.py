"""utils/metrics.py against formulas written out, and what cannot be computed."""

import json
import math

import numpy as np
import pytest

from utils import metrics

PREDICTED = [1, 1, 0, 1, 0, 0, 1, 0, 1, 1]
GOLD = [1, 0, 0, 1, 1, 0, 1, 0, 0, 1]


def counts():
    pairs = list(zip(PREDICTED, GOLD))
    return [pairs.count(pair) for pair in ((1, 1), (1, 0), (0, 1), (0, 0))]  # tp, fp, fn, tn


def test_classification_metrics_follow_their_formulas():
    tp, fp, fn, tn = counts()
    accuracy, f1 = (tp + tn) / len(GOLD), 2 * tp / (2 * tp + fp + fn)
    matthews = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    found = metrics.score(("acc", "f1", "acc_and_f1", "matthews_corrcoef"), PREDICTED, GOLD)
    expected = {"acc": accuracy, "f1": f1, "acc_and_f1": (accuracy + f1) / 2, "matthews_corrcoef": matthews}
    assert found == pytest.approx(expected, rel=1e-12)
    assert list(found) == list(expected)


def test_f1_is_that_of_class_1():
    """With the classes exchanged F1 differs, so an F1 averaged over classes or of class 0 would not pass."""
    swapped = metrics.score(("f1",), [1 - p for p in PREDICTED], [1 - g for g in GOLD])["f1"]
    assert swapped != metrics.score(("f1",), PREDICTED, GOLD)["f1"]


@pytest.mark.filterwarnings("ignore:.*ill-defined")
def test_metrics_of_several_classes_are_scikit_learns():
    """macro over the classes that are there, micro over all, and those of one class by its name."""
    from sklearn.metrics import precision_recall_fscore_support

    rng = np.random.default_rng(0)
    names = ("red", "green", "blue", "never")
    found, gold = rng.integers(3, size=(2, 50))
    values = metrics.score(metrics.of_kind("classification", names), found, gold, label_names=names)
    for average in ("macro", "micro"):
        wanted = precision_recall_fscore_support(gold, found, average=average, zero_division=0)
        assert values[f"{average}_f1"] == pytest.approx(wanted[2])
    wanted = precision_recall_fscore_support(gold, found, average="macro", zero_division=0)
    assert [values["macro_precision"], values["macro_recall"]] == pytest.approx(wanted[:2])
    by_class = precision_recall_fscore_support(gold, found, labels=range(4), zero_division=0)
    for base, numbers in zip(("precision", "recall", "f1"), by_class):
        assert [values[f"{base}_{name}"] for name in names] == pytest.approx(numbers.tolist())
    of_two = metrics.score(("precision", "recall", "f1"), PREDICTED, GOLD)
    wanted = precision_recall_fscore_support(GOLD, PREDICTED, average="binary")
    assert list(of_two.values()) == pytest.approx(wanted[:3])
    assert metrics.score(("neg_mse",), [1.0, 2.0], [0.0, 4.0], kind="regression") == {"neg_mse": -2.5}


def test_entities_of_one_type():
    gold = [["B-PER", "I-PER", "O"], ["B-LOC", "O", "B-PER"]]
    predicted = [["B-PER", "I-PER", "O"], ["B-PER", "O", "O"]]
    names = metrics.of_kind("tagging", ("O", "B-PER", "I-PER", "B-LOC", "B-ORG"))
    values = metrics.score(names, predicted, gold, kind="tagging")
    assert values["precision_PER"] == values["recall_PER"] == values["f1_PER"] == 0.5
    assert values["f1_LOC"] == values["recall_LOC"] == values["f1_ORG"] == 0.0
    assert values["f1"] == pytest.approx(metrics.entities(predicted, gold)["f1"])


def test_correlations_follow_their_formulas():
    x, y = np.array([0.1, 2.5, 2.6, 4.0, 9.0]), np.array([1.0, 2.0, 4.0, 3.0, 5.0])
    centred = x - x.mean(), y - y.mean()
    pearson = (centred[0] * centred[1]).sum() / math.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    spearman = 1 - 6 * sum(d * d for d in (0, 0, 1, 1, 0)) / (5 * 24)
    found = metrics.score(("pearson", "spearman", "corr"), x, y)
    assert found == pytest.approx(
        {"pearson": pearson, "spearman": spearman, "corr": (pearson + spearman) / 2}, rel=1e-12
    )


@pytest.mark.parametrize("name", ["pearson", "spearman", "corr", "matthews_corrcoef", "f1"])
def test_constant_predictions_score_0(name):
    """Undefined is 0, not NaN: NaN is never better than the best score so far, and JSON has no word for
    it."""
    assert metrics.score((name,), [0, 0, 0], [0, 1, 1]) == {name: 0.0}


def test_entities_golden_case():
    """A golden value of MiniDisc: per sentence P .5 R 1 F1 2/3; run together, F1 would be 0."""
    gold, predicted = [["O", "B-PER"], ["O", "O"]], [["O", "B-PER"], ["I-PER", "O"]]
    assert metrics.entities(predicted, gold) == pytest.approx({"precision": 0.5, "recall": 1.0, "f1": 2 / 3})
    together = metrics.entities([predicted[0] + predicted[1]], [gold[0] + gold[1]])
    assert together["f1"] == 0


def spans(tags):
    """Entities (type, first, last) of one sentence as conlleval finds them, in the plainest way."""
    found, start = set(), None
    for i, tag in enumerate([*tags, "O"]):
        before = tags[i - 1] if i else "O"
        if start is not None and (tag[0] in "OB" or tag[2:] != before[2:]):
            found.add((before[2:], start, i - 1))
            start = None
        if tag[0] == "B" or (tag[0] == "I" and start is None):
            start = i
    return found


def test_entities_equal_counted_spans():
    random = np.random.default_rng(0)
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    draw = [
        [[tags[i] for i in random.integers(0, 5, size)] for size in random.integers(1, 9, 200)]
        for _ in range(2)
    ]
    predicted = [
        sentence[: len(other)] + ["O"] * (len(other) - len(sentence)) for sentence, other in zip(*draw)
    ]
    gold = draw[1]
    found, true = ([spans(sentence) for sentence in side] for side in (predicted, gold))
    right, all_found, all_true = (
        sum(map(len, sets)) for sets in ([f & t for f, t in zip(found, true)], found, true)
    )
    p, r = right / all_found, right / all_true
    assert metrics.entities(predicted, gold) == pytest.approx(
        {"precision": p, "recall": r, "f1": 2 * p * r / (p + r)}
    )


def test_values_are_plain_floats():
    values = {
        **metrics.score(tuple(metrics._METRICS), PREDICTED, GOLD),
        **metrics.entities([["O", "B-PER"]], [["B-PER", "O"]]),
    }
    assert all(type(value) is float for value in values.values())
    json.dumps(values, allow_nan=False)
