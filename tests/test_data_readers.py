"""data/readers.py and data/tasks.py: what is read, and one message with file and line for whatever does not
fit."""

import logging
import re
import subprocess
import sys

import pytest

from data import readers, tasks
from utils.errors import DataError, FlagError

ROOT = readers.__file__.rsplit("/data/", 1)[0]
RTE = "index\tsentence1\tsentence2\tlabel\n0\tA dog.\tA cat.\tentailment\n1\tOne.\tTwo.\tnot_entailment\n"


def write(tmp_path, task, name, content):
    folder = tmp_path / task
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ---- Real files: row counts, label counts, columns


@pytest.mark.parametrize(
    "task, split, rows, labels",
    [
        ("rte", "train", 2490, {1: 1249, 0: 1241}),
        ("rte", "dev", 277, {1: 146, 0: 131}),
        ("rte", "test", 3000, None),
        ("mrpc", "train", 3668, {1: 2474, 0: 1194}),
        ("mrpc", "dev", 408, {1: 279, 0: 129}),
        ("mrpc", "test", 1725, None),
        ("stsb", "train", 5749, "scores"),
        ("stsb", "dev", 1500, "scores"),
        ("stsb", "test", 1379, None),
        ("sst2", "train", 67349, {1: 37569, 0: 29780}),
        ("sst2", "dev", 872, {1: 444, 0: 428}),
        ("sst2", "test", 1821, None),
        ("cola", "train", 8551, {1: 6023, 0: 2528}),
        ("cola", "dev", 1043, {1: 721, 0: 322}),
        ("cola", "test", 1063, None),
        ("qnli", "dev", 5463, {1: 2702, 0: 2761}),
        ("qnli", "test", 5463, None),
        ("qqp", "train", 100_000, {0: 62783, 1: 37217}),
        ("qqp", "dev", 40_430, {0: 25379, 1: 15051}),
        ("mnli", "train", 9888, {0: 3349, 1: 3326, 2: 3213}),
        ("mnli", "dev_matched", 9815, {2: 3479, 0: 3213, 1: 3123}),
        ("mnlimm", "train", 9888, {0: 3349, 1: 3326, 2: 3213}),
    ],
)
def test_real_glue_files(data_dir, task, split, rows, labels):
    examples = tasks.get(task).read(data_dir, split)
    assert len(examples) == rows == len(examples.ids) == len(set(examples.ids))
    assert examples.second is None or len(examples.second) == rows
    if labels is None:
        assert examples.labels is None
    elif labels == "scores":
        assert all(0 <= score <= 5 for score in examples.labels) and max(examples.labels) == 5
    else:
        assert {label: examples.labels.count(label) for label in labels} == labels and len(
            examples.labels
        ) == rows


@pytest.mark.parametrize(
    "split, sentences, words, entities",
    [
        ("train", 14041, 203_621, {"LOC": 7140, "PER": 6600, "ORG": 6321, "MISC": 3438}),
        ("dev", 3250, 51_362, {"PER": 1842, "LOC": 1837, "ORG": 1341, "MISC": 922}),
    ],
)
def test_real_conll_files(data_dir, caplog, split, sentences, words, entities):
    task = tasks.get("conll")
    examples = task.read(data_dir, split)
    assert (len(examples), sum(map(len, examples.first))) == (sentences, words)
    begun = [task.label_names[i] for labels in examples.labels for i in labels]
    assert {kind: begun.count(f"B-{kind}") for kind in entities} == entities
    assert not caplog.records  # IOB2 as it is: nothing converted


def test_first_rows_of_real_files(data_dir):
    """Columns are not mixed up, quotes are text, the byte order mark is gone, the last line without line end
    is read."""
    mrpc = tasks.get("mrpc").read(data_dir, "train")
    assert mrpc.first[0].startswith('Amrozi accused his brother , whom he called " the witness "')
    assert mrpc.second[0].startswith('Referring to him as only " the witness "') and mrpc.labels[0] == 1
    cola = tasks.get("cola").read(data_dir, "dev")
    assert cola.first[0] == "The sailors rode the breeze clear of the rocks." and cola.second is None
    stsb = tasks.get("stsb").read(data_dir, "train")
    assert (stsb.first[1], stsb.labels[:2]) == ("A man is playing a large flute.", [5.0, 3.8])
    rte = tasks.get("rte").read(data_dir, "test")
    assert rte.first[0].startswith("Mangla was summoned") and rte.ids[:2] == ["0", "1"]
    conll = tasks.get("conll").read(data_dir, "train")
    assert conll.first[0][:3] == ["EU", "rejects", "German"] and conll.labels[0][:3] == [3, 0, 7]


def test_absent_real_files(data_dir):
    """This copy has no dev_mismatched: scored without it; mnlimm, which needs it, and QNLI's train say what
    is missing."""
    assert tasks.get("mnli").available_eval_splits(data_dir) == ("dev_matched",)
    for task, split, name in (
        ("mnlimm", "dev_mismatched", "dev_mismatched.tsv"),
        ("qnli", "train", "train.tsv"),
    ):
        with pytest.raises(DataError, match=f"{name}: no such file"):
            tasks.get(task).read(data_dir, split)


# ---- Forms that must be accepted


@pytest.mark.parametrize(
    "content",
    [
        RTE.encode(),
        b"\xef\xbb\xbf" + RTE.encode(),
        RTE.replace("\n", "\r\n").encode(),
        RTE.rstrip("\n").encode(),
        (RTE + "\n\n").encode(),
    ],
    ids=["plain", "BOM", "CRLF", "no last line end", "blank lines at the end"],
)
def test_accepted_forms(tmp_path, content):
    write(tmp_path, "rte", "train.tsv", content)
    examples = tasks.get("rte").read(tmp_path, "train")
    assert (examples.first, examples.second) == (["A dog.", "One."], ["A cat.", "Two."])
    assert examples.labels == [1, 0]


def test_text_is_left_alone(tmp_path):
    """No CSV quoting, and no line ends but the line feed: a form feed, NEL or line separator inside a text
    stays."""
    text = '"A" said ""b""\x0c\x85\u2028 \'c'
    write(tmp_path, "sst2", "train.tsv", f"sentence\tlabel\n{text}\t1\n")
    assert tasks.get("sst2").read(tmp_path, "train").first == [text]


def test_wnli_has_digits_and_both_folder_forms_work(tmp_path):
    path = write(tmp_path, "wnli", "dev.tsv", "index\tsentence1\tsentence2\tlabel\n7\ta\tb\t1\n8\tc\td\t0\n")
    task = tasks.get("wnli")
    for folder in (tmp_path, tmp_path / "wnli"):
        examples = task.read(folder, "dev")
        assert (examples.labels, examples.ids, examples.path) == ([1, 0], ["7", "8"], path)
        assert task.files(folder) == {"dev": path}


def test_labelled_and_unlabelled_test_files(tmp_path, caplog):
    write(tmp_path, "rte", "test.tsv", RTE)
    assert tasks.get("rte").read(tmp_path, "test").labels == [1, 0]
    write(tmp_path, "cola", "test.tsv", "index\tsentence\n5\tHe sleep.\n")
    unlabelled = tasks.get("cola").read(tmp_path, "test")
    assert (unlabelled.labels, unlabelled.ids, unlabelled.first) == (None, ["5"], ["He sleep."])
    write(tmp_path, "cola", "test.tsv", "gj04\t0\t*\tHe sleep.\n")
    assert tasks.get("cola").read(tmp_path, "test").labels == [0]
    write(tmp_path, "sst2", "test.tsv", "index\tsentence\n0\t \n")  # each row must be answered: kept
    assert len(tasks.get("sst2").read(tmp_path, "test")) == 1 and "test.tsv:2" in caplog.text


def test_mnli_test_files(tmp_path):
    for name in ("test_matched", "test_mismatched"):
        write(tmp_path, "mnli", f"{name}.tsv", f"index\tsentence1\tsentence2\n0\t{name}\tb\n")
    assert tasks.get("mnli").read(tmp_path, "test").first == ["test_matched"]
    assert tasks.get("mnli").read(tmp_path, "test_mismatched").split == "test_mismatched"
    assert tasks.get("mnlimm").read(tmp_path, "test").first == ["test_mismatched"]


def test_samples_are_fixed_nested_and_in_order(tmp_path):
    rows = "".join(f"text {i}\t{i % 2}\n" for i in range(100))
    write(tmp_path, "sst2", "train.tsv", "sentence\tlabel\n" + rows)
    task = tasks.get("sst2")
    small, large, everything = (task.read(tmp_path, "train").sample(n) for n in (10, 30, 500))
    assert (len(small), len(large), len(everything)) == (10, 30, 100)
    assert set(small.first) < set(large.first) and small.first != everything.first[:10]
    positions = [everything.first.index(text) for text in large.first]
    assert positions == sorted(positions) and large.labels == [p % 2 for p in positions]
    assert task.read(tmp_path, "train").sample(10).first == small.first


# ---- Words in columns

IOB1 = "U.N. NNP I-NP I-ORG\nofficial NN I-NP O\nEkeus NNP I-NP I-PER\n\nParis x x I-LOC\nRome x x B-LOC\nof x x I-LOC\n"


@pytest.mark.parametrize("separator", [" ", "\t", "  "])
def test_iob1_is_converted(tmp_path, caplog, separator):
    caplog.set_level(logging.INFO, logger="compression")
    write(tmp_path, "conll", "train.txt", "-DOCSTART- -X- O\n\n" + IOB1.replace(" ", separator))
    task = tasks.get("conll")
    examples = task.read(tmp_path, "train")
    names = [[task.label_names[i] for i in labels] for labels in examples.labels]
    assert examples.first == [["U.N.", "official", "Ekeus"], ["Paris", "Rome", "of"]]
    assert names == [["B-ORG", "O", "B-PER"], ["B-LOC", "B-LOC", "I-LOC"]]
    assert "train.txt: the labels are IOB1 (line 3); converted" in caplog.text


def test_iob2_stays(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="compression")
    write(tmp_path, "conll", "train.txt", "a B-PER\r\nb I-PER\r\n\r\nc B-PER\r\nd B-PER\r\ne I-PER\r\n")
    task = tasks.get("conll")
    assert task.read(tmp_path, "train").labels == [[1, 2], [1, 1, 2]] and not caplog.records


def test_conll_test_file_without_labels(tmp_path):
    write(tmp_path, "conll", "test.txt", "Rome\nburns\n\nyes\n")
    examples = tasks.get("conll").read(tmp_path, "test")
    assert (examples.first, examples.labels) == ([["Rome", "burns"], ["yes"]], None)


# ---- Bad input: (task, split, file, content, what the message must match)

HEAD = "index\tsentence1\tsentence2\tlabel\n"
BAD = {
    "empty file": ("rte", "train", "train.tsv", b"",
    r"train\.tsv:1: found an empty file; expected sentence1,"),
    "header only": ("rte", "train", "train.tsv", HEAD, r"train\.tsv:2: found no rows"),
    "headerless and empty": ("cola", "train", "train.tsv", b"", r"train\.tsv:1: found no rows"),
    "missing column": (
        "rte", "train", "train.tsv", "index\tsentence1\tlabel\n0\ta\tentailment\n",
        r":1: found .*missing: sentence2",
    ),
    "missing labels": (
        "rte", "dev", "dev.tsv", "index\tsentence1\tsentence2\n0\ta\tb\n", r"dev\.tsv:1: .*missing: label",
    ),
    "short row": ("rte", "train", "train.tsv", RTE + "2\ta\tb\n",
    r":4: found 3 tab-separated columns; expected 4"),
    "long row": ("rte", "train", "train.tsv", RTE + "2\ta\tb\tc\tentailment\n",
    r":4: found 5 tab-separated columns"),
    "blank row": ("rte", "train", "train.tsv", RTE + "\n3\ta\tb\tentailment\n",
    r":4: found 1 tab-separated columns"),
    "several short rows": ("rte", "train", "train.tsv", RTE + "2\n3\n4\n",
    r":4: .*\(2 more such lines: 5, 6\)"),
    "short row without header": ("cola", "train", "train.tsv", "a\t1\t\tb\na\t1\tb\n",
    r":2: found 3 .*source, label, mark"),
    "unknown name": ("rte", "train", "train.tsv", RTE + "2\ta\tb\tmaybe\n",
    r":4: found the label 'maybe'; expected one of"),
    "digit for a name": ("rte", "train", "train.tsv", HEAD + "2\ta\tb\t1\n", r":2: found the label '1'"),
    "unknown digit": ("sst2", "dev", "dev.tsv", "sentence\tlabel\nx\t2\n",
    r":2: found the label '2'; expected one of 0, 1"),
    "no score": ("stsb", "train", "train.tsv", "sentence1\tsentence2\tscore\na\tb\tx\n",
    r":2: found the score 'x'; expected a"),
    "NaN": ("stsb", "train", "train.tsv", "sentence1\tsentence2\tscore\na\tb\t1\na\tb\tnan\n",
    r":3: found the score 'nan'"),
    "score out of range": ("stsb", "train", "train.tsv", "sentence1\tsentence2\tscore\na\tb\t7\n",
    r"from 0\.0 to 5\.0"),
    "not UTF-8": ("rte", "train", "train.tsv", RTE.encode() + b"2\tcaf\xe9\tb\tentailment\n",
    r":4: found the byte 0xe9"),
    "UTF-16": ("rte", "train", "train.tsv", RTE.encode("utf-16"), r"train\.tsv:1: found UTF-16 text"),
    "empty text": ("rte", "train", "train.tsv", HEAD + "0\ta\t \tentailment\n",
    r":2: found an empty sentence2"),
    "missing file": ("rte", "dev", "train.tsv", RTE, r"dev\.tsv: no such file; datasets/README\.md"),
    "other columns than above": ("conll", "train", "train.txt", "a x O\nb O\n",
    r"train\.txt:2: found 2 columns; expected 3"),
    "no label column": ("conll", "train", "train.txt", "a\nb\n",
    r"train\.txt:1: found 1 columns; expected at least 2"),
    "unknown entity": ("conll", "dev", "dev.txt", "a O\n\nb I-XYZ\n",
    r":3: found the label 'I-XYZ'; expected one of O, B"),
    "other scheme": ("conll", "dev", "dev.txt", "a E-PER\n", r"dev\.txt:1: found E-PER; expected B-"),
    "neither IOB1 nor IOB2": ("conll", "dev", "dev.txt", "a B-PER\nb O\nc I-LOC\n",
    r":3: found I-LOC, .* line 1 has B-PER"),
    "I- of another type": ("conll", "dev", "dev.txt", "a B-PER\nb I-LOC\n", r"dev\.txt:2: found I-LOC"),
    "empty columns file": ("conll", "train", "train.txt", b"\n\n", r"train\.txt:1: found no words"),
    "only document starts": ("conll", "train", "train.txt", "-DOCSTART- -X- O O\n\n",
    r"train\.txt:1: found no words"),
    "not UTF-8 words": ("conll", "train", "train.txt", b"a O\nb\xff O\n",
    r"train\.txt:2: found the byte 0xff"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, case):
    task, split, name, content, expected = BAD[case]
    path = write(tmp_path, task, name, content)
    with pytest.raises(DataError) as caught:
        tasks.get(task).read(tmp_path, split)
    message = str(caught.value)
    assert re.search(expected, message), message
    assert message.startswith(str(path.parent)) and "; " in message and "\n" not in message


def test_missing_folders(tmp_path):
    task = tasks.get("mrpc")
    for folder, found in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path, "no folder mrpc/ and no train.tsv in it"),
    ):
        with pytest.raises(
            DataError,
            match=re.escape(f"{folder}: {found}; expected {folder / 'mrpc'} with train.tsv, dev.tsv"),
        ):
            task.read(folder, "train")
    (tmp_path / "mrpc").mkdir()
    with pytest.raises(DataError, match=r"found none of train\.tsv"):
        task.files(tmp_path)


def test_a_folder_in_place_of_a_file(tmp_path):
    (tmp_path / "rte" / "train.tsv").mkdir(parents=True)
    with pytest.raises(DataError, match=r"train\.tsv: cannot be read \(Is a directory\)"):
        tasks.get("rte").read(tmp_path, "train")


# ---- The registry


def test_folders_as_glues_script_leaves_them(tmp_path):
    folders = {"mrpc": "MRPC", "sst2": "SST-2", "stsb": "STS-B", "cola": "CoLA", "mnlimm": "MNLI"}
    for name, folder in folders.items():
        split = tasks.get(name).eval_splits[0]
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{split}.tsv").touch()
        assert [*tasks.get(name).files(tmp_path).values()] == [tmp_path / folder / f"{split}.tsv"]
    write(tmp_path, "conll2003", "eng.testa", "-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\n")
    assert tasks.get("conll").read(tmp_path, "dev").labels == [[3]]
    assert tasks.get("conll").files(tmp_path) == {"dev": tmp_path / "conll2003" / "eng.testa"}
    assert [tasks.spelled(name) for name in ("SST-2", "MNLI", "cola")] == ["sst2", "mnli", "cola"]


def test_registry():
    assert set(tasks.NAMES) == set(
        "cola sst2 mrpc stsb qqp mnli mnlimm ax qnli rte wnli conll squad2 demo".split()
    )
    for name in tasks.NAMES:
        task = tasks.get(name)
        assert task.name == name and task.selection_metric in task.metrics
        assert task.num_labels == {"stsb": 1, "mnli": 3, "mnlimm": 3, "ax": 3, "conll": 9}.get(name, 2)
    selection = {
        "mrpc": "acc_and_f1",
        "qqp": "acc_and_f1",
        "stsb": "corr",
        "cola": "matthews_corrcoef",
        "conll": "f1",
        "squad2": "f1",
    }
    assert {n: m for n in tasks.NAMES if (m := tasks.get(n).selection_metric) != "acc"} == selection
    assert tasks.get("mnli").label_names == ("contradiction", "neutral", "entailment")
    assert tasks.get("rte").label_names == tasks.get("qnli").label_names == ("not_entailment", "entailment")
    with pytest.raises(FlagError, match="'snli'; expected one of cola, "):
        tasks.get("snli")


def test_registry_imports_no_torch():
    code = (
        "import sys; from data import tasks; print(sorted({'torch', 'transformers', 'sklearn'} & "
        "set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
