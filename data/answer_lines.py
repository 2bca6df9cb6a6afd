"""A model's answers to rows, as lines of text.

print(*answer_lines.heading(task), *answer_lines.of_split(split, outputs), sep="\n")
"""

import json

import numpy as np
from scipy.special import softmax


def heading(task) -> list[str]:
    """The lines before the first answer."""
    columns = {"classification": "index\tprediction\tprobability", "regression": "index\tprediction"}
    return [columns[task.kind]] if task.kind in columns else []


def of_split(split, outputs) -> list[str]:
    """The lines that answer a split's examples.

    A class: index, label, its probability.  A score: index, score, within the task's range.  Tags: as in
    CoNLL's files, a word and its tag, a blank line behind each sentence.  Spans: a JSON object for each
    question, with the odds of having no answer.
    """
    task, examples = split.task, split.examples
    predicted = split.predictions(outputs)
    if task.kind == "classification":
        probabilities = softmax(np.asarray(outputs, np.float64), axis=1).max(1)
        return [
            f"{i}\t{task.label_names[label]}\t{p:.4f}"
            for i, label, p in zip(examples.ids, predicted, probabilities)
        ]
    if task.kind == "regression":
        return [f"{i}\t{score:.4f}" for i, score in zip(examples.ids, np.clip(predicted, *task.score_range))]
    if task.kind == "tagging":
        return [
            line
            for words, tags in zip(examples.first, split.readable(outputs))
            for line in (*(f"{word} {tag}" for word, tag in zip(words, tags)), "")
        ]
    odds = split.answers(outputs).odds
    rows = zip(examples.ids, predicted, odds)
    return [
        json.dumps({"id": i, "prediction": text, "no_answer_odds": odd}, ensure_ascii=False)
        for i, text, odd in rows
    ]
