"""Tasks of the user's own: what is told from files, in every format; from a file to predictions, by the
scripts alone."""

import bz2
import csv
import gzip
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import corpus_runs
import pytest
import tiny_squad
from commands import ROOT, alone, outcome, run

from data import own_tasks, tagged_words, tasks
from data.squad.questions import read_questions
from utils.errors import DataError

HERE = ROOT / "tests" / "own_tasks"


def task_of(folder, files, **description):
    """A task of files that are written here: {split: (name, text or bytes)}."""
    for name, content in files.values():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    named = {split: str(folder / name) for split, (name, _) in files.items()}
    return tasks.of_description(own_tasks.resolve({"name": "mine", "files": named, **description}))


def described(folder, train, **description):
    """A task with one file, train and dev alike."""
    return task_of(folder, {"train": train, "dev": train}, **description)


# ---- Formats

ROWS = [('a, "b"\nc', "no"), ("d;e", "yes"), ("f", "no")]
CSV = 'text,label\n"a, ""b""\nc",no\n"d;e",yes\nf,no\n'
JSON = [{"text": text, "label": label} for text, label in ROWS]


def parquet(rows) -> bytes:
    import io

    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def zipped(text) -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inside.csv", text)
    return buffer.getvalue()


def zstd(text) -> bytes:
    import pyarrow

    return pyarrow.compress(text.encode(), codec="zstd", asbytes=True)


def zst_stream(text) -> bytes:
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(text.encode())
    return sink.getvalue().to_pybytes()


FORMS = {
    "a.csv": CSV,
    "semicolon.csv": CSV.replace("text,label", "text;label").replace('",no', '";no').replace('",yes', '";yes')
    .replace("f,no", "f;no"),
    "crlf.csv": CSV.replace("\n", "\r\n"),
    "bom.csv": "\ufeff" + CSV,
    "a.jsonl": "".join(json.dumps(row) + "\n" for row in JSON),
    "a.json": json.dumps(JSON, indent=1),
    "a.parquet": parquet(JSON),
    "a.csv.gz": gzip.compress(CSV.encode()),
    "a.csv.bz2": bz2.compress(CSV.encode()),
    "a.csv.zst": zst_stream(CSV),
    "a.csv.zip": zipped(CSV),
    "a.parquet.gz": gzip.compress(parquet(JSON)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_formats(name, tmp_path):
    """The same rows from every format; quotes, separators and line ends inside texts are text."""
    task = described(tmp_path, (name, FORMS[name]))
    found = task.read("", "train")
    assert (task.kind, task.label_names) == ("classification", ("no", "yes"))
    assert list(zip(found.first, found.labels)) == [(text, int(label == "yes")) for text, label in ROWS]


BAD = {
    "width": ("a.csv", CSV + "g,no,more\n", r"a\.csv:6: found 3 columns; expected 2"),
    "open quote": ("a.csv", CSV + '"g,no\n', r"a\.csv:6: no valid CSV"),
    "no JSON": ("a.jsonl", FORMS["a.jsonl"] + "{", r"a\.jsonl:4: no valid JSON"),
    "no object": ("a.jsonl", "[1]\n", r"a\.jsonl: row 1: found '1'; expected one object"),
    "half a pair": ("a.jsonl", FORMS["a.jsonl"] + '{"text": "\\ud83d", "label": "no"}\n',
    r"a\.jsonl:4: found half of a surrogate pair"),
    "half a pair in a list": ("a.json", r'[{"text": "a"}, {"text": "\uD83D x"}]',
    r"a\.json: row 2: found half of a surrogate pair"),
    "no Parquet": ("a.parquet", b"PAR1", r"a\.parquet: no Parquet file"),
    "cut off": ("a.csv.gz", gzip.compress(CSV.encode())[:-9], r"a\.csv\.gz: cannot be read"),
    "no zip": ("a.csv.zip", b"x", r"a\.csv\.zip: cannot be read"),
    "no label": ("a.csv", "text,other\na,b\n",
    r"a\.csv:1: found the columns text, other \(line 1 is read as the header\): no column .*each\)$"),
    "no text and no label": ("a.csv", "first,second,similarity\na,b,1\n",
    r"no column of labels; .*--label_column .*, and the text's: .* --text_columns a,b"),
    "no text": ("a.csv", "x,y,label\na,b,c\n", r"which hold the text cannot be told"),
    "one class": ("a.csv", "text,label\na,b\nc,b\n", r"found the labels \['b'\]; expected at least 2"),
    "empty label": ("a.csv", "text,label\na,b\nc,\nd,c\ne,c\nf,c\ng,b\n", r"a\.csv:3: found an empty label"),
    "free text": ("a.csv", "text,label\n" + "".join(f"a,{i}x\n" for i in "123456789"),
    r"told.*--task_kind"),
    "two labels": ("a.csv", "text,label,score\na,b,1\n", "label, score, each of which could be the label"),
    "no entity": ("a.jsonl", '{"tokens": ["a"], "tags": ["O"]}\n', r"a\.jsonl: found no entity"),
    "no bytes of text": ("a.csv", b"text,label\nx,caf\xe9\n", r"a\.csv:2: found the byte 0xe9"),
    "row of a list": ("a.json", '[{"text": "a", "label": 1}, 5]', r"a\.json: row 2: found '5'"),
    "inside of nothing": ("a.conll", "a O\nb E-P\nc S-P\n", r"a\.conll:2: found E-P; expected B-"),
    "object": ("a.jsonl", '{"text": "a", "label": {"name": "a"}}\n{"text": "b", "label": {"name": "b"}}\n',
    r":1: found \"{'name': 'a'}\" in label; expected a text or a number, or a list of them"),
    "object beside lists": ("a.jsonl", '{"text": "a", "label": ["a"]}\n{"text": "b", "label": {"c": 1}}\n',
    r":2: found .* in label; expected a text or a number, or"),
    "list of lists": ("a.jsonl", '{"text": "a", "label": ["a"]}\n{"text": "b", "label": [["b"]]}\n',
    r":2: found .* in label; expected labels apart by commas, or a list of"),
    "list with null": ("a.jsonl", '{"text": "a", "label": ["a"]}\n{"text": "b", "label": ["b", null]}\n',
    r":2: found .* in label; expected labels apart by commas, or a list of"),
    "null": ("a.jsonl", '{"text": "a", "label": "a"}\n{"text": "b", "label": null}\n',
    r":2: found an empty label"),
    "null tag": ("a.jsonl", '{"tokens": ["a", "b"], "tags": ["X", null]}\n',
    r":1: found null or an empty tag in tags"),
    "list": ("a.jsonl", '{"text": ["a"], "label": 1}\n{"text": "b", "label": 0}\n',
    r":1: found a list or object in text"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case, tmp_path):
    name, content, said = BAD[case]
    with pytest.raises(DataError, match=said):
        task = described(tmp_path, (name, content))
        own_tasks.summary(task)


def test_one_csv_alone(tmp_path):
    """The message's command keeps a tenth of the rows apart, whatever their cells hold."""
    text = CSV + "".join(f'"x, {i}",NA\n' for i in range(17))
    (tmp_path / "it's.csv").write_text(text)
    with pytest.raises(DataError, match="found no dev file") as raised:
        own_tasks.resolve({"name": "mine", "files": {"train": str(tmp_path / "it's.csv")}})
    words = shlex.split(str(raised.value).partition("apart: ")[2])
    subprocess.run([sys.executable, *words[1:]], check=True)
    rows = []
    for split in ("train", "dev"):
        with open(tmp_path / f"it's_{split}.csv", newline="", encoding="utf-8") as file:
            rows += list(csv.reader(file))[1:]
        assert len(rows) == {"train": 18, "dev": 20}[split]
    assert sorted(map(tuple, rows)) == sorted([*ROWS, *((f"x, {i}", "NA") for i in range(17))])


OBJECTS = {
    "classification": r":2: found .* in label; expected a text or a number; correct",
    "regression": r":2: found .* in label; expected a text or a number; correct",
    "multilabel": r":2: found .* in label; expected labels apart by commas",
    "classification of known labels": r":2: found the label .*; expected one of a, b",
    "multilabel of known labels": r":2: found .* in label; expected labels apart by commas",
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_as_labels_of_a_given_kind(kind, tmp_path):
    label = 1 if kind == "regression" else "a"
    rows = [{"text": "x", "label": label}, {"text": "y", "label": {"a": ["b"]}}]
    known = {"labels": ["a", "b"]} if "known" in kind else {}
    with pytest.raises(DataError, match=OBJECTS[kind]):
        train = ("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        described(tmp_path, train, kind=kind.split()[0], **known).read("", "train")


def test_objects_in_place_of_0_and_1(tmp_path):
    row = {"text": "x", "toxic": 1, "rude": {"a": 1}}
    with pytest.raises(DataError, match=r":1: found {'a': '?1'?} in rude; expected 0 or 1"):
        described(tmp_path, ("a.jsonl", json.dumps(row)), label=["toxic", "rude"]).read("", "train")


@pytest.mark.parametrize("metric, task", [("f1_v", "a.csv"), ("corr", "a.csv"), ("acc", "a.conll")])
def test_a_metric_of_another_kind(metric, task, tmp_path):
    """A task file's metric is one of its kind's, or of one of its labels."""
    content = {"a.csv": CSV, "a.conll": "a B-X\n"}[task]
    with pytest.raises(DataError, match=f"metric: found '{metric}'; expected one of .*f1"):
        described(tmp_path, (task, content), metric=metric)
    assert described(tmp_path, ("b.csv", CSV), metric="f1_no").selection_metric == "f1_no"


def test_labels_of_other_files(tmp_path):
    """Numbers are sorted by value; dev may not have another label; a class without rows in dev is said; -1 in
    all rows of a test file, or an empty cell, is no label."""
    train = "text,label\n" + "".join(f"a{i},{i}\n" for i in (10, 9, 2, 10))
    files = {
        "train": ("a.csv", train),
        "dev": ("b.csv", "text,label\nx,9\n"),
        "test": ("c.csv", "text,label\nx,-1\ny,\n"),
    }
    task = task_of(tmp_path, files)
    assert task.label_names == ("2", "9", "10") and task.read("", "dev").labels == [1]
    assert task.read("", "test").labels is None
    assert "(none of 2, 10 is here)" in own_tasks.summary(task)[2]
    (tmp_path / "b.csv").write_text("text,label\nx,9\ny,11\n")
    with pytest.raises(DataError, match=r"b\.csv:3: found the label '11'; expected one of 2, 9, 10"):
        task.read("", "dev")


@pytest.mark.parametrize(
    "cells, name",
    [
        (["b,a", "", "c"], "cells"),
        (['["a", "b"]', "[]", '["c"]'], "JSON in cells"),
        (["a;b", "", "c"], "semicolons"),
        (["['a', 'b']", " []", "['c']"], "lists as pandas writes them"),
        (["['b', \"a\"]", "[]", "['c', 'c']"], "with both quotes"),
    ],
)
def test_several_labels(cells, name, tmp_path):
    import csv
    import io

    file = io.StringIO()
    csv.writer(file).writerows([("text", "label"), *zip("xyz", cells)])
    task = described(tmp_path, ("a.csv", file.getvalue()), kind="multilabel")
    assert task.label_names == ("a", "b", "c") and task.read("", "train").labels == [(0, 1), (), (2,)]


def test_lists_of_numbers_and_of_quotes(tmp_path):
    """Python's numbers are those of JSON; a blank between texts is text."""
    rows = [{"text": "x", "label": "[1, 2.0,]"}, {"text": "y", "label": "[\"it's 'so'\", '2']"}]
    task = described(tmp_path, ("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert task.label_names == ("1", "2", "it's 'so'") and task.read("", "train").labels == [(0, 1), (1, 2)]


NO_LISTS = [
    "[neg, pos]",
    "['neg' 'pos']",
    "['neg'\n 'pos']",
    "['neg'",
    "['a', ['b']]",
    "['a', None]",
    '["a", null]',
    '["a", {"b": 1}]',
    "[b'a']",
    "['a', '']",
    "[" * 99_999,
    "[open('x')]",
]


@pytest.mark.parametrize("cell", NO_LISTS, ids=range(len(NO_LISTS)))
def test_cells_that_are_no_lists(cell, tmp_path):
    """Said of train, and of a file whose labels are known."""
    said = r"a\.jsonl:2: found .* in label; expected labels apart by commas, or a list"
    rows = [{"text": "x", "label": "['a', 'b']"}, {"text": "y", "label": cell}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    with pytest.raises(DataError, match=said):
        described(tmp_path, ("a.jsonl", lines))
    with pytest.raises(DataError, match=said):
        described(tmp_path, ("a.jsonl", lines), labels=["a", "b"], kind="multilabel").read("", "train")


def test_a_column_for_each_label(tmp_path):
    train = ("a.csv", "text,toxic,rude\nx,0,1\ny,1,1\nz,0,0\n")
    task = described(tmp_path, train, label=["toxic", "rude"])
    assert (task.kind, task.label_names) == ("multilabel", ("toxic", "rude"))
    assert task.read("", "train").labels == [(1,), (0, 1), ()]
    (tmp_path / "a.csv").write_text("text,toxic,rude\nx,0,2\n")
    with pytest.raises(DataError, match=r"a\.csv:2: found '2' in rude; expected 0 or 1"):
        task.read("", "train")


@pytest.mark.parametrize("columns", [["toxic", "rude"], ["rude", "toxic"]])
@pytest.mark.parametrize("labels", [["toxic", "rude"], ["rude", "toxic"]])
def test_columns_belong_to_labels_by_name(columns, labels, tmp_path):
    """Whatever the order in which either is given: of a task file, or of a checkpoint with other columns."""
    train = ("a.csv", "text,toxic,rude\nx,0,1\ny,1,1\nz,0,0\n")
    task = described(tmp_path, train, label=columns, labels=labels)
    named = [{task.label_names[i] for i in row} for row in task.read("", "train").labels]
    assert named == [{"rude"}, {"toxic", "rude"}, set()] and task.label_names == tuple(labels)


@pytest.mark.parametrize(
    "description, said",
    [
        ({"labels": ["toxic"]}, "label columns toxic, rude and the labels toxic; expected a column"),
        ({"labels": ["toxic", "mild"]}, "label columns toxic, rude and the labels toxic, mild"),
        ({"label": ["toxic", "toxic"]}, "label columns toxic, toxic and the labels"),
        ({"labels": ["toxic", "rude", "rude"]}, "the labels toxic, rude, rude; expected"),
        ({"kind": "classification"}, r"found 2 label columns \(toxic, rude\) for classification"),
        ({"kind": "regression"}, r"found 2 label columns .* for regression; expected one"),
    ],
)
def test_columns_that_are_not_those_of_the_labels(description, said, tmp_path):
    train = ("a.csv", "text,toxic,rude\nx,0,0\ny,1,0\n")
    with pytest.raises(DataError, match=f"^mine: .*{said}"):
        described(tmp_path, train, **{"label": ["toxic", "rude"], **description})


def test_scores(tmp_path):
    task = described(tmp_path, ("a.jsonl", '{"text": "x", "y": 2.5}\n{"text": "z", "y": -7}\n'), label="y")
    assert (task.kind, task.score_range) == ("regression", (-7.0, 2.5))
    assert task.read("", "train").labels == [2.5, -7.0]


def lines_of(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


QUESTIONS = [
    {"question": "who?", "context": "a cat", "label": "yes"},
    {"question": "when?", "context": "x", "label": "no"},
]


def test_named_columns_of_questions(tmp_path):
    """A question and a context are a pair where the columns are named."""
    columns = {"text": ["question", "context"], "label": "label"}
    for name, content in (("a.jsonl", lines_of(*QUESTIONS)), ("a.parquet", parquet(QUESTIONS))):
        task = described(tmp_path, (name, content), **columns)
        found = task.read("", "train")
        assert (task.kind, found.first, found.second) == ("classification", ["who?", "when?"], ["a cat", "x"])
    with pytest.raises(DataError, match="which hold the text cannot be told"):
        described(tmp_path, ("a.jsonl", lines_of(*QUESTIONS)), label="label")


SENTENCE = {"tokens": ["a", "b"], "tags": ["B-X", "O"], "kinds": ["O", "B-Y"], "label": "yes", "text": "a b"}
COUNTED = "text,label,words\na b c,yes,3\nd e,no,2\n"
TOPICS = "text,label,tags,words\na b c,yes,x,3\nd e,no,y,2\n"
TWO = lines_of(SENTENCE, {**SENTENCE, "label": "no"})
WORDS = {
    "a count": ("a.csv", COUNTED, {}, "text"),
    "a count beside topics": ("a.csv", TOPICS, {}, "text"),
    "a count, named labels": ("a.csv", COUNTED, {"label": "label"}, "text"),
    "a count, a TSV": ("a.tsv", COUNTED.replace(",", "\t"), {}, "text"),
    "a count beside labels": ("a.csv", COUNTED.replace("label", "labels"), {}, "text"),
    "lists": ("a.jsonl", TWO, {}, "tokens"),
    "lists, named tags": ("a.jsonl", TWO, {"label": "kinds"}, "tokens"),
    "lists, named labels": ("a.jsonl", TWO, {"label": "label"}, "text"),
}


@pytest.mark.parametrize("case", WORDS)
def test_columns_called_words(case, tmp_path):
    """They are words of a tagging task where tags are beside them; the columns that are named come first."""
    name, content, given, text = WORDS[case]
    task = described(tmp_path, (name, content), **given)
    assert task.own["text"] == [text] and len(task.read("", "train")) == 2
    assert task.kind == ("tagging" if text == "tokens" else "classification")


def test_tags_that_are_no_lists(tmp_path):
    """CSV has none: the message is about the words."""
    with pytest.raises(DataError, match=r"a\.csv:2: found .* in tokens; expected a list of words or tags"):
        described(tmp_path, ("a.csv", "tokens,ner_tags\n\"['a', 'b']\",\"['O', 'O']\"\n"))
    with pytest.raises(DataError, match=r"missing: nertags"):
        described(tmp_path, ("a.jsonl", lines_of(SENTENCE)), label="nertags")


# ---- Tags

SCHEMES = {
    "IOB2": ["O", "B-X", "I-X", "B-X", "B-Y"],
    "IOB1": ["O", "I-X", "I-X", "B-X", "I-Y"],
    "BIOES": ["O", "B-X", "E-X", "S-X", "S-Y"],
    "BILOU": ["O", "B-X", "L-X", "U-X", "U-Y"],
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes_of_tags(scheme, tmp_path):
    """All become IOB2; comments before a sentence are no words, a # that is a word is."""
    rows = "".join(f"{word}\t{tag}\n" for word, tag in zip("#bcde", SCHEMES[scheme]))
    (tmp_path / "a.conll").write_text(f"# licence\n\n#\tO\n\n# id = 1\n# text\n{rows}\n# id = 2\n{rows}")
    names = ("O", "B-X", "I-X", "B-Y", "I-Y")
    found = tagged_words.read_words(tmp_path / "a.conll", split="train", label_names=names)
    assert found.first == [["#"], *[list("#bcde")] * 2] and found.labels == [[0], *[[0, 1, 2, 1, 3]] * 2]
    task = described(tmp_path, ("b.conll", f"# id = 1\n{rows}"))
    assert (task.kind, task.label_names) == ("tagging", names)


def test_plain_types_and_lists(tmp_path):
    """Neighbours of a type are one entity; lists of names, or of ids with the names beside."""
    plain = "".join(f"{word} {tag}\n" for word, tag in zip("abcd", ("X", "X", "O", "Y")))
    assert described(tmp_path, ("a.conll", plain)).read("", "train").labels == [[1, 2, 0, 3]]
    rows = [{"tokens": ["a", "b"], "ner_tags": ["B-X", "I-X"]}, {"tokens": ["c"], "ner_tags": ["O"]}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    assert described(tmp_path, ("a.jsonl", lines)).read("", "train").labels == [[1, 2], [0]]
    ids = lines.replace('"B-X"', "1").replace('"I-X"', "2").replace('"O"', "0")
    task = described(tmp_path, ("b.jsonl", ids), labels=["O", "B-X", "I-X"])
    assert task.read("", "train").labels == [[1, 2], [0]]
    with pytest.raises(DataError, match="found the tag 1; expected names"):
        described(tmp_path, ("b.jsonl", ids))
    with pytest.raises(DataError, match=r"c\.jsonl:1: found 2 words and 1 tags"):
        described(tmp_path, ("c.jsonl", '{"tokens": ["a", "b"], "ner_tags": ["O"]}\n'))
    mixed = '{"tokens": ["a"]}\n{"tokens": ["b"], "ner_tags": ["O"]}\n'
    (tmp_path / "e.jsonl").write_text(mixed.replace("]}", '], "ner_tags": null}', 1))
    with pytest.raises(DataError, match=r"e\.jsonl:1 \(word 1\): found no tags, which other rows have"):
        tagged_words.read_words(tmp_path / "e.jsonl", split="test", label_names=("O",))
    with pytest.raises(DataError, match=r"d\.conll:2: found the label 'X' beside others like B-X"):
        described(tmp_path, ("d.conll", "a B-X\nb X\n"))


def test_questions_as_rows(tmp_path):
    """As the Hub has them, one row each; numbers as ids."""
    rows = [
        {"id": 7, "context": "a cat", "question": "who?", "answers": {"text": ["cat"], "answer_start": [2]}},
        {"id": 8, "context": "a cat", "question": "when?", "answers": {"text": [], "answer_start": []}},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "a.json").write_text(json.dumps({"data": rows}))
    (tmp_path / "a.parquet").write_bytes(parquet(rows))
    for name in ("a.jsonl", "a.json", "a.parquet"):
        found = read_questions(tmp_path / name, split="train")
        assert (found.ids, found.labels) == (["7", "8"], [((2, "cat"),), ()])
    assert described(tmp_path, ("b.jsonl", (tmp_path / "a.jsonl").read_text())).kind == "spans"


# ---- From a file to predictions, by the scripts


@pytest.fixture(scope="module")
def encoder(tmp_path_factory, demo_tokenizer):
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 20, "num_attention_heads": 4}
    return corpus_runs.save_teacher(folder, demo_tokenizer, **sizes)


def flags_of(name):
    if (HERE / f"{name}.json").exists():
        return ["--task_name", HERE / f"{name}.json"]
    (train,), (dev,) = HERE.glob(f"{name}_train.*"), HERE.glob(f"{name}_dev.*")
    return ["--train_file", train, "--validation_file", dev]


SHORT = ["--use_cpu", *"--max_length 24 --max_steps 2".split()]
TASKS = {"reviews": "macro_f1", "leaflets": "f1", "essays": "corr", "topics": "micro_f1"}


def every_stage(folder, encoder, *flags, dev, metric):
    """Fine-tune with the flags of the task, then sparsify, distil, compare and predict without any of them.

    Returns (the run folder of the last student, the task that it knows, its answers to the rows of dev).
    """

    def stage(script, name, *more):
        run(script, "--use_cpu", *more, "--output_dir", folder / name)
        return folder / name

    tuned = stage("run_finetuning.py", "tuned", "--max_steps", 2, "--model_path", encoder, *flags)
    nested = stage("run_sparsification.py", "nested", "--model_path", tuned, "--grid", "0,50,90")
    of_nested = ["--max_steps", 2, "--teacher_model_path", nested]
    stage("run_distillation.py", "small", *of_nested, "--layer_or_sparsity", "90S")
    best = stage("run_minidisc.py", "best", *of_nested)
    models = ["--teacher_model_path", tuned, "--model_path", folder / "small", best]
    options = ["--compare", "--num_repeats", 0, "--num_resamples", 20]
    rows = stage("run_evaluation.py", "compared", *models, *options)
    results = json.loads((rows / "results.json").read_text())["rows"]
    assert len(results) == 3 and all(f"dev/{metric}" in row for row in results), results[0]
    done = run(
        "run_evaluation.py", "--use_cpu", "--model_path", best, "--predict", dev, "--predict_format", "jsonl"
    )
    settings = json.loads((best / "args.json").read_text())["settings"]
    return best, tasks.of_description(settings["own_task"]), [*map(json.loads, done.stdout.splitlines())]


@pytest.mark.parametrize("name", TASKS)
def test_every_stage(name, encoder, tmp_path):
    (dev,) = HERE.glob(f"{name}_dev.*")
    flags = ["--max_length", 24, *flags_of(name)]
    best, task, answers = every_stage(tmp_path, encoder, *flags, dev=dev, metric=TASKS[name])
    assert len(answers) == len(task.read("", "dev"))
    if task.kind in ("classification", "multilabel"):
        assert set(answers[0]["probabilities"]) == set(task.label_names)
    config = json.loads((best / "ckpt" / "config.json").read_text())["own_task"]
    assert config["kind"] == task.kind and "files" not in config


@pytest.mark.parametrize("form", ["articles", "rows"])
def test_every_stage_of_questions(form, tmp_path):
    """SQuAD's JSON, or a row for each question as the Hub has them; how texts are cut is known later too."""
    paths = {}
    for split, paragraphs in (("train", 6), ("dev", 3)):
        content = tiny_squad.content(paragraphs, seed=paragraphs)
        rows = [
            {"context": paragraph["context"], "title": "made up", **entry}
            for paragraph in content["data"][0]["paragraphs"]
            for entry in paragraph["qas"]
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        paths[split] = tmp_path / f"towns_{split}.{'json' if form == 'articles' else 'jsonl'}"
        paths[split].write_text(json.dumps(content) if form == "articles" else lines)
    files = ["--train_file", paths["train"], "--validation_file", paths["dev"]]
    encoder = tiny_squad.encoder(tmp_path / "encoder")
    options = {"dev": paths["dev"], "metric": "f1"}
    best, task, answers = every_stage(tmp_path, encoder, *files, *tiny_squad.LENGTHS, **options)
    assert task.kind == "spans" and [answer["id"] for answer in answers] == [row["id"] for row in rows]
    assert all(answer["prediction"] in row["context"] for answer, row in zip(answers, rows))
    cut = json.loads((best / "args.json").read_text())["settings"]
    assert (cut["max_length"], cut["doc_stride"], cut["max_query_length"]) == tiny_squad.LENGTHS[1::2]


@pytest.mark.parametrize("kind", ["classification", "spans"])
def test_fewer_pieces(kind, encoder, tmp_path):
    """Trimmed before fine-tuning and after it: later stages know the task, and how its rows were cut."""
    small = ["--min_count", 1, "--no_onnx"]
    if kind == "spans":
        encoder, rows = tiny_squad.encoder(tmp_path / "encoder"), tmp_path / "towns.json"
        rows.write_text(json.dumps(tiny_squad.content(4, seed=4)))
        flags, lengths = ["--train_file", rows, "--validation_file", rows], tiny_squad.LENGTHS
    else:
        flags, lengths = flags_of("reviews"), ["--max_length", 24]
        rows = flags[-1]

    def stage(script, name, *more):
        run(script, "--use_cpu", *more, "--output_dir", tmp_path / name)
        return json.loads((tmp_path / name / "ckpt" / "config.json").read_text())["own_task"]

    stored = stage("run_vocabulary.py", "fewer", "--model_path", encoder, *flags, *small)
    assert not {"max_length", "spans"} & {*stored}
    tuned = ["--model_path", tmp_path / "fewer", "--max_steps", 2]
    stored = stage("run_finetuning.py", "tuned", *tuned, *flags, *lengths)
    again = ["--task_name", stored["name"], "--model_path", tmp_path / "tuned", "--trim_embeddings"]
    assert stage("run_vocabulary.py", "trimmed", *again, *small) == stored
    assert stored["max_length"] == lengths[1] and ("spans" in stored) == (kind == "spans")
    model = ["--model_path", tmp_path / "trimmed", "--predict", rows, "--predict_format", "jsonl"]
    assert run("run_evaluation.py", "--use_cpu", *model).stdout


def test_sparse_teachers(encoder, tmp_path):
    """StarK with several labels for a text."""
    tuned, nested = tmp_path / "tuned", tmp_path / "nested"
    run("run_finetuning.py", *SHORT, "--model_path", encoder, *flags_of("topics"), "--output_dir", tuned)
    grid = ["--model_path", tuned, "--grid", "0,50,90", "--output_dir", nested]
    run("run_sparsification.py", "--use_cpu", *grid)
    trial = ["--teacher_model_path", tuned, "--student_model_path", nested, "--student_sparsity", 50]
    run(
        "run_distillation.py",
        *SHORT,
        *trial,
        "--model_type",
        "kd",
        "--temperature",
        2,
        "--output_dir",
        tmp_path / "trial",
    )
    stark = ["--teacher_model_path", tuned, "--student_model_path", tmp_path / "trial"]
    run("run_stark.py", "--use_cpu", *stark, "--output_dir", tmp_path / "stark")
    assert "own_task" in json.loads((tmp_path / "stark" / "ckpt" / "config.json").read_text())


@pytest.mark.parametrize("name", ["essays", "topics"])
def test_filters(name, encoder, tmp_path):
    """Both stages of TED, with scores and with several labels."""
    filters = ["--mode", "filters", "--filter_interval", 1, "--output_dir", tmp_path / "filters"]
    tuned = tmp_path / "tuned"
    run("run_finetuning.py", *SHORT, "--model_path", encoder, *flags_of(name), "--output_dir", tuned)
    run("run_ted.py", *SHORT, *filters, "--model_path", tuned)
    pair = ["--teacher_model_path", tmp_path / "filters", "--student_model_path", tmp_path / "filters"]
    ted = ["--mode", "ted", "--kl_alpha", 1, "--mse_alpha", 1, "--output_dir", tmp_path / "ted"]
    run("run_ted.py", *SHORT, *pair, *ted)
    assert "own_task" in json.loads((tmp_path / "ted" / "ckpt" / "config.json").read_text())


@pytest.fixture(scope="module")
def small_encoders(demo_corpus, small_teacher, tmp_path_factory):
    """Students of relation distillation, dense and with experts: {name of the method: run folder}."""
    folder = tmp_path_factory.mktemp("encoders")
    flags = ["--corpus", demo_corpus, "--teacher_model_path", small_teacher, *corpus_runs.SHORT]
    flags += ["--num_relation_heads", 6, *corpus_runs.SIZES, "--max_steps", 1]
    run("run_minilmv2.py", *flags, "--output_dir", folder / "minilmv2")
    run("run_minimoe.py", *flags, "--moe", "1,3", "--output_dir", folder / "minimoe")
    return {name: folder / name for name in ("minilmv2", "minimoe")}


EXPORTED = [
    ("minilmv2", "leaflets", ("dense", "compact", "onnx")),
    ("minilmv2", "topics", ("dense", "compact")),
    ("minimoe", "leaflets", ("compact",)),
    ("minimoe", "reviews", ("compact", "onnx")),
]


@pytest.mark.parametrize("method, name, kinds", EXPORTED, ids=[" ".join(case[:2]) for case in EXPORTED])
def test_exports_of_relation_students(method, name, kinds, small_encoders, tmp_path):
    """The student, fine-tuned on one's own task, for other software: as it answers here, with its labels."""
    tuned, exports = tmp_path / "tuned", tmp_path / "exports"
    flags = [*SHORT, "--model_path", small_encoders[method], *flags_of(name)]
    run("run_finetuning.py", *flags, "--output_dir", tuned)
    flags = ["--model_path", tuned, "--use_cpu", "--num_repeats", 0, "--output_dir", tmp_path / "scored"]
    run("run_evaluation.py", *flags, "--export", *kinds, "--export_dir", exports)
    results = json.loads((tmp_path / "scored" / "results.json").read_text())
    task = tasks.of_description(json.loads((tuned / "args.json").read_text())["settings"]["own_task"])
    rows = len(task.read("", "dev"))
    for kind in kinds:
        assert results["exports"][kind]["examples"] == rows
        assert results["exports"][kind]["largest_difference"] <= (1e-4 if kind == "onnx" else 0)
        config = json.loads((exports / kind / "config.json").read_text())
        assert [config["id2label"][str(i)] for i in range(task.num_labels)] == [*task.label_names]
        assert bool([*(exports / kind).glob("*.py")]) == (method == "minimoe" and kind == "compact")
    (dev,) = HERE.glob(f"{name}_dev.*")
    predict = ["--use_cpu", "--predict", dev, "--predict_format", "jsonl", "--model_path"]
    answers = [run("run_evaluation.py", *predict, path).stdout for path in (tuned, exports / "compact")]
    assert answers[0] == answers[1] and len(answers[0].splitlines()) == rows
    if method == "minimoe":
        done = run("run_evaluation.py", *flags, "--overwrite", "--export", "dense", code=2)
        assert "experts" in done.stderr
    if (method, task.kind) == ("minimoe", "classification"):  # its card, without this repository
        card = (exports / "compact" / "README.md").read_text().split("```python\n")[1].split("```")[0]
        said = alone(card, exports / "compact", cache=tmp_path / "cache")
        assert said.split()[0] in task.label_names


def test_other_files_of_a_known_task(encoder, tmp_path):
    """A checkpoint's task with other rows to score; a built-in name, or two tasks at once, are refused."""
    tuned = tmp_path / "tuned"
    run("run_finetuning.py", *SHORT, "--model_path", encoder, *flags_of("reviews"), "--output_dir", tuned)
    (tmp_path / "more.csv").write_text("text,label\nDie Suppe war gut,gut\n")
    scored = ["--model_path", tuned, "--use_cpu", "--num_repeats", 0, "--output_dir", tmp_path / "eval"]
    run("run_evaluation.py", *scored, "--validation_file", tmp_path / "more.csv")
    done = run(
        "run_evaluation.py", *scored, "--task_name", "mrpc", "--test_file", tmp_path / "more.csv", code=2
    )
    assert "--test_file: has no meaning with --task_name mrpc" in done.stderr
    done = run("run_evaluation.py", *scored, "--task_name", "reviws", code=2)
    assert "'reviws' is not one of" in done.stderr
    (tmp_path / "more.csv").write_text("text,label\nDie Suppe war gut,super\n")
    done = run(
        "run_evaluation.py", *scored, "--validation_file", tmp_path / "more.csv", "--overwrite", code=2
    )
    assert "more.csv:2: found the label 'super'; expected one of gut, mittel, schlecht" in done.stderr


def test_files_that_were_moved(encoder, tmp_path):
    """Their contents are compared, not where they are; other columns and labels are told one by one."""
    flags = [*SHORT, "--model_path", encoder, "--output_dir", tmp_path / "tuned"]
    run("run_finetuning.py", *flags, *flags_of("reviews"))
    files = [path for path in flags_of("reviews") if not str(path).startswith("--")]
    moved = [shutil.copy(path, tmp_path) for path in files]
    moved = ["--train_file", moved[0], "--validation_file", moved[1]]
    done = run("run_finetuning.py", *flags, *moved)
    assert "step 1/" not in done.stderr
    Path(moved[1]).write_text(Path(moved[1]).read_text().replace("gut", "super"))
    Path(moved[3]).write_text(Path(moved[3]).read_text().replace("gut", "super"))
    done = run("run_finetuning.py", *flags, *moved, code=2)
    assert "the task's labels: ['gut', 'mittel', 'schlecht'] in the run, ['" in done.stderr
    assert "'files'" not in done.stderr


def test_files_called_like_a_task_of_glue(tmp_path, encoder):
    (tmp_path / "sst2.csv").write_text(CSV)
    files = ["--train_file", tmp_path / "sst2.csv", "--validation_file", tmp_path / "sst2.csv"]
    run("run_finetuning.py", *SHORT, "--model_path", encoder, *files, "--output_dir", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "ckpt" / "config.json").read_text())
    assert config["own_task"]["name"] == "sst2_own" and config["own_task"]["labels"] == ["no", "yes"]
    scored = ["--use_cpu", "--num_repeats", 0, "--output_dir", tmp_path / "scored"]
    run("run_evaluation.py", *scored, "--model_path", tmp_path / "run")


def test_data_sets_of_the_hub(tmp_path, monkeypatch):
    """A folder as the datasets library writes it: names of classes in its order, -1 is no label."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["yes", "no"])}
    )
    parts = {"train": [0, 1], "validation": [1, 0], "test": [-1, -1]}
    made = {
        split: datasets.Dataset.from_dict({"sentence": ["a", "b"], "label": labels}, features=features)
        for split, labels in parts.items()
    }
    datasets.DatasetDict(made).save_to_disk(tmp_path / "reviews")
    task = tasks.of_description(own_tasks.resolve(tasks.of_dataset(str(tmp_path / "reviews"), None)))
    assert (task.name, task.label_names) == ("reviews", ("yes", "no"))
    assert [task.read("", split).labels for split in ("train", "dev", "test")] == [[0, 1], [1, 0], None]
    with pytest.raises(DataError, match=r"--dataset_name .*: the datasets library cannot load it"):
        tasks.of_dataset(str(tmp_path / "none"), None)


def keep_cache_in(folder):
    import datasets

    datasets.config.HF_DATASETS_CACHE = str(folder)


HUB = {  # columns of texts and labels, names of the classes, rows, a file to predict, its answers
    "classes": (
        "sentence",
        "label",
        ["up", "down"],
        [["the soup was good .", 0], ["the tip was bad .", 1]] * 4,
        ("new.csv", "sentence\nthe soup was bad .\nthe tip\n"),
        ["index\tprediction\tprobability", r"0\t(up|down)\t[01]\.\d+", r"1\t(up|down)\t[01]\.\d+"],
    ),
    "tags": (
        "tokens",
        "ner_tags",
        ["O", "B-X", "I-X"],
        [[["the", "soup"], [1, 2]], [["was", "good"], [0, 0]]] * 4,
        ("new.txt", "the\nsoup\n\ngood\n"),
        ["the (O|[BI]-X)", "soup (O|[BI]-X)", "", "good (O|[BI]-X)", ""],
    ),
}


@pytest.mark.parametrize("kind", HUB)
def test_a_data_set_of_the_hub_from_its_files_to_predictions(kind, encoder, tmp_path):
    """A folder of Parquet files, as the Hub has them; the run's own checkpoint answers new rows."""
    import datasets

    text, label, names, rows, (file, content), answers = HUB[kind]
    classes, words = datasets.ClassLabel(names=names), datasets.Value("string")
    if kind == "tags":
        classes, words = datasets.Sequence(classes), datasets.Sequence(words)
    columns = {text: [row[0] for row in rows], label: [row[1] for row in rows]}
    table = datasets.Dataset.from_dict(columns, datasets.Features({text: words, label: classes}))
    for split in ("train", "validation"):
        table.to_parquet(tmp_path / "menu" / "data" / f"{split}-00000-of-00001.parquet")
    flags = ["--dataset_name", tmp_path / "menu", "--model_path", encoder, "--output_dir", tmp_path / "run"]
    kept = [(keep_cache_in, (tmp_path / "cache",))]
    codes, printed = outcome("run_finetuning.py", *SHORT, *flags, before=kept)
    assert codes == [0] and "menu: a task of the kind" in printed, printed
    config = json.loads((tmp_path / "run" / "ckpt" / "config.json").read_text())
    assert [config["id2label"][str(i)] for i in range(len(names))] == names
    (tmp_path / file).write_text(content)
    done = run(
        "run_evaluation.py", "--use_cpu", "--model_path", tmp_path / "run", "--predict", tmp_path / file
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(answers)
    assert all(re.fullmatch(answer, line) for answer, line in zip(answers, lines)), lines


def test_the_readme_runs_as_written(tmp_path, demo_tokenizer):
    """From a CSV to predictions, word for word but for the encoder; the description that GUIDE.md shows."""
    for name, split in (("reviews", "train"), ("reviews_dev", "dev"), ("new", "dev")):
        shutil.copy(HERE / f"reviews_{split}.csv", tmp_path / f"{name}.csv")
    corpus_runs.save_teacher(tmp_path / "encoder", demo_tokenizer, max_position_embeddings=128)
    (shown,) = re.findall(r"^```json\n(.*?)^```", (ROOT / "GUIDE.md").read_text(), re.M | re.S)
    (tmp_path / "reviews.json").write_text(shown)
    task = tasks.of_description(own_tasks.resolve(own_tasks.read_description(tmp_path / "reviews.json")))
    assert task.kind == "classification" and task.label_names == ("gut", "mittel", "schlecht")
    section = (ROOT / "README.md").read_text().split("## Your own data\n")[1]
    block = re.search(r"```bash\n(.*?)```", section, re.S)[1]
    block = block.replace("bert-base-uncased", "encoder")
    subprocess.run(["bash", "-n", "-c", block], check=True)
    said = []
    for line in block.replace("\\\n", " ").splitlines():
        program, *words = shlex.split(line, comments=True)
        if program == "cat":
            assert (tmp_path / words[0]).exists()
            continue
        assert program == "python"
        words, file = words[: -2 if ">" in words else None], words[-1] if ">" in words else None
        said.append(run("tests/constrained.py", f"cwd={tmp_path}", "--", *words))
        if file is not None:
            (tmp_path / file).write_text(said[-1].stdout)
    assert len(said) == 5 and "a task of the kind classification" in said[0].stderr
    heading, *answers = (tmp_path / "answers.tsv").read_text().splitlines()
    assert heading == "index\tprediction\tprobability"
    assert len(answers) == count_rows(tmp_path / "new.csv")
    assert {answer.split("\t")[1] for answer in answers} <= {"gut", "mittel", "schlecht"}


def count_rows(path):
    """Rows of a CSV file, without its head."""
    with open(path, newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.reader(file)) - 1
