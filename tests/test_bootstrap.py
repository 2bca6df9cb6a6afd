"""The paired bootstrap: every metric beside the plain one on repeated examples, the interval beside its
closed form."""

import numpy as np
import pytest

from utils import answers, bootstrap, metrics

N, SAMPLES = 14, 60
TAGS = ["O", "B-PER", "I-PER", "B-LOC"]
NAMES = ("no", "per_haps", "never")
OF_CLASS = ("precision", "recall", "f1")


def examples(kind, rng):
    """(predictions of two models, labels) of N examples."""
    if kind == "classification":
        return rng.integers(2, size=(3, N)).tolist()
    if kind == "regression":  # with ties, and a part where all are equal
        return rng.integers(5, size=(3, N)).astype(float).tolist()
    if kind == "tagging":
        lengths = rng.integers(1, 6, size=N)
        return [
            [[TAGS[i] for i in rng.integers(len(TAGS), size=length)] for length in lengths] for _ in range(3)
        ]
    words = ["a cat", "the cat sat", "dog", ""]
    first, second = ([words[i] for i in rng.integers(len(words), size=N)] for _ in range(2))
    return first, second, [[words[i]] if words[i] else [] for i in rng.integers(len(words), size=N)]


def plain(kind, name, predictions, labels):
    """The metric as evaluation computes it."""
    if kind == "tagging":
        return metrics.entities(predictions, labels)[name]
    if kind == "spans":
        odds = [0.0] * len(labels)
        return answers.score(predictions, odds, labels, threshold=1.0)[name]
    return metrics.score([name], predictions, labels)[name]


@pytest.mark.filterwarnings("ignore:A single label was found")  # a sample of one example
@pytest.mark.parametrize("kind", ["classification", "regression", "tagging", "spans"])
def test_every_metric_of_repeated_examples(kind):
    """A sample of counts gives what the metric gives of a list in which each example stands so many times."""
    rng = np.random.default_rng(0)
    found, _, gold = examples(kind, rng)
    (counts_RN,) = bootstrap.draws(N, SAMPLES, seed=1)
    counts_RN[0] = 0
    counts_RN[0, 3] = N  # a single example, over and over: correlations are not defined there
    for name in bootstrap.resampled(kind):
        values = bootstrap._METRICS[kind][name](found, gold)(counts_RN)
        for row, value in zip(counts_RN.astype(int), values):
            repeated = [
                [item for item, times in zip(side, row) for _ in range(times)] for side in (found, gold)
            ]
            assert value == pytest.approx(plain(kind, name, *repeated), abs=1e-9), name


@pytest.mark.filterwarnings("ignore:A single label was found")
def test_metrics_of_three_classes():
    """As above, where a class may be missing from a sample."""
    rng = np.random.default_rng(1)
    found, gold = rng.integers(3, size=(2, N)).tolist()
    (counts_RN,) = bootstrap.draws(N, SAMPLES, seed=2)
    for name in ("acc", "micro_f1", "macro_f1", "macro_precision", "macro_recall", "matthews_corrcoef"):
        values = bootstrap._METRICS["classification"][name](found, gold)(counts_RN)
        for row, value in zip(counts_RN.astype(int), values):
            repeated = [
                [item for item, times in zip(side, row) for _ in range(times)] for side in (found, gold)
            ]
            assert value == pytest.approx(plain("classification", name, *repeated), abs=1e-9), name


def repeated(side, row):
    return [item for item, times in zip(side, row) for _ in range(times)]


def of_class(kind, base, name, found, gold):
    """A metric of one class, label or type of entities by scikit-learn or seqeval."""
    if kind == "tagging":
        from seqeval.metrics import classification_report

        report = classification_report(gold, found, output_dict=True, zero_division=0)
        return report.get(name, {}).get(base.replace("f1", "f1-score"), 0.0)
    from sklearn.metrics import precision_recall_fscore_support

    number = NAMES.index(name)
    if kind == "multilabel":
        sides = [[int(number in ids) for ids in side] for side in (gold, found)]
    else:
        sides = [[int(each == number) for each in side] for side in (gold, found)]
    values = precision_recall_fscore_support(*sides, average="binary", zero_division=0)
    return values[OF_CLASS.index(base)]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of samples without an entity
@pytest.mark.parametrize("kind", ["classification", "multilabel", "tagging"])
def test_metrics_of_one_class(kind):
    """Interval and difference beside those of the plain metric on repeated examples, one sample after the
    other; a class that is nowhere included."""
    rng, names = np.random.default_rng(3), NAMES
    if kind == "tagging":
        (before, after, gold), names = examples(kind, rng), (*TAGS, "I-LOC", "B-never", "I-never")
    elif kind == "multilabel":
        before, after, gold = (
            [tuple(np.flatnonzero(row).tolist()) for row in rng.integers(2, size=(N, 2))] for _ in range(3)
        )
    else:
        before, after, gold = rng.integers(2, size=(3, N)).tolist()
    wanted = [
        name for name in metrics.of_kind(kind, names) if name.startswith(tuple(f"{b}_" for b in OF_CLASS))
    ]
    assert len(wanted) == 9 and {*wanted} <= {*bootstrap.resampled(kind, names)}
    options = {"samples": 25, "seed": 6, "label_names": names}
    found = bootstrap.compare(kind, wanted, before, after, gold, **options)
    (counts_RN,) = bootstrap.draws(N, 25, seed=6)
    for name in wanted:
        base, _, which = name.partition("_")
        values = [
            [
                of_class(kind, base, which, *(repeated(part, row) for part in (side, gold)))
                for side in (before, after)
            ]
            for row in np.vstack([np.ones((1, N)), counts_RN]).astype(int)
        ]
        gaps = [later - earlier for earlier, later in values]
        assert found[name]["difference"] == pytest.approx(gaps[0]), name
        low, high = np.percentile(gaps[1:], [2.5, 97.5])
        assert (found[name]["low"], found[name]["high"]) == pytest.approx((low, high)), name


def test_the_interval_of_an_accuracy():
    """Differences of accuracy are means: their bootstrap variance is that over examples / N, nearly normal,
    in steps of 1 / N."""
    rng = np.random.default_rng(0)
    gold = rng.integers(2, size=500)
    before, after = (np.where(rng.random(500) < share, gold, 1 - gold) for share in (0.8, 0.9))
    found = bootstrap.compare("classification", ["acc", "f1"], before, after, gold, samples=20000, seed=0)
    gaps = (after == gold).astype(float) - (before == gold)
    error = gaps.std() / np.sqrt(500)
    assert found["acc"]["difference"] == pytest.approx(gaps.mean(), abs=1e-12)
    assert found["acc"]["low"] == pytest.approx(gaps.mean() - 1.95996 * error, abs=1.01 / 500)
    assert found["acc"]["high"] == pytest.approx(gaps.mean() + 1.95996 * error, abs=1.01 / 500)
    assert found["f1"]["difference"] == pytest.approx(
        metrics.f1(after, gold) - metrics.f1(before, gold), abs=1e-12
    )


def test_pairs_are_drawn_together():
    """A model differs from itself by nothing in any sample; another one that is right where it is, and once
    more, never loses."""
    gold = [1, 0, 1, 1, 0, 1]
    worse = [1, 1, 1, 1, 0, 0]
    better = [1, 0, 1, 1, 0, 0]
    options = {"samples": 500, "seed": 3}
    assert bootstrap.compare("classification", ["f1"], worse, worse, gold, **options)["f1"] == {
        "difference": 0,
        "low": 0,
        "high": 0,
    }
    assert bootstrap.compare("classification", ["acc"], worse, better, gold, **options)["acc"]["low"] >= 0


def test_draws_in_parts(monkeypatch):
    """Each example is drawn once on average, with the variance of N draws; memory is bounded."""
    monkeypatch.setattr(bootstrap, "_CELLS", 1000)
    parts = list(bootstrap.draws(50, 2001, seed=0))
    counts_RN = np.concatenate(parts)
    assert [len(part) for part in parts] == [20] * 100 + [1]
    assert (counts_RN.sum(1) == 50).all() and counts_RN.mean() == 1
    assert counts_RN.var() == pytest.approx(1 - 1 / 50, rel=0.02)


def test_seeds_are_drawn_with_the_examples():
    """Two systems with three seeds each, the interval from repeated examples and repeated seeds, one sample
    after the other."""
    rng, names, options = np.random.default_rng(2), ["f1", "acc"], {"samples": 50, "seed": 4}
    gold, *runs = rng.integers(2, size=(7, N)).tolist()
    found = bootstrap.compare_runs("classification", names, runs[:3], runs[3:], gold, **options)
    picked = np.random.default_rng([4, 3]).integers(3, size=(50, 2))  # two of three seeds
    (counts_RN,) = bootstrap.draws(N, 50, seed=4)
    for name in names:
        gaps = []
        for row, seeds in zip(counts_RN.astype(int), picked):
            repeated = [
                [side[i] for i, times in enumerate(row) for _ in range(times)] for side in (gold, *runs)
            ]
            scores = [plain("classification", name, run, repeated[0]) for run in repeated[1:]]
            gaps.append(np.mean([scores[3 + seed] - scores[seed] for seed in seeds]))
        assert (found[name]["low"], found[name]["high"]) == pytest.approx(np.percentile(gaps, [2.5, 97.5]))
        whole = [plain("classification", name, run, gold) for run in runs]
        assert found[name]["difference"] == pytest.approx(np.mean(whole[3:]) - np.mean(whole[:3]))


def test_the_interval_over_many_seeds():
    """Its variance is that over examples of the mean difference, and that over seeds / their number."""
    rng, seeds, rows = np.random.default_rng(0), 12, 400
    gold = rng.integers(2, size=rows)
    sides = [
        [np.where(rng.random(rows) < low + rng.uniform(0, 0.2), gold, 1 - gold) for _ in range(seeds)]
        for low in (0.5, 0.6)
    ]
    found = bootstrap.compare_runs("classification", ["acc"], *sides, gold, samples=20000, seed=0)["acc"]
    gaps_SN = (np.stack(sides[1]) == gold).astype(float) - (np.stack(sides[0]) == gold)
    error = np.sqrt(gaps_SN.mean(0).var() / rows + gaps_SN.mean(1).var(ddof=1) / seeds)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.95996 * error, rel=0.05)
    assert found["difference"] == pytest.approx(gaps_SN.mean(), abs=1e-12)


def test_one_seed_is_the_plain_comparison():
    rng, options = np.random.default_rng(1), {"samples": 300, "seed": 5}
    gold, before, after = rng.integers(2, size=(3, 40)).tolist()
    one = bootstrap.compare_runs("classification", ["f1"], [before], [after], gold, **options)
    twice = bootstrap.compare_runs("classification", ["f1"], [before] * 2, [after] * 2, gold, **options)
    assert one == bootstrap.compare("classification", ["f1"], before, after, gold, **options) == twice
