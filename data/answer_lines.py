"""A model's answers to rows, as lines of text.

print(*answer_lines.heading(task), *answer_lines.of_split(split, outputs), sep="\\n")
"""

import csv
import io
import json

import numpy as np
from scipy.special import expit, softmax

from data import tagged_words
from utils.errors import DataError

FORMATS = ("tsv", "csv", "jsonl")


def heading(task, format: str | None = None) -> list[str]:
    """The lines before the first answer.  format: see of_split()."""
    format = format or _USUAL[task.kind]
    if format in ("columns", "jsonl"):
        return []
    return [_line(_names(task), format)]


def of_split(split, outputs, format: str | None = None) -> list[str]:
    """The lines that answer a split's examples, in a format of FORMATS; None: the usual one of the kind.

    A class: index, label, its probability.  Several labels: index, those whose probability is above a half,
    the probability of each.  A score: index, score, within the task's range, to 7 digits, as JSON to all.
    Tags: as in CoNLL's files, a word and its tag, a blank line behind each sentence; as a table with the
    sentence's index in front; as JSON the two lists.  Spans: an object for each question, with the odds of
    having no answer.
    JSON has the probabilities of all labels, by their names.
    Raises DataError for a word that columns cannot hold.
    """
    format = format or _USUAL[split.task.kind]
    rows = _answers(split, outputs, with_all=format == "jsonl")
    if format == "jsonl":
        return [json.dumps(row, ensure_ascii=False) for row in rows]
    if split.task.kind == "tagging":
        if format == "columns":
            check(split.examples, split.task.kind, format)
            pairs = (zip(row["tokens"], row["prediction"]) for row in rows)
            return [line for sentence in pairs for line in (*(f"{word} {tag}" for word, tag in sentence), "")]
        return [
            _line((row["index"], word, tag), format)
            for row in rows
            for word, tag in zip(row["tokens"], row["prediction"])
        ]
    return [_line(_cells(split.task, row), format) for row in rows]


def check(examples, kind: str, format: str | None = None):
    """Raise DataError for rows whose answers lines in this format cannot hold.  kind: of the task."""
    if kind != "tagging" or format not in (None, "columns"):
        return
    for i, words in zip(examples.ids, examples.first):
        for word in words:
            if not tagged_words.fits_columns(word):
                raise DataError(
                    f"{examples.path}: sentence {i}, counted from 0: found the word {word!r}; expected words "
                    "without blanks and line ends, as each is a line of the answer, with its tag behind a "
                    "blank; --predict_format jsonl answers with lists of words"
                )


_USUAL = {
    "classification": "tsv",
    "multilabel": "tsv",
    "regression": "tsv",
    "tagging": "columns",
    "spans": "jsonl",
}


def _names(task):
    more = {
        "classification": ("prediction", "probability"),
        "multilabel": ("prediction", *task.label_names),
        "regression": ("prediction",),
        "tagging": ("word", "prediction"),
        "spans": ("prediction", "no_answer_odds"),
    }
    return "index", *more[task.kind]


def _answers(split, outputs, *, with_all):
    """Yield what is known of each example's answer, by name."""
    task, examples = split.task, split.examples
    predicted = split.predictions(outputs)
    if task.kind == "tagging":
        for i, words, tags in zip(examples.ids, examples.first, split.readable(outputs)):
            yield {"index": i, "tokens": words, "prediction": tags}
    elif task.kind == "spans":
        for i, text, odd in zip(examples.ids, predicted, split.answers(outputs).odds):
            yield {"id": i, "prediction": text, "no_answer_odds": odd}
    elif task.kind == "regression":
        scores = predicted if task.score_range is None else np.clip(predicted, *task.score_range)
        for i, score in zip(examples.ids, scores):
            yield {"index": i, "prediction": float(score)}
    else:
        several = task.kind == "multilabel"
        logits = np.asarray(outputs, np.float64)
        probabilities = expit(logits) if several else softmax(logits, axis=1)
        for i, answer, row in zip(examples.ids, predicted, probabilities.tolist()):
            every = {name: round(p, 4) for name, p in zip(task.label_names, row)}
            names = [task.label_names[k] for k in answer] if several else task.label_names[answer]
            best = {} if several else {"probability": round(max(row), 4)}
            more = {"probabilities": every} if with_all or several else {}
            yield {"index": i, "prediction": names, **best, **more}


def _cells(task, row):
    if task.kind == "classification":
        return row["index"], row["prediction"], f"{row['probability']:.4f}"
    if task.kind == "multilabel":
        return row["index"], ",".join(row["prediction"]), *(f"{p:.4f}" for p in row["probabilities"].values())
    if task.kind == "regression":
        return row["index"], f"{row['prediction']:.7g}"
    return row["id"], row["prediction"], row["no_answer_odds"]


def _line(cells, format):
    if format == "csv":
        file = io.StringIO()
        csv.writer(file, lineterminator="").writerow(cells)
        return file.getvalue()
    return "\t".join(" ".join(str(cell).split("\t")).replace("\n", " ") for cell in cells)
