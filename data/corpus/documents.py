"""Text files to documents: wikiextractor output, plain text, JSON lines, CSV, TSV (.tsv: cut at tabs only),
Parquet; local or behind a URL, compressed or not.

    sources = documents.find_sources(["wiki/AA", "more/*.jsonl.gz", "https://example.org/text.txt"])
    for text in documents.read_documents(sources): ...

A document is one string, its lines separated by line feeds.  What does not fit is a DataError that names the
file and the line; nothing is skipped.  Nothing here imports torch.
"""

import csv
import glob
import hashlib
import io
import json
import os
import re
from dataclasses import astuple, dataclass
from pathlib import Path

from data import opening
from data.corpus import downloads
from data.corpus.downloads import is_url
from utils import files
from utils.errors import DataError
from utils.logs import logger

_SUFFIXES = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONFIG_KEYS = ("urls", "format", "columns")


@dataclass(frozen=True)
class Source:
    """A file of documents.  path: local, or a URL.  format: text, wiki, json, csv or parquet.  columns: those
    of the text, for the last three; joined by a line feed.  sample_by: for text, what a document is: line,
    paragraph or document (the file)."""

    path: str
    format: str
    columns: tuple[str, ...] = ("text",)
    sample_by: str = "paragraph"

    @property
    def file(self) -> Path:
        """The local file; that of a URL is downloaded when it is first asked for."""
        return downloads.local_file(self.path) if is_url(self.path) else Path(self.path)


def find_sources(inputs, *, format=None, columns=None, sample_by=None, refetch=False) -> list[Source]:
    """The files that inputs mean, in the order given and by name within a folder or glob; each file once.

    inputs: files, folders, globs, URLs, or one JSON file {"urls", "format", "columns"}, whose relative paths
    start at its folder, and whose columns are idle for formats that have none.
    format, columns (separated by commas), sample_by: for all files; a format of None is found out for each.
    refetch: download what is behind URLs also where a copy is kept.
    Raises DataError for whatever is not there or cannot be reached.
    """
    inputs, given = list(inputs), columns
    if len(inputs) == 1 and inputs[0].endswith(".json") and not is_url(inputs[0]):
        config = _config(Path(inputs[0]).expanduser())
        if config is not None:
            inputs, format, columns = (
                config["urls"],
                format or config.get("format"),
                columns or config.get("columns"),
            )
    paths = [path for word in inputs for path in ([word] if is_url(word) else _local(word))]
    if len(set(paths)) < len(paths):
        logger.info("%d files are named more than once; read once", len(paths) - len(set(paths)))
    for path in dict.fromkeys(paths) if refetch else ():
        if is_url(path):
            downloads.fetch(path)
    names = tuple(name.strip() for name in (columns or "text").split(","))
    sources = []
    for path in dict.fromkeys(paths):
        source = Source(path, format or "", names, sample_by or "paragraph")
        sources.append(source if format else Source(path, _format(source), names, source.sample_by))
    for flag, value, formats in (
        ("columns", given, ("json", "csv", "parquet")),
        ("sample_by", sample_by, ("text",)),
    ):
        if value and not any(source.format in formats for source in sources):
            raise DataError(
                f"{sources[0].path}: found the format {sources[0].format}; expected {', '.join(formats)}, "
                f"because --{flag} has no effect on others; leave it out, or name the format"
            )
    return sources


def hashes(sources, *, download: bool = True) -> dict[str, str]:
    """The SHA-256 of each file, by its path or URL, and one of how and in which order they are read.

    download: also of what is behind URLs; else a URL stands for itself.
    """
    if not sources:
        return {}
    read = json.dumps([astuple(source) for source in sources])
    return {
        **{s.path: files.sha256(s.file) if download or not is_url(s.path) else s.path for s in sources},
        "how files are read": hashlib.sha256(read.encode()).hexdigest(),
    }


def read_documents(sources):
    """All documents, one after the other.  A row or article without text is an empty string.  Raises
    DataError."""
    for source in sources:
        yield from _READERS[source.format](source)


def require_text(sources, num_characters: int):
    """Raise DataError where nothing was found in the files."""
    if not num_characters:
        more = f" (and {len(sources) - 1} more files)" if len(sources) > 1 else ""
        raise DataError(
            f"{sources[0].path}:1: found no text{more}; expected documents; the format read was "
            f"{sources[0].format}"
        )


def _config(path):
    """The JSON config in a file, or None where the file is something else, JSON lines for example."""
    try:
        config = files.parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict) or "urls" not in config:
        return None
    unknown = [key for key in config if key not in _CONFIG_KEYS]
    if unknown:
        raise DataError(f"{path}:1: found the key {unknown[0]!r}; expected {', '.join(_CONFIG_KEYS)}")
    urls = config["urls"]
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise DataError(f"{path}:1: found urls {urls!r}; expected a list of paths, globs or URLs")
    for key in ("format", "columns"):
        if key in config and not isinstance(config[key], str):
            raise DataError(f"{path}:1: found {key} {config[key]!r}; expected a string")
    if config.get("format", "text") not in _READERS:
        raise DataError(
            f"{path}:1: found the format {config['format']!r}; expected one of {', '.join(_READERS)}"
        )
    return {
        **config,
        "urls": [url if is_url(url) else str(path.parent / Path(url).expanduser()) for url in urls],
    }


def _local(word) -> list[str]:
    path = Path(word).expanduser()
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        found = sorted(
            str(file) for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")
        )
        if not found:
            raise DataError(f"{word}: the folder holds no files; expected files with text")
        return found
    if not glob.has_magic(word):
        raise DataError(f"{word}: no such file or folder; expected files, folders, globs or URLs")
    found = sorted(file for file in glob.glob(str(path), recursive=True) if os.path.isfile(file))
    if not found:
        raise DataError(f"{word}: matches no file; expected files with text")
    return found


def _format(source) -> str:
    """The format of a file, from the end of its name, else from its first line."""
    name = source.path.split("?")[0] if is_url(source.path) else source.path
    suffix = os.path.splitext(opening.unpacked_name(name))[1]
    if suffix.lower() in _SUFFIXES:
        return _SUFFIXES[suffix.lower()]
    first = next((line for _, line in _lines(source) if line.strip()), "")
    return "wiki" if first.startswith("<doc ") else "json" if first.startswith('{"') else "text"


def _lines(source):
    """(number, line) of a text file, without line ends.  Only a line feed ends a line.  Raises DataError."""
    path, number = source.file, 0
    try:
        with opening.open_bytes(path) as file:
            for number, line in enumerate(file, 1):
                yield number, opening.decoded(source.path, number, line).rstrip("\r\n")
    except opening.UNREADABLE as error:
        raise DataError(
            f"{source.path}:{number + 1}: cannot be read ({error}); expected a whole file"
        ) from error


def _read_text(source):
    if source.sample_by == "line":
        yield from (line.strip() for _, line in _lines(source) if line.strip())
        return
    held = []
    for _, line in _lines(source):
        if line.strip():
            held.append(line.strip())
        elif held and source.sample_by == "paragraph":
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)


def _read_wiki(source):
    held, begun, number = None, 0, 0
    for number, line in _lines(source):
        opens = line.startswith("<doc ")
        if opens if held is not None else not opens and line.strip():
            where = (
                f"inside the document of line {begun}, which has no </doc>"
                if opens
                else "outside of a document"
            )
            raise DataError(
                f"{source.path}:{number}: found {line[:40]!r} {where}; expected <doc ...>, lines of text, "
                "</doc>, as wikiextractor writes them"
            )
        if opens:
            held, begun = [], number
        elif line.startswith("</doc>"):
            yield "\n".join(held)
            held = None
        elif line.strip():
            held.append(line.strip())
    if held is not None:
        raise DataError(
            f"{source.path}:{number}: found the end of the file; expected </doc> for the document of line "
            f"{begun}"
        )


def _read_json(source):
    for number, line in _lines(source):
        if not line.strip():
            continue
        try:
            row = files.parse_json(line)
        except ValueError as error:
            raise DataError(
                f"{source.path}:{number}: not valid JSON ({error}); expected one object on each line"
            ) from error
        if "\\ud" in line.lower() and _SURROGATE.search(json.dumps(row, ensure_ascii=False)):
            raise DataError(
                f"{source.path}:{number}: found half of a surrogate pair; expected text; write the row again"
            )
        if not isinstance(row, dict):
            raise DataError(f"{source.path}:{number}: found {line[:40]!r}; expected an object on each line")
        _check_columns(source, number, row)
        yield _joined(source, number, [row[name] for name in source.columns])


def _read_csv(source):
    """Rows of a CSV or TSV.  A blank line is no row; one of more or fewer cells than the header is a
    DataError."""
    is_tsv = opening.unpacked_name(source.file).lower().endswith(".tsv")
    rows = _rows_of_tsv(source) if is_tsv else _rows_of_csv(source)
    _, header = next(rows, (1, []))
    _check_columns(source, 1, header)
    positions = [header.index(name) for name in source.columns]
    for number, row in rows:
        if not row:
            continue
        if len(row) != len(header):
            mend = "; a tab or line end inside a text breaks a row: mend or remove it" if is_tsv else ""
            raise DataError(
                f"{source.path}:{number}: found {len(row)} columns; expected {len(header)} as in the header"
                f"{mend}"
            )
        yield _joined(source, number, [row[position] for position in positions])


def _rows_of_tsv(source):
    """(line, cells), cut at tabs only: quotes are part of the text, as in the tables of data.tables."""
    return ((number, line.split("\t") if line else []) for number, line in _lines(source))


def _rows_of_csv(source):
    """(its last line, cells)."""
    csv.field_size_limit(1 << 30)
    reader = csv.reader((line + "\n" for _, line in _lines(source)), strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(
            f"{source.path}:{reader.line_num}: not valid CSV ({error}); expected fields in quotes"
        ) from error


def _read_parquet(source):
    import pyarrow
    from pyarrow import parquet

    try:
        packed = opening.unpacked_name(source.file) != source.file.name
        file = source.file
        if packed:
            with opening.open_bytes(source.file) as stream:
                file = io.BytesIO(stream.read())
        file = parquet.ParquetFile(file)
        _check_columns(source, 1, file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(1000, columns=list(source.columns)):
            for row in zip(*(batch.column(name).to_pylist() for name in source.columns)):
                number += 1
                yield _joined(source, number, row)
    except (pyarrow.ArrowException, *opening.UNREADABLE) as error:
        reason = str(error).split("\n")[0]
        raise DataError(
            f"{source.path}:1: not a Parquet file that can be read ({reason}); expected a whole one"
        ) from error


def _check_columns(source, number, found):
    for name in source.columns:
        if isinstance(found, list) and found.count(name) > 1:
            raise DataError(
                f"{source.path}:{number}: found {found.count(name)} columns called {name}; expected one; "
                "rename the others"
            )
    missing = [name for name in source.columns if name not in found]
    if missing:
        raise DataError(
            f"{source.path}:{number}: found the columns {', '.join(found) or '(none)'}; expected "
            f"{', '.join(source.columns)} "
            f"(missing: {', '.join(missing)}); --columns names those that hold text"
        )


def _joined(source, number, cells) -> str:
    """The text of a row; null is no text."""
    for name, cell in zip(source.columns, cells):
        if cell is not None and not isinstance(cell, str):
            raise DataError(
                f"{source.path}:{number}: found {str(cell)[:40]} in the column {name}; expected text"
            )
    lines = (line.strip() for cell in cells if cell for line in cell.split("\n"))
    return "\n".join(line for line in lines if line)


_READERS = {
    "text": _read_text,
    "wiki": _read_wiki,
    "json": _read_json,
    "csv": _read_csv,
    "parquet": _read_parquet,
}
