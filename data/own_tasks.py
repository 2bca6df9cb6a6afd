"""Tasks of the user's own: from a description and its files to an entry beside those of data.tasks.

    {"kind": "classification", "files": {"train": "train.csv", "dev": "dev.csv", "test": "new.jsonl"},
     "text": ["premise", "hypothesis"], "label": "label", "labels": ["no", "yes"], "metric": "macro_f1",
     "max_length": 256, "name": "pairs"}

Only what cannot be told from the files is required.  What was found out is in the description of the task
that comes out (Task.own), under "found".  Nothing here imports torch.
"""

import collections
import json
import math
import re
import shlex
from pathlib import Path

from data import opening, readers, tables, tagged_words
from data.readers import Table
from utils import files
from utils.errors import DataError

KINDS = ("classification", "multilabel", "regression", "tagging", "spans")
DESCRIPTION = "task.json"
SPLITS = ("train", "dev", "test")
METRICS = {  # of each kind, the one that selects last
    "classification": ("acc", "macro_f1"),
    "multilabel": ("acc", "macro_f1", "micro_f1"),
    "regression": ("pearson", "spearman", "neg_mse", "corr"),
    "tagging": ("precision", "recall", "f1"),
}
_KEYS = {
    "name": str,
    "kind": str,
    "files": dict,
    "text": (str, list),
    "label": (str, list),
    "labels": list,
    "metric": str,
    "max_length": int,
    "score_range": list,
    "found": list,
}
_TEXTS = (  # usual names, the first that are all there
    ("text",),
    ("sentence",),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("content",),
    ("review",),
)
_LABELS = (
    "label",
    "labels",
    "class",
    "category",
    "target",
    "gold_label",
    "score",
    "rating",
    "stars",
    "sentiment",
)
_NAME_TEXTS = "one, or two for pairs, with --text_columns a,b"
_SCORES = ("score", "rating")
_MOST_CLASSES = 100  # different whole numbers in a column that are still classes


def read_description(path) -> dict:
    """The description in a task file, or in the folder of a task.json; its files are absolute then.

    Raises DataError where it is no such description.
    """
    path = Path(path).expanduser()
    path = path / DESCRIPTION if path.is_dir() else path
    try:
        value = files.read_json(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); expected the description of a task"
        ) from error
    except ValueError as error:
        raise DataError(
            f"{path}:{getattr(error, 'lineno', 1)}: no valid JSON ({error}); correct it"
        ) from error
    if not isinstance(value, dict):
        raise DataError(
            f"{path}:1: found a {type(value).__name__}; expected an object with {', '.join(_KEYS)}"
        )
    for key, found in value.items():
        kinds = _KEYS.get(key)
        if kinds is None:
            raise DataError(f"{path}:1: found the key {key!r}; expected {', '.join(list(_KEYS)[:-1])}")
        if not isinstance(found, kinds) or isinstance(found, bool):
            said = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
            raise DataError(f"{path}:1: {key}: found {found!r}; expected a {said}")
    given = value.get("files", {})
    wrong = [key for key, file in given.items() if key not in SPLITS or not isinstance(file, str)]
    if wrong:
        raise DataError(
            f"{path}:1: files: found {wrong[0]!r}; expected {', '.join(SPLITS)}, each the path of a file"
        )
    if not given:
        given = {split: f"{split}.csv" for split in SPLITS if (path.parent / f"{split}.csv").exists()}
    name = value.get("name") or (path.parent.resolve().name if path.name == DESCRIPTION else path.stem)
    absolute = {split: files.absolute(path.parent / Path(file).expanduser()) for split, file in given.items()}
    return {**value, "name": name, "files": absolute}


def resolve(description: dict) -> dict:
    """The whole description: what it lacks is told from its files, all of which are read and checked.

    Raises DataError for files that do not fit, and where something cannot be told.
    """
    given = description.get("files", {})
    for split in ("train", "dev"):
        if split not in given and "labels" not in description:
            raise DataError(
                f"{description['name']}: found no {split} file; expected train and dev (--train_file, "
                f"--validation_file, or the files of a task file){_how_to_split(given)}"
            )
    result = {**description, "name": re.sub(r"[^\w.-]", "_", description["name"]), "found": []}
    first = given.get("train") or next(iter(given.values()), None)
    if first is None:
        raise DataError(f"{description['name']}: found no files; expected train and dev at least")
    _add_columns(result, first)
    if result["kind"] not in KINDS:
        raise DataError(
            f"{result['name']}: found the kind {result['kind']!r}; expected one of {', '.join(KINDS)}"
        )
    _add_labels(result, first)
    return result


def _how_to_split(given) -> str:
    """The end of a message: a command that keeps a tenth of a CSV apart."""
    file = given.get("train", "")
    if not file.lower().endswith(".csv"):
        return ""
    file, dev, train = (json.dumps(file[:-4] + ending) for ending in (file[-4:], "_dev.csv", "_train.csv"))
    code = (
        f"import pandas; t = pandas.read_csv({file}, dtype=str, keep_default_na=False, sep=None, "
        f'engine="python"); d = t.sample(frac=0.1, random_state=0); d.to_csv({dev}, index=False); '
        f"t.drop(d.index).to_csv({train}, index=False)"
    )
    return f"; this keeps a tenth of the rows apart: {shlex.join(['python', '-c', code])}"


# ---- Columns and kind


def _add_columns(result, path):
    kind = result.get("kind")
    for key in ("text", "label"):
        if isinstance(result.get(key), str):
            result[key] = [result[key]]
    with opening.reading(path), opening.open_bytes(path) as file:
        named = "text" in result or "label" in result
        if kind == "spans" or (kind is None and not named and _looks_like_questions(path)):
            result.update(kind="spans")
            return
        if tagged_words.is_column_file(path) and tables.format_of(path) is None:
            result.update(kind=kind or "tagging")
            if result["kind"] == "tagging":
                return
        found = tables.open_table(path, file)
        names = found.names
        numbered = [(number, row) for number, row in found.rows if len(row) == len(names)]
    header = f"{found.place(1)}: found the columns {', '.join(names)}"
    header += " (line 1 is read as the header)" if found.has_header else ""
    tagged = kind == "tagging" or (kind is None and _looks_tagged(names, numbered, result.get("label")))
    if tagged and "text" not in result and any(name in names for name in tagged_words.WORDS):
        table = tagged_words.table_of(found)
        result.update(kind="tagging", text=[table.first], label=result.get("label") or [table.label])
        return
    if "label" not in result:
        known = [name for name in _LABELS if name in names and name not in result.get("text", ())]
        others = [name for name in names if name not in (*result.get("text", ()), "id", "index")]
        known = known or (others if len(others) == 1 and "text" in result else [])
        if len(known) != 1:
            said = f"{', '.join(known)}, each of which could be the label" if known else "no column of labels"
            texts = "" if "text" in result or _usual_texts(names) else f", and the text's: {_NAME_TEXTS}"
            raise DataError(
                f"{header}: {said}; expected one; name it with --label_column (several, of 0 and 1, for "
                f"labels with a column each){texts}"
            )
        result["label"] = known
    if "text" not in result:
        others = [name for name in names if name not in (*result["label"], "id", "index")]
        texts = _usual_texts(others) or (others if len(others) == 1 else None)
        if texts is None:
            raise DataError(f"{header}: which hold the text cannot be told; name {_NAME_TEXTS}")
        result["text"] = list(texts)
    if len(result["text"]) > 2:
        raise DataError(
            f"{found.place(1)}: found {len(result['text'])} text columns; expected one, or two for pairs"
        )
    readers.check_columns(found, [*result["text"], *result["label"]], own=True)
    if kind is None:
        result["kind"] = _kind(found, numbered, result["label"])
    if len(result["label"]) > 1:
        _order_columns(result)


def _usual_texts(names):
    """Those of the names that texts usually have; None where there are none."""
    return next((texts for texts in _TEXTS if all(name in names for name in texts)), None)


def _order_columns(result):
    """Put the columns of 0 and 1 in the order of the labels, which have their names."""
    name, columns, labels = result["name"], result["label"], result.get("labels")
    if result["kind"] != "multilabel":
        raise DataError(
            f"{name}: found {len(columns)} label columns ({', '.join(columns)}) for {result['kind']}; "
            "expected one; several of 0 and 1 are a task of the kind multilabel"
        )
    labels = [str(label) for label in labels] if labels else columns
    if sorted(columns) != sorted(labels) or len({*labels}) < len(labels):
        raise DataError(
            f"{name}: found the label columns {', '.join(columns)} and the labels {', '.join(labels)}; "
            "expected a column of 0 and 1 for each label, by its name and once; correct the label columns "
            "(label, --label_column) or the labels"
        )
    result["label"] = labels


def _kind(found, numbered, label):
    """The kind of task that the values in the columns of labels say."""
    if len(label) > 1:
        return "multilabel"
    values = [row[found.names.index(label[0])] for _, row in numbered]
    for (number, _), value in zip(numbered, values):
        _check_label(value, label[0], found.place(number), lists=True)
    if any(isinstance(value, list) or str(value).startswith("[") for value in values):
        return "multilabel"
    numbers = [readers.number_of(value) for value in values]
    different = len({*values})
    if all(map(math.isfinite, numbers)) and numbers:
        whole = all(number.is_integer() for number in numbers)
        if label[0] in _SCORES or not whole:
            return "regression"
        if different <= _MOST_CLASSES:
            return "classification"
    elif different <= max(2, len(values) // 2):
        return "classification"
    raise DataError(
        f"{found.place(2)}: found {different} different values in {label[0]} of {len(values)} rows; whether "
        "these are classes, lists of labels or scores cannot be told: say it with --task_kind "
        f"{' or '.join(KINDS[:3])}"
    )


def _check_label(value, name, where, *, lists):
    """Raise DataError for a cell of the column of labels that holds no label.  lists: they may be some."""
    if not isinstance(value, str | list if lists else str):
        raise DataError(
            f"{where}: found {str(value)[:40]!r} in {name}; expected a text or a number"
            f"{', or a list of them' if lists else ''}; correct it, or name another column (--label_column)"
        )


def _looks_like_questions(path) -> bool:
    if tables.format_of(path) not in ("json", "parquet"):
        return False
    with opening.open_bytes(path) as file:
        if tables.format_of(path) == "parquet":
            names = tables.open_table(path, file).names
            return {"question", "context"} <= {*names}
        top = file.read(1 << 16).decode("utf-8", "replace")
    return '"paragraphs"' in top or ('"question"' in top and '"context"' in top)


def _looks_tagged(names, numbered, label) -> bool:
    """Whether a table has words, and tags by the name of their column alone or as both are lists.

    label: the columns that were named for labels, or None.
    """
    words = [name for name in tagged_words.WORDS if name in names][:1]
    tags = label or [name for name in tagged_words.TAGS if name in names][:1]
    if not words or not tags:
        return False
    if tags[0] in tagged_words.TAGS and not any(name in names for name in _LABELS):
        return True
    columns = [names.index(name) for name in (*words, *tags) if name in names]
    return any(all(isinstance(row[column], list) for column in columns) for _, row in numbered)


# ---- Labels


def _add_labels(result, path):
    kind = result["kind"]
    if kind == "tagging":
        _add_tags(result, path)
    elif kind in ("classification", "multilabel") and not result.get("labels"):
        counts = _counts(result, path)
        result["labels"] = result["label"] if len(result["label"]) > 1 else in_order(counts)
        if len(result["labels"]) < 2:
            raise DataError(
                f"{path}: found the labels {result['labels']}; expected at least 2 different ones"
            )
    elif kind == "regression" and "score_range" not in result:
        scores = [score for score in map(readers.number_of, _counts(result, path)) if math.isfinite(score)]
        result["score_range"] = [min(scores), max(scores)] if scores else [0.0, 0.0]  # reading says the rest
    result["labels"] = [str(label) for label in result.get("labels", ())]


def _counts(result, path):
    """How often each label is in a file, by its word."""
    with opening.reading(path), opening.open_bytes(path) as file:
        found = tables.open_table(path, file)
        position, counts = found.names.index(result["label"][0]), collections.Counter()
        for number, row in found.rows:
            readers.check_widths(found, [(number, row)])
            value, name, where = row[position], result["label"][0], found.place(number)
            if result["kind"] == "multilabel":
                counts.update(readers.labels_in(value, name, where))
                continue
            _check_label(value, name, where, lists=False)
            if result["kind"] == "classification" and not value.strip():
                raise DataError(
                    f"{where}: found an empty {name}; expected a label; fill it in or remove the row"
                )
            counts[value] += 1
    return counts


def in_order(labels) -> list[str]:
    """Labels sorted: numbers by value, before words."""

    def key(label):
        number = readers.number_of(label)
        return (not math.isfinite(number), number if math.isfinite(number) else 0.0, label)

    return sorted(labels, key=key)


def _add_tags(result, path):
    """The tags in IOB2: those given where they are such, else of the types that are given or in train."""
    given = [str(label) for label in result.get("labels", ())]
    result["tag_names"] = result.get("tag_names") or given
    if not given:
        table = table_of(result)
        _, tags, places = tagged_words.read_tags(path, split="train", table=table)
        given = sorted({tag for row in tagged_words.in_iob2(path, tags, places) for tag in row})
        if given == ["O"]:
            raise DataError(
                f"{path}: found no entity, every tag is O; expected some of B- and a type; --label_column "
                "names another column"
            )
    types = list(dict.fromkeys(re.sub("^[BIESLU]-", "", tag) for tag in given if tag != "O"))
    every = ["O", *(f"{prefix}-{each}" for each in types for prefix in "BI")]
    result["labels"] = given if sorted(given) == sorted(every) and given != sorted(given) else every


def table_of(description) -> Table | None:
    """Where the files of a description keep texts and labels; None for column files and SQuAD's."""
    text, label = description.get("text"), description.get("label")
    if not text:
        return None
    indicators = tuple(label) if len(label) > 1 else ()
    second = text[1] if len(text) > 1 else None
    return Table(text[0], second, "" if indicators else label[0], indicators=indicators)


def summary(task) -> list[str]:
    """What a task of the user's own is, and what is in each of its files, in lines.

    Raises DataError for a file that does not fit.
    """
    own = task.own
    lines = [f"{task.name}: a task of the kind {task.kind}"]
    if own.get("text"):
        lines[0] += f"; text: {', '.join(own['text'])}; label: {', '.join(own['label'])}"
    return lines + [f"{split}: {file}: {_contents(task, split)}" for split, file in task.filenames.items()]


def _contents(task, split):
    examples = task.read("", split)
    lengths = sorted(len(text if isinstance(text, list) else text.split()) for text in examples.first)
    said = f"{len(examples)} rows, {lengths[len(lengths) // 2]} words a row (median), {lengths[-1]} at most"
    if examples.labels is None:
        return f"{said}; no labels"
    if task.kind == "regression":
        return f"{said}; scores from {min(examples.labels):g} to {max(examples.labels):g}"
    if task.kind == "spans":
        return said
    rows = [[label] for label in examples.labels] if task.kind == "classification" else examples.labels
    counts = collections.Counter(label for row in rows for label in row)
    said += "; " + ", ".join(f"{name} {counts[i]}" for i, name in enumerate(task.label_names))
    absent = [name for i, name in enumerate(task.label_names) if not counts[i]]
    return said + (f" (none of {', '.join(absent)} is here)" if absent else "")
