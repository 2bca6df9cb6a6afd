"""Tables as rows of cells: TSV as GLUE has it, CSV, JSON lines or one JSON list, Parquet; each also packed.

    table = tables.open_table("reviews.csv.gz")
    for number, cells in table.rows: ...

A cell is a text; numbers and true or false are written as one writes them, what is missing is "".  Lists and
objects stay what they are.  Nothing here imports torch.
"""

import csv
import io
import itertools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from data import opening
from utils import files
from utils.errors import DataError

_SURROGATE = re.compile("[\ud800-\udfff]")
_FORMATS = {
    ".tsv": "tsv",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
}


@dataclass
class Rows:
    """A table that is being read.

    names: of the columns; those of the first object for JSON.  rows: yields (number, cells), a cell for each
    name, and raises DataError where it comes to what does not fit.  format: tsv, csv, json, parquet, or txt
    for lines that are rows.  unit: what the numbers count: the "line" that a row begins in, or the "row".
    """

    path: object
    names: tuple[str, ...]
    rows: Iterator
    format: str
    unit: str

    @property
    def has_header(self) -> bool:
        """Whether the names are a line of the file."""
        return self.format in ("tsv", "csv")

    @property
    def top(self) -> str:
        """Where the names are, as messages begin."""
        return self.place(1) if self.unit == "line" else str(self.path)

    def place(self, number) -> str:
        """Where a row is, as messages begin."""
        return place(self.path, number, self.unit)


def place(path, number, unit="line") -> str:
    """Where something is in a file, as messages begin: path:3 for lines, else path: row 3."""
    return f"{path}:{number}" if unit == "line" else f"{path}: {unit} {number}"


def format_of(path) -> str | None:
    """The format that the name of a file says: tsv, csv, json, parquet, or None."""
    name = opening.unpacked_name(path).lower()
    return next((format for ending, format in _FORMATS.items() if name.endswith(ending)), None)


def require_columns(names, wanted, *, where, advice, nothing="an empty file"):
    """Raise DataError where one of the wanted columns is not among the names of a table's, or twice.

    where: they stand, as messages begin.  advice: what says which are wanted.  nothing: what is there, in
    words, where there are no names.
    """
    for name in wanted:
        if names.count(name) > 1:
            raise DataError(
                f"{where}: found {names.count(name)} columns called {name}; expected one; rename the others"
            )
    missing = [name for name in wanted if name not in names]
    if missing:
        shown = f"the columns {', '.join(names)}" if names else nothing
        raise DataError(
            f"{where}: found {shown}; expected {', '.join(wanted)} (missing: {', '.join(missing)}); {advice}"
        )


def open_table(path, stream, *, format=None, headerless=(), first=None) -> Rows:
    """The table in a binary stream; it is read as its rows are asked for.

    path: that messages name.  format: of the file where its name does not say it; None: what the first line
    looks like.  headerless: the names of a TSV's columns where its first line does not have `first` among its
    cells.
    Raises DataError for what is no such table.
    """
    format = format_of(path) or format
    if format == "parquet":
        return _parquet(path, stream)
    lines = opening.lines(path, stream)
    return of_lines(path, lines, format=format, headerless=headerless, first=first)


def of_lines(path, lines, *, format=None, headerless=(), first=None) -> Rows:
    """As open_table(), of (number, text) pairs."""
    head = next(lines, None)
    top, lines = head[1] if head else "", itertools.chain([head] if head else [], lines)
    if format is None:
        format = "json" if top.lstrip()[:1] in ("{", "[") else "tsv" if "\t" in top else "csv"
    if format == "json":
        return _json(path, lines)
    if format == "csv":
        return _csv(path, lines, top)
    names = tuple(top.split("\t")) if top else ()
    if headerless and first not in names:
        names = headerless
    else:
        next(lines, None)
    rows = ((number, text.split("\t")) for number, text in lines)
    return Rows(path, names, rows, "tsv", "line")


# ---- CSV


def _csv(path, lines, top):
    csv.field_size_limit(1 << 30)
    delimiter = max(",;\t", key=re.sub('"[^"]*"', "", top).count)  # the comma where none is there
    reader = csv.reader((text + "\n" for _, text in lines), delimiter=delimiter, strict=True)

    def rows():
        while True:
            number = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise DataError(
                    f"{path}:{number}: no valid CSV ({error}); expected cells apart by {delimiter!r}, in "
                    'quotes where they hold it, a quote or a line end, quotes inside doubled ("")'
                ) from error
            if cells is None:
                return
            yield number, cells

    rows = rows()
    _, names = next(rows, (1, []))
    return Rows(path, tuple(name.strip() for name in names), rows, "csv", "line")


# ---- JSON


def _json(path, lines):
    found, unit = objects(path, lines)
    number, head = next(found, (1, {}))
    names = tuple(head)

    def rows():
        for at, row in itertools.chain([(number, head)] if head else [], found):
            yield at, [cell(row.get(name)) for name in names]

    return Rows(path, names, rows(), "json", unit)


def objects(path, lines):
    """(an iterator over (number, object), what the numbers count: "line" or "row") of JSON lines or one list
    of objects, which is read whole.  lines: (number, text) pairs.  Raises DataError for anything else."""
    number, top = next(((number, text) for number, text in lines if text.strip()), (1, ""))
    lines = itertools.chain([(number, top)], lines)
    if not top.lstrip().startswith("["):
        return ((at, _object(text, place(path, at))) for at, text in lines if text.strip()), "line"
    text = "\n".join(text for _, text in lines)
    try:
        values = files.parse_json(text)
    except ValueError as error:
        raise DataError(f"{path}:{number}: no valid JSON ({error}); expected a list of objects") from error
    escaped = _has_escapes(text)
    rows = enumerate(values, 1)
    return ((at, _checked(row, place(path, at, "row"), "in the list", escaped)) for at, row in rows), "row"


def _object(text, where):
    try:
        value = files.parse_json(text)
    except ValueError as error:
        raise DataError(f"{where}: no valid JSON ({error}); expected one object on each line") from error
    return _checked(value, where, "on each line", _has_escapes(text))


def _checked(value, where, place_of, escaped):
    if not isinstance(value, dict):
        raise DataError(f"{where}: found {str(value)[:40]!r}; expected one object {place_of}")
    if escaped and has_half_pair(value):
        raise DataError(f"{where}: found half of a surrogate pair; expected text; write the row again")
    return value


def _has_escapes(text):
    """Whether a JSON text can hold halves of surrogate pairs: UTF-8 has no other way to write them."""
    return "\\ud" in text or "\\uD" in text


def has_half_pair(value) -> bool:
    """Whether half of a surrogate pair, which UTF-8 has no bytes for, is in a value of JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _SURROGATE.search(text) is not None


# ---- Parquet


def _parquet(path, stream):
    names, rows_of = parquet_columns(path, stream)
    rows = ((number, [cell(value) for value in values]) for number, values in rows_of(None))
    return Rows(path, names, rows, "parquet", "row")


def parquet_columns(path, stream):
    """(names of a Parquet file's columns, a function of some of them, or of None for all, that returns an
    iterator over (number, values) of its rows).  Other columns are not read.  Raises DataError for what is no
    such file, and so does the iterator.
    """
    import pyarrow
    from pyarrow import parquet

    def failing(error):
        reason = str(error).split("\n")[0]
        return DataError(f"{path}: no Parquet file that can be read ({reason}); expected a whole one")

    try:
        # One that is packed would be unpacked anew at each step back
        is_plain = isinstance(getattr(stream, "raw", None), io.FileIO)
        file = parquet.ParquetFile(stream if is_plain else io.BytesIO(stream.read()))
        names = tuple(file.schema_arrow.names)
    except (pyarrow.ArrowException, OSError) as error:
        raise failing(error) from error

    def rows_of(wanted):
        number = 0
        try:
            for batch in file.iter_batches(1000, columns=wanted):
                columns = batch.columns if wanted is None else map(batch.column, wanted)
                for values in zip(*(column.to_pylist() for column in columns)):
                    number += 1
                    yield number, values
        except (pyarrow.ArrowException, OSError) as error:
            raise failing(error) from error

    return names, rows_of


def cell(value):
    """A value of JSON or Parquet as a cell; a list keeps its values, as cells."""
    if isinstance(value, str | dict):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        return str(int(value))
    return [cell(item) for item in value] if isinstance(value, list | tuple) else str(value)
