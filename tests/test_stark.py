"""StarK as a user runs it: the trial, sorting, rewinding; kill and resume; what users get wrong."""

import json
import re
import shutil

import pytest
import torch
from commands import kill_when, run
from run_folders import SHORT, stage_done
from task_files import write_task

import models
import run_stark
from data import tasks
from data.task_data import TaskData
from models.knowledge_scores import knowledge_scores
from modules import importance, knowledge
from utils.errors import FlagError
from utils.files import read_json, sha256

# ---- The stages

KD = ("--model_type", "kd", "--temperature", 2)
START = ("--student_sparsity", 70)


@pytest.fixture(scope="module")
def base(small_demo):
    return ("--task_name", "demo", "--data_dir", small_demo, *SHORT)


@pytest.fixture(scope="module")
def trial_demo(tmp_path_factory, base, tuned_demo, nested_demo):
    """The run folder of the trial student, 70% of whose units are gone."""
    folder = tmp_path_factory.mktemp("trial") / "run"
    run(
        "run_distillation.py",
        *base,
        *KD,
        *f"--teacher_model_path {tuned_demo} --student_model_path {nested_demo}".split(),
        *START,
        "--output_dir",
        folder,
    )
    return folder


@pytest.fixture(scope="module")
def stark(base, tuned_demo, nested_demo, trial_demo):
    """The flags of both stages in one command."""
    return (
        *base,
        *f"--teacher_model_path {tuned_demo} --student_model_path {trial_demo} --do_rewind".split(),
        *f"--student_init_path {nested_demo}".split(),
        *START,
        "--teacher_sparsities",
        "30,80",
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory, stark):
    """The run folder of both stages in one command, never interrupted."""
    folder = tmp_path_factory.mktemp("stark") / "run"
    run("run_stark.py", *stark, "--output_dir", folder)
    return folder


def losses_of(folder, stage):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = ("examples_per_second", "eta_seconds", "stage")
    return [
        {key: value for key, value in row.items() if key not in timed}
        for row in rows
        if row["stage"] == stage
    ]


def test_stark_names_of_students(base, tuned_demo, nested_demo, trial_demo, tmp_path):
    """--student_sparsity is a crop of the student's checkpoint, or of the teacher; --student_layer its first
    layers."""
    assert read_json(trial_demo / "results.json")["model"]["sparsity"] == 70
    short = ("--max_steps", 2, "--eval_interval", 0)
    for name, flags, model in (
        ("crop", ("--teacher_model_path", nested_demo, *START), {"sparsity": 70, "layers": 4}),
        ("layers", ("--teacher_model_path", tuned_demo, "--student_layer", 2), {"sparsity": 0, "layers": 2}),
        (
            "both",
            ("--teacher_model_path", tuned_demo, "--student_model_path", trial_demo, "--student_layer", 3),
            {"sparsity": 70, "layers": 3},
        ),
    ):
        run("run_distillation.py", *base, *short, *flags, *KD, "--output_dir", tmp_path / name)
        found = read_json(tmp_path / name / "results.json")["model"]
        assert {key: found[key] for key in model} == model


def test_lambda(base, small_demo, tuned_demo, nested_demo, trial_demo, tmp_path):
    """1 is plain sparsification: the same bytes and grid, from the same rows in the same batches; at 0.5 they
    differ."""
    grid = ("--grid", "0,30,70")
    run(
        "run_sparsification.py",
        *f"--task_name demo --data_dir {small_demo} --use_cpu".split(),
        *grid,
        *f"--num_scoring_samples 96 --model_path {tuned_demo}".split(),
        *f"--output_dir {tmp_path / 'plain'}".split(),
    )
    words = ("--teacher_model_path", tuned_demo, "--student_model_path", trial_demo, *grid)
    before = sha256(tuned_demo / "ckpt/model.safetensors"), sha256(trial_demo / "ckpt/model.safetensors")
    for lam in (1, 0.5):
        run(
            "run_stark.py",
            *base,
            *words,
            "--lam",
            lam,
            "--friendliness_sign",
            "signed",
            "--output_dir",
            tmp_path / str(lam),
        )
    assert before == (
        sha256(tuned_demo / "ckpt/model.safetensors"),
        sha256(trial_demo / "ckpt/model.safetensors"),
    )
    folders = [tmp_path / name / "ckpt" for name in ("plain", "1", "0.5")]
    hashes = [sha256(folder / "model.safetensors") for folder in folders]
    grids = [read_json(folder / "config.json")["compression"]["grid"] for folder in folders]
    assert hashes[0] == hashes[1] != hashes[2] and grids[0] == grids[1]
    # What the run proposes next starts as the trial did
    (words,) = re.findall(r"INFO next: python run_stark.py (.*)", (tmp_path / "0.5" / "log.txt").read_text())
    args = run_stark.parse([*words.split(), "--use_cpu"])
    assert (args.teacher_model_path, args.do_rewind) == (str(tmp_path / "0.5"), True)
    assert (args.student_init_path, args.student_sparsity) == (str(nested_demo), 70)
    # at 0.5 the grid is that of K as it is, which another normalisation would change
    data = TaskData(
        tasks.get("demo"),
        tokenizer_path=tuned_demo,
        data_dir=small_demo,
        max_length=128,
        max_train_samples=96,
    )
    split = data.scoring_split("train", None)
    pair = [models.load_model(folder, kind="classification") for folder in (tuned_demo, trial_demo)]
    options = {"seed": 776, "batch_size": 32, "device": torch.device("cpu")}
    loss = {"friendliness_loss": "soft_ce", "signed": True, "temperature": 2.0}
    express, friendly = knowledge_scores(*pair, split, **loss, **options)
    mixed = knowledge.knowledgeableness(express.neurons, friendly.neurons, lam=0.5)
    removed = {s: [mixed.shape[1] - kept for kept in grids[2][str(s)]["neurons"]] for s in (30, 70)}
    assert (
        removed
        == importance.removed_counts(mixed, [30, 70], normalised=True)
        != importance.removed_counts(mixed, [30, 70])
    )
    results = read_json(tmp_path / "0.5" / "results.json")
    assert results["before"] == results["after"] == results["metrics"] and len(results["curve"]) == 3
    assert (tmp_path / "0.5" / "curve.png").stat().st_size > 10_000


def test_both_stages(whole):
    """A table with the dense teacher beside the candidates; the chosen student; the sparse teacher under its
    own name."""
    results = read_json(whole / "results.json")
    table = {row["teacher"]: row for row in results["rewinds"]}
    assert list(table) == ["dense", "30%", "80%"] and not table["dense"]["chosen"]
    assert results["teacher_sparsity"] in (30, 80) and table[f"{results['teacher_sparsity']}%"]["chosen"]
    best = max(table["30%"]["dev/acc"], table["80%"]["dev/acc"])
    assert (
        results["metrics"]["dev"]["acc"] == best
        and results["dense_metrics"]["dev"]["acc"] == table["dense"]["dev/acc"]
    )
    assert (
        results["model"]["sparsity"]
        == models.describe(models.load_model(whole, kind="classification"))["sparsity"]
        == 70
    )
    teacher = models.load_model(whole / "sparse_teacher", kind="classification")
    assert models.grid(teacher) == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90] and models.sparsity(teacher) == 0
    assert (whole / "rewinds.png").stat().st_size > 10_000 and not (whole / "state").exists()
    cards = [(whole / name / "README.md").read_text() for name in ("ckpt", "sparse_teacher")]
    assert ["| trained on |" in card for card in cards] == [True, False]


def test_rewinding_at_0_repeats_the_trial(whole, base, nested_demo, trial_demo, tmp_path):
    """Dropout is on. From the sorted teacher up to rounding; from the teacher as it is to the last bit, also
    a cached one."""
    rounded, trial = losses_of(whole, "rewind_0"), losses_of(trial_demo, "train")
    assert len(rounded) == len(trial) > 10
    assert [row["loss"] for row in rounded[:3]] == pytest.approx([row["loss"] for row in trial[:3]], rel=1e-4)
    run(
        "run_distillation.py",
        *base,
        *KD,
        "--teacher_model_path",
        nested_demo,
        *START,
        *f"--cache_teacher --output_dir {tmp_path / 'trial'}".split(),
    )
    run(
        "run_stark.py",
        *base,
        *f"--cache_teacher --teacher_model_path {nested_demo} --do_rewind".split(),
        *f"--student_init_path {nested_demo}".split(),
        *START,
        *f"--teacher_sparsities 80 --output_dir {tmp_path / 'rewound'}".split(),
    )
    same = losses_of(tmp_path / "rewound", "rewind_0"), losses_of(tmp_path / "rewound", "rewind_80")
    assert same[0] == losses_of(tmp_path / "trial", "train") != same[1]
    results = [read_json(tmp_path / name / "results.json") for name in ("trial", "rewound")]
    assert results[0]["metrics"] == results[1]["dense_metrics"]


def test_rewinding_apart_is_rewinding_at_once(whole, base, nested_demo, tmp_path):
    """A second command, from the sparse teacher of the first, ends with the same bytes."""
    run(
        "run_stark.py",
        *base,
        *f"--teacher_model_path {whole / 'sparse_teacher'} --do_rewind".split(),
        *f"--student_init_path {nested_demo}".split(),
        *START,
        *f"--teacher_sparsities 30,80 --output_dir {tmp_path / 'run'}".split(),
    )
    assert sha256(tmp_path / "run/ckpt/model.safetensors") == sha256(whole / "ckpt/model.safetensors")
    assert not (tmp_path / "run" / "sparse_teacher").exists()


def test_killed_run_ends_with_the_same_bytes(whole, stark, tmp_path):
    """After the sorting, between rewinds, within one."""
    folder = tmp_path / "run"

    def rows(stage):
        return (folder / "metrics.jsonl").exists() and len(losses_of(folder, stage))

    moments = [
        lambda: (folder / "state" / "sparse_teacher.json").exists(),
        lambda: stage_done("rewind_0")(folder),
        lambda: rows("rewind_30") >= 7,
    ]
    sorted_at = set()
    for moment in moments:
        assert kill_when(moment, "run_stark.py", *stark, "--output_dir", folder)
        sorted_at.add((folder / "state" / "sparse_teacher.json").stat().st_mtime_ns)
    assert len(sorted_at) == 1  # not scored again
    done = run("run_stark.py", *stark, "--output_dir", folder)
    for name in ("ckpt/model.safetensors", "sparse_teacher/model.safetensors"):
        assert sha256(folder / name) == sha256(whole / name)
    ours, theirs = (read_json(each / "results.json") for each in (folder, whole))
    assert ours["metrics"] == theirs["metrics"] and ours["curve"] == theirs["curve"]
    assert all(
        losses_of(folder, stage) == losses_of(whole, stage)
        for stage in ("rewind_0", "rewind_30", "rewind_80")
    )
    again = run("run_stark.py", *stark, "--output_dir", folder)
    assert again.stdout == done.stdout and "finished before" in again.stderr
    run("run_stark.py", *stark, "--output_dir", folder, "--do_test", "--do_infer")
    results = read_json(folder / "results.json")
    assert results["metrics"].keys() == {"dev", "test"} and (folder / results["predictions"]["test"]).exists()


def test_a_changed_start_is_refused(stark, tmp_path):
    folder = tmp_path / "run"
    assert kill_when(lambda: stage_done("rewind_0")(folder), "run_stark.py", *stark, "--output_dir", folder)
    config = folder / "state" / "start" / "config.json"
    config.write_text(config.read_text().replace('"hidden_act": "gelu"', '"hidden_act": "relu"'))
    done = run("run_stark.py", *stark, "--output_dir", folder, code=2)
    assert "initial state has changed" in done.stderr and "Traceback" not in done.stderr


def test_held_out_rows_select(stark, tmp_path):
    """Rows that are held out choose; dev is reported of each student afterwards. Dropped layers as the
    student."""
    flags = [*stark, "--student_layer", 2, "--hold_out", 0.2, "--output_dir", tmp_path / "run"]
    at = flags.index("--student_sparsity")
    flags = [*flags[:at], *flags[at + 2 :], "--friendliness_loss", "kl", "--friendliness_sign", "signed"]
    done = run("run_stark.py", *flags, code=2)
    for flag in ("--teacher_model_path", "--student_model_path", "--student_init_path"):
        assert f"{flag}: nothing in its config says" in done.stderr
    run("run_stark.py", *flags, "--teacher_saw_hold_out")
    results = read_json(tmp_path / "run" / "results.json")
    assert (
        results["data"]["hold_out"] > 0 and results["data"]["train"] == 96 and results["model"]["layers"] == 2
    )
    assert "may know the rows" in results["caution"]
    chosen = next(row for row in results["rewinds"] if row["chosen"])
    assert chosen["hold_out/acc"] == max(row["hold_out/acc"] for row in results["rewinds"][1:])
    assert results["metrics"] == {
        "hold_out": {"acc": chosen["hold_out/acc"]},
        "dev": {"acc": chosen["dev/acc"]},
    }


def test_two_processes_sort_alike(base, tuned_demo, trial_demo, tmp_path):
    words = (
        "--teacher_model_path",
        tuned_demo,
        "--student_model_path",
        trial_demo,
        "--scoring_batch_size",
        16,
    )
    run("run_stark.py", *base, *words, "--output_dir", tmp_path / "one")
    whole = tmp_path / "one" / "ckpt"
    for name, shared_out in (("two", []), ("shards", ["--shard"])):
        run("run_stark.py", *base, *words, *shared_out, "--output_dir", tmp_path / name, processes=2)
        ours = tmp_path / name / "ckpt"
        assert sha256(ours / "model.safetensors") == sha256(whole / "model.safetensors")
        assert read_json(ours / "config.json") == read_json(whole / "config.json")


def test_two_processes_rewind(stark, tmp_path):
    """Dropout is drawn alike whether models are shared out or not."""
    found = []
    for name, shared_out in (("whole", []), ("shards", ["--shard"])):
        words = [*stark, "--max_steps", 2, *shared_out, "--output_dir", tmp_path / name]
        run("run_stark.py", *words, processes=2)
        rows = read_json(tmp_path / name / "results.json")["rewinds"]
        found.append([{key: row[key] for key in row if key != "seconds"} for row in rows])
    assert found[0] and found[0] == found[1]


def test_dry_run_leaves_nothing_behind(stark, tmp_path):
    run("run_stark.py", *stark, "--dry_run", "--output_dir", tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task, model", [("stsb", "rater"), ("conll", "tagger")])
def test_scores_and_tags(task, model, checkpoints, tmp_path):
    write_task(tmp_path / "data" / task, task)
    base = ("--task_name", task, "--data_dir", tmp_path / "data", "--use_cpu", "--num_train_epochs", 1)
    teacher = ("--teacher_model_path", checkpoints / model)
    run("run_distillation.py", *base, *teacher, "--student_layer", 2, *KD, "--output_dir", tmp_path / "trial")
    run(
        "run_stark.py",
        *base,
        *teacher,
        *f"--student_model_path {tmp_path / 'trial'} --student_layer 2 --do_rewind".split(),
        *f"--teacher_sparsities 50 --output_dir {tmp_path / 'run'}".split(),
    )
    results = read_json(tmp_path / "run" / "results.json")
    assert results["teacher_sparsity"] == 50 and set(results["metrics"]["dev"]) == set(
        tasks.get(task).metrics
    )


# ---- What users get wrong

TEACHER, TRIAL = ["--teacher_model_path", "{tuned}"], ["--student_model_path", "{tuned}"]
SPARSE = ["--teacher_model_path", "{nested}", "--do_rewind"]
REWIND = [*SPARSE, "--student_init_path", "{nested}", "--student_sparsity", 70]
BAD = [
    (TEACHER, ["--student_model_path: required", "--do_rewind"]),
    ([*TEACHER, *TRIAL, "--lam", 1.5], ["--lam", "'1.5'", "from 0 to 1"]),
    ([*TEACHER, *TRIAL, "--friendliness_loss", "kl"], ["kl with", "disagree", "signed"]),
    ([*TEACHER, *TRIAL, "--model_type", "sparsebert_cls"], ["--model_type", "'sparsebert_cls'", "kd"]),
    (
        [*TEACHER, *TRIAL, *"--teacher_sparsities 50 --student_layer 2".split()],
        ["--teacher_sparsities: has a meaning only", "--student_layer 2: the trial student has 4 layers"],
    ),
    ([*TEACHER, *TRIAL, "--do_rewind"], ["--student_init_path: required", "--student_layer"]),
    (
        [*TEACHER, *TRIAL, *"--do_rewind --student_sparsity 70".split()],
        ["--student_sparsity 70S: the teacher is not nested"],
    ),
    (
        [*TEACHER, *TRIAL, *"--do_rewind --student_layer 9".split()],
        ["--student_layer 9L: the teacher has 4 layers"],
    ),
    (
        [*TEACHER, *TRIAL, *"--do_rewind --student_layer 2 --teacher_sparsities 15,50".split()],
        ["--teacher_sparsities 15: not in the teacher's grid: 0, 10, 20"],
    ),
    (
        [*TEACHER, *"--do_rewind --student_init_path {tuned}".split()],
        ["--teacher_model_path: not nested", "--student_model_path"],
    ),
    ([*SPARSE, "--student_sparsity", 70], ["--student_init_path: required"]),
    ([*REWIND, "--student_layer", 2], ["--student_sparsity and --student_layer"]),
    ([*REWIND, "--teacher_sparsities", "0,50"], ["--teacher_sparsities: 0 is the dense teacher"]),
    (
        [*REWIND, "--teacher_sparsities", "10,50"],
        ["--teacher_sparsities 10: not in the teacher's grid: 0, 50, 60"],
    ),
    (
        [*SPARSE, *"--student_init_path {nested} --student_sparsity 75".split()],
        ["--student_sparsity 75S: not in the grid of the checkpoint"],
    ),
    (
        [*TEACHER, "--student_model_path", "{tagger}"],
        ["--student_model_path: ", "head for tagging", "classification"],
    ),
    (
        [*TEACHER, "--student_model_path", "{words}"],
        ["--student_model_path: its vocabulary has 7 pieces, the teacher's "],
    ),
    (
        [*TEACHER, "--student_model_path", "{broth}"],
        ["--student_model_path: ", "another vocabulary", "pieces"],
    ),
    (
        ["--teacher_model_path", "{crop}", *TRIAL],
        ["--teacher_model_path: cropped to a sparsity of 80", "all its units"],
    ),
]


@pytest.mark.parametrize("flags, said", BAD, ids=[str(number) for number in range(len(BAD))])
def test_bad_input(flags, said, checkpoints, refused, small_demo, tmp_path):
    paths = {name: checkpoints / name for name in ("tuned", "nested", "tagger")}
    for name in ("words", "broth", "crop"):
        paths[name] = tmp_path / name
        if f"{{{name}}}" in flags:
            shutil.copytree(checkpoints / "tuned", tmp_path / name)
            if name == "crop":
                models.save_model(
                    models.crop(models.load_model(paths["nested"], kind="classification"), 80),
                    tmp_path / name,
                )
            file = tmp_path / name / ("config.json" if name == "words" else "tokenizer.json")
            text = file.read_text()
            if name == "words":
                text = json.dumps({**json.loads(text), "vocab_size": 7})
            file.write_text(text.replace('"soup"', '"broth"') if name == "broth" else text)
    refused(
        "run_stark.py",
        ["--task_name", "demo", "--data_dir", small_demo, *(str(w).format(**paths) for w in flags)],
        said,
    )


@pytest.mark.parametrize(
    "task, recorded, given, refused",
    [
        ("demo", {"model_type": "kd", "temperature": 1.0}, [], True),
        ("demo", {"model_type": None, "temperature": 1.0}, [], True),
        ("demo", {"model_type": "kd", "temperature": 3}, ["--temperature", "3"], False),
        ("demo", {"model_type": "kd", "temperature": 2.0}, ["--temperature", "2"], False),
        ("demo", {"model_type": "ftbert_cls", "temperature": 1.0}, [], False),  # has not learnt from answers
        ("demo", {"model_type": "sparsebert_cls"}, [], False),
        ("stsb", {"model_type": "kd", "temperature": 1.0}, [], False),  # a score has no temperature
    ],
)
def test_the_trials_temperature(task, recorded, given, refused, tmp_path):
    """What the run around the trial's checkpoint says is held against what units are scored with."""
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "args.json").write_text(json.dumps({"settings": recorded}))
    words = f"--task_name {task} --teacher_model_path nobody/teacher --student_model_path".split()
    words += [str(tmp_path / "ckpt"), *given]
    if refused:
        said = rf"--temperature 2: the trial student, --student_model_path {tmp_path}/ckpt, .*--temperature 1"
        with pytest.raises(FlagError, match=said):
            run_stark.parse(words)
    else:
        run_stark.parse(words)


STUDENT = ["--student_model_path", "{nested}"]
BAD_STUDENTS = [
    (
        [*STUDENT, "--student_sparsity", 70, "--student_layer", 2],
        ["--student_sparsity and --student_layer: each says"],
    ),
    (["--layer_or_sparsity", "2L", "--student_layer", 2], ["--layer_or_sparsity and --student_layer"]),
    (
        [*STUDENT, "--student_sparsity", 42],
        ["--student_sparsity 42S: not in the grid of the student (--student_model_path ", ": 0, 50"],
    ),
    (
        ["--student_model_path", "{tuned}", "--student_sparsity", 70],
        ["--student_sparsity 70S: the student (--student_model_path ", ") is not nested"],
    ),
    (
        ["--student_sparsity", 70],
        ["--student_sparsity 70S: the teacher (--teacher_model_path ", ") is not nested"],
    ),
    (
        [*STUDENT, "--student_layer", 9],
        ["--student_layer 9L: the student (--student_model_path ", ") has 4 layers"],
    ),
]


@pytest.mark.parametrize(
    "flags, said", BAD_STUDENTS, ids=[str(number) for number in range(len(BAD_STUDENTS))]
)
def test_bad_students(flags, said, checkpoints, refused, small_demo):
    words = [
        str(word).format(tuned=checkpoints / "tuned", nested=checkpoints / "nested")
        for word in [*TEACHER, *flags]
    ]
    refused("run_distillation.py", ["--task_name", "demo", "--data_dir", small_demo, *words], said)
