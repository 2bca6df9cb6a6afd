"""Scores of predictions.  Fractions in [0, 1], correlations in [-1, 1]; always plain Python floats.

The libraries that compute them are imported when they are needed: scikit-learn alone takes a second.
"""

import warnings

import numpy as np


def score(names, predictions, labels, *, kind="classification", label_names=()) -> dict[str, float]:
    """The named metrics, in the order of the names: any of of_kind().

    kind: "classification", [N] class ids; "multilabel", N tuples of label ids; "regression", [N] scores;
    "tagging", N sentences of tag names.
    label_names: the classes, in the order of their ids.
    """
    if kind == "tagging":
        return entities(predictions, labels, names=names)
    if kind == "multilabel":
        scores = of_labels(predictions, labels, label_names)
        return {name: float(scores[name]) for name in names}
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    assert predictions.shape == labels.shape and predictions.ndim == 1 and len(labels) > 0
    return {name: float(_function(name, label_names)(predictions, labels)) for name in names}


def of_kind(kind, label_names=()) -> tuple[str, ...]:
    """The metrics that a task of this kind can be judged by.  Those of spans are the task's own: ().

    f1_X, precision_X and recall_X are those of the class X, or of the entities of type X; macro: the mean
    over the classes that are there; f1, precision and recall alone: of class 1 of two, or of all entities.
    """
    if kind == "regression":
        return "pearson", "spearman", "corr", "neg_mse"
    if kind == "tagging":
        types = entity_types(label_names)
        return "precision", "recall", "f1", *(f"{name}_{each}" for each in types for name in _OF_CLASS)
    if kind == "multilabel":
        return (
            "acc",
            "macro_f1",
            "micro_f1",
            *(f"{name}_{each}" for each in label_names for name in _OF_CLASS),
        )
    if kind != "classification":
        return ()
    of_two = ("f1", "acc_and_f1", "precision", "recall") if len(label_names) == 2 else ()
    named = (f"{name}_{each}" for each in label_names for name in _OF_CLASS)
    return (
        "acc",
        "macro_f1",
        "micro_f1",
        "macro_precision",
        "macro_recall",
        "matthews_corrcoef",
        *of_two,
        *named,
    )


def accuracy(predictions, labels):
    """The share of examples whose class is right."""
    return np.mean(predictions == labels)


def f1(predictions, labels):
    """F1 of class 1; 0 where that class is neither found nor there."""
    return of_class(predictions, labels, 1)["f1"]


def of_class(predictions, labels, number) -> dict[str, float]:
    """Precision, recall and F1 of one class; 0 where it is neither found nor there."""
    found, there = predictions == number, labels == number
    right = np.sum(found & there)
    return {
        "precision": right / max(1, found.sum()),
        "recall": right / max(1, there.sum()),
        "f1": 2 * right / max(1, found.sum() + there.sum()),
    }


def macro(name):
    """Precision, recall or F1 ("f1") as a function of predictions and labels: the mean over the classes that
    are found or there."""

    def mean(predictions, labels):
        classes = np.union1d(predictions, labels)
        return np.mean([of_class(predictions, labels, each)[name] for each in classes])

    return mean


def of_labels(predictions, labels, label_names) -> dict[str, float]:
    """The metrics of examples with several labels: acc, the share of those whose labels are all right and no
    others found; F1 of all decisions together and its mean over the labels that are found or there; those of
    each label.  predictions, labels: [N] tuples of label ids."""
    found_NC, gold_NC = (indicators(side, len(label_names)) for side in (predictions, labels))
    right, found, there = (found_NC & gold_NC).sum(0), found_NC.sum(0), gold_NC.sum(0)
    f1_C = 2 * right / np.maximum(1, found + there)
    scores = {
        "acc": (found_NC == gold_NC).all(1).mean(),
        "micro_f1": 2 * right.sum() / max(1, found.sum() + there.sum()),
        "macro_f1": f1_C[found + there > 0].mean() if (found + there).any() else 0.0,
    }
    for number, name in enumerate(label_names):
        scores |= {
            f"{key}_{name}": value
            for key, value in of_class(found_NC[:, number], gold_NC[:, number], True).items()
        }
    return scores


def indicators(rows, number) -> np.ndarray:
    """[N, C] bool of N tuples of label ids, C being `number`."""
    result_NC = np.zeros((len(rows), number), bool)
    for row, ids in zip(result_NC, rows):
        row[list(ids)] = True
    return result_NC


def acc_and_f1(predictions, labels):
    """The mean of accuracy and F1, as GLUE averages the two."""
    return (accuracy(predictions, labels) + f1(predictions, labels)) / 2


def matthews_corrcoef(predictions, labels):
    """Matthews' correlation, of any number of classes; 0 where either side has one class only."""
    from sklearn.metrics import matthews_corrcoef

    return matthews_corrcoef(labels, predictions)


def neg_mse(predictions, labels):
    """The mean squared error, negative: as of all metrics, more is better."""
    return -np.mean((predictions - labels) ** 2)


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


def entities(predictions, labels, names=("precision", "recall", "f1")) -> dict[str, float]:
    """Precision, recall and F1 of entities, of all or of one type (f1_PER): an entity counts where type,
    first and last word agree; 0 where there is none.

    predictions, labels: lists of sentences, each a list of tags such as B-PER.  Sentences are kept apart, so
    that no entity runs from one into the next.  seqeval's default mode, which is conlleval's: an I- that
    continues nothing starts an entity.
    """
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    assert [len(sentence) for sentence in predictions] == [len(sentence) for sentence in labels]
    values = precision_recall_fscore_support(labels, predictions, average="micro", zero_division=0)
    scores = dict(zip(_OF_ENTITIES, values))
    if any(name not in scores for name in names):
        types = entity_types(tag for side in (predictions, labels) for row in side for tag in row)
        by_type = precision_recall_fscore_support(labels, predictions, average=None, zero_division=0)
        for name, numbers in zip(_OF_ENTITIES, by_type):
            scores |= {f"{name}_{each}": number for each, number in zip(types, numbers)}
    return {name: float(scores.get(name, 0.0)) for name in names}


def entity_types(tags) -> list[str]:
    """The types of entities that tags such as B-PER name, sorted."""
    return sorted({tag.partition("-")[2] for tag in tags} - {""})


def entity_counts(predictions, labels, of=None) -> np.ndarray:
    """[N, 3] of N sentences: entities found that are right, entities found, entities there; as entities()
    counts them.  of: those of one type alone."""
    from seqeval.metrics.sequence_labeling import get_entities

    def counted(tags):
        return {entity for entity in get_entities(tags) if of in (None, entity[0])}

    pairs = [(counted(found), counted(gold)) for found, gold in zip(predictions, labels)]
    return np.array([[len(found & gold), len(found), len(gold)] for found, gold in pairs])


def label(split, name) -> str:
    """A metric as it is to be read in a picture: dev, acc_and_f1 is "dev accuracy and F1 (mean)"."""
    rows = split.replace("hold_out", "hold-out").replace("_", " ")
    base, _, of = name.partition("_")
    if name not in _READABLE and base in _OF_CLASS:
        return f"{rows} {_READABLE.get(base, base)} of {of}"
    return f"{rows} {_READABLE.get(name, name.replace('_', ' '))}"


def _function(name, label_names):
    if name in _METRICS:
        return _METRICS[name]
    base, _, label_name = name.partition("_")
    number = label_names.index(label_name)
    return lambda predictions, labels: of_class(predictions, labels, number)[base]


def _correlation(function, predictions, labels):
    if len(labels) < 2 or np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy's about nearly constant input
        return function(predictions, labels).statistic


_OF_CLASS = ("f1", "precision", "recall")
_OF_ENTITIES = ("precision", "recall", "f1")
_READABLE = {
    "acc": "accuracy",
    "f1": "F1",
    "acc_and_f1": "accuracy and F1 (mean)",
    "matthews_corrcoef": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "corr": "Pearson and Spearman (mean)",
    "macro_f1": "F1 (mean over classes)",
    "micro_f1": "F1 (all classes together)",
    "macro_precision": "precision (mean over classes)",
    "macro_recall": "recall (mean over classes)",
    "neg_mse": "squared error, negative",
    "exact": "exact match",
    "HasAns_exact": "exact match of answerable questions",
    "HasAns_f1": "F1 of answerable questions",
    "NoAns_exact": "exact match of unanswerable questions",
    "NoAns_f1": "F1 of unanswerable questions",
}
_METRICS = {
    "acc": accuracy,
    "micro_f1": accuracy,  # of classes that exclude each other
    "macro_f1": macro("f1"),
    "macro_precision": macro("precision"),
    "macro_recall": macro("recall"),
    "precision": lambda predictions, labels: of_class(predictions, labels, 1)["precision"],
    "recall": lambda predictions, labels: of_class(predictions, labels, 1)["recall"],
    "neg_mse": neg_mse,
    "f1": f1,
    "acc_and_f1": acc_and_f1,
    "matthews_corrcoef": matthews_corrcoef,
    "pearson": pearson,
    "spearman": spearman,
    "corr": corr,
}
