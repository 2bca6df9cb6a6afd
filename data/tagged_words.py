"""Tagged sentences to columns: CoNLL's column files, or tables with a list of words and one of tags.

Schemes of tags: IOB2 (B- begins every entity), IOB1 (B- only where an entity follows another of its type),
BIOES and BILOU (a last and an only word are marked), or plain types (neighbours of one type are one entity).
All become IOB2.  Nothing here imports torch.
"""

import re
from pathlib import Path

from data import opening, readers, tables
from data.readers import Examples, Table
from utils.errors import DataError
from utils.logs import logger

_PREFIXED = re.compile(r"([BIESLU])-(.+)")
_LAST, _ONLY = "EL", "SU"
WORDS, TAGS = ("tokens", "words"), ("ner_tags", "tags", "labels", "pos_tags")


def is_column_file(path) -> bool:
    """Whether a file of sentences has a word on each line; else it is a table."""
    return tables.format_of(path) not in ("json", "parquet", "csv")


def fits_columns(word) -> bool:
    """Whether a word can stand in a column file: it is not empty and has no blank, tab or line end."""
    return re.fullmatch(r"[^ \t\r\n]+", word) is not None


def read_words(
    path, *, split: str, label_names: tuple[str, ...], table: Table | None = None, names=()
) -> Examples:
    """One file of sentences, whose labels are ids of tags in IOB2.

    label_names: those tags.  table: the columns of words and tags, where the file is a table.  names: of the
    tags, in the order of the ids that the file may hold instead.  A test file of one column, or without tags,
    has no labels.  Raises DataError.
    """
    words, tags, places = read_tags(path, split=split, table=table, names=names)
    labels = None
    if tags is not None:
        ids = {name: i for i, name in enumerate(label_names)}
        converted = in_iob2(path, tags, places)
        for row, raw, place_of in zip(converted, tags, places):
            for position, tag in enumerate(row):
                if tag not in ids:
                    raise DataError(
                        f"{place_of(position)}: found the label {raw[position]!r}; expected one of "
                        f"{', '.join(label_names)}, in the last column; correct it, or remove the sentence"
                    )
        labels = [[ids[tag] for tag in row] for row in converted]
    return Examples([str(i) for i in range(len(words))], words, None, labels, Path(path), split)


def read_tags(path, *, split: str, table: Table | None = None, names=()):
    """(words of each sentence, its tags as the file has them or None for all, its place: a function from a
    word's position to where it is).  Raises DataError."""
    if not is_column_file(path):
        with opening.reading(path), opening.open_bytes(path) as file:
            return _read_lists(tables.open_table(path, file), table, split=split, names=names)
    found = list(tagged_sentences(path, enumerate(readers.read_lines(path), 1), split=split))
    if not found:
        raise DataError(
            f"{path}:1: found no words, the file is empty; expected a word and its label on each line"
        )
    words = [[cells[0] for cells in rows] for _, rows in found]
    places = [_lines_of(path, number) for number, _ in found]
    if len(found[0][1][0]) == 1:
        return words, None, places
    return words, [[cells[-1] for cells in rows] for _, rows in found], places


def _lines_of(path, first):
    return lambda position: f"{path}:{first + position}"


def tagged_sentences(path, lines, *, split: str):
    """Yield (line of the first word, [cells of each word]) for each sentence of a column file: a word
    per line, columns separated by blanks or tabs, the label last, a blank line after a sentence.

    -DOCSTART- lines end a sentence and are no words.  Lines that begin with # in front of a sentence, and
    have another number of columns, or blanks where others have tabs, are comments.  lines: (number, text)
    pairs.  Raises DataError.
    """
    start, rows, width, tabs = 0, [], None, False
    held, early = [], []  # lines with # that may be comments: of this sentence; of sentences of nothing else

    def add(number, cells):
        nonlocal start
        if len(cells) != width or (width == 1 and split != "test"):
            raise DataError(
                f"{path}:{number}: found {len(cells)} columns; expected "
                f"{width if width > 1 else 'at least 2'}: a word, then others as in the first row, its label "
                "last; separate them by one blank or tab and words by line ends"
            )
        start = start if rows else number
        rows.append(cells)

    def add_words(lines):
        for number, cells, tabbed in lines:
            if rows or (len(cells) == width and tabbed == tabs):
                add(number, cells)

    for number, line in lines:
        cells, tabbed = re.split("[ \t]+", line.strip(" \t")), "\t" in line
        if cells == [""] or cells[0] == "-DOCSTART-":
            if width is None:
                early += [held] if held else []
            else:
                add_words(held)
            if rows:
                yield start, rows
            rows, held = [], []
            continue
        if not rows and cells[0].startswith("#"):
            held.append((number, cells, tabbed))
            continue
        if width is None:
            width, tabs = len(cells), tabbed
            for block in early:
                add_words(block)
                if rows:
                    yield start, rows
                rows = []
        add_words(held)
        held = []
        add(number, cells)
    if width is not None:
        add_words(held)
    if rows:
        yield start, rows


def _read_lists(found, table, *, split, names):
    """As read_tags(), of a table whose cells are lists."""
    table = table or table_of(found)
    labelled = split != "test" or table.label in found.names
    wanted = (table.first, table.label) if labelled else (table.first,)
    readers.check_columns(found, wanted, own=True)
    words, tags, places = [], [], []
    for number, row in found.rows:
        cells = dict(zip(found.names, row))
        tokens = listed(found.place(number), table.first, cells[table.first])
        if not tokens or not all(token.strip() for token in tokens):
            raise DataError(
                f"{found.place(number)}: found an empty word or no words in {table.first}; expected words; "
                "remove the row"
            )
        words.append(tokens)
        places.append(_words_of(found.place(number)))
        given = cells.get(table.label, "") if labelled else ""
        given = [] if split == "test" and given == "" else listed(found.place(number), table.label, given)
        if split == "test" and {*given} <= {"-1", ""}:
            given = []
        elif len(given) != len(tokens):
            raise DataError(
                f"{found.place(number)}: found {len(tokens)} words and {len(given)} tags; expected one for "
                "each; correct it"
            )
        if "" in given:
            raise DataError(
                f"{found.place(number)}: found null or an empty tag in {table.label}; expected one for each "
                "word, O where it is in no entity; correct it"
            )
        tags.append([_named(found.place(number), tag, names) for tag in given])
    if not words:
        raise DataError(f"{found.path}: found no rows, the file is empty; expected sentences")
    if not any(tags):
        return words, None, places
    bare = next((i for i, row in enumerate(tags) if not row), None)
    if bare is not None:
        raise DataError(
            f"{places[bare](0)}: found no tags, which other rows have; expected them in all or none"
        )
    return words, tags, places


def table_of(found) -> Table:
    """The columns of words and tags of a table (tables.Rows), by their usual names.  Raises DataError for one
    without words."""
    words = next((name for name in WORDS if name in found.names), None)
    if words is None:
        raise DataError(
            f"{found.place(1)}: found the columns {', '.join(found.names)}; expected {' or '.join(WORDS)}, a "
            "list of words; --text_columns names another"
        )
    return Table(words, None, next((name for name in TAGS if name in found.names), TAGS[0]))


def listed(where, name, value) -> list[str]:
    """A cell that must be a list of words or tags.  Raises DataError."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DataError(f"{where}: found {str(value)[:40]!r} in {name}; expected a list of words or tags")
    return value


def _words_of(where):
    return lambda position: f"{where} (word {position + 1})"


def _named(where, tag, names):
    """The name of a tag that may be an id."""
    if not tag.isdecimal() or tag in names:
        return tag
    if int(tag) >= len(names):
        expected = (
            f"0 to {len(names) - 1}" if names else "names, or the task's labels in the order of the ids"
        )
        raise DataError(
            f"{where}: found the tag {tag}; expected {expected}; give the names in a task file (labels)"
        )
    return names[int(tag)]


def in_iob2(path, sentences, places):
    """Tags of any scheme as IOB2; what was converted is said.  Raises DataError for those of no scheme."""
    tags = {tag for row in sentences for tag in row} - {"O"}
    matches = {tag: _PREFIXED.fullmatch(tag) for tag in tags}
    if not any(matches.values()):
        if tags:
            logger.info("%s: the labels are plain types (%s); neighbours are one entity", path, min(tags))
        return [_of_types(row) for row in sentences]
    for row, place_of in zip(sentences, places):
        for position, tag in enumerate(row):
            if tag != "O" and not matches[tag]:
                raise DataError(
                    f"{place_of(position)}: found the label {tag!r} beside others like "
                    f"{next(t for t in sorted(tags) if matches[t])}; expected O, or B- or I- before a type; "
                    "correct it"
                )
    if any(match[1] in _LAST + _ONLY for match in matches.values()):
        logger.info("%s: the labels are BIOES or BILOU; converted to IOB2", path)
        return [_of_last(row, place_of) for row, place_of in zip(sentences, places)]
    return _of_iob(path, sentences, places)


def _of_types(tags):
    before = ["O", *tags[:-1]]
    return ["O" if tag == "O" else ("I-" if tag == last else "B-") + tag for last, tag in zip(before, tags)]


def _of_last(tags, place_of):
    result, open_type = [], None  # of the entity that must go on
    for position, tag in enumerate([*tags, "O"]):
        prefix, kind = ("O", None) if tag == "O" else (tag[0], tag[2:])
        continues = prefix == "I" or prefix in _LAST
        if (open_type is not None or continues) and not (continues and kind == open_type):
            where, said = place_of(min(position, len(tags) - 1)), tag if position < len(tags) else "the end"
            expected = f"I- or the last word of {open_type}" if open_type else "B-, or the only word, or O"
            raise DataError(f"{where}: found {said}; expected {expected}, as in BIOES; correct it")
        open_type = kind if prefix in "BI" and kind else None
        if position < len(tags):
            result.append("O" if kind is None else ("I-" if continues else "B-") + kind)
    return result


def _of_iob(path, sentences, places):
    # (place, tag): I- that continues nothing; B- that follows no entity of its type
    starts_inside, starts_again = [], []
    for sentence, place_of in zip(sentences, places):
        previous = "O"
        for position, tag in enumerate(sentence):
            continues = tag != "O" and previous[2:] == tag[2:]
            if tag[0] == "I" and not continues:
                starts_inside.append((place_of(position), tag))
            elif tag[0] == "B" and not continues:
                starts_again.append((place_of(position), tag))
            previous = tag
    if starts_inside and starts_again:
        (place, tag), (other_place, other_tag) = starts_inside[0], starts_again[0]
        other = other_place.removeprefix(f"{path}:")
        raise DataError(
            f"{place}: found {tag}, which continues no entity, but line {other} has {other_tag} as in IOB2; "
            "expected every entity to start with B- (IOB2), or none that could start with I- (IOB1); correct "
            "one of them"
        )
    if starts_inside:
        line = starts_inside[0][0].removeprefix(f"{path}:")
        logger.info("%s: the labels are IOB1 (line %s); converted to IOB2", path, line)
        sentences = [_of_iob1(sentence) for sentence in sentences]
    return sentences


def _of_iob1(tags):
    before = ["O", *tags[:-1]]
    return [
        "B" + tag[1:] if tag[0] == "I" and previous[2:] != tag[2:] else tag
        for previous, tag in zip(before, tags)
    ]
