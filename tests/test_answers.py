"""utils/answers.py beside a plain second implementation of SQuAD 2.0's official definition, on the real dev
file."""

import json
import re
import string
from collections import Counter

import numpy as np
import pytest

from data import tasks
from utils import answers


def plain_normalise(text):
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(word for word in re.sub(r"\b(a|an|the)\b", " ", text).split())


def plain_f1(prediction, gold):
    mine, theirs = plain_normalise(prediction).split(), plain_normalise(gold).split()
    if not mine or not theirs:
        return float(mine == theirs)
    same = 0
    left = Counter(theirs)
    for word in mine:
        if left[word] > 0:
            left[word] -= 1
            same += 1
    if same == 0:
        return 0.0
    precision, recall = same / len(mine), same / len(theirs)
    return 2 * precision * recall / (precision + recall)


def plain_scores(predictions, golds):
    """exact and f1 of each question."""
    result = []
    for prediction, gold in zip(predictions, golds):
        gold = [text for text in gold if plain_normalise(text)] or [""]
        exact = max(float(plain_normalise(text) == plain_normalise(prediction)) for text in gold)
        result.append((exact, max(plain_f1(prediction, text) for text in gold)))
    return np.array(result)


@pytest.mark.parametrize(
    "gold, prediction, exact, f1",
    [
        (["in the 10th century", "10th century"], "10th and 11th centuries", 0, 1 / 3),
        (["the Denver Broncos", "Denver Broncos"], "Denver Broncos.", 1, 1),
        ([], "", 1, 1),
        ([], "France", 0, 0),
        (["France"], "", 0, 0),
        (["a"], "the", 1, 1),
        (["a b b c"], "b b b", 0, 2 * 2 / (3 + 3)),
    ],
)
def test_golden_scores(gold, prediction, exact, f1):
    assert answers.exact_and_f1(prediction, gold) == pytest.approx((exact, f1))


def synthetic(examples, seed=0):
    """(texts, odds): right, cut, shifted and unrelated answers; odds that know a little, many of them
    equal."""
    draw, texts, odds = np.random.default_rng(seed), [], []
    for context, gold in zip(examples.second, examples.labels):
        start, text = gold[draw.integers(len(gold))] if gold else (0, "The: a")
        shift = int(draw.integers(0, 12))
        kind = draw.random()
        texts.append(
            text
            if kind < 0.5
            else context[start + shift : start + shift + len(text)]
            if kind < 0.8
            else text[:-3] + "!"
        )
        odds.append(round(float(draw.normal() + (0 if gold else 1)), 1))
    return texts, odds


def test_scores_on_the_real_dev_file(data_dir):
    """All metrics beside the plain implementation; the best thresholds beside trying every one that makes a
    difference."""
    examples = tasks.get("squad2").read(data_dir, "dev")
    golds = [[text for _, text in gold] for gold in examples.labels]
    texts, odds = synthetic(examples)
    answerable = np.array([bool(gold) for gold in golds])
    for threshold in (0.0, 0.4, -0.3):
        found = answers.score(texts, odds, golds, threshold=threshold)
        scores = plain_scores([text if o <= threshold else "" for text, o in zip(texts, odds)], golds)
        expected = {"total": 6078, "HasAns_total": 2910, "NoAns_total": 3168}
        for column, name in enumerate(("exact", "f1")):
            expected |= {
                name: scores[:, column].mean(),
                f"HasAns_{name}": scores[answerable, column].mean(),
                f"NoAns_{name}": scores[~answerable, column].mean(),
            }
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)
    given, empty = plain_scores(texts, golds), plain_scores([""] * len(texts), golds)
    for column, name in enumerate(("exact", "f1")):
        tried = {}
        for threshold in [min(odds) - 1, *sorted(set(odds))]:
            tried[threshold] = np.where(np.array(odds) > threshold, empty[:, column], given[:, column]).mean()
        assert found[f"best_{name}"] == pytest.approx(max(tried.values()), rel=1e-12)
        there = np.where(
            np.array(odds) > found[f"best_{name}_thresh"], empty[:, column], given[:, column]
        ).mean()
        assert (
            there == pytest.approx(found[f"best_{name}"], rel=1e-12) and found[f"best_{name}"] >= found[name]
        )


def test_no_prefix_of_equal_odds():
    """A golden value: the published prefix maximum says 100."""
    found = answers.score(["Rome", "Rome"], [0.5, 0.5], [["Rome"], []], threshold=1.0)
    assert (found["exact"], found["best_exact"]) == (0.5, 0.5)
    assert answers.score(["Rome", "Rome"], [0.5, 0.6], [["Rome"], []], threshold=1.0)["best_exact"] == 1.0


def test_a_kind_of_question_that_is_absent_scores_0():
    found = answers.score(["Rome"], [0.0], [["Rome"]], threshold=0.0)
    assert (found["exact"], found["NoAns_exact"], found["NoAns_total"]) == (1.0, 0.0, 0)
    json.dumps(found, allow_nan=False)
