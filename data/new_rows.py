"""New rows to be answered: of a file or of standard input, in the formats of the readers, a part at a time,
in order.

Labels need not be there and are not read.
"""

import itertools
import sys
from pathlib import Path

from data import readers
from data.readers import Examples
from data.squad.questions import read_questions
from utils.errors import DataError

STDIN = "-"
OF_A_FILE = 1024  # rows of a file that are answered together: those of similar length share a batch


def read_parts(source, task, *, size: int):
    """Yield the rows of a file, or of standard input ("-"), as Examples of at most `size`; of a file
    OF_A_FILE at least.

    Reads no further than it must: rows that arrive on standard input are yielded before later ones are there.
    Questions about texts are one JSON object, which is read whole.  Raises DataError, naming the line, when
    it comes to what does not fit.
    """
    if source == STDIN:
        yield from _parts("stdin", sys.stdin.buffer, task, size)
        return
    try:
        with open(source, "rb") as file:
            yield from _parts(source, file, task, max(size, OF_A_FILE))
    except OSError as error:
        raise DataError(
            f"{source}: cannot be read ({error.strerror}); expected a text file, or - for standard input"
        ) from error


def _parts(path, stream, task, size):
    lines = _lines(path, stream)
    if task.kind == "spans":
        examples = read_questions(path, split="test", lines=[text for _, text in lines])
        for start in range(0, len(examples), size):
            yield examples.take(range(start, min(start + size, len(examples))))
    elif task.kind == "tagging":
        yield from _tagged_sentences(path, lines, size)
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
                f"{path}:{number}: found the byte 0x{data[error.start]:02x}, which is not UTF-8; expected "
                "UTF-8 text; convert it"
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
        yield readers.examples_of_cells(
            path, rows, names, table, line=part[0][0], split="test", labelled=False, number=number
        )
        number += len(rows)


def _tagged_sentences(path, lines, size):
    sentences, number = readers.tagged_sentences(path, lines, split="test"), 0
    while part := list(itertools.islice(sentences, size)):
        ids = [str(number + i) for i in range(len(part))]
        yield Examples(
            ids, [[cells[0] for cells in rows] for _, rows in part], None, None, Path(path), "test"
        )
        number += len(part)
