"""New rows to answers: files and standard input in the formats of the readers, a part at a time, in order.

Labels need not be there and are not read.
"""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
from scipy.special import softmax

from data import readers
from data.readers import Examples
from data.squad.questions import read_questions
from utils.errors import DataError

STDIN = "-"
CHUNK = 1024  # rows of a file that are answered together: those of similar length share a batch


def chunks(source, task, *, size: int):
    """Yield the rows of a file, or of standard input ("-"), as Examples of at most `size`; of a file CHUNK at least.

    Reads no further than it must: rows that arrive on standard input are yielded before later ones are there.  Questions about
    texts are one JSON object, which is read whole.  Raises DataError, naming the line, when it comes to what does not fit.
    """
    if source == STDIN:
        yield from _chunks("stdin", sys.stdin.buffer, task, size)
        return
    try:
        with open(source, "rb") as file:
            yield from _chunks(source, file, task, max(size, CHUNK))
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}); expected a text file, or - for standard input") from error


def _chunks(path, stream, task, size):
    lines = _lines(path, stream)
    if task.kind == "spans":
        examples = read_questions(path, split="test", lines=[text for _, text in lines])
        for start in range(0, len(examples), size):
            yield examples.take(range(start, min(start + size, len(examples))))
    elif task.kind == "tagging":
        yield from _sentences(path, lines, size)
    else:
        yield from _rows(path, lines, task.table, size)


def _lines(path, stream):
    """Yield (number, text) of a binary stream's lines, as readers.read_lines would give them."""
    blank = []  # lines that may be the end of the file
    for number, data in enumerate(stream, 1):
        try:
            text = data.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{number}: found the byte 0x{data[error.start]:02x}, which is not UTF-8; expected UTF-8 text; convert it"
            ) from error
        if text:
            yield from ((line, "") for line in blank)
            blank = []
            yield number, text
        else:
            blank.append(number)


def _rows(path, lines, table, size):
    first = next(lines, (1, ""))
    names, start = readers.header(first[1].split("\t"), table)
    readers.check_columns(path, names, [name for name in (table.first, table.second) if name])
    if start == 1:
        lines = itertools.chain([first], lines)
    number = 0
    while part := list(itertools.islice(lines, size)):
        rows = [text.split("\t") for _, text in part]
        yield readers.columns(path, rows, names, table, line=part[0][0], split="test", labelled=False, number=number)
        number += len(rows)


def _sentences(path, lines, size):
    sentences, number = readers.sentences(path, lines, split="test"), 0
    while part := list(itertools.islice(sentences, size)):
        ids = [str(number + i) for i in range(len(part))]
        yield Examples(ids, [[cells[0] for cells in rows] for _, rows in part], None, None, Path(path), "test")
        number += len(part)


# ---- Answers


def heading(task) -> list[str]:
    """The lines before the first answer."""
    columns = {"classification": "index\tprediction\tprobability", "regression": "index\tprediction"}
    return [columns[task.kind]] if task.kind in columns else []


def answers(split, outputs) -> list[str]:
    """The lines that answer a split's examples.

    A class: index, label, its probability.  A score: index, score, within the task's range.  Tags: as in CoNLL's files, a word
    and its tag, a blank line behind each sentence.  Spans: a JSON object for each question, with the odds of having no answer.
    """
    task, examples = split.task, split.examples
    predicted = split.predictions(outputs)
    if task.kind == "classification":
        probabilities = softmax(np.asarray(outputs, np.float64), axis=1).max(1)
        return [f"{i}\t{task.label_names[label]}\t{p:.4f}" for i, label, p in zip(examples.ids, predicted, probabilities)]
    if task.kind == "regression":
        return [f"{i}\t{score:.4f}" for i, score in zip(examples.ids, np.clip(predicted, *task.score_range))]
    if task.kind == "tagging":
        return [
            line for words, tags in zip(examples.first, split.readable(outputs))
            for line in (*(f"{word} {tag}" for word, tag in zip(words, tags)), "")
        ]  # fmt: skip
    odds = split.answers(outputs).odds
    rows = zip(examples.ids, predicted, odds)
    return [json.dumps({"id": i, "prediction": text, "no_answer_odds": odd}, ensure_ascii=False) for i, text, odd in rows]
