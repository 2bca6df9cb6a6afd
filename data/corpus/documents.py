"""Text files to documents: wikiextractor output, plain text, and what data.tables reads: JSON lines or one
list, CSV, TSV (.tsv: cut at tabs only), Parquet; local or behind a URL, compressed or not.

    sources = documents.find_sources(["wiki/AA", "more/*.jsonl.gz", "https://example.org/text.txt"])
    for text in documents.read_documents(sources): ...

A document is one string, its lines separated by line feeds.  What does not fit is a DataError that names the
file and the line; nothing is skipped.  Nothing here imports torch.
"""

import glob
import hashlib
import json
import os
from dataclasses import astuple, dataclass
from pathlib import Path

from data import opening, readers, tables
from data.corpus import downloads
from data.corpus.downloads import is_url
from utils import files
from utils.errors import DataError
from utils.logs import logger

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
        if not format:
            try:
                source = Source(path, _format(source), names, source.sample_by)
            except DataError as error:
                if path in inputs:
                    raise
                pattern = Path(path).parent / "*.txt"
                advice = f"where not all files of a folder are text, name those that are: '{pattern}'"
                raise DataError(f"{error}; {advice}") from error
        sources.append(source)
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
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise DataError(f"{word}: no such file or folder{where}; expected files, folders, globs or URLs")
    found = sorted(file for file in glob.glob(str(path), recursive=True) if os.path.isfile(file))
    if not found:
        raise DataError(f"{word}: matches no file; expected files with text")
    return found


def _format(source) -> str:
    """The format of a file, from the end of its name, else from its first line."""
    name = source.path.split("?")[0] if is_url(source.path) else source.path
    known = tables.format_of(name)
    if known is not None:
        return "csv" if known == "tsv" else known
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
    """Rows of JSON lines or of one list, which is read whole."""
    found, unit = tables.objects(source.path, _lines(source))
    wanted = {*source.columns}
    for number, row in found:
        if not row.keys() >= wanted:
            where = tables.place(source.path, number, unit)
            _require_columns(source, tuple(row), where, nothing="an object without keys")
        yield _joined(source, number, unit, [row[name] for name in source.columns])


def _read_csv(source):
    """Rows of a CSV or TSV.  A blank line is no row; one of more or fewer cells than the header is a
    DataError."""
    is_tsv = opening.unpacked_name(source.file).lower().endswith(".tsv")
    found = tables.of_lines(source.path, _lines(source), format="tsv" if is_tsv else "csv")
    _require_columns(source, found.names, found.top)
    positions = [found.names.index(name) for name in source.columns]
    blank = [""] if is_tsv else []
    for number, cells in found.rows:
        if cells == blank:
            continue
        if len(cells) != len(found.names):
            readers.check_widths(found, [(number, cells)])
        yield _joined(source, number, found.unit, [cells[position] for position in positions])


def _read_parquet(source):
    with opening.reading(source.path), opening.open_bytes(source.file) as file:
        names, rows_of = tables.parquet_columns(source.path, file)
        _require_columns(source, names, source.path)
        for number, values in rows_of([*source.columns]):
            yield _joined(source, number, "row", values)


def _require_columns(source, names, where, **options):
    advice = "--columns names those that hold text"
    tables.require_columns(names, source.columns, where=where, advice=advice, **options)


def _joined(source, number, unit, cells) -> str:
    """The text of a row; null is no text."""
    for name, cell in zip(source.columns, cells):
        if cell is not None and not isinstance(cell, str):
            where = tables.place(source.path, number, unit)
            raise DataError(f"{where}: found {str(cell)[:40]} in the column {name}; expected text")
    lines = (line.strip() for cell in cells if cell for line in cell.split("\n"))
    return "\n".join(line for line in lines if line)


_READERS = {
    "text": _read_text,
    "wiki": _read_wiki,
    "json": _read_json,
    "csv": _read_csv,
    "parquet": _read_parquet,
}
