"""What users get wrong, through the scripts as they see them: one message that names the file and line or the
flag, exit code 2, no traceback, and nothing on the disk has changed.

Every case is started with --overwrite and a finished run as its --output_dir, unless it says otherwise: that
run must survive.
"""

import json
import shutil

import pytest
import torch
from commands import run
from safetensors.torch import load_file, save_file
from task_files import write_task

# ---- Data: small valid files of each reader, then one fault in one of them


def line(number, text):
    """Replace a line, counted from 1."""

    def edit(data):
        lines = data.split(b"\n")
        lines[number - 1] = text
        return b"\n".join(lines)

    return edit


def swap(old, new):
    return lambda data: data.replace(old, new)


def emptied(data):
    return b""


def header_only(data):
    return data.split(b"\n")[0] + b"\n"


def shortened(number):
    """A line without its last column."""
    return lambda data: line(number, data.split(b"\n")[number - 1].rpartition(b"\t")[0])(data)


# task, file, its fault (None: the file is missing), what the message says besides the file's name
DATA = [
    ("rte", "train.tsv", None, ("no such file",)),
    ("rte", "dev.tsv", None, ("no such file",)),
    ("rte", "train.tsv", emptied, (":1:", "empty", "sentence1")),
    ("rte", "dev.tsv", header_only, (":2:", "no rows")),
    ("rte", "dev.tsv", swap(b"\tlabel", b"\tgold"), (":1:", "missing: label")),
    ("rte", "train.tsv", swap(b"sentence2", b"sentenceB"), (":1:", "missing: sentence2")),
    ("rte", "train.tsv", shortened(3), (":3:", "3 tab-separated columns", "expected 4")),
    ("rte", "train.tsv", line(4, b"0\ta\tb\tc\tentailment"), (":4:", "5 tab-separated columns",
    "expected 4")),
    ("rte", "train.tsv", line(4, b""), (":4:", "1 tab-separated columns")),
    ("rte", "dev.tsv", line(5, b"0\ta\tb\tneutral"), (":5:", "'neutral'", "not_entailment, entailment")),
    ("rte", "train.tsv", line(2, b"0\t \tb\tentailment"), (":2:", "an empty sentence1")),
    ("rte", "train.tsv", line(3, b"0\tcaf\xe9\tb\tentailment"), (":3:", "0xe9", "UTF-8")),
    ("rte", "dev.tsv", lambda data: data.decode().encode("utf-16"), (":1:", "UTF-8")),
    ("cola", "train.tsv", None, ("no such file",)),
    ("cola", "train.tsv", emptied, (":1:", "empty")),
    ("cola", "dev.tsv", line(2, b"gj04\t1\tthe soup"), (":2:", "3 tab-separated columns",
    "expected 4 (the columns are source")),
    ("cola", "train.tsv", line(3, b"gj04\tyes\t\tthe soup"), (":3:", "'yes'", "0, 1")),
    ("cola", "train.tsv", line(4, b"gj04\t1\t\t\xff"), (":4:", "0xff", "UTF-8")),
    ("stsb", "train.tsv", line(3, b"0\ta\tb\thigh"), (":3:", "'high'", "from 0.0 to 5.0")),
    ("stsb", "dev.tsv", line(3, b"0\ta\tb\tnan"), (":3:", "'nan'")),
    ("stsb", "dev.tsv", line(2, b"0\ta\tb\t5.5"), (":2:", "'5.5'")),
    ("stsb", "train.tsv", swap(b"\tscore", b""), (":1:", "missing: score")),
    ("mnli", "dev_matched.tsv", None, ("no such file",)),
    ("mnli", "dev_matched.tsv", line(3, b"0\ta\tb\t-"), (":3:", "'-'", "contradiction, neutral, entailment")),
    ("conll", "train.txt", None, ("no such file",)),
    ("conll", "dev.txt", emptied, (":1:", "no words")),
    ("conll", "train.txt", line(4, b"Berlin NNP B-LOC"), (":4:", "found 3 columns", "expected 4")),
    ("conll", "dev.txt", line(2, b"Berlin NNP I-NP B-LOC x"), (":2:", "found 5 columns", "expected 4")),
    ("conll", "dev.txt", line(1, b"the"), (":1:", "found 1 columns", "at least 2")),
    ("conll", "dev.txt", line(5, b"Berlin NNP I-NP B-CITY"), (":5:", "'B-CITY'", "B-LOC")),
    ("conll", "train.txt", line(4, b"M\xfcnchen NNP I-NP B-LOC"), (":4:", "0xfc", "UTF-8")),
    ("conll", "dev.txt", line(2, b"Berlin NNP I-NP I-LOC"), (":2:", "I-LOC", "line 5 has B-LOC")),
]  # fmt: skip


@pytest.mark.parametrize(
    "task, name, fault, said", DATA, ids=[f"{n} {case[0]} {case[1]}" for n, case in enumerate(DATA)]
)
def test_data(task, name, fault, said, checkpoints, refused, tmp_path):
    path = write_task(tmp_path / "data" / task, task, name, fault)
    flags = ["--task_name", task, "--data_dir", tmp_path / "data", "--model_path", checkpoints / "encoder"]
    message = refused(
        "run_finetuning.py", flags, [said[0] if said[0][0] != ":" else f"{path}{said[0]}", path, *said[1:]]
    )
    assert "expected" in message or "datasets/README.md" in message


def test_data_folder(checkpoints, refused, tmp_path):
    """No folder; a folder without the task's; a task's folder without any of its files; a file."""
    (tmp_path / "data" / "rte").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    model = ["--model_path", checkpoints / "encoder"]
    for data_dir, task, said in (
        ("none", "rte", ["no such folder", "--data_dir", "train.tsv"]),
        ("data", "mnli", ["no folder mnli/", "--data_dir", "dev_matched.tsv"]),
        ("data", "rte", [f"{tmp_path / 'data' / 'rte'}", "none of train.tsv, dev.tsv"]),
        ("file", "rte", ["--data_dir"]),
        ("file", "demo", ["--data_dir"]),
    ):
        flags = ["--task_name", task, "--data_dir", tmp_path / data_dir, *model]
        refused("run_finetuning.py", flags, [tmp_path / data_dir, *said])


@pytest.mark.parametrize(
    "flag, name, fault, said",
    [
        ("--do_test", "test.tsv", None, ["no such file"]),
        ("--do_infer", "test.tsv", None, ["no such file"]),
        ("--do_test", "test.tsv", lambda data: data, [":1:", "no labels", "--do_infer"]),
        ("--do_infer", "test.tsv", line(3, b"0\tonly"), [":3:", "2 tab-separated columns"]),
    ],
)
def test_test_file_is_read_before_training(flag, name, fault, said, checkpoints, refused, tmp_path):
    path = write_task(tmp_path / "data" / "rte", "rte", name, fault)
    flags = [
        "--task_name",
        "rte",
        "--data_dir",
        tmp_path / "data",
        "--model_path",
        checkpoints / "encoder",
        "--do_train",
        flag,
    ]
    refused("run_finetuning.py", flags, [path, *said])


@pytest.mark.parametrize("task", ["rte", "conll"])
def test_byte_order_mark_and_crlf_are_accepted(task, checkpoints, tmp_path):
    """The same losses and scores as with plain files."""
    write_task(tmp_path / "plain" / task, task)
    write_task(tmp_path / "windows" / task, task)
    for file in (tmp_path / "windows" / task).iterdir():
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    rows = []
    for kind in ("plain", "windows"):
        run(
            "run_finetuning.py",
            *f"--task_name {task} --data_dir {tmp_path / kind}".split(),
            *f"--model_path {checkpoints / 'encoder'} --max_steps 2 --log_interval 1 --use_cpu".split(),
            *f"--output_dir {tmp_path / f'{kind}_run'}".split(),
        )
        lines = (tmp_path / f"{kind}_run" / "metrics.jsonl").read_text().splitlines()
        rows.append(
            [{key: value for key, value in json.loads(row).items() if "second" not in key} for row in lines]
        )
    assert rows[0] == rows[1] and len(rows[0]) == 4


# ---- Checkpoints: a copy with a fault, given to one path flag


def weights(change):
    """A fault in the tensors."""

    def edit(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return edit


def config(**values):
    """A fault in the settings."""

    def edit(folder):
        old = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**old, **values}))

    return edit


def text(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def cut_off(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def only_tokenizer(folder):
    without("config.json", "model.safetensors")(folder)


def unfinished(folder):
    """A run folder that was killed in its training."""
    (folder / "ckpt").mkdir()
    for file in [path for path in folder.iterdir() if path.name != "ckpt"]:
        file.rename(folder / "ckpt" / file.name)
    (folder / "args.json").write_text("{}")


# name: the checkpoint that is spoilt, its fault (None: the checkpoint is not one of this task), what the
# message says
CHECKPOINTS = {
    "empty folder": ("tuned", lambda folder: [file.unlink() for file in folder.iterdir()],
    ["neither a checkpoint", "nothing"]),
    "only a tokenizer": ("tuned", only_tokenizer, ["neither a checkpoint", "config.json"]),
    "unfinished run": ("tuned", unfinished, ["has not finished"]),
    "config is no JSON": ("tuned", text("config.json", b'{"model_type": '), ["config.json",
    "not valid JSON"]),
    "config is binary": ("tuned", text("config.json", b"\xff\xfe\x00"), ["config.json", "not valid JSON"]),
    "config is a list": ("tuned", text("config.json", b"[]"), ["config.json", "model_type"]),
    "unknown family": ("tuned", config(model_type="brat"), ["brat"]),
    "truncated": ("tuned", cut_off, ["model.safetensors", "damaged or cut off"]),
    "empty weights": ("tuned", text("model.safetensors", b""), ["model.safetensors", "damaged or cut off"]),
    "no weights": ("tuned", without("model.safetensors"), ["model.safetensors", "not found"]),
    "pickle only": ("tuned", pickled, ["pytorch_model.bin", "expected model.safetensors"]),
    "no tokenizer": ("tuned", without("tokenizer.json", "tokenizer_config.json"), ["no tokenizer"]),
    "damaged tokenizer": ("tuned", text("tokenizer.json", b"{}"), ["tokenizer cannot be loaded"]),
    "unnamed labels": ("tuned", config(id2label={"0": "LABEL_0", "1": "LABEL_1"}, label2id=None),
    ["does not name its 2 labels", "--label_names not_entailment,entailment"]),
    "other labels": ("tuned", config(id2label={"0": "no", "1": "yes"}, label2id=None), ["labels contradict",
    "0 no, 1 yes"]),
    "a missing weight": ("tuned", weights(lambda t: t.pop("bert.pooler.dense.bias")), ["1 missing",
    "bert.pooler.dense.bias"]),
    "a left-over weight": ("tuned", weights(lambda t: t.update(extra=torch.ones(2))), ["1 unexpected",
    "extra"]),
    "another size": ("tuned", config(intermediate_size=64), ["of another size", "intermediate.dense",
    "not [64, 128]"]),
    "a tagger": ("tagger", None, ["head for tagging", "the task is classification"]),
    "a rater": ("rater", None, ["labels"]),
    "a task without a name": ("tuned", config(own_task={"name": 1}), ["own_task.name: found 1"]),
    "a task of no kind": ("tuned", config(own_task={"kind": []}), ["own_task.kind: found []", "spans"]),
    "labels that are none": ("tuned", config(own_task={"labels": {}}), ["own_task.labels: found {}"]),
    "no way to cut texts": ("tuned", config(own_task={"spans": [1]}), ["own_task.spans: found [1]"]),
    "a task without columns": ("tuned", config(own_task={"name": "a", "kind": "regression", "labels": []}),
    ["own_task: found no label and no text"]),
}  # fmt: skip


def spoilt(name, checkpoints, tmp_path):
    source, fault, said = CHECKPOINTS[name]
    folder = tmp_path / "spoilt"
    shutil.copytree(checkpoints / source, folder)
    if fault is not None:
        fault(folder)
    return folder, said


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint(name, checkpoints, refused, small_demo, tmp_path):
    folder, said = spoilt(name, checkpoints, tmp_path)
    refused(
        "run_finetuning.py",
        [*f"--task_name demo --data_dir {small_demo} --model_path {folder}".split()],
        [f"--model_path: {folder}", *said],
    )


# Every path flag: script, the other flags, the flag, a name of CHECKPOINTS or a path
STUDENT = ["--teacher_model_path", "{tuned}"]
PATH_FLAGS = [
    (script, flags, flag, fault)
    for script, flags, flag, faults in (
        ("run_finetuning.py", [], "--model_path", ()),
        (
            "run_sparsification.py",
            [],
            "--model_path",
            ("truncated", "a tagger", "unfinished run", "unnamed labels"),
        ),
        ("run_distillation.py", [], "--teacher_model_path", ("pickle only", "a tagger", "unnamed labels")),
        (
            "run_distillation.py",
            [*STUDENT, "--model_type", "kd"],
            "--student_model_path",
            ("truncated", "unfinished run", "a tagger", "other labels"),
        ),
        (
            "run_minidisc.py",
            ["--target_sparsity", 90],
            "--teacher_model_path",
            ("unfinished run", "config is no JSON"),
        ),
        ("run_evaluation.py", [], "--model_path", ("truncated", "a tagger", "unfinished run")),
    )
    for fault in ("{tmp}/none", "{tmp}/file", "nobody/no-such-model", *faults)
]


@pytest.mark.parametrize(
    "script, flags, flag, fault", PATH_FLAGS, ids=[" ".join((c[0], c[2], c[3])) for c in PATH_FLAGS]
)
def test_path_flag(script, flags, flag, fault, checkpoints, refused, small_demo, tmp_path):
    (tmp_path / "file").write_text("no folder")
    if fault in CHECKPOINTS:
        path, said = spoilt(fault, checkpoints, tmp_path)
    else:
        path, said = (
            fault.format(tmp=tmp_path),
            {"{tmp}/none": ["no such folder"], "{tmp}/file": ["a file"]}.get(fault, ["hub"]),
        )
    flags = [str(word).format(tuned=checkpoints / "tuned") for word in flags]
    refused(
        script,
        ["--task_name", "demo", "--data_dir", small_demo, *flags, flag, path],
        [f"{flag}: {path}", *said],
    )


def test_a_head_is_not_made_for_a_teacher(checkpoints, refused, small_demo):
    for script, flag in (
        ("run_sparsification.py", "--model_path"),
        ("run_distillation.py", "--teacher_model_path"),
    ):
        flags = ["--task_name", "demo", "--data_dir", small_demo, flag, checkpoints / "encoder"]
        refused(script, flags, [flag, "no task head", "run_finetuning.py"])


def test_student_of_another_tokenizer(checkpoints, refused, small_demo, tmp_path):
    shutil.copytree(checkpoints / "tuned", tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    file.write_text(file.read_text().replace('"soup"', '"broth"'))
    flags = ["--task_name", "demo", "--data_dir", small_demo, "--teacher_model_path", checkpoints / "tuned"]
    refused(
        "run_distillation.py",
        [*flags, "--student_model_path", tmp_path / "other"],
        ["--student_model_path", "tokenizer"],
    )


# ---- Flags: script, flags, what the message says

TEACHER = ["--teacher_model_path", "{nested}"]
FLAGS = [
    (
        "run_distillation.py",
        [*TEACHER, "--layer_or_sparsity", "42S"],
        ["--layer_or_sparsity 42S", "grid", "50, 60, 70"],
    ),
    (
        "run_distillation.py",
        [*TEACHER, "--layer_or_sparsity", "9L"],
        ["--layer_or_sparsity 9L", "has {layers} layers"],
    ),
    (
        "run_distillation.py",
        [*TEACHER, "--layer_or_sparsity", "0L"],
        ["--layer_or_sparsity", "'0L'", "at least 1"],
    ),
    ("run_distillation.py", [*TEACHER, "--layer_or_sparsity", "90"], ["--layer_or_sparsity", "'90'", "90S"]),
    (
        "run_distillation.py",
        [*STUDENT, "--layer_or_sparsity", "90S"],
        ["90S", "not nested", "run_sparsification.py"],
    ),
    (
        "run_distillation.py",
        [*TEACHER, *"--layer_or_sparsity 3L --student_model_path {tuned}".split()],
        ["--student_model_path and --layer_or_sparsity"],
    ),
    (
        "run_distillation.py",
        [*TEACHER, "--model_type", "kdbert_ner"],
        ["--model_type kdbert_ner", "a classification task"],
    ),
    (
        "run_distillation.py",
        [*TEACHER, "--model_type", "kdroberta_cls"],
        ["--model_type kdroberta_cls", "model_type is bert"],
    ),
    ("run_distillation.py", [*TEACHER, "--model_type", "bert"], ["--model_type", "'bert'"]),
    ("run_minidisc.py", [*TEACHER, "--model_type", "ftbert_cls"], ["--model_type", "'ftbert_cls'"]),
    ("run_minidisc.py", [*TEACHER, "--target_sparsity", 42], ["--target_sparsity 42S", "grid"]),
    (
        "run_minidisc.py",
        [*STUDENT, "--target_sparsity", 90],
        ["--target_sparsity 90S", "--teacher_model_path", "not nested"],
    ),
    ("run_minidisc.py", TEACHER + ["--lam", "much"], ["--lam", "'much'"]),
    (
        "run_minidisc.py",
        [*TEACHER, "--candidates", "70,75"],
        ["--candidates 70, 75: not all in the teacher's grid: 0, 50"],
    ),
    (
        "run_minidisc.py",
        [*TEACHER, "--candidates", "80,90"],
        ["--candidates 80, 90: expected", "the student's, 90", "grid: 0"],
    ),
    (
        "run_minidisc.py",
        [*TEACHER, "--learning_rates", "1e-3"],
        ["--learning_rates: found 1; expected one for each of 2 hops"],
    ),
    ("run_minidisc.py", [], ["--teacher_model_path: required"]),
    ("run_sparsification.py", [*"--model_path {tuned} --grid 0,50,100".split()], ["--grid", "below 100"]),
    (
        "run_sparsification.py",
        [*"--model_path {tuned} --model_type kdbert_cls".split()],
        ["--model_type", "'kdbert_cls'"],
    ),
    ("run_sparsification.py", [], ["--model_path"]),
    ("run_sparsification.py", ["--model_path", ""], ["--model_path: is empty"]),
    ("run_finetuning.py", ["--data_dir", ""], ["--data_dir: is empty"]),
    (
        "run_evaluation.py",
        [*"--model_path {nested} --sparsities 0,42".split()],
        [*"--sparsities 42S grid".split()],
    ),
    (
        "run_evaluation.py",
        [*"--model_path {tuned} {nested} --sparsities 50".split()],
        ["--sparsities", "tuned", "not nested"],
    ),
    (
        "run_distillation.py",
        [*TEACHER, "--class_weights", "balanced"],
        ["--class_weights balanced", "sparse uses no gold labels", "kd"],
    ),
    ("run_finetuning.py", ["--selection_metric", "f2"], ["--selection_metric", "'f2'", "acc"]),
    ("run_finetuning.py", ["--data_type", "bert_ner"], ["--data_type bert_ner", "classification"]),
    (
        "run_finetuning.py",
        [*"--model_path {tuned} --model_type ftroberta_cls".split()],
        ["ftroberta_cls", "model_type is bert"],
    ),
    ("run_finetuning.py", ["--precision", "fp16"], ["--precision fp16", "GPU"]),
    ("run_finetuning.py", ["--max_length", 4], ["--max_length", "found 4"]),
    ("run_finetuning.py", ["--max_length", 1000], ["--max_length", "found 1000"]),
    ("run_finetuning.py", ["--learning_rate"], ["--learning_rate"]),
    (
        "run_finetuning.py",
        [*"--learning_rate -1 --seed x --epochs 3".split()],
        ["--learning_rate", "--seed", "--epochs: no such flag; is --num_train_epochs meant?"],
    ),
]


@pytest.mark.parametrize("script, flags, said", FLAGS, ids=[f"{n} {case[0]}" for n, case in enumerate(FLAGS)])
def test_flags(script, flags, said, checkpoints, refused, small_demo):
    layers = json.loads((checkpoints / "nested" / "config.json").read_text())["num_hidden_layers"]
    flags = [str(word).format(tuned=checkpoints / "tuned", nested=checkpoints / "nested") for word in flags]
    said = [word.format(layers=layers) for word in said]
    refused(script, ["--task_name", "demo", "--data_dir", small_demo, *flags], said)


def test_patient_distillation_of_tags(checkpoints, refused, tmp_path):
    write_task(tmp_path / "data" / "conll", "conll")
    flags = ["--task_name", "conll", "--data_dir", tmp_path / "data"]
    flags += ["--teacher_model_path", checkpoints / "tagger", "--layer_or_sparsity", "1L"]
    refused("run_distillation.py", [*flags, "--model_type", "pkdbert_ner"], ["pkdbert_ner", "conll"])


def test_every_task_name_is_listed(refused, checkpoints):
    refused(
        "run_finetuning.py",
        ["--task_name", "mrcp", "--model_path", checkpoints / "encoder"],
        ["--task_name", "'mrcp'", "mrpc"],
    )
    refused(
        "run_finetuning.py",
        [],
        ["--task_name (or --train_file and --validation_file, or --dataset_name): required"],
    )


# ---- Output folders


def test_output_dir(refused, small_demo, tmp_path):
    """A folder that is no run, a file, a path below a file; without --overwrite a run of another stage or
    with other settings."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    flags = ["--task_name", "demo", "--data_dir", small_demo]
    for path, said in (
        ("notes", "not a run folder"),
        ("notes/diary.txt", "is a file"),
        ("notes/diary.txt/run", "is a file"),
    ):
        for overwrite in (True, False):
            refused(
                "run_finetuning.py",
                flags,
                [*f"--output_dir {tmp_path / path} {said}".split()],
                output_dir=tmp_path / path,
                overwrite=overwrite,
            )
    refused(
        "run_finetuning.py", flags, ["--output_dir", "--learning_rate: 0.001 in the run"], overwrite=False
    )
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    refused(
        "run_sparsification.py",
        [*flags, "--model_path", tmp_path / "other"],
        ["a run of finetuning"],
        overwrite=False,
    )


def test_new_output_dir_is_not_made(refused, checkpoints, small_demo, tmp_path):
    """With a fault in the data, in a checkpoint and in a flag that only the model can judge."""
    path = write_task(tmp_path / "data" / "rte", "rte", "train.tsv", shortened(3))
    folder, _ = spoilt("truncated", checkpoints, tmp_path)
    demo = ["--task_name", "demo", "--data_dir", small_demo]
    new = {"output_dir": tmp_path / "new" / "run", "overwrite": False}
    refused(
        "run_finetuning.py",
        [
            *f"--task_name rte --data_dir {tmp_path / 'data'}".split(),
            *f"--model_path {checkpoints / 'encoder'}".split(),
        ],
        [f"{path}:3:"],
        **new,
    )
    refused(
        "run_evaluation.py",
        [*demo, "--model_path", checkpoints / "tuned", folder],
        [f"--model_path: {folder}"],
        **new,
    )
    refused("run_finetuning.py", [*demo, "--do_test"], ["--do_test", "no finished run", "--do_train"], **new)
    refused(
        "run_minidisc.py",
        [*demo, "--teacher_model_path", checkpoints / "nested", "--max_length", 4],
        ["--max_length"],
        **new,
    )


def test_a_process_of_its_own(refused, small_demo, tmp_path):
    """Python started anew, once: the same message, exit code and silence on stdout as from the fork
    server."""
    flags = ["--task_name", "demo", "--data_dir", small_demo, "--model_path", "nobody/no-such-model"]
    refused("run_finetuning.py", flags, ["--model_path: nobody/no-such-model"], fresh=True)


DEMO = "--task_name demo --data_dir {data}"
READ_FIRST = [  # script, its flags, what its message says of the file
    ("run_finetuning.py", f"{DEMO} --model_path {{tuned}}", "dev.tsv:66"),
    ("run_sparsification.py", f"{DEMO} --model_path {{tuned}}", "dev.tsv:66"),
    ("run_sparsification.py", "--task_name corpus --corpus {corpus} --model_path {tuned}", "arrow: changed"),
    ("run_distillation.py", f"{DEMO} --teacher_model_path {{tuned}} --layer_or_sparsity 1L", "dev.tsv:66"),
    ("run_maxidisc.py", f"{DEMO} --teacher_model_path {{nested}} --layer_or_sparsity_path 50,90S",
    "dev.tsv:66"),
    ("run_minidisc.py", f"{DEMO} --teacher_model_path {{nested}}", "dev.tsv:66"),
    ("run_stark.py", f"{DEMO} --teacher_model_path {{tuned}} --student_model_path {{tuned}}", "dev.tsv:66"),
    ("run_ted.py", f"{DEMO} --mode filters --model_path {{tuned}}", "dev.tsv:66"),
    ("run_ted.py", f"{DEMO} --mode kd --kl_alpha 1 --teacher_model_path {{tuned}} --student_layer 1",
    "dev.tsv:66"),
    ("run_minilmv2.py", "--corpus {corpus} --teacher_model_path {tuned} --layer 1", "arrow: changed"),
    ("run_minimoe.py", "--corpus {corpus} --teacher_model_path {tuned} --layer 1", "arrow: changed"),
    ("run_vocabulary.py", f"{DEMO} --model_path {{tuned}} --trim_embeddings --min_count 1", "dev.tsv:66"),
    ("run_vocabulary.py", "--corpus {text} --model_path {encoder} --min_count 1", "a.txt:2"),
    ("run_evaluation.py", f"{DEMO} --model_path {{tuned}}", "dev.tsv:66"),
    ("run_evaluation.py", f"{DEMO} --model_path {{tuned}} --do_infer", "test.tsv:34"),
    ("run_evaluation.py", f"{DEMO} --model_path {{tuned}} --predict {{data}}/demo/dev.tsv", "dev.tsv:66"),
]  # fmt: skip


@pytest.mark.parametrize(
    "script, flags, said", READ_FIRST, ids=[f"{case[0]} {n}" for n, case in enumerate(READ_FIRST)]
)
def test_files_are_read_before_models(
    script, flags, said, refused, checkpoints, small_demo, demo_corpus, tmp_path
):
    """What does not fit stops the run before weights are loaded, which here are damaged too."""
    paths = {"data": tmp_path / "data", "text": tmp_path / "a.txt", "corpus": tmp_path / "corpus"}
    shutil.copytree(small_demo, paths["data"])
    for split in ("dev", "test"):
        with open(paths["data"] / "demo" / f"{split}.tsv", "a", encoding="utf-8") as file:
            file.write("one cell\n")
    paths["text"].write_bytes(b"one text\nanother \xff\n")
    shutil.copytree(demo_corpus, paths["corpus"])
    shard = next(paths["corpus"].glob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-8])
    for name in ("tuned", "nested", "encoder"):
        paths[name] = shutil.copytree(checkpoints / name, tmp_path / name)
        (paths[name] / "model.safetensors").write_bytes(b"not weights")
    options = {"output_dir": tmp_path / "new", "overwrite": False}
    if "--predict" in flags:
        done = run(script, *flags.format(**paths).split(), "--use_cpu", code=2)
        assert said in done.stderr and done.stdout == ""
    else:
        refused(script, flags.format(**paths).split(), [said], **options)
