"""New rows to be answered: of a file or of standard input, in the formats of the readers, a part at a time,
in order.

Labels need not be there and are not read.
"""

import itertools
import re
import sys
from pathlib import Path

from data import opening, readers, tables, tagged_words
from data.readers import Examples
from data.squad.questions import read_questions
from utils import families
from utils.errors import DataError
from utils.logs import errors_only, logger

STDIN = "-"
OF_A_FILE = 1024  # rows of a file that are answered together: those of similar length share a batch


def read_parts(source, task, *, size: int):
    """Yield the rows of a file, or of standard input ("-"), as Examples of at most `size`; of a file
    OF_A_FILE at least.

    Reads no further than it must: rows that arrive on standard input are yielded before later ones are there.
    Questions about texts, a JSON list and Parquet are read whole.  What arrives on standard input is a TSV
    for tasks of GLUE; for others JSON, TSV or CSV, as its first line looks.  A .txt, of a task with one text
    a row, is one text a line where its first line is no header.  Raises DataError, naming the line, when it
    comes to what does not fit.
    """
    number = 0
    for part in _parts_of_source(source, task, size):
        number += len(part)
        yield part
    if not number:
        logger.warning("%s: no rows in it, so that there is nothing to predict", source)


def check_file(source, task, check):
    """Raise DataError for what does not fit anywhere in a file; nothing for standard input or a pipe, which
    can be read once only.  check(examples) raises it too."""
    if source == STDIN or (Path(source).exists() and not Path(source).is_file()):
        return
    with errors_only():  # reading it again says what is odd in it
        for part in _parts_of_source(source, task, OF_A_FILE):
            check(part)


def _parts_of_source(source, task, size):
    if source == STDIN:
        yield from _parts("stdin", sys.stdin.buffer, task, size)
        return
    with opening.reading(source), opening.open_bytes(source) as file:
        yield from _parts(source, file, task, max(size, OF_A_FILE))


def read_unlabelled(path, task) -> list[Examples]:
    """All rows of a file, in parts; of tasks with one text a row also the lines of a .txt that are not blank.

    Labels are not read.  Raises DataError, also where there is no row.
    """
    if _is_plain_text(path) and task.kind not in families.PER_TOKEN:
        if task.table.second is not None:
            raise DataError(
                f"{path}: found lines of text; expected a table with {' and '.join(task.table.texts)}, as a "
                f"row of {task.name} is a pair"
            )
        with opening.reading(path), opening.open_bytes(path) as file:
            texts = [text for _, text in opening.lines(path, file) if text.strip()]
        ids = [str(i) for i in range(len(texts))]
        parts = [Examples(ids, texts, None, None, Path(path), "test")] if texts else []
    else:
        parts = [*_parts_of_source(str(path), task, OF_A_FILE)]
    if not parts:
        raise DataError(f"{path}:1: found no text, the file is empty; expected one on each line")
    return parts


def _parts(path, stream, task, size):
    if task.kind == "spans":
        examples = read_questions(path, split="test", stream=stream)
        for start in range(0, len(examples), size):
            yield examples.take(range(start, min(start + size, len(examples))))
    elif task.kind != "tagging":
        yield from _rows(path, stream, task, size)
    elif path != "stdin" and not tagged_words.is_column_file(path):
        yield from _lists(tables.open_table(path, stream), task, size)
    else:
        lines = opening.lines(path, stream)
        top = next(lines, (1, ""))
        lines = itertools.chain([top], lines)
        if top[1].startswith("{"):
            yield from _lists(tables.of_lines(path, lines), task, size)
        else:
            yield from _tagged_sentences(path, lines, size)


def _rows(path, stream, task, size):
    table, found, number = task.table, _opened(path, stream, task), 0
    readers.check_columns(found, table.texts, own=task.own is not None)
    while part := list(itertools.islice(found.rows, size)):
        readers.check_widths(found, part, headerless=table.headerless)
        yield readers.examples_of_cells(found, part, table, split="test", labelled=False, number=number)
        number += len(part)


def _opened(path, stream, task):
    """The rows of a table, or of plain text."""
    table, format = task.table, None if task.own else "tsv"
    options = {"format": format, "headerless": table.headerless, "first": table.first}
    lines = opening.lines(path, stream)
    if not _is_plain_text(path) or table.second is not None or (head := next(lines, None)) is None:
        return tables.open_table(path, stream, **options)
    lines = itertools.chain([head], lines)
    if head[1].startswith(("{", "[")) or "\t" in head[1] or table.first in re.split("[,;]", head[1]):
        return tables.of_lines(path, lines, **options)
    logger.info("%s: read as one text a line: its first line does not name %s", path, table.first)
    return tables.Rows(path, (table.first,), ((number, [text]) for number, text in lines), "txt", "line")


def _is_plain_text(path):
    return Path(opening.unpacked_name(path)).suffix.lower() == ".txt"


def _tagged_sentences(path, lines, size):
    sentences = tagged_words.tagged_sentences(path, lines, split="test")
    yield from _in_parts(path, ([cells[0] for cells in rows] for _, rows in sentences), size)


def _lists(found, task, size):
    name = (task.table or tagged_words.table_of(found)).first
    readers.check_columns(found, (name,), own=task.own is not None)
    position = found.names.index(name)
    rows = (tagged_words.listed(found.place(number), name, row[position]) for number, row in found.rows)
    yield from _in_parts(found.path, rows, size)


def _in_parts(path, sentences, size):
    number = 0
    while part := list(itertools.islice(sentences, size)):
        ids = [str(number + i) for i in range(len(part))]
        yield Examples(ids, part, None, None, Path(path), "test")
        number += len(part)
