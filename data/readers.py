"""Files to columns: GLUE's tab-separated tables and CoNLL's column files.

Everything is checked while it is read: what does not fit is a DataError that names the file and the line; no
row is skipped in silence.  Nothing here imports torch.
"""

import logging
import math
import random
import re
from dataclasses import dataclass
from pathlib import Path

from utils.errors import DataError

logger = logging.getLogger("compression")

_SHOWN = 5  # line numbers listed when several lines have the same fault


@dataclass(frozen=True)
class Table:
    """Where a tab-separated file keeps what is needed.

    first, second, label: names of columns; second is None for single sentences.
    headerless: the names of the columns of files that have no header line; empty where every file has one.
    """

    first: str
    second: str | None
    label: str
    headerless: tuple[str, ...] = ()


@dataclass
class Examples:
    """N examples, column by column.

    ids: the file's own index of a row where it has one, else its position.
    first: the first sentences, or for tagging the sentences as lists of words; second: the second ones, or
    None.
    labels: class ids, float scores, or lists of label ids, one per word; None for an unlabelled file.
    """

    ids: list[str]
    first: list
    second: list[str] | None
    labels: list | None
    path: Path
    split: str

    def __len__(self):
        return len(self.first)

    def take(self, positions) -> "Examples":
        """The examples at these positions, in their order."""

        def pick(column):
            return None if column is None else [column[i] for i in positions]

        return Examples(*map(pick, (self.ids, self.first, self.second, self.labels)), self.path, self.split)

    def sample(self, number: int | None) -> "Examples":
        """So many of the examples, in their order; all of them where there are no more, or for None.

        The same sample for every run, and a smaller one is part of a larger one.
        """
        if number is None or number >= len(self):
            return self
        order = list(range(len(self)))
        random.Random(0).shuffle(order)
        return self.take(sorted(order[:number]))


def read_lines(path) -> list[str]:
    """The lines of a UTF-8 file, without line ends (LF or CRLF), byte order mark and blank lines at the end.

    Only a line feed ends a line: other characters that Python counts as line ends are text.
    Raises DataError for a file that is missing, cannot be read, or has other bytes than UTF-8's.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; datasets/README.md says which files a task needs") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a text file") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: found the byte 0x{data[error.start]:02x}, which is not UTF-8; expected a UTF-8 "
            "text file; "
            f"convert it, for instance with iconv -f latin1 -t utf-8"
        ) from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def read_table(
    path, table: Table, *, split: str, label_ids: dict[str, int] | None, score_range=None
) -> Examples:
    """One tab-separated file with GLUE's columns.  Cells are cut at tabs only: quotes are part of the text.

    label_ids: the label words of the file and their ids; None: the label is a score within score_range.
    A test file may lack the label column; the labels are None then.  Raises DataError.
    """
    rows = [line.split("\t") for line in read_lines(path)]
    names, start = header(rows[0] if rows else [], table)
    labelled = table.label in names or split != "test"
    check_columns(
        path, names, [c for c in (table.first, table.second, table.label if labelled else None) if c]
    )
    rows = rows[start - 1 :]
    if not rows:
        raise DataError(
            f"{path}:{start}: found no rows, the file is empty; expected one example on each line"
        )
    examples = examples_of_cells(path, rows, names, table, line=start, split=split, labelled=labelled)
    if labelled:
        parse = _parse_scores if label_ids is None else _parse_classes
        labels = [row[names.index(table.label)] for row in rows]
        examples.labels = parse(path, labels, start, score_range if label_ids is None else label_ids)
    return examples


def header(cells, table: Table) -> tuple[tuple[str, ...], int]:
    """(the names of the columns, the line of the first row) of a file whose first line has these cells."""
    if table.headerless and table.first not in cells:
        return table.headerless, 1
    return tuple(cells), 2


def examples_of_cells(
    path, rows, names, table: Table, *, line: int, split: str, labelled: bool, number: int = 0
) -> Examples:
    """Rows of cells as examples, without labels.  line: of the first row.  number: of rows before it.  Raises
    DataError."""
    _check_widths(path, rows, line, names, headerless=names == table.headerless)

    def column(name):
        position = names.index(name)
        return [row[position] for row in rows]

    first = column(table.first)
    second = column(table.second) if table.second else None
    for name, texts in ((table.first, first), (table.second, second)):
        _check_texts(path, name, texts or [], line, labelled)
    id_name = next((name for name in ("index", "id") if name in names), None)
    ids = column(id_name) if id_name else [str(number + i) for i in range(len(rows))]
    return Examples(ids, first, second, None, Path(path), split)


def check_columns(path, names, wanted):
    """Raise DataError where wanted columns are missing."""
    for name in wanted:
        if list(names).count(name) > 1:
            raise DataError(
                f"{path}:1: found {list(names).count(name)} columns called {name}; expected one; rename the "
                "others"
            )
    missing = [name for name in wanted if name not in names]
    if missing:
        found = ", ".join(names) if names else "an empty file"
        raise DataError(
            f"{path}:1: found the columns {found}; expected {', '.join(wanted)} (missing: "
            f"{', '.join(missing)}); "
            f"the columns are separated by tabs and named as GLUE names them"
        )


def _check_widths(path, rows, start, names, headerless):
    wrong = [i for i, row in enumerate(rows) if len(row) != len(names)]
    if wrong:
        origin = "the columns are " + ", ".join(names) if headerless else "as in the header"
        _fail(
            path,
            wrong,
            start,
            f"{len(rows[wrong[0]])} tab-separated columns",
            f"{len(names)} ({origin})",
            "a tab or line end inside a text breaks a row: mend or remove it (awk -F'\\t' 'NF != "
            f"{len(names)}' lists them)",
        )


def _check_texts(path, name, texts, start, labelled):
    empty = [i for i, text in enumerate(texts) if not text.strip()]
    if empty and labelled:
        _fail(path, empty, start, f"an empty {name}", "a text", "fill it in or remove the row")
    if empty:  # each row of a test file must be answered, so these stay
        logger.warning(
            "%s:%d: %s is empty in %d rows; kept, they get a prediction",
            path,
            start + empty[0],
            name,
            len(empty),
        )


def _parse_classes(path, labels, start, label_ids):
    wrong = [i for i, label in enumerate(labels) if label not in label_ids]
    if wrong:
        expected = "one of " + ", ".join(label_ids)
        _fail(
            path, wrong, start, f"the label {labels[wrong[0]]!r}", expected, "correct it, or remove the row"
        )
    return [label_ids[label] for label in labels]


def _parse_scores(path, labels, start, score_range):
    low, high = score_range

    def parse(text):
        try:
            return float(text)
        except ValueError:
            return math.nan

    scores = [parse(text) for text in labels]
    wrong = [i for i, score in enumerate(scores) if not low <= score <= high]  # NaN is never within
    if wrong:
        expected = f"a number from {low} to {high}"
        _fail(
            path, wrong, start, f"the score {labels[wrong[0]]!r}", expected, "correct it, or remove the row"
        )
    return scores


def _fail(path, wrong, start, found, expected, advice):
    """Raise the DataError about the first wrong row; further ones are counted.  wrong: positions; start: line
    of row 0."""
    more = ""
    if len(wrong) > 1:
        listed = ", ".join(str(start + i) for i in wrong[1 : 1 + _SHOWN]) + (
            ", ..." if len(wrong) > 1 + _SHOWN else ""
        )
        more = f" ({len(wrong) - 1} more such lines: {listed})"
    raise DataError(f"{path}:{start + wrong[0]}: found {found}; expected {expected}; {advice}{more}")


def read_words(path, *, split: str, label_names: tuple[str, ...]) -> Examples:
    """One CoNLL file: a word per line, columns separated by blanks or tabs, the label last, a blank line
    after a sentence.

    -DOCSTART- lines end a sentence and are no words.  Labels in IOB1 (an entity starts with I- unless it
    follows another of its type) become IOB2 (every entity starts with B-), with a message.  A test file of
    one column has no labels.
    Raises DataError.
    """
    found = list(tagged_sentences(path, enumerate(read_lines(path), 1), split=split))
    if not found:
        raise DataError(
            f"{path}:1: found no words, the file is empty; expected a word and its label on each line"
        )
    first, labels = [[cells[0] for cells in rows] for _, rows in found], None
    if len(found[0][1][0]) > 1:
        tags = [[cells[-1] for cells in rows] for _, rows in found]
        labels = _tags(path, tags, [number for number, _ in found], label_names)
    return Examples([str(i) for i in range(len(first))], first, None, labels, Path(path), split)


def tagged_sentences(path, lines, *, split: str):
    """Yield (line of the first word, [cells of each word]) for each sentence.  lines: (number, text) pairs.
    Raises DataError."""
    start, rows, width = 0, [], None
    for number, line in lines:
        cells = re.split("[ \t]+", line.strip(" \t"))
        if cells == [""] or cells[0] == "-DOCSTART-":
            if rows:
                yield start, rows
            rows = []
            continue
        width = width or len(cells)
        if len(cells) != width or (width == 1 and split != "test"):
            raise DataError(
                f"{path}:{number}: found {len(cells)} columns; expected "
                f"{width if width > 1 else 'at least 2'}: a word, then "
                "others as in the first row, its label last; separate them by one blank or tab and words by "
                "line ends"
            )
        start = start if rows else number
        rows.append(cells)
    if rows:
        yield start, rows


def _tags(path, sentences, numbers, label_names):
    """Label ids of checked tags in IOB2.  sentences: lists of tags; numbers: the line of each sentence's
    first word."""
    label_ids = {name: i for i, name in enumerate(label_names)}
    # (line, tag): I- that continues nothing; B- that follows no entity of its type
    starts_inside, starts_again = [], []
    for sentence, number in zip(sentences, numbers):
        previous = "O"
        for line, tag in enumerate(sentence, number):
            if tag not in label_ids:
                raise DataError(
                    f"{path}:{line}: found the label {tag!r}; expected one of {', '.join(label_names)}, in "
                    "the last column; "
                    f"convert other schemes to IOB2"
                )
            continues = tag != "O" and previous[2:] == tag[2:]
            if tag[0] == "I" and not continues:
                starts_inside.append((line, tag))
            elif tag[0] == "B" and not continues:
                starts_again.append((line, tag))
            previous = tag
    if starts_inside and starts_again:
        (line, tag), (other_line, other_tag) = starts_inside[0], starts_again[0]
        raise DataError(
            f"{path}:{line}: found {tag}, which continues no entity, but line {other_line} has {other_tag} "
            "as in IOB2; "
            "expected every entity to start with B- (IOB2), or none that could start with I- (IOB1); "
            "correct one of them"
        )
    if starts_inside:
        logger.info("%s: the labels are IOB1 (line %d); converted to IOB2", path, starts_inside[0][0])
        sentences = [_iob2(sentence) for sentence in sentences]
    return [[label_ids[tag] for tag in sentence] for sentence in sentences]


def _iob2(tags):
    before = ["O", *tags[:-1]]
    return [
        "B" + tag[1:] if tag[0] == "I" and previous[2:] != tag[2:] else tag
        for previous, tag in zip(before, tags)
    ]
