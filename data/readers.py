"""Tables to columns: GLUE's tab-separated ones, and whatever data.tables reads, of a user's own task.

Everything is checked while it is read: what does not fit is a DataError that names the file and the line; no
row is skipped in silence.  Nothing here imports torch.
"""

import ast
import math
import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from data import opening, tables
from utils import files
from utils.errors import DataError
from utils.logs import logger

_SHOWN = 5  # line numbers listed when several lines have the same fault
_BOOLEANS = {"true": "1", "false": "0"}
_NO_LABEL = ("", "-1")  # in all rows of a test file: it has no labels
_APART_BY_BLANKS = re.compile(r"""['"]\s+['"]""")  # as NumPy writes a list; to Python 'a' 'b' is one text


@dataclass(frozen=True)
class Table:
    """Where a table keeps what is needed.

    first, second, label: names of columns; second is None for single sentences.
    headerless: the names of the columns of files that have no header line; empty where every file has one.
    indicators: where each label has a column of its own, which holds 0 or 1, those; label is "" then.
    """

    first: str
    second: str | None
    label: str
    headerless: tuple[str, ...] = ()
    indicators: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of texts."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def answers(self) -> tuple[str, ...]:
        """The columns of labels."""
        return self.indicators or (self.label,)


@dataclass
class Examples:
    """N examples, column by column.

    ids: the file's own index of a row where it has one, else its position.
    first: the first sentences, or for tagging the sentences as lists of words; second: the second ones, or
    None.
    labels: class ids, float scores, lists of label ids, one per word, or tuples of the ids of all labels that
    an example has; None for an unlabelled file.
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

    def with_unlabelled(self, others) -> "Examples":
        """These examples and others behind them, all without labels.  others: a list of Examples."""
        parts = [self, *others]

        def joined(columns):
            return None if columns[0] is None else [value for column in columns for value in column]

        columns = zip(*((part.ids, part.first, part.second) for part in parts))
        return Examples(*map(joined, columns), None, self.path, self.split)

    def sample(self, number: int | None) -> "Examples":
        """So many of the examples, in their order; all of them where there are no more, or for None.

        The same sample for every run, and a smaller one is part of a larger one.
        """
        if number is None or number >= len(self):
            return self
        order = list(range(len(self)))
        random.Random(0).shuffle(order)
        return self.take(sorted(order[:number]))

    def longest(self, number: int, *, beside: int) -> "Examples":
        """So many of the examples, those with the most characters, and a sample of so many others, in their
        order."""
        columns = [column for column in (self.first, self.second) if column is not None]
        sizes = [sum(map(len, map(_joined, texts))) for texts in zip(*columns)]
        order = sorted(range(len(self)), key=lambda row: -sizes[row])
        others = random.Random(0).sample(order[number:], min(beside, len(order[number:])))
        return self.take(sorted([*order[:number], *others]))

    def num_bytes(self) -> int:
        """Memory that the texts take."""
        columns = [column for column in (self.ids, self.first, self.second) if column is not None]
        texts = [text for column in columns for text in column]
        words = [word for text in texts if isinstance(text, list) for word in text]
        return sum(map(sys.getsizeof, [*texts, *words]))


def _joined(text):
    """A text, also one that is a list of words."""
    return text if isinstance(text, str) else " ".join(text)


def read_lines(path) -> list[str]:
    """The lines of a UTF-8 file, packed or not, as opening.lines() gives them.

    Raises DataError for a file that is missing, cannot be read, or has other bytes than UTF-8's.
    """
    with opening.reading(path), opening.open_bytes(path) as file:
        return [text for _, text in opening.lines(path, file)]


def read_table(
    path,
    table: Table,
    *,
    split: str,
    kind: str,
    label_ids: dict[str, int] | None = None,
    score_range=None,
    own: bool = True,
) -> Examples:
    """One file with a table.  Cells of a TSV are cut at tabs only: quotes are part of the text.

    kind: "classification", "multilabel" or "regression".  label_ids: the label words of the file and their
    ids.  score_range: of scores; None: any number.  own: of a task of the user's own.
    A test file may lack labels: the column, or any value but "" and -1 in it; the labels are None then.
    Raises DataError.
    """
    with opening.reading(path), opening.open_bytes(path) as file:
        found = tables.open_table(path, file, headerless=table.headerless, first=table.first)
        labelled = split != "test" or any(name in found.names for name in table.answers)
        check_columns(found, (*table.texts, *(table.answers if labelled else ())), own=own)
        numbered = list(found.rows)
    if not numbered:
        line = 1 if found.names == table.headerless else 2
        where = found.place(line) if found.unit == "line" else path
        raise DataError(f"{where}: found no rows, the file is empty; expected one example on each line")
    check_widths(found, numbered, headerless=table.headerless)
    if labelled and split == "test" and _without_labels(found, numbered, table, label_ids):
        labelled = False
    examples = examples_of_cells(found, numbered, table, split=split, labelled=labelled)
    if labelled:
        cells = [[row[found.names.index(name)] for _, row in numbered] for name in table.answers]
        numbers = [number for number, _ in numbered]
        if table.indicators:
            examples.labels = _parse_indicators(found, table, cells, numbers)
        elif kind == "multilabel":
            examples.labels = _parse_lists(found, table.label, cells[0], numbers, label_ids)
        elif kind == "classification":
            examples.labels = _parse_classes(found, cells[0], numbers, label_ids)
        else:
            examples.labels = _parse_scores(found, cells[0], numbers, score_range)
    return examples


def examples_of_cells(found, numbered, table: Table, *, split: str, labelled: bool, number=0) -> Examples:
    """Rows of cells as examples, without labels.

    found: tables.Rows.  numbered: (number, cells) of some of its rows, as wide as the header.
    number: of rows before these.  Raises DataError.
    """
    numbers = [number for number, _ in numbered]

    def column(name):
        position = found.names.index(name)
        return [row[position] for _, row in numbered]

    texts = [column(name) for name in table.texts]
    for name, cells in zip(table.texts, texts):
        _check_texts(found, name, cells, numbers, labelled)
    id_name = next((name for name in ("index", "id") if name in found.names), None)
    ids = [str(value) for value in column(id_name)] if id_name and id_name not in table.texts else None
    ids = ids or [str(number + i) for i in range(len(numbered))]
    return Examples(ids, texts[0], texts[1] if table.second else None, None, Path(found.path), split)


def check_columns(found, wanted, *, own: bool):
    """Raise DataError where wanted columns of a table (tables.Rows) are missing.  own: as read_table()."""
    advice = (
        "--text_columns and --label_column name those of a task of your own"
        if own
        else f"the columns are named as GLUE names them{', and separated by tabs' * (found.format == 'tsv')}"
    )
    advice = f"line 1 is read as the header; {advice}" if found.has_header else advice
    tables.require_columns(found.names, wanted, where=found.top, advice=advice)


def check_widths(found, numbered, headerless=()):
    """Raise DataError where rows have more or fewer cells than the header."""
    width = len(found.names)
    wrong = [number for number, row in numbered if len(row) != width]
    if not wrong:
        return
    row = next(row for _, row in numbered if len(row) != width)
    origin = (
        "the columns are " + ", ".join(found.names) if found.names == headerless != () else "as in the header"
    )
    mend = (
        "a tab or line end inside a text breaks a row: mend or remove it (awk -F'\\t' 'NF != "
        f"{width}' lists them)"
        if found.format == "tsv"
        else "a text with a separator or line end in it belongs in quotes"
    )
    cut = "tab-separated columns" if found.format == "tsv" else "columns"
    _fail(found, wrong, f"{len(row)} {cut}", f"{width} ({origin})", mend)


def _check_texts(found, name, texts, numbers, labelled):
    others = [i for i, text in enumerate(texts) if not isinstance(text, str)]
    if others:
        wrong = [numbers[i] for i in others]
        _fail(found, wrong, f"a list or object in {name}", "a text", "name another column or correct it")
    empty = [number for number, text in zip(numbers, texts) if not text.strip()]
    if empty and labelled:
        _fail(found, empty, f"an empty {name}", "a text", "fill it in or remove the row")
    if empty:  # each row of a test file must be answered, so these stay
        logger.warning(
            "%s: %s is empty in %d rows; kept, they get a prediction", found.place(empty[0]), name, len(empty)
        )


def _without_labels(found, numbered, table, label_ids) -> bool:
    """Whether no row of a test file has a label."""
    positions = [found.names.index(name) for name in table.answers if name in found.names]
    values = {str(row[position]).strip() for _, row in numbered for position in positions}
    return values <= {*_NO_LABEL} - {*(label_ids or ())}


def _parse_classes(found, labels, numbers, label_ids):
    wrong = [i for i, label in enumerate(labels) if not isinstance(label, str) or label not in label_ids]
    if wrong:
        expected = "one of " + ", ".join(label_ids)
        lines = [numbers[i] for i in wrong]
        _fail(found, lines, f"the label {labels[wrong[0]]!r}", expected, "correct it, or remove the row")
    return [label_ids[label] for label in labels]


def _parse_scores(found, labels, numbers, score_range):
    low, high = score_range or (-math.inf, math.inf)
    scores = [number_of(text) for text in labels]
    # NaN is never within
    wrong = [i for i, score in enumerate(scores) if not (low <= score <= high and math.isfinite(score))]
    if wrong:
        expected = f"a number from {low} to {high}" if score_range else "a number"
        lines = [numbers[i] for i in wrong]
        _fail(found, lines, f"the score {labels[wrong[0]]!r}", expected, "correct it, or remove the row")
    return scores


def number_of(text) -> float:
    """The number that a cell holds; NaN where it holds none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _parse_lists(found, name, cells, numbers, label_ids):
    """The ids of the labels in cells that hold several."""
    rows = [labels_in(cell, name, found.place(number)) for cell, number in zip(cells, numbers)]
    wrong = [i for i, row in enumerate(rows) if any(label not in label_ids for label in row)]
    if wrong:
        unknown = next(label for label in rows[wrong[0]] if label not in label_ids)
        lines = [numbers[i] for i in wrong]
        expected = "some of " + ", ".join(label_ids)
        _fail(found, lines, f"the label {unknown!r}", expected, "correct it, or remove the row")
    return [tuple(sorted({label_ids[label] for label in row})) for row in rows]


def labels_in(cell, name, where) -> list[str]:
    """The labels that a cell of several holds: "a,b", "a;b", a list, or the text of one as JSON or Python
    (so pandas) writes it; none is no label.

    name: of its column.  where: it is, as messages begin.  Raises DataError for anything else.
    """
    labels = cell
    if isinstance(cell, str):
        if cell.lstrip().startswith("["):
            labels = _list_in(cell)
        else:
            parts = cell.split(";" if ";" in cell else ",")
            return [part.strip() for part in parts if part.strip()]
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise DataError(
            f"{where}: found {str(cell)[:40]!r} in {name}; expected labels apart by commas, or a list of "
            'texts or numbers: ["a", "b"]; correct it, or name another column (--label_column)'
        )
    return labels


def _list_in(text):
    """The cells of a list as JSON or Python writes it; None where the text is no list of texts or numbers."""
    try:
        values = files.parse_json(text)
    except ValueError:
        try:
            values = None if _APART_BY_BLANKS.search(text) else ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    is_list = isinstance(values, list) and all(isinstance(value, str | int | float) for value in values)
    return tables.cell(values) if is_list else None


def _parse_indicators(found, table, columns, numbers):
    """The ids of the labels whose columns hold 1."""
    for name, cells in zip(table.indicators, columns):
        wrong = [i for i, cell in enumerate(cells) if _indicator(cell) not in (0, 1)]
        if wrong:
            lines = [numbers[i] for i in wrong]
            _fail(found, lines, f"{cells[wrong[0]]!r} in {name}", "0 or 1", "correct it, or remove the row")
    return [tuple(i for i, cell in enumerate(row) if _indicator(cell) == 1) for row in zip(*columns)]


def _indicator(cell) -> float:
    return number_of(_BOOLEANS.get(cell, cell) if isinstance(cell, str) else cell)


def _fail(found, wrong, said, expected, advice):
    """Raise the DataError about the first wrong row; further ones are counted.  wrong: numbers of rows."""
    more = ""
    if len(wrong) > 1:
        listed = ", ".join(map(str, wrong[1 : 1 + _SHOWN])) + (", ..." if len(wrong) > 1 + _SHOWN else "")
        more = f" ({len(wrong) - 1} more such {found.unit}s: {listed})"
    raise DataError(f"{found.place(wrong[0])}: found {said}; expected {expected}; {advice}{more}")
