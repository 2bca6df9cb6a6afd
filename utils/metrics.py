"""Scores of predictions.  Fractions in [0, 1], correlations in [-1, 1]; always plain Python floats.

The libraries that compute them are imported when they are needed: scikit-learn alone takes a second.
"""

import warnings

import numpy as np


def score(names, predictions, labels) -> dict[str, float]:
    """The named metrics, in the order of the names.  predictions, labels: [N] class ids or scores."""
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    assert predictions.shape == labels.shape and predictions.ndim == 1 and len(labels) > 0
    return {name: float(_METRICS[name](predictions, labels)) for name in names}


def accuracy(predictions, labels):
    """The share of examples whose class is right."""
    return np.mean(predictions == labels)


def f1(predictions, labels):
    """F1 of class 1; 0 where that class is neither found nor there."""
    from sklearn.metrics import f1_score

    return f1_score(labels, predictions, pos_label=1, average="binary", zero_division=0)


def acc_and_f1(predictions, labels):
    """The mean of accuracy and F1, as GLUE averages the two."""
    return (accuracy(predictions, labels) + f1(predictions, labels)) / 2


def matthews_corrcoef(predictions, labels):
    """Matthews' correlation of two classes; 0 where either side has one class only."""
    from sklearn.metrics import matthews_corrcoef

    return matthews_corrcoef(labels, predictions)


def pearson(predictions, labels):
    """Pearson's correlation; 0 where it is not defined, because one side is constant or there are fewer than
    two examples."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, predictions, labels)


def spearman(predictions, labels):
    """Spearman's rank correlation; 0 where it is not defined, as in pearson."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, predictions, labels)


def corr(predictions, labels):
    """The mean of Pearson's and Spearman's correlation."""
    return (pearson(predictions, labels) + spearman(predictions, labels)) / 2


def entities(predictions, labels) -> dict[str, float]:
    """Precision, recall and F1 of entities: an entity counts where type, first and last word agree.

    predictions, labels: lists of sentences, each a list of tags such as B-PER.  Sentences are kept apart, so
    that no entity runs from one into the next.  seqeval's default mode, which is conlleval's: an I- that
    continues nothing starts an entity.
    """
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    assert [len(sentence) for sentence in predictions] == [len(sentence) for sentence in labels]
    values = precision_recall_fscore_support(labels, predictions, average="micro", zero_division=0)
    return {name: float(value) for name, value in zip(("precision", "recall", "f1"), values)}


def entity_counts(predictions, labels) -> np.ndarray:
    """[N, 3] of N sentences: entities found that are right, entities found, entities there; as entities()
    counts them."""
    from seqeval.metrics.sequence_labeling import get_entities

    pairs = [({*get_entities(found)}, {*get_entities(gold)}) for found, gold in zip(predictions, labels)]
    return np.array([[len(found & gold), len(found), len(gold)] for found, gold in pairs])


def label(split, name) -> str:
    """A metric as it is to be read in a picture: dev, acc_and_f1 is "dev accuracy and F1 (mean)"."""
    rows = split.replace("hold_out", "hold-out").replace("_", " ")
    return f"{rows} {_READABLE.get(name, name.replace('_', ' '))}"


def _correlation(function, predictions, labels):
    if len(labels) < 2 or np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy's about nearly constant input
        return function(predictions, labels).statistic


_READABLE = {
    "acc": "accuracy",
    "f1": "F1",
    "acc_and_f1": "accuracy and F1 (mean)",
    "matthews_corrcoef": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "corr": "Pearson and Spearman (mean)",
    "exact": "exact match",
    "HasAns_exact": "exact match of answerable questions",
    "HasAns_f1": "F1 of answerable questions",
    "NoAns_exact": "exact match of unanswerable questions",
    "NoAns_f1": "F1 of unanswerable questions",
}
_METRICS = {
    "acc": accuracy,
    "f1": f1,
    "acc_and_f1": acc_and_f1,
    "matthews_corrcoef": matthews_corrcoef,
    "pearson": pearson,
    "spearman": spearman,
    "corr": corr,
}
