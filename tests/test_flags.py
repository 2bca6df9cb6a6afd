"""Flags, model types, paths, cards: what is decided before torch is needed."""

import argparse
import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from data import tasks
from modules import objectives
from modules.objectives import OBJECTIVES
from utils import cards, checkpoints, flags
from utils.errors import CheckpointError, FlagError
from utils.flags.parser import path_of_students, percentages

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.stem for path in ROOT.glob("run_*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script):
    """--help in a process of its own; nothing that takes long is imported for it."""
    code = (
        f"import sys; sys.argv = ['{script}.py', '--help']\nimport {script}\n"
        "try:\n    {0}.parse()\nexcept SystemExit as end:\n    print('CODE', end.code)\n"
        "print('HEAVY', sorted({{'datasets', 'sklearn', 'matplotlib', 'onnx'}} & set(sys.modules)))".format(
            script
        )
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "CODE 0" in done.stdout and "HEAVY []" in done.stdout, done.stdout[-500:] + done.stderr
    assert "--output_dir" in done.stdout


def test_docstrings_keep_their_backslashes():
    """A single one at the end of a line would join it with the next one; `\\n` would end one."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    folders = ("benchmarks", "data", "deberta_scripts", "models", "modules", "results", "tests", "utils")
    found = []
    for path in [*ROOT.glob("*.py"), *(path for name in folders for path in (ROOT / name).rglob("*.py"))]:
        text = path.read_text(encoding="utf-8")
        if "\\" not in text:
            continue
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, documented) and ast.get_docstring(node) is not None:
                written = lines[(start := node.body[0].lineno) - 1 : node.body[0].end_lineno]
                raw = written[0].lstrip().startswith("r")
                lost = re.search(r"\\", "\n".join(written).replace("\\\\", ""))
                found += [f"{path}:{start}"] if lost and not raw else []
    assert not found, found


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_has_a_help(script, capsys):
    """Behind its names stands what it is for, and one default at most; where the task is a flag, the tasks
    are listed."""
    with pytest.raises(SystemExit):
        importlib.import_module(script).parse(["--help"])
    text = capsys.readouterr().out
    entries = re.split(r"\n  (?=-)", text.split("\n\n", 1)[1])[1:]
    silent = [entry for entry in entries if not re.search(r"\S(  +|\n {10,})\S", entry.strip())]
    assert len(entries) > 10 and not silent, silent
    contradictory = [entry for entry in entries if entry.count("(default") > 1]
    assert not contradictory, contradictory
    task = next((entry for entry in entries if entry.startswith("--task_name")), None)
    assert task is None or all(name in task for name in tasks.NAMES)


def test_words_that_are_not_utf8():
    """Names of files in Latin-1; anything but ASCII where the locale has nothing else."""
    with pytest.raises(FlagError, match=r"'caf\\udce9': not UTF-8; .* PYTHONUTF8=1"):
        importlib.import_module("run_corpus").parse(["--input", "caf\udce9"])


def test_students_are_spelled_one_way():
    assert [flags.layer_or_sparsity(text) for text in ("4L", "4l", "90S", "90.0s", "2.5S")] == [
        "4L",
        "4L",
        "90S",
        "90S",
        "2.5S",
    ]
    assert path_of_students("80,90S") == ["80S", "90S"] and path_of_students("80S, 6,4L") == [
        "80S",
        "6L",
        "4L",
    ]
    assert percentages("90,0,50S,90") == [0, 50, 90]
    for text in ("90", "S", "0L", "101S", "4X", "-1S"):
        with pytest.raises(argparse.ArgumentTypeError):
            flags.layer_or_sparsity(text)


NESTED = {
    "model_type": "bert",
    "num_hidden_layers": 6,
    "compression": {"sparsity": 50, "grid": {"50": {}, "90": {}, "100": {}}},
}


@pytest.mark.parametrize(
    "wanted, config, message",
    [
        ("90S", NESTED, None),
        ("6L", NESTED, None),
        ("7L", NESTED, "6 layers"),
        ("80S", NESTED, "grid of the teacher: 50, 90, 100"),
        ("90S", {"model_type": "bert"}, "not nested"),
    ],
)
def test_what_a_teacher_can_give(wanted, config, message):
    problems = list(flags.check_student(wanted, config, "--x"))
    assert (problems == []) if message is None else (message in problems[0] and "--x" in problems[0])


@pytest.mark.parametrize(
    "path, message",
    [("90,80S", "higher sparsity"), ("4,6L", "fewer layers"), ("90,90S", "higher"), ("50,90S", None)],
)
def test_paths_must_shrink(path, message):
    problems = list(
        flags.assistants.check_path(
            path_of_students(path), {**NESTED, "compression": {"grid": {"50": 0, "80": 0, "90": 0}}}
        )
    )
    assert (problems == []) if message is None else any(message in problem for problem in problems)


@pytest.mark.parametrize(
    "model_type, task, config, message",
    [
        ("kdbert_cls", "mrpc", {"model_type": "bert"}, None),
        ("sparsebert_cls", "mrpc", {"model_type": "sparse-bert"}, None),
        ("sparsebert_ner", "conll", None, None),
        ("ft", "stsb", {"model_type": "deberta-v2"}, None),
        ("kdbert_ner", "mrpc", None, "classification task"),
        ("kdbert_cls", "conll", None, "tagging task"),
        ("pkdbert_cls", "stsb", None, None),
        ("pkdbert_ner", "conll", None, "pkd is for classification and regression; conll is a tagging task"),
        ("kdbert_cls", "mrpc", {"model_type": "roberta"}, "roberta"),
        ("kdnomicbert_cls", "mrpc", {"model_type": "nomic_bert"}, None),
        ("kdnomic_bert_cls", "mrpc", {"model_type": "sparse-nomic_bert"}, None),
        (
            "kdxlm-roberta-xl",
            "mrpc",
            {"model_type": "xlm-roberta"},
            "the checkpoint's model_type is xlm-roberta",
        ),
        ("kdbart_cls", "mrpc", None, "found family 'bart'; expected one of bert, roberta"),
        ("minilmbert", "mrpc", None, "expected one of ft, kd"),
    ],
)
def test_model_types_are_held_against_task_and_checkpoint(model_type, task, config, message):
    parser = flags.parser("", flags.task(tasks), flags.distillation(objectives))
    args = parser.parse_args(["--task_name", task, *(["--model_type", model_type] if model_type else [])])
    problems = list(flags.model_types.check_model_type(args, tasks.get(task), config, objectives=OBJECTIVES))
    assert (problems == []) if message is None else message in problems[0], problems
    assert (args.selection_metric, args.max_length) == (tasks.get(task).selection_metric, 128)


# Script: what else it needs
STAGES = {
    "run_distillation": "",
    "run_maxidisc": "--layer_or_sparsity_path 90S",
    "run_minidisc": "",
    "run_stark": "--student_model_path nobody/trial --do_rewind --student_layer 2",
}
NOTHING = "--soft_label_weight 0 --task_weight 0"
WITHOUT_EFFECT = [
    ("run_minidisc", "--hidden_weight 0 --soft_label_weight 0", "--soft_label_weight: all are 0"),
    ("run_minidisc", f"--model_type kd {NOTHING}", "--task_weight: all are 0"),
    ("run_maxidisc", "--hidden_weight 0 --soft_label_weight 0", "--soft_label_weight: all are 0"),
    ("run_maxidisc", "--model_type ft --task_weight 0", "--task_weight: all are 0"),
    ("run_stark", NOTHING, "--task_weight: all are 0"),
    ("run_stark", "--hidden_weight 1", "--hidden_weight: no effect, the loss of kd is soft_label"),
    (
        "run_distillation",
        "--model_type kd --hidden_weight 3",
        r"--hidden_weight: no effect, the loss of kd is soft_label \+ task; leave it out, or choose "
        "--model_type sparse",
    ),
    ("run_distillation", "--model_type pkd --hidden_weight 0", "--hidden_weight: no effect"),
    (
        "run_minidisc",
        "--task_weight 1",
        r"--task_weight: no effect, the loss of sparse is .*--model_type kd or pkd",
    ),
    ("run_maxidisc", "--model_type sparse --patient_weight 1", "--patient_weight: no effect"),
    (
        "run_distillation",
        "--model_type ft --temperature 1",
        "--temperature: no effect, the loss of ft is task; leave it out, or choose --model_type kd or",
    ),
]


def parsed(script, words):
    words = f"--task_name demo --teacher_model_path nobody/teacher {STAGES.get(script, '')} {words}"
    return importlib.import_module(script).parse(words.split())


@pytest.mark.parametrize("script, words, message", WITHOUT_EFFECT)
def test_weights_without_effect(script, words, message):
    """Whatever is given is a term of the objective's, and something is left of the loss."""
    with pytest.raises(FlagError, match=message):
        parsed(script, words)


def test_weights_with_an_effect():
    """What is not given contradicts nothing; the temperature's defaults are 1 and StarK's 2."""
    for script in STAGES:
        args = parsed(script, "--model_type kd --task_weight 0")
        assert args.temperature == (2 if script == "run_stark" else 1), script
        assert parsed(script, "--model_type kd --temperature 3").temperature == 3
    assert parsed("run_distillation", "--model_type ft").temperature == 1
    with pytest.raises(FlagError, match="--task_weight: has a meaning only with --do_rewind"):
        importlib.import_module("run_stark").parse(
            "--task_name demo --teacher_model_path nobody/a --student_model_path nobody/b "
            "--task_weight 0".split()
        )


@pytest.mark.parametrize("script", [*STAGES, "run_ted"])
def test_class_weights_without_a_gold_label(script):
    words = "--mode kd --kl_alpha 1 --student_layer 2" if script == "run_ted" else "--model_type kd"
    for more in ("", " --unlabelled_file new.txt"):
        with pytest.raises(FlagError, match="--class_weights balanced: no effect with --task_weight 0"):
            parsed(script, f"{words} --class_weights balanced --task_weight 0{more}")


def test_objective_of_a_model_type():
    names = ("pkdbert_cls", "kdbert_cls", "ftbert", "sparsebert_ner", "kd")
    assert [flags.model_types.objective_of(name, "x", OBJECTIVES) for name in names] == [
        "pkd",
        "kd",
        "ft",
        "sparse",
        "kd",
    ]
    assert flags.model_types.objective_of(None, "sparse", OBJECTIVES) == "sparse"


def test_where_checkpoints_are(tmp_path):
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "args.json").write_text("{}")
    assert checkpoints.folder_of(tmp_path / "ckpt") == str(tmp_path / "ckpt")
    with pytest.raises(CheckpointError, match="not finished"):
        checkpoints.folder_of(tmp_path)
    (tmp_path / "results.json").write_text("{}")
    assert checkpoints.folder_of(tmp_path) == str(tmp_path / "ckpt") and checkpoints.read_config(
        tmp_path
    ) == {"model_type": "bert"}
    assert checkpoints.folder_of("bert-base-uncased") == "bert-base-uncased"
    assert checkpoints.read_config("someone/bert") is None
    for bad in ("outputs/none", "./none", "/none/at/all", tmp_path / "args.json"):
        with pytest.raises(CheckpointError):
            checkpoints.folder_of(bad)
    before = checkpoints.fingerprint(tmp_path)
    assert before == checkpoints.fingerprint(tmp_path / "ckpt")
    (tmp_path / "ckpt" / "config.json").write_text('{"model_type": "bert", "a": 1}')
    assert before != checkpoints.fingerprint(tmp_path)


def test_card_says_how_to_load_and_names_no_folder():
    settings = {
        "teacher_model_path": "/home/somebody/teacher",
        "seed": 1,
        "precision": "fp32",
        "num_train_epochs": 1,
        "max_train_samples": None,
        "max_eval_samples": 20,
    }
    provenance = {
        "stage": "distillation",
        "settings": settings,
        "command": ["/home/somebody/run.py", "--seed", "1", "--model_path", "/home/somebody/mini"],
        "versions": {"torch": "2"},
        "git_commit": "abc",
    }
    results = {"task": "mrpc", "metrics": {"dev": {"acc": 0.5}}, "model": {"parameters": 1000}}
    config = {
        "model_type": "sparse-bert",
        "architectures": ["SparseBertForSequenceClassification"],
        "compression": {},
    }
    text = cards.card(provenance, results, config)
    assert "text-classification" in text and "import models" in text and "somebody" not in text
    assert "run.py --seed 1 --model_path mini  # local files or folders: mini\n" in text
    assert "acc 0.5000" in text and "1,000" in text and "| scored on | 20 rows of dev |" in text


def card_of(stage, results=(), **settings):
    """The rows of a card's table by name, and its metadata."""
    more = {"settings": {"seed": 1, "precision": "fp32", "num_train_epochs": 1, **settings}}
    record = {"stage": stage, **more, "command": ["run.py"], "versions": {}, "git_commit": "abc"}
    found = {"task": "mrpc", "metrics": {"dev": {"acc": 0.5}}, **dict(results)}
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
    text = cards.card(record, found, config)
    rows = [line.strip("| ").partition(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {name: value for name, _, value in rows}, ModelCard(text).data


FEW = {"max_train_samples": 100}


@pytest.mark.parametrize(
    "settings, train, said",
    [
        ({}, 3000, "all rows of train"),
        ({"hold_out": 0.0}, 3000, "all rows of train"),
        ({"hold_out": 0.2}, 3000, "all rows of train but a share of 0.2 held out"),
        (FEW, 100, "100 rows of train"),
        (FEW, 60, "60 rows of train"),
        ({"hold_out": 0.2, **FEW}, 100, "100 rows of train, none of the share of 0.2 held out"),
        ({"unlabelled_file": ["/home/x/more.txt"]}, 9, "all rows of train and `more.txt`"),
        ({"unlabelled_file": ["more.txt"], "unlabelled_only": True}, 9, "all rows of `more.txt`"),
    ],
)
def test_a_card_says_which_rows_were_trained_on(settings, train, said):
    rows, _ = card_of("finetuning", {"data": {"train": train}}, **settings)
    assert rows["trained on"] == said
    assert card_of("finetuning", **FEW)[0]["trained on"] == "100 rows of train"  # an assistant: without sizes


def test_cards_of_models_that_were_not_trained():
    """StarK's sparse teacher, and what lies beside TED's filters: its scores are its own, not the heads'."""
    rows, data = card_of("stark", do_rewind=False)
    assert "trained on" not in rows and "nothing was trained" in rows["method"]
    assert data.model_name == "sparse teacher mrpc"
    kept, _ = card_of("stark", {"stage": "sparse teacher"}, do_rewind=True)
    assert kept == rows | {"settings": kept["settings"]}
    rows, _ = card_of("stark", do_rewind=True)
    assert "trained on" in rows and "distillation" in rows["method"]
    heads = {"metrics": {"dev": {"acc/1": 0.1, "acc/2": 0.2}}, "model_metrics": {"dev": {"acc": 0.75}}}
    rows, data = card_of("ted", heads, mode="filters")
    assert rows["dev"] == "acc 0.7500" and rows["filters trained on"] == "all rows of train"
    assert "trained on" not in rows and rows["method"].startswith("the model named below as it is")
    (found,) = data.eval_results
    assert (found.metric_type, found.metric_value) == ("accuracy", 0.75)
    assert data.model_name == "filters mrpc" != card_of("ted", mode="ted")[1].model_name == "ted mrpc"
    methods = [card_of("ted", mode=mode)[0]["method"] for mode in ("ted", "lwd", "kd", "ft")]
    assert len({*methods}) == 4 and all("filters" not in method for method in methods[2:])


def test_a_card_says_what_a_student_learnt():
    """The source is that of the objective; without --model_type it is MiniDisc's."""
    sources = {"kdbert_cls": "Hinton", "pkd": "Sun", "sparsebert_cls": "Zhang", None: "Zhang", "ft": "gold"}
    for model_type, source in sources.items():
        method = card_of("distillation", model_type=model_type)[0]["method"]
        assert method.startswith("distillation from one teacher") == (model_type != "ft") and source in method
    assert {*cards.LEARNT} == {*OBJECTIVES}


def test_metadata_of_a_card():
    """GLUE by its owner and name, the metric's name on the hub, the base model, all commands; no file that
    was not read."""
    provenance = {
        "stage": "minidisc",
        "settings": {"seed": 1, "precision": "fp32", "max_length": 96},
        "inputs": {"data/train.tsv": "ab" * 32, "data/dev.tsv": "cd" * 32, "data/test.tsv": "ef" * 32},
        "command": ["run_minidisc.py", "--seed", "1"],
        "before": [{"stage": "finetuning", "command": ["run_finetuning.py", "--task_name", "mrpc"]}],
        "base_models": ["bert-base-uncased"],
        "versions": {"torch": "2"},
        "git_commit": "abc",
    }
    results = {"task": "mrpc", "metrics": {"dev": {"acc": 0.5, "f1": 0.25}}, "model": {"parameters": 1000}}
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
    text = cards.card(provenance, results, config, read={"train.tsv", "dev.tsv"})
    data = ModelCard(text).data
    assert data.datasets == ["nyu-mll/glue"] and data.language == "en" and data.library_name == "transformers"
    assert data.base_model == ["bert-base-uncased"] and data.pipeline_tag == "text-classification"
    one, two = data.eval_results
    assert (one.dataset_type, one.dataset_config, one.dataset_split) == ("nyu-mll/glue", "mrpc", "validation")
    assert [(each.metric_type, each.metric_value) for each in (one, two)] == [("accuracy", 0.5), ("f1", 0.25)]
    assert "python run_finetuning.py --task_name mrpc\npython run_minidisc.py --seed 1\n" in text
    assert "train.tsv" in text and "test.tsv" not in text and "max_length=96" in text and "text_pair" in text
    provenance["settings"]["own_task"] = {"files": {"train": "/home/somebody/train.tsv"}}
    own_task = {"own_task": {"text": ["a", "b"]}, "problem_type": "multi_label_classification"}
    own = cards.card(provenance, {**results, "task": "my task: 1"}, {**config, **own_task})
    data = ModelCard(own).data
    assert data.datasets is None and data.language is None and "somebody" not in own
    assert "text_pair" in own and "top_k=None" in own
    assert data.eval_results[0].dataset_type == "my task: 1" and "train.tsv" not in own
