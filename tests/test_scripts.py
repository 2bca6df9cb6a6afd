"""The command lines of the bash scripts, of README.md and GUIDE.md, through the parsers of the scripts that
they call; and those of README.md about the methods and their results, run on few rows with tiny encoders.

Each command runs where `python` only writes down what it is called with. Then the folders that all these
calls read and write are made, with no more than configs in them, and each call is parsed among them: its
flags, values and choices, and whether another call writes what it reads.  Those that are run are called
in a folder like it, in README.md's order.
"""

import functools
import importlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from commands import ROOT, outcome
from corpus_runs import save_teacher

from data import tasks
from utils.errors import FlagError

PYTHON = """#!/usr/bin/env bash
# A call of a run_*.py: how many words, the words. What scripts ask for is answered: grid.py's choice.
if [[ $* == *"grid.py pick"* ]]; then echo 3 2e-5; fi
while [ $# -gt 0 ] && [[ $1 != run_*.py ]]; do shift; done
if [ $# -gt 0 ]; then printf '%s\\0' $# "$@" >>"$CALLS"; fi
while [ $# -gt 1 ]; do
    if [ "$1" = --output_dir ]; then mkdir -p "$2"; fi
    shift
done
"""
NINE = "mnli qqp qnli sst2 rte cola mrpc stsb squad2".split()


def in_header(text):
    """The commands in the header of a bash script."""
    return re.findall(r"^#   ((?:\w+=.*)?bash \w+_scripts/.*)", text, re.M)


def in_blocks(text):
    """The commands of a Markdown file that call a script of ours."""
    lines = "".join(re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ").splitlines()
    return [line for line in lines if re.search(r"_scripts/|run_\w+\.py", line)]


def all_commands():
    """Every bash script, with its default values and as its header says; the commands of README.md and
    GUIDE.md."""
    found = [
        f"bash bert_scripts/{path.name}"
        for path in sorted(ROOT.glob("bert_scripts/*.sh"))
        if path.name != "setup.sh"
    ]
    for path in sorted(ROOT.glob("deberta_scripts/run_*.sh")):
        sizes = ("base", "xsmall") if "SIZE:-" in path.read_text() else ("-",)
        found += [
            f"TASK={task} SIZE={size} bash deberta_scripts/{path.name}" for task in NINE for size in sizes
        ]
    found += [
        command for path in sorted(ROOT.glob("*_scripts/*.sh")) for command in in_header(path.read_text())
    ]
    before, own_data = (ROOT / "README.md").read_text().split("## Your own data\n")
    found += in_blocks(before + own_data.partition("\n## ")[2])  # those between run in test_own_tasks.py
    found += in_blocks((ROOT / "GUIDE.md").read_text())
    return [*dict.fromkeys(re.sub("  +#.*", "", command) for command in found)]


COMMANDS = all_commands()

# ---- Running a command without running Python


def copied(where):
    """A folder like the repository with the bash scripts alone, and beside it programs that write down their
    calls."""
    folder = where / "repository"
    for path in [*ROOT.glob("*_scripts/*.sh"), *ROOT.glob("*.txt")]:
        (folder / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.relative_to(ROOT))
    programs = folder.parent / "bin"
    programs.mkdir()
    for name in ("python", "torchrun"):
        (programs / name).write_text(PYTHON)
        (programs / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return copied(tmp_path_factory.mktemp("scripts"))


def calls_of(command, folder):
    """The calls [script, word ...] that a command makes in such a folder."""
    record = folder.parent / "calls"
    record.write_text("")
    path = f"{folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "CALLS": record, "VIRTUAL_ENV": folder, "SEEDS": "776"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    words, calls = record.read_text().split("\0")[:-1], []
    while words:
        number = int(words[0])
        calls.append(words[1 : 1 + number])
        words = words[1 + number :]
    return calls


def parsed(call):
    """The flags of a call, as its script has them.  Raises FlagError."""
    return importlib.import_module(call[0].removesuffix(".py")).parse(call[1:])


# ---- What the calls read and write: configs, true in what flags are checked with


def bert(layers, hidden, **more):
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": 4 * hidden}
    return {"model_type": "bert", **sizes, "num_attention_heads": 16 if hidden == 1024 else 12, **more}


PRETRAINED = {
    "bert-base-uncased": bert(12, 768),
    "bert-base-cased": bert(12, 768),
    "bert-large-uncased": bert(24, 1024),
    "sentence-transformers/all-MiniLM-L6-v2": bert(6, 384),
    "google-t5/t5-3b": {
        "model_type": "t5",
        "num_layers": 24,
        "d_model": 1024,
        "num_heads": 32,
        "d_ff": 16384,
    },
    "outputs/deberta/pretrained/base": bert(12, 768, model_type="deberta-v2"),
    "outputs/deberta/pretrained/xsmall": bert(12, 384, model_type="deberta-v2"),
}
GRID = "0,10,20,30,40,50,60,70,80,85,90,95"


def config_of(path, calls):
    """The config of a checkpoint, pretrained or written by one of these calls {output_dir: call}; None where
    there is none."""
    if path in PRETRAINED or path not in calls:
        return PRETRAINED.get(path)
    script, *words = calls[path]
    given = first_values(words)
    if script in ("run_minilmv2.py", "run_minimoe.py"):
        layers = given.get("layer") or given["student_path"].rpartition(",")[2].removesuffix("L")
        kind = "bert" if given.get("moe", "1,1") == "1,1" else "moe-bert"
        return bert(int(layers), int(given["hidden"]), model_type=kind)
    student = () if script == "run_stark.py" else ("student_model_path",)
    source = next(given[flag] for flag in (*student, "model_path", "teacher_model_path") if flag in given)
    config = config_of(source, calls) if source != "scratch" else bert(4, 96)
    if config is None:
        return None
    if names := dict(enumerate(tasks.get(given["task_name"]).label_names)):
        config = {**config, "id2label": names, "label2id": {name: i for i, name in names.items()}}
    if script in ("run_sparsification.py", "run_stark.py"):
        return {**config, "compression": grid(0, given.get("grid", GRID).split(","))}
    return filtered(part(config, given), given) if given.get("mode") == "filters" else part(config, given)


def first_values(words):
    """{flag: its first value} of the flags that have one."""
    pairs = zip(words, [*words[1:], "--"])
    return {flag[2:]: value for flag, value in pairs if flag.startswith("--") and not value.startswith("--")}


def grid(sparsity, points):
    return {
        "kind": "sparse",
        "sparsity": sparsity,
        "grid": {point: {"heads": [], "neurons": []} for point in points},
    }


def part(config, given):
    """The student, where flags say that it is a part of what it starts from."""
    wanted = given.get("layer_or_sparsity") or given.get("layer_or_sparsity_path", "").rpartition(",")[2]
    layers = given.get("student_layer") or (wanted[:-1] if wanted.endswith("L") else None)
    percent = (
        given.get("student_sparsity")
        or given.get("target_sparsity")
        or (wanted[:-1] if wanted.endswith("S") else None)
    )
    if layers:
        return {**config, "num_hidden_layers": int(layers)}
    if percent:
        return {
            **config,
            "model_type": f"sparse-{config['model_type']}",
            "compression": grid(int(percent), [percent]),
        }
    return config


def filtered(config, given):
    """A model with filters beside it: what filters.json says."""
    number, interval = config["num_hidden_layers"], int(given.get("filter_interval", 1))
    spec = {
        "task": given["task_name"],
        "num_layers": number,
        "hidden_size": config["hidden_size"],
        "nonlinear": False,
    }
    spec["layers"] = [*range(interval, number + 1, interval)]
    spec["output_dim"] = int(given.get("filter_output_dim", config["hidden_size"]))
    return {**config, "filters": spec}


def write(folder, config, *, is_run):
    """Make a checkpoint folder, or a run folder, with this config."""
    checkpoint = folder / "ckpt" if is_run else folder
    checkpoint.mkdir(parents=True, exist_ok=True)
    for name in ("args.json", "results.json") if is_run else ():
        (folder / name).write_text("{}")
    filters = config.get("filters")
    (checkpoint / "config.json").write_text(json.dumps(config))
    (checkpoint / "model.safetensors").touch()
    if filters:
        (checkpoint / "filters.json").write_text(json.dumps(filters))


@pytest.fixture(scope="module")
def written(copy):
    """{command: its calls}.  The folder has what they read; that beside it has the same, written by calls
    with --hold_out 0.1."""
    made = {command: calls_of(command, copy) for command in COMMANDS}
    folders = {}
    for call in (call for calls in made.values() for call in calls):
        if "--output_dir" in call:
            folders.setdefault(call[call.index("--output_dir") + 1], call)
    for path in (*PRETRAINED, *folders):
        script = folders.get(path, [""])[0]
        config = config_of(path, folders) if script not in ("run_corpus.py", "run_evaluation.py") else None
        if config:
            write(copy / path, config, is_run=bool(script))
            held_out = {"hold_out": dict.fromkeys(tasks.NAMES, 0.1)} if script else {}
            write(copy.with_name("held_out") / path, {**config, **held_out}, is_run=bool(script))
    return made


@functools.cache
def accepted(*call):
    """Parse a call, once.  Raises FlagError."""
    return bool(parsed(call))


@pytest.mark.parametrize("command", COMMANDS, ids=COMMANDS)
def test_every_command_is_accepted(command, written, copy, monkeypatch):
    if "--export" in command:
        pytest.importorskip("onnxruntime")
    monkeypatch.chdir(copy.with_name("held_out") if "--hold_out" in command else copy)
    assert written[command], "calls no run_*.py"
    assert all(accepted(*call) for call in written[command])


@pytest.mark.parametrize(
    "script, before, after, message",
    [
        ("bert_scripts/run_ted_mrpc.sh", "--learning_rate", "--learning_rat", "--learning_rat: no such flag"),
        ("bert_scripts/run_ted_mrpc.sh", "--task_name", "--task", "--task: no such flag"),
        ("bert_scripts/run_ted_mrpc.sh", "stage1 ", "stage3 ", "--student_init: 'stage3' is not one of"),
        ("bert_scripts/run_ted_mrpc.sh", "3e-5", "3e-5,", "--learning_rate: '3e-5,' is not a number above 0"),
        (
            "bert_scripts/run_ted_mrpc.sh",
            "--mode ted",
            "--mode kd",
            "--mse_alpha: has no meaning with --mode kd",
        ),
        (
            "bert_scripts/run_minidisc_rte.sh",
            "sparsebert_cls",
            "sparsebert_ner",
            "rte is a classification task",
        ),
        (
            "bert_scripts/run_minidisc_rte.sh",
            "TARGET:-90",
            "TARGET:-91",
            "91S: not in the grid of the teacher",
        ),
        (
            "bert_scripts/run_minidisc_rte.sh",
            "sparsification/rte",
            "sparsification/ret",
            "ret: no such folder",
        ),
        ("deberta_scripts/run_ted.sh", "--kl_alpha", "--kl_alhpa", "--kl_alhpa: no such flag"),
    ],
)
def test_a_broken_command_is_refused(script, before, after, message, written, copy, monkeypatch):
    text = (copy / script).read_text()
    assert before in text
    broken = (copy / script).with_name("broken.sh")
    broken.write_text(text.replace(before, after))
    (call,) = calls_of(f"TASK=mrpc bash {broken.relative_to(copy)}", copy)
    monkeypatch.chdir(copy)
    with pytest.raises(FlagError, match=re.escape(message)):
        parsed(call)


def test_the_table_of_published_settings(written):
    """Pairs of sizes, batches in parts, dropouts, weights: one cell of each kind, as TED's scripts have
    it."""

    def call(command):
        (words,) = written[command]
        return " ".join(words) + " "

    filters = call("TASK=rte SIZE=xsmall bash deberta_scripts/run_learn_filters.sh")
    assert "--per_device_train_batch_size 32 --learning_rate 6e-5 " in filters
    assert "--cls_dropout 0 " in filters and "--hidn_dropout" not in filters
    tuned = call("TASK=rte SIZE=base bash deberta_scripts/run_finetuning.sh")
    assert "--per_device_train_batch_size 16 --learning_rate 3e-5 " in tuned
    assert "--cls_dropout 0 --hidn_dropout 0 --att_dropout 0 " in tuned
    assert "dropout" not in call("TASK=cola SIZE=base bash deberta_scripts/run_finetuning.sh")
    squad = call("TASK=squad2 SIZE=base bash deberta_scripts/run_finetuning.sh")
    assert (
        "--per_device_train_batch_size 24 " in squad
        and "--num_grad_accum_steps 2 " in squad
        and "--doc_stride 128 " in squad
    )
    assert "--kl_alpha 10 --mse_alpha 5000 " in call("TASK=squad2 SIZE=- bash deberta_scripts/run_ted.sh")


@pytest.mark.parametrize(
    "variables, message",
    [("TASK=mrcp", "found mrcp, expected one of mnli qqp"), ("TASK=mrpc SIZE=large", "found large")],
)
def test_tasks_and_sizes_that_have_no_settings(variables, message):
    command = f"env {variables} bash deberta_scripts/run_learn_filters.sh".split()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and message in done.stderr


# ---- What scripts find out from runs


def test_a_folder_with_a_blank(copy):
    """The quick start's last call names the assistants that are there, each as one word."""
    (copy / "in two" / "minidisc_90S" / "assistant_1").mkdir(parents=True)
    *_, last = calls_of("OUTPUT='in two' bash bert_scripts/quickstart.sh", copy)
    assert last[last.index("--model_path") + 1 :] == [
        f"in two/{name}" for name in ("direct_90S", "minidisc_90S", "minidisc_90S/assistant_1")
    ]
    shutil.rmtree(copy / "in two")


@pytest.mark.parametrize("splits", [("dev",), ("dev_matched", "dev_mismatched"), ("hold_out", "dev")])
def test_the_best_of_a_grid(splits, tmp_path):
    """By what chose epochs, whatever dev says; the table has dev of that setting, over all its seeds."""
    scores = {"3_epochs_1e-5_seed_42": (0.9, 0.8), "5_epochs_1e-5_seed_42": (0.7, 0.82)}
    scores["3_epochs_1e-5_seed_43"] = (0.6, 0.7)
    for name, values in scores.items():
        run = tmp_path / "grid" / "task" / name
        run.mkdir(parents=True)
        metrics = {split: {"acc": value} for split, value in zip(splits, values)}
        (run / "results.json").write_text(json.dumps({"task": "task", "metrics": metrics}))
        (run / "args.json").write_text(json.dumps({"settings": {"selection_metric": "acc"}}))

    def said(*words):
        call = [sys.executable, ROOT / "bert_scripts" / "grid.py", *words]
        return subprocess.run(call, check=True, capture_output=True, text=True).stdout

    assert said("pick", tmp_path / "grid" / "task", "42") == "3 1e-5\n"
    best, mean = ("0.8000", "0.7500") if splits[0] == "hold_out" else ("0.9000", "0.7500")
    row = said("table", tmp_path / "grid").splitlines()[-1]
    assert row.startswith(f"| task | acc | 2 | {best} | 3, 1e-5 | {mean} +- ") and row.endswith("| 2 |")


# ---- README.md's methods and results, run

# What passes of days over a corpus are cut to
FEW = "--max_steps 2 --num_heldout_blocks 8 --per_device_train_batch_size 4"


def shown(title):
    """The commands in a section of README.md."""
    section = (ROOT / "README.md").read_text().split(f"## {title}\n")[1].partition("\n## ")[0]
    return [re.sub("  +#.*", "", line) for line in in_blocks(section)]


def test_the_methods_of_the_readme(tmp_path, demo_tokenizer):
    """Each command finds what those above it have left; so does what one does with the results."""
    folder = copied(tmp_path)
    sizes = {"num_hidden_layers": 12, "max_position_embeddings": 128}
    save_teacher(folder / "bert-base-uncased", demo_tokenizer, **sizes)  # as in the hub's cache
    save_teacher(folder / "bert-large-uncased", demo_tokenizer, hidden_size=64, **sizes)
    rows = ["1\tthe soup was cold .\tthe cold soup", "0\ta good tip\tthe soup was bad"]
    header = "Quality\t#1 String\t#2 String"
    (folder / "datasets" / "mrpc").mkdir(parents=True)
    for split, number in (("train", 16), ("dev", 4)):
        (folder / "datasets" / "mrpc" / f"{split}.tsv").write_text("\n".join([header, *rows * number, ""]))
    (folder / "new.tsv").write_text("\n".join([header, *rows, ""]))
    (folder / "datasets" / "wiki").write_text("the soup was cold . a good tip for the waiter .\n\n" * 300)
    ran = []
    for command in [*shown("The methods"), *shown("Using the result")]:
        if "--export " in command:
            continue  # test_documents.py
        ((script, *words),) = calls_of(command, folder)
        more = FEW if script in ("run_minilmv2.py", "run_minimoe.py") else ""
        more += "" if script == "run_corpus.py" or "--report" in words else " --use_cpu"
        codes, printed = outcome(script, *words, *more.split(), before=[(os.chdir, (folder,))])
        assert codes == [0], f"{command}\n{printed}"
        ran.append(script)
    rest = {"run_maxidisc.py", "run_vocabulary.py"}  # in the table below the block
    assert {*ran} == {path.name for path in ROOT.glob("run_*.py")} - rest
    students = "minidisc/mrpc_90S stark/mrpc_70S_rewound ted/mrpc_ted finetuning/3L_384_1-4_mrpc"
    folders = [folder / "outputs" / name for name in students.split()]
    assert all((run / "ckpt" / "model.safetensors").is_file() for run in folders)
    assert (folder / "outputs" / "report.html").is_file()
