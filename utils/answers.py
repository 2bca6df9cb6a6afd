"""Scores of answers to questions by SQuAD 2.0's official definition; fractions in [0, 1].  Q questions.

A question has gold texts, or none: then the empty text is the right answer.
"""

import re
import string
from collections import Counter

import numpy as np

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalised(text: str) -> str:
    """Lower case, without punctuation and the articles a, an, the; single blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_and_f1(prediction: str, gold: list[str]) -> tuple[float, float]:
    """The best agreement with any of the gold texts: equality, and F1 of the words (as multisets), both
    normalised.

    Gold texts that are empty once normalised do not count; where none is left, the empty text is right.
    """
    prediction = normalised(prediction)
    golds = {text for text in map(normalised, gold) if text} or {""}
    return float(prediction in golds), max(_f1(prediction.split(), text.split()) for text in golds)


def _f1(words, gold_words):
    if not words or not gold_words:
        return float(words == gold_words)
    common = sum((Counter(words) & Counter(gold_words)).values())
    return 2 * common / (len(words) + len(gold_words))


def score(texts, odds, golds, *, threshold: float) -> dict[str, float]:
    """exact and f1 over all questions, over those with an answer (HasAns_) and without (NoAns_; 0 where there
    are none), how many of each, and the best exact and f1 that any threshold gives, with it.

    texts: [Q] the best answer that is not empty.  odds: [Q] scores of having no answer: where they exceed the
    threshold, the answer is "".  golds: [Q] lists of gold texts, empty for questions without an answer.
    """
    given = np.array([exact_and_f1(text, gold) for text, gold in zip(texts, golds)])  # [Q, 2]
    empty = np.array([exact_and_f1("", gold) for gold in golds])
    odds, answerable = np.asarray(odds, np.float64), np.array([bool(gold) for gold in golds])
    found = np.where((odds > threshold)[:, None], empty, given)
    result = {}
    for prefix, wanted in (("", np.ones_like(answerable)), ("HasAns_", answerable), ("NoAns_", ~answerable)):
        for column, name in enumerate(("exact", "f1")):
            result[prefix + name] = float(found[wanted, column].mean()) if wanted.any() else 0.0
        result[f"{prefix}total"] = int(wanted.sum())
    for column, name in enumerate(("exact", "f1")):
        result[f"best_{name}"], result[f"best_{name}_thresh"] = best_threshold(
            given[:, column], empty[:, column], odds
        )
    return result


def best_threshold(given, empty, odds) -> tuple[float, float]:
    """(the best mean score that a threshold on the odds gives, the smallest threshold that gives it).

    given: [Q] scores of answering.  empty: [Q] scores of "", which is the answer where odds > threshold.
    Questions of equal odds are answered together: thresholds lie halfway between distinct odds, and 1 beyond
    the smallest and the largest.
    """
    odds = np.asarray(odds, np.float64)
    order = np.argsort(odds, kind="stable")
    # Of answering the first so many
    gains = np.concatenate([[0.0], np.cumsum((np.asarray(given) - empty)[order])])
    values = odds[order]
    ends = np.flatnonzero(np.diff(values)) + 1
    cuts = np.concatenate([[0], ends, [len(values)]])
    thresholds = np.concatenate([[values[0] - 1], (values[ends - 1] + values[ends]) / 2, [values[-1] + 1]])
    best = int(np.argmax(np.round(gains[cuts], 9)))  # the first of equal ones, whatever the sums' rounding
    return float((np.sum(empty) + gains[cuts[best]]) / len(odds)), float(thresholds[best])
