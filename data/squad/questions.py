"""SQuAD files to columns: the official JSON of SQuAD 2.0 (and of 1.1, where every question has an answer), or
a row for each question, as on the Hub.

Everything is checked while it is read: what does not fit is a DataError that names the file and the place
inside the JSON.
"""

import json
from pathlib import Path

from data import opening, tables
from data.readers import Examples
from utils import files
from utils.errors import DataError
from utils.logs import logger

_WORDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    (str, int): "a text or a whole number",
}


def read_questions(path, *, split: str, stream=None) -> Examples:
    """One file: {"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers",
    "is_impossible"}]}]}]}; or JSON lines, a JSON list or Parquet with id, context, question and answers.

    answers: [{"text", "answer_start"}, ...] or {"text": [...], "answer_start": [...]}.
    Columns: first, the questions; second, their contexts; labels, for each question a tuple of (first
    character, text), without repeats and in the file's order; it is empty where the question has no answer.
    A test file may have no answers at all.
    stream: of the file, where it is open already.  Raises DataError.
    """
    if stream is None:
        with opening.reading(path), opening.open_bytes(path) as file:
            return read_questions(path, split=split, stream=file)
    reader = _Reader(path, optional=split == "test")
    if tables.format_of(path) == "parquet":
        reader.add_rows(tables.open_table(path, stream))
        return reader.examples(split)
    lines = list(opening.lines(path, stream))
    top = next((text for _, text in lines if text.strip()), "")
    if top.lstrip().startswith("[") or _is_row(top):
        reader.add_rows(tables.of_lines(path, iter(lines), format="json"))
        return reader.examples(split)
    try:
        content = json.loads("\n".join(text for _, text in lines))
    except json.JSONDecodeError as error:
        cut = error.msg != "Extra data"  # after a whole value: another format
        raise DataError(
            f"{path}:{error.lineno}: found no complete JSON ({error.msg}, column {error.colno}); expected "
            "SQuAD's JSON, or rows with question, context and answers, one on each "
            f"line{'; the file may be cut off, copy it again' if cut else ''}"
        ) from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"{path}:1: found no SQuAD JSON ({error}); expected an object with data") from error
    for a, article in enumerate(reader.get(content, "", "data", list)):
        if isinstance(article, dict) and "paragraphs" not in article and "question" in article:
            reader.add_row(article, f"data[{a}]")
            continue
        paragraphs = reader.get(article, f"data[{a}]", "paragraphs", list)
        for p, paragraph in enumerate(paragraphs):
            reader.add_paragraph(paragraph, f"data[{a}].paragraphs[{p}]")
    return reader.examples(split)


def _is_row(line) -> bool:
    try:
        value = files.parse_json(line)
    except ValueError:
        return False
    return isinstance(value, dict) and "question" in value


class _Reader:
    """Collects the questions of one file.  optional: it may have no answers."""

    def __init__(self, path, *, optional):
        self.path, self.optional = path, optional
        self.places, self.questions, self.contexts, self.answers = {}, [], [], []  # places: {id: where}

    def fail(self, where, found, expected, advice):
        raise DataError(f"{self.path}: {where or 'top level'}: found {found}; expected {expected}; {advice}")

    def get(self, holder, where, key, kind):
        """The value of a key, if it is of that kind."""
        if not isinstance(holder, dict):
            self.fail(where, _shown(holder), "an object", f"{key!r} is read from it")
        place = f"{where}.{key}".removeprefix(".")
        if key not in holder:
            self.fail(
                where, f"no {key!r}", f"{_WORDS[kind]} of that name", "see datasets/README.md for the form"
            )
        value = holder[key]
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            self.fail(place, _shown(value), _WORDS[kind], "correct it")
        if isinstance(value, str) and tables.has_half_pair(value):
            self.fail(
                place, _shown(holder[key]), "a text", "it holds half of a surrogate pair; write it again"
            )
        return holder[key]

    def add_rows(self, found):
        """The questions of a table (tables.Rows), one in each row."""
        for number, cells in found.rows:
            row = dict(zip(found.names, cells))
            flag = row.pop("is_impossible", "")
            if flag != "":  # a cell is a text
                row["is_impossible"] = {"true": True, "false": False}.get(str(flag), flag)
            self.add_row(row, f"{found.unit} {number}")

    def add_row(self, row, where):
        """A question with its context."""
        context = self._context(row, where)
        self._add_question({"id": where, **row}, where, context)

    def add_paragraph(self, paragraph, where):
        """A context with its questions."""
        context = self._context(paragraph, where)
        for q, entry in enumerate(self.get(paragraph, where, "qas", list)):
            self._add_question(entry, f"{where}.qas[{q}]", context)

    def _context(self, holder, where):
        context = self.get(holder, where, "context", str)
        if not context.strip():
            self.fail(
                f"{where}.context",
                "a blank context",
                "the text that is asked about",
                "fill it in or remove the paragraph",
            )
        return context

    def _add_question(self, entry, place, context):
        number = self.get(entry, place, "id", (str, int))
        number = str(number)
        if number in self.places:
            self.fail(
                f"{place}.id",
                f"{number!r}, which {self.places[number]} has too",
                "an id of its own",
                "rename one",
            )
        question = self.get(entry, place, "question", str)
        if not question.strip():
            logger.warning("%s: %s: the question is blank; kept", self.path, place)
        self.places[number] = place
        self.questions.append(question)
        self.contexts.append(context)
        self.answers.append(self._answers_of(entry, place, context))

    def _answers_of(self, entry, where, context):
        """((first character, text), ...), or None where there is no list of answers and none is needed."""
        if self.optional and isinstance(entry, dict) and entry.get("answers", "") in ("", None):
            return None
        if isinstance(columns := entry.get("answers"), dict):  # as on the Hub
            texts, starts = (
                self.get(columns, f"{where}.answers", name, list) for name in ("text", "answer_start")
            )
            if len(texts) != len(starts):
                found = f"{len(texts)} texts and {len(starts)} offsets"
                self.fail(f"{where}.answers", found, "one offset for each text", "complete it")
            rows = [{"text": text, "answer_start": start} for text, start in zip(texts, starts)]
            entry = {**entry, "answers": rows}
        answers = []
        for i, answer in enumerate(self.get(entry, where, "answers", list)):
            place = f"{where}.answers[{i}]"
            text, start = self.get(answer, place, "text", str), self.get(answer, place, "answer_start", int)
            if not text.strip():
                self.fail(f"{place}.text", "a blank answer", "a part of the context", "remove it")
            found = context[start : start + len(text)] if start >= 0 else ""
            if found != text:
                at = context.find(text)
                advice = f"it is at {at}" if at >= 0 else "the context does not hold it"
                self.fail(
                    f"{place}.answer_start",
                    f"{start}, where the context has {_shown(found)}",
                    f"the offset of {text!r}",
                    f"{advice}; offsets count characters from 0",
                )
            answers.append((start, text))
        if "is_impossible" in entry and self.get(entry, where, "is_impossible", bool) == bool(answers):
            found = f"{str(bool(answers)).lower()} with {len(answers)} answers"
            self.fail(
                f"{where}.is_impossible",
                found,
                "true where there is no answer, else false",
                "correct one of them",
            )
        return tuple(dict.fromkeys(answers))

    def examples(self, split) -> Examples:
        if not self.questions:
            self.fail("data", "no questions", "at least one", "the file is empty, copy it again")
        lacking = [i for i, answers in enumerate(self.answers) if answers is None]
        labels = self.answers
        if len(lacking) == len(labels):
            labels = None
        elif lacking:
            where = list(self.places.values())[lacking[0]]
            self.fail(
                where,
                "no 'answers', which other questions have",
                "answers for all questions or for none",
                "complete it",
            )
        return Examples([*self.places], self.questions, self.contexts, labels, Path(self.path), split)


def _shown(value, limit=40):
    text = json.dumps(value, ensure_ascii=tables.has_half_pair(value))
    return text if len(text) <= limit else text[: limit - 4] + " ..."
