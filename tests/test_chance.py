"""Constant answers of every kind of task, and when a score is above theirs."""

from types import SimpleNamespace

import numpy as np
import pytest

from data import tasks
from utils import answers, chance, metrics


class Rows:
    """A split of which only labels and outputs matter: outputs are the answers themselves."""

    def __init__(self, name, gold, metric=None):
        self.task, self.gold = tasks.get(name).judged_by(metric), gold

    def readable(self, outputs=None):
        return self.gold if outputs is None else outputs

    def score(self, outputs):
        of = {"kind": self.task.kind, "label_names": self.task.label_names}
        return metrics.score(self.task.metrics, outputs, self.gold, **of)


class Questions(Rows):
    """The same for questions: outputs are (texts, odds of having no answer)."""

    def readable(self, outputs=None):
        return self.gold if outputs is None else self.answers(outputs).predictions(0.0)

    def answers(self, outputs):
        texts, odds = outputs
        said = lambda threshold: ["" if odd > threshold else text for text, odd in zip(texts, odds)]  # noqa: E731
        return SimpleNamespace(predictions=said)

    def score(self, outputs):
        return answers.score(*outputs, self.gold, threshold=0.0)


RARE = [1] * 30 + [0] * 70


@pytest.mark.parametrize(
    "task, metric, gold, answer, score",
    [
        ("sst2", "acc", RARE, 0, 0.7),
        ("mrpc", "f1", RARE, 1, 2 * 0.3 / 1.3),  # always the rare class is what F1 rewards
        ("mrpc", "acc_and_f1", RARE, 1, (0.3 + 2 * 0.3 / 1.3) / 2),
        ("cola", "matthews_corrcoef", RARE, 0, 0.0),
        ("mnli", "acc", [2] * 5 + [1] * 4 + [0] * 4, 2, 5 / 13),
        ("stsb", "spearman", [0.0, 1.0, 5.0], 2.0, 0.0),
    ],
)
def test_constant_answers(task, metric, gold, answer, score):
    found = chance.constant(Rows(task, gold), metric)
    assert found.answers == [answer] * len(gold) and found.score == pytest.approx(score)


def test_constant_tags():
    """All O finds nothing; where most sentences are one entity of one type, that type for every word finds
    some."""
    gold = [["O", "O"], ["O"]]
    assert chance.constant(Rows("conll", gold), "f1").score == 0.0
    gold = [["B-LOC"], ["B-LOC"], ["O", "B-PER"]]
    found = chance.constant(Rows("conll", gold), "f1")
    assert found.answers == [["I-LOC"], ["I-LOC"], ["I-LOC", "I-LOC"]] and found.score == pytest.approx(
        2 * 2 / (3 + 3)
    )


@pytest.mark.parametrize(
    "metric, score", [("f1", 0.25), ("HasAns_f1", 0.0), ("NoAns_f1", 1.0), ("best_f1", 0.25)]
)
def test_no_answer_is_the_constant_of_questions(metric, score):
    found = chance.constant(Questions("squad2", [["a cat"], [], ["dog"], ["dog"]]), metric)
    assert found.answers == [""] * 4 and found.score == score


def noisy(gold, share, rng, wrong):
    """Gold answers, of which a share is replaced."""
    return [w if flip else g for g, w, flip in zip(gold, wrong, rng.random(len(gold)) < share)]


@pytest.mark.parametrize("task, metric", [("sst2", "acc"), ("mrpc", "f1"), ("cola", "matthews_corrcoef")])
def test_classes_above_chance(task, metric):
    """A good head is, the constant is not, nor is one that knows nothing, nor one that is better by a row or
    two."""
    rng = np.random.default_rng(0)
    gold = rng.permutation(RARE * 4).tolist()
    split = Rows(task, gold)
    base = chance.constant(split, metric)
    good = noisy(gold, 0.1, rng, [1 - label for label in gold])
    found = chance.beside_constant(split, good, metric, base)
    assert found["above"] and found["score"] == split.score(good)[metric] and found["baseline"] == base.score
    assert 0 < found["low"] < found["score"] - found["baseline"] < found["high"]
    for outputs in (base.answers, rng.permutation(gold).tolist(), base.answers[:-2] + gold[-2:]):
        assert not chance.beside_constant(split, outputs, metric, base)["above"]


def test_scores_and_tags_above_chance():
    rng = np.random.default_rng(0)
    gold = rng.uniform(0, 5, 200).tolist()
    split = Rows("stsb", gold)
    base = chance.constant(split, "corr")
    assert chance.beside_constant(split, [value + rng.normal() for value in gold], "corr", base)["above"]
    assert not chance.beside_constant(split, rng.uniform(0, 5, 200).tolist(), "corr", base)["above"]
    tags = [[*rng.choice(["O", "O", "O", "B-PER", "B-LOC"], size=6)] for _ in range(60)]
    split = Rows("conll", tags)
    base = chance.constant(split, "f1")
    assert (
        chance.beside_constant(split, tags, "f1", base)["above"]
        and not chance.beside_constant(split, base.answers, "f1", base)["above"]
    )


@pytest.mark.parametrize("metric", ["f1_entailment", "recall_not_entailment", "f1_PER"])
def test_one_class_above_chance(metric):
    """By any name that --selection_metric takes."""
    gold = [["O", "B-PER"], ["B-LOC", "O"]] * 40 if metric == "f1_PER" else RARE
    split = Rows("conll" if metric == "f1_PER" else "rte", gold, metric)
    base = chance.constant(split, metric)
    assert chance.beside_constant(split, gold, metric, base)["above"] == (base.score < 1)
    assert not chance.beside_constant(split, base.answers, metric, base)["above"]


@pytest.mark.parametrize(
    "metric", ["f1", "exact", "HasAns_f1", "HasAns_exact", "NoAns_f1", "best_f1", "best_exact"]
)
def test_answers_above_chance(metric):
    """Of 80 questions a quarter has no answer.  Good texts with good odds are above it in all but what ""
    gets right itself."""
    gold = [[f"word{number}"] if number % 4 else [] for number in range(80)]
    split = Questions("squad2", gold)
    base = chance.constant(split, metric)
    good = ([texts[0] if texts else "x" for texts in gold], [-1.0 if texts else 1.0 for texts in gold])
    bad = (["x"] * 80, [-1.0] * 80)
    late = (good[0], [odd - 5 for odd in good[1]])  # the right threshold is another one
    found = chance.beside_constant(split, good, metric, base)
    assert found["above"] == (metric != "NoAns_f1") and found["score"] == 1.0
    assert not chance.beside_constant(split, bad, metric, base)["above"]
    assert chance.beside_constant(split, late, metric, base)["above"] == (metric != "NoAns_f1")


def test_no_question_with_an_answer():
    split = Questions("squad2", [[], []])
    found = chance.beside_constant(
        split, (["x", "x"], [-1.0, -1.0]), "HasAns_f1", chance.constant(split, "HasAns_f1")
    )
    assert found == {"score": 0.0, "baseline": 0.0, "low": 0.0, "high": 0.0, "above": False}
