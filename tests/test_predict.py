"""Predictions of new rows: streamed, in order, of every kind of task, the same as those of the whole file."""

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_squad
import torch
import transformers
from commands import ENVIRONMENT, ROOT, outcome, run

from data import answer_lines, demo, new_rows, tasks
from data.model_tokenizer import load_tokenizer
from data.readers import Examples
from data.squad.question_split import SpanOptions
from data.tokenising import tokenise_examples
from utils import evaluation, flags
from utils.errors import DataError


def chunks_of(text, task, size, monkeypatch):
    """new_rows.read_parts of standard input."""
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(text if isinstance(text, bytes) else text.encode()))
    )
    return list(new_rows.read_parts("-", tasks.get(task), size=size))


# ---- Reading


def test_tables_in_parts(monkeypatch):
    """Columns are found by name, labels are not read, quotes are text, blank lines at the end are no rows;
    rows are numbered."""
    text = '\ufeffsentence\tlabel\n"good\t?\r\nbad\tnone\nfine\t\n\n\n'
    found = chunks_of(text, "sst2", 2, monkeypatch)
    assert [(part.ids, part.first, part.labels) for part in found] == [
        (["0", "1"], ['"good', "bad"], None),
        (["2"], ["fine"], None),
    ]
    (only,) = chunks_of("index\tsentence\n17\tx y\n", "sst2", 9, monkeypatch)
    assert only.ids == ["17"]
    (only,) = chunks_of("gj04\t1\t\tOur friends .\n", "cola", 9, monkeypatch)
    assert only.first == ["Our friends ."]
    (only,) = chunks_of("a\tb\tsentence1\tsentence2\n1\t2\tx\ty\n", "rte", 9, monkeypatch)
    assert (only.first, only.second) == (["x"], ["y"])


def test_sentences_in_parts(monkeypatch):
    text = "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\n\nPeter NNP B-PER\n"
    found = chunks_of(text, "conll", 1, monkeypatch)
    assert [(part.ids, part.first) for part in found] == [(["0"], [["EU", "rejects"]]), (["1"], [["Peter"]])]
    (only,) = chunks_of("EU\nrejects\n", "conll", 5, monkeypatch)
    assert only.first == [["EU", "rejects"]] and only.labels is None


PLAIN = {  # a .txt: its rows
    "one, two\n\nthree\n": ["one, two", "", "three"],
    "sentence\tlabel\none\t1\n": ["one"],
    "sentence,label\none,1\n": ["one"],
    '{"sentence": "one"}\n': ["one"],
}


@pytest.mark.parametrize("text", PLAIN)
def test_a_txt_is_a_table_or_one_text_a_line(text, tmp_path):
    (tmp_path / "new.txt").write_text(text)
    task = replace(tasks.get("sst2"), own={"name": "mine"})
    (only,) = new_rows.read_parts(tmp_path / "new.txt", task, size=9)
    assert only.first == PLAIN[text]


FAULTS = [
    ("rte", "sentence1\tlabel\nx\ty\n", r"stdin:1: .*missing: sentence2"),
    ("rte", "", r"stdin:1: "),
    ("rte", "sentence1\tsentence2\na\tb\nc\td\ne\n", r"stdin:4: found 1 tab-separated columns; expected 2"),
    ("sst2", b"sentence\tx\ngood\t1\n\xff\t1\n", r"stdin:3: found the byte 0xff"),
    ("conll", "EU NNP\nrejects\n", r"stdin:2: found 1 columns; expected 2"),
    ("squad2", '{"data": [', r"stdin:1: found no complete JSON"),
]


@pytest.mark.parametrize(
    "task, text, said", FAULTS, ids=[f"{case[0]} {number}" for number, case in enumerate(FAULTS)]
)
def test_what_does_not_fit(task, text, said, monkeypatch):
    with pytest.raises(DataError, match=said):
        chunks_of(text, task, 2, monkeypatch)


def test_rows_before_a_fault_are_answered(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"sentence\nx\ny\na\tb\n")))
    parts = new_rows.read_parts("-", tasks.get("sst2"), size=2)
    assert next(parts).first == ["x", "y"]
    with pytest.raises(DataError, match="stdin:4"):
        next(parts)


# ---- Answering, kind by kind


def save(folder, model_class, tokenizer, **settings):
    """A random tiny model with a head and a tokenizer; returns its folder."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=128, initializer_range=0.5, **sizes, **settings
    )
    torch.manual_seed(0)
    model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def answers(*words):
    """Lines that the script prints."""
    return run("run_evaluation.py", "--use_cpu", *words).stdout.splitlines()


def test_classes(tuned_demo, small_demo, tmp_path):
    """As --do_infer writes them, whatever the size of the parts; probabilities are those of the named
    class."""
    flags = ("--task_name", "demo", "--data_dir", small_demo, "--model_path", tuned_demo)
    file = small_demo / "demo" / "test.tsv"
    lines = answers(*flags, "--predict", file)
    rows = [line.split("\t") for line in lines]
    assert rows[0] == ["index", "prediction", "probability"] and len(rows) == 33
    assert [row[0] for row in rows[1:]] == [line.split("\t")[0] for line in file.read_text().splitlines()[1:]]
    assert all(0.5 <= float(row[2]) <= 1 for row in rows[1:])
    task, tokenizer = tasks.get("demo"), load_tokenizer(tuned_demo)
    split = tokenise_examples(task.read(small_demo, "test"), tokenizer, task=task)
    import models

    model = models.load_model(tuned_demo, kind="classification")
    logits = evaluation.logits(model, split, batch_size=32, device=model.device)
    assert [row[1] for row in rows[1:]] == [task.label_names[i] for i in split.predictions(logits)]
    assert answers(*flags, "--predict", file, "--per_device_eval_batch_size", 5) == lines


@pytest.fixture(scope="module")
def demo_tokenizer(demo_dir):
    return load_tokenizer(demo.build_tokenizer(demo_dir / "demo"))


def test_scores(demo_tokenizer, tmp_path):
    folder = save(
        tmp_path / "rater", transformers.BertForSequenceClassification, demo_tokenizer, num_labels=1
    )
    (tmp_path / "new.tsv").write_text(
        "sentence1\tsentence2\nthe soup\tthe hall\nthe tip was good\tthe menu\n"
    )
    lines = answers("--task_name", "stsb", "--model_path", folder, "--predict", tmp_path / "new.tsv")
    assert lines[0] == "index\tprediction" and [line.split("\t")[0] for line in lines[1:]] == ["0", "1"]
    assert all(0 <= float(line.split("\t")[1]) <= 5 for line in lines[1:])


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e6])
def test_scores_of_any_scale(scale, demo_tokenizer):
    """All digits that a float32 has, as those of --do_infer."""
    task = replace(tasks.get("stsb"), score_range=(-10 * scale, 10 * scale))
    scores = np.array([[0.123456789], [-4.2], [99.0]], np.float32) * np.float32(scale)
    examples = Examples([*"abc"], [*"xyz"], [*"xyz"], None, Path("a"), "test")
    split = tokenise_examples(examples, demo_tokenizer, task=task)
    expected = np.clip(scores[:, 0], -10 * scale, 10 * scale)
    for format, separator in (("tsv", "\t"), ("csv", ",")):
        rows = [line.split(separator) for line in answer_lines.of_split(split, scores, format)]
        assert [row[0] for row in rows] == [*"abc"]
        assert [float(row[1]) for row in rows] == pytest.approx(expected, rel=1e-6)
    found = [json.loads(line)["prediction"] for line in answer_lines.of_split(split, scores, "jsonl")]
    assert (np.array(found, np.float32) == expected.astype(np.float32)).all()


def test_tags(demo_tokenizer, tmp_path):
    """One line for each word, a blank line behind each sentence; the file may have a column of labels or
    not."""
    task = tasks.get("conll")
    labels = {
        "id2label": dict(enumerate(task.label_names)),
        "label2id": {name: i for i, name in enumerate(task.label_names)},
    }
    folder = save(tmp_path / "tagger", transformers.BertForTokenClassification, demo_tokenizer, **labels)
    (tmp_path / "words.txt").write_text("soup\nwas\ngood\n\nwaiter\n")
    (tmp_path / "tagged.txt").write_text("soup O\nwas O\ngood O\n\nwaiter B-PER\n")
    lines = answers("--task_name", "conll", "--model_path", folder, "--predict", tmp_path / "words.txt")
    assert [line.split(" ")[0] for line in lines] == ["soup", "was", "good", "", "waiter", ""]
    assert {line.split(" ")[1] for line in lines if line} <= set(task.label_names)
    assert (
        answers("--task_name", "conll", "--model_path", folder, "--predict", tmp_path / "tagged.txt") == lines
    )

    # A word that columns cannot hold, far behind: refused before the first answer
    lists = [{"tokens": ["soup"]}] * 1030 + [{"tokens": ["soup", "of the day"]}]
    (tmp_path / "lists.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lists))
    words = ["--task_name", "conll", "--model_path", folder, "--predict", tmp_path / "lists.jsonl"]
    done = run("run_evaluation.py", "--use_cpu", *words, code=2)
    assert not done.stdout and "sentence 1030, counted from 0: found the word 'of the day'" in done.stderr


@pytest.mark.parametrize("word", ["New York", "a\tb", "a\nb", ""])
def test_words_that_columns_cannot_hold(word, demo_tokenizer):
    """Refused there, with the row; lists hold them."""
    examples = Examples([*"01"], [["soup"], ["in", word]], None, None, Path("new.jsonl"), "test")
    split = tokenise_examples(examples, demo_tokenizer, task=tasks.get("conll"))
    outputs = [np.zeros(length, np.int64) for length in split.lengths]
    with pytest.raises(DataError, match=r"new\.jsonl: sentence 1, .*--predict_format jsonl") as error:
        answer_lines.of_split(split, outputs)
    assert repr(word) in str(error.value)
    _, line = answer_lines.of_split(split, outputs, "jsonl")
    assert json.loads(line) == {"index": "1", "tokens": ["in", word], "prediction": ["O", "O"]}


def test_spans(tmp_path, monkeypatch):
    """A JSON object for each question, in the file's order; the answers are those of the whole file, in parts
    too."""
    data = tiny_squad.write(tmp_path / "data") / "squad2" / "test-v2.0.json"
    tokenizer = load_tokenizer(tiny_squad.encoder(tmp_path / "encoder"))
    folder = save(tmp_path / "reader", transformers.BertForQuestionAnswering, tokenizer)
    words = ("--task_name", "squad2", "--model_path", folder, *tiny_squad.LENGTHS)
    found = [json.loads(line) for line in answers(*words, "--predict", data)]
    entries = [
        q for article in json.loads(data.read_text())["data"] for p in article["paragraphs"] for q in p["qas"]
    ]
    assert [each["id"] for each in found] == [entry["id"] for entry in entries] and len(found) == 12
    assert any(each["prediction"] for each in found)
    task = tasks.get("squad2")
    model = transformers.BertForQuestionAnswering.from_pretrained(folder).eval()
    parts = chunks_of(data.read_bytes(), "squad2", 5, monkeypatch)
    assert [len(part) for part in parts] == [5, 5, 2]
    options = SpanOptions(**{**flags.SPANS, "doc_stride": 8, "max_query_length": 8})
    lines = []
    for part in parts:
        split = tokenise_examples(part, tokenizer, task=task, max_length=40, spans=options)
        lines += answer_lines.of_split(
            split, evaluation.logits(model, split, batch_size=4, device=model.device)
        )
    assert [json.loads(line)["prediction"] for line in lines] == [each["prediction"] for each in found]


# ---- The script


def test_standard_input_is_answered_as_it_comes(tuned_demo, small_demo):
    """Two rows are answered while the pipe is open; the reader of the answers may leave without a word from
    us."""
    words = [
        "run_evaluation.py",
        *f"--task_name demo --data_dir {small_demo} --use_cpu --model_path {tuned_demo}".split(),
        *"--predict - --per_device_eval_batch_size 2".split(),
    ]
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdin.write(
        "sentence1\tsentence2\nthe soup was good .\tthe guest liked the food .\nthe tip was bad .\tthe guest "
        "left .\n"
    )
    process.stdin.flush()
    first = [process.stdout.readline().split("\t")[0] for _ in range(3)]
    assert first == ["index", "0", "1"] and process.poll() is None
    process.stdout.close()
    process.stdin.write("one\ttwo\nthree\tfour\n")
    process.stdin.close()
    assert process.wait(60) == 0 and "Error" not in process.stderr.read()


def test_the_diagnostics_of_glue(demo_tokenizer, tmp_path):
    """A model of MNLI, its labels in another order, writes AX.tsv; there are no rows to score or train on."""
    names = ("entailment", "neutral", "contradiction")
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    folder = save(tmp_path / "mnli", transformers.BertForSequenceClassification, demo_tokenizer, **labels)
    (tmp_path / "diagnostic").mkdir()
    (tmp_path / "diagnostic" / "diagnostic.tsv").write_text(
        "index\tsentence1\tsentence2\n0\tthe soup was good .\tthe guest liked the food .\n7\tx\ty\n"
    )
    flags = f"--task_name AX --data_dir {tmp_path} --use_cpu --model_path {folder}".split()
    run("run_evaluation.py", *flags, "--do_infer", "--output_dir", tmp_path / "run")
    lines = (tmp_path / "run" / "predictions" / "AX.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["index", "0", "7"]
    assert {line.split("\t")[1] for line in lines[1:]} <= {*names}
    done = run("run_evaluation.py", *flags, code=2)
    assert "ax: has no labelled rows to score; add --do_infer" in done.stderr
    done = run("run_finetuning.py", *flags, "--output_dir", tmp_path / "other", code=2)
    assert "--task_name ax: has no train rows" in done.stderr


def test_a_checkpoint_of_another_task(demo_tokenizer, small_demo, tuned_demo, tmp_path):
    """Another head, other labels, a folder without a checkpoint: refused before anything is answered."""
    folder = save(
        tmp_path / "other",
        transformers.BertForSequenceClassification,
        demo_tokenizer,
        id2label={0: "yes", 1: "no"},
        label2id={"yes": 0, "no": 1},
    )
    (tmp_path / "words.txt").write_text("sentence1\tsentence2\nsoup\thall\n")
    (tmp_path / "empty").mkdir()
    cases = [
        ("conll", tuned_demo, "a head for classification, multilabel or regression, the task is tagging"),
        ("rte", folder, "the checkpoint's labels contradict the task's"),
        ("demo", tmp_path / "empty", "neither a checkpoint (config.json) nor a run folder"),
    ]
    for task, path, said in cases:
        done = run(
            "run_evaluation.py",
            *f"--task_name {task} --data_dir {small_demo} --use_cpu --model_path {path}".split(),
            *f"--predict {tmp_path / 'words.txt'}".split(),
            code=2,
        )
        assert f"--model_path: {path}" in done.stderr and said in done.stderr and not done.stdout, done.stderr
    done = run(
        "run_evaluation.py",
        *f"--task_name demo --use_cpu --model_path {tuned_demo}".split(),
        *f"--predict {tmp_path / 'none'}".split(),
        code=2,
    )
    assert f"{tmp_path / 'none'}: no such file" in done.stderr


def feed(text):
    """Give this process a text as its standard input."""
    sys.stdin = io.TextIOWrapper(io.BytesIO(text.encode()))


STRANGE = {
    "a family of its own": {"model_type": "stranger", "auto_map": {"AutoConfig": "code.Mine"}},
    "a model of its own": {"auto_map": {"AutoModelForSequenceClassification": "code.Mine"}},
    "a tokenizer of its own": {},
}


@pytest.mark.parametrize("case", STRANGE)
def test_no_row_answers_whether_code_may_run(case, tuned_demo, small_demo, tmp_path):
    """transformers would ask on standard input whether to run the code beside a checkpoint; the first row
    says y."""
    folder = shutil.copytree(tuned_demo / "ckpt", tmp_path / "copy")
    config = {**json.loads((folder / "config.json").read_text()), **STRANGE[case]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    if not STRANGE[case]:
        described = {"tokenizer_class": None, "auto_map": {"AutoTokenizer": ["code.Mine", "code.Mine"]}}
        (folder / "tokenizer_config.json").write_text(json.dumps(described))
    flags = f"--task_name demo --data_dir {small_demo} --use_cpu --model_path {folder} --predict -".split()
    rows = "y\nyes\nsentence1\tsentence2\n" + "y\ty\n" * 3
    codes, text = outcome("run_evaluation.py", *flags, before=[(feed, (rows,))])
    assert codes == [2] and "Traceback" not in text and text.count("error: ") == 1
    assert not (tmp_path / "ran").exists() and "trust_remote_code" not in text.replace("=False", "")


@pytest.mark.parametrize("text", ["", "\n\n", "-DOCSTART- -X- -X- O\n\n"])
def test_nothing_to_predict(text, demo_tokenizer, monkeypatch, caplog):
    """A column file has no heading that would show that it was read."""
    monkeypatch.setattr(new_rows.logger, "propagate", True)
    assert chunks_of(text, "conll", 2, monkeypatch) == []
    assert "no rows in it, so that there is nothing to predict" in caplog.text
