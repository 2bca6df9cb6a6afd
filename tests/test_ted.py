"""TED's stages and baselines as a user runs them, on a few rows of the demo task and small made-up ones of
the other kinds."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_squad
import torch
import transformers
from commands import kill_when, run
from huggingface_hub import ModelCard
from run_folders import SHORT, at_row, history
from safetensors.torch import load_file
from task_files import FILES

import models
from utils.files import read_json, sha256

FAST = (
    "--num_train_epochs",
    1,
    "--learning_rate",
    1e-3,
    "--per_device_train_batch_size",
    16,
    "--log_interval",
    1,
    "--use_cpu",
)
WEIGHTS = ("--kl_alpha", 5, "--mse_alpha", 10)


@pytest.fixture(scope="module")
def base(small_demo):
    return ("--task_name", "demo", "--data_dir", small_demo)


@pytest.fixture(scope="module")
def made(base, tuned_demo, tmp_path_factory):
    """The teacher (4 layers, a filter on every second one), a student of 2 layers and it with filters; run
    folders."""
    folder = tmp_path_factory.mktemp("ted")
    run(
        "run_ted.py",
        *base,
        *FAST,
        *f"--mode filters --model_path {tuned_demo} --filter_interval 2 --cache_teacher".split(),
        *f"--output_dir {folder / 'teacher'}".split(),
    )
    run(
        "run_ted.py",
        *base,
        *FAST,
        *f"--mode ft --teacher_model_path {tuned_demo} --student_layer 2".split(),
        *f"--output_dir {folder / 'tuned'}".split(),
    )
    run(
        "run_ted.py",
        *base,
        *FAST,
        "--mode",
        "filters",
        "--model_path",
        folder / "tuned",
        "--output_dir",
        folder / "student",
    )
    return SimpleNamespace(
        plain=tuned_demo, **{name: folder / name for name in ("teacher", "tuned", "student")}
    )


def tensors(folder, name="model"):
    return load_file(folder / "ckpt" / f"{name}.safetensors")


def rows(folder, key):
    return [row for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()) if key in row]


def pair_flags(made, mode, init="stage1"):
    """Teacher and student of a stage II or a baseline."""
    words = [
        "--mode",
        mode,
        "--teacher_model_path",
        made.teacher,
        "--student_model_path",
        made.student,
        "--student_init",
        init,
    ]
    words += ["--kl_alpha", 5] + (["--mse_alpha", 10] if mode != "kd" else [])
    return words + (["--teacher_filter_interval", 2] if mode == "lwd" else [])


# ---- Stage I


def test_a_filter_stage_changes_no_bit_of_the_model(made):
    before, after = tensors(made.plain), tensors(made.teacher)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    old, new = (read_json(folder / "ckpt" / "config.json") for folder in (made.plain, made.teacher))
    assert {**new, **old} == new  # at most the kind of problem has been added
    assert {name.partition(".")[0] for name in tensors(made.teacher, "filters")} == {"2", "4"}
    models.load_model(made.teacher, kind="classification")


def test_every_filter_is_trained_and_scored(made):
    """Terms are named by layer and add up; the heads' scores on dev say which layers carry the task; the last
    state is kept."""
    (last,) = rows(made.teacher, "score")
    results = read_json(made.teacher / "results.json")
    assert (
        results["metrics"]["dev"].keys() == {"acc/2", "acc/4"}
        and last["dev/acc/2"] == results["metrics"]["dev"]["acc/2"]
    )
    for row in rows(made.teacher, "lr"):
        assert row["loss"] == pytest.approx(row["task/2"] + row["task/4"], rel=1e-6)
    assert results["model_metrics"]["dev"] == read_json(made.plain / "results.json")["metrics"]["dev"]
    assert results["filters"] == {"layers": [2, 4], "output_dim": 128, "parameters": 2 * (128 * 128 + 128)}
    (score,) = ModelCard((made.teacher / "ckpt" / "README.md").read_text()).data.eval_results
    assert score.metric_value == results["model_metrics"]["dev"]["acc"]


def test_heads_beside_the_majority(made, base):
    """What the most frequent class scores on the same rows, in results.json, in the log and beside the
    filters."""
    lines = (Path(base[-1]) / "demo" / "dev.tsv").read_text().splitlines()[1:]
    labels = [line.split("\t")[-1] for line in lines]
    majority = max(labels.count(label) for label in {*labels}) / len(labels)
    results, spec = (
        read_json(made.teacher / "results.json"),
        read_json(made.teacher / "ckpt" / "filters.json"),
    )
    assert (
        spec["heads"] == results["heads"]
        and [row["layer"] for row in results["heads"]] == [2, 4]
        and not spec["pooled"]
    )
    for row in results["heads"]:
        assert row["score"] == results["metrics"]["dev"][f"acc/{row['layer']}"] and row["metric"] == "acc"
        assert row["baseline"] == pytest.approx(majority) and row["above"] == (row["low"] > 0)
        assert row["low"] <= row["score"] - majority <= row["high"]
    log = (made.teacher / "log.txt").read_text()
    assert "baseline" in log and f"{majority:.4f}" in log


def test_cached_states_make_the_same_filters(base, made, tmp_path):
    run(
        "run_ted.py",
        *base,
        *FAST,
        *f"--mode filters --model_path {made.plain} --filter_interval 2".split(),
        *f"--output_dir {tmp_path / 'run'}".split(),
    )
    cached, anew = tensors(made.teacher, "filters"), tensors(tmp_path / "run", "filters")
    assert max(float((cached[name] - anew[name]).abs().max()) for name in cached) < 1e-4
    # They were trained
    assert max(float(tensor.abs().max()) for name, tensor in anew.items() if name.endswith("bias")) > 1e-3


# ---- Stage II and baselines


@pytest.fixture(scope="module")
def students(base, made, tmp_path_factory):
    """Run folders of the three modes, started alike."""
    folder = tmp_path_factory.mktemp("students")
    for mode in ("kd", "lwd", "ted"):
        run("run_ted.py", *base, *FAST, *pair_flags(made, mode), "--output_dir", folder / mode)
    return folder


@pytest.mark.parametrize(
    "mode, terms", [("kd", {"task", "kl"}), ("lwd", {"task", "kl", "mse"}), ("ted", {"task", "kl", "mse"})]
)
def test_terms_are_logged_and_add_up(students, mode, terms):
    lines = rows(students / mode, "lr")
    assert terms <= lines[0].keys() and ("mse" in lines[0]) == ("mse" in terms) and len(lines) == 10
    for row in lines:
        assert row["loss"] == pytest.approx(sum(row[name] for name in terms), rel=1e-6)
    assert lines[-1]["kl"] != lines[0]["kl"]


def test_all_modes_start_alike(students, made):
    """The first batch's task loss is that of the same weights (no dropout is on in the demo model)."""
    firsts = [rows(students / mode, "lr")[0] for mode in ("kd", "lwd", "ted")]
    assert firsts[0]["task"] == firsts[1]["task"] == firsts[2]["task"] and firsts[0]["kl"] == firsts[2]["kl"]
    starts = [read_json(students / mode / "results.json")["start_metrics"] for mode in ("kd", "lwd", "ted")]
    assert starts[0] == starts[1] == starts[2] == read_json(made.student / "results.json")["model_metrics"]


@pytest.mark.parametrize("mode", ["kd", "lwd", "ted"])
def test_the_exported_student_is_a_stock_model(students, mode):
    folder = students / mode / "ckpt"
    assert not list(folder.glob("filters*")) and "compression" not in read_json(folder / "config.json")
    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert (
        type(model) is transformers.BertForSequenceClassification
        and not info["missing_keys"]
        and not info["unexpected_keys"]
    )


@pytest.mark.parametrize(
    "init, student", [("pretrained", "tuned"), ("finetuned", "tuned"), ("pretrained", None)]
)
def test_other_starts(base, made, tmp_path, init, student):
    """Without stage I the student's filters are new; its weights may be the teacher's own layers."""
    source = (
        ("--student_model_path", getattr(made, student))
        if student
        else ("--student_layer", 2, "--layer_choice", "even")
    )
    flags = (*base, *FAST, *WEIGHTS, "--cache_teacher", "--max_steps", 2, "--do_train", "--do_test", *source)
    run(
        "run_ted.py",
        *flags,
        *f"--mode ted --teacher_model_path {made.teacher} --student_init {init}".split(),
        *f"--output_dir {tmp_path / 'run'}".split(),
    )
    results = read_json(tmp_path / "run" / "results.json")
    assert results["metrics"].keys() == {"dev", "test"} and results["last_metrics"]
    assert results["matched_layers"] == {"student": [1, 2], "teacher": [2, 4], "output_dim": 128}


def test_cached_teacher_gives_the_same_student(base, students, made, tmp_path):
    run(
        "run_ted.py",
        *base,
        *FAST,
        *pair_flags(made, "ted"),
        "--cache_teacher",
        "--output_dir",
        tmp_path / "run",
    )
    cached, anew = tensors(tmp_path / "run"), tensors(students / "ted")
    assert max(float((cached[name] - anew[name]).abs().max()) for name in cached) < 1e-4


# ---- Which filters are matched, and where


@pytest.fixture
def heads(made, tmp_path):
    """heads(teacher=[...], student=[...]): flags of a stage II with copies of both, whose heads are said to
    be above chance."""

    def flags(**above):
        words = ["--mode", "ted", *WEIGHTS]
        for side, found in above.items():
            copy = shutil.copytree(getattr(made, side), tmp_path / "_".join([side, *map(str, found)]))
            file = copy / "ckpt" / "filters.json"
            spec = read_json(file)
            for row, is_above in zip(spec["heads"], found, strict=True):
                row["above"] = is_above
            file.write_text(json.dumps(spec))
            words += [f"--{side}_model_path", copy]
        return words

    return flags


def test_pairs_above_chance_alone_are_matched(base, students, heads, tmp_path):
    """The distance is that of the pair that is left; all of them is the default."""
    words = [*base, *FAST, *heads(teacher=[True, True], student=[False, True]), "--max_steps", 1]
    lower = [*base, *FAST, *heads(teacher=[True, False], student=[True, True]), "--max_steps", 1]
    above, results = ("--filters", "above_chance"), {}
    for name, flags in {
        "one": [*words, *above],
        "cached": [*words, *above, "--cache_teacher"],
        "all": words,
        "lower": [*lower, *above],
    }.items():
        run("run_ted.py", *flags, "--output_dir", tmp_path / name)
        results[name] = read_json(tmp_path / name / "results.json")
    assert results["one"]["matched_layers"] == {"student": [2], "teacher": [4], "output_dim": 128}
    assert results["lower"]["matched_layers"]["teacher"] == [2] and results["all"]["matched_layers"][
        "student"
    ] == [1, 2]
    for name in ("one", "all"):
        assert [row["above"] for row in results[name]["student_heads"]] == [False, True]
        assert [row["layer"] for row in results[name]["teacher_heads"]] == [2, 4]
    mse = {name: rows(tmp_path / name, "lr")[0]["mse"] for name in results}
    assert mse["all"] == rows(students / "ted", "lr")[0]["mse"] and mse["cached"] == pytest.approx(
        mse["one"], rel=1e-5
    )
    assert mse["one"] != mse["lower"] and (mse["one"] + mse["lower"]) / 2 == pytest.approx(
        mse["all"], rel=1e-5
    )


def test_no_pair_above_chance(base, heads, made, tmp_path):
    """An error that shows every head; and one where the student's filters are new."""
    words = heads(teacher=[True, False], student=[False, True])
    flags = ("run_ted.py", *base, "--filters", "above_chance", "--output_dir", tmp_path / "run")
    done = run(*flags, *words, code=2)
    assert (
        "found no pair of filters whose heads are above chance" in done.stderr
        and not (tmp_path / "run").exists()
    )
    assert all(text in done.stderr for text in ("side", "baseline", "teacher", "student", "False", "True"))
    done = run(
        *flags,
        "--mode",
        "ted",
        *WEIGHTS,
        *f"--teacher_model_path {made.teacher} --student_model_path {made.tuned}".split(),
        *"--student_init finetuned".split(),
        code=2,
    )
    assert "with --student_init finetuned the student's filters are new" in done.stderr


@pytest.fixture(scope="module")
def means(base, made, tmp_path_factory):
    """Filters for the mean over tokens of both sides; the teacher's states cached."""
    folder = tmp_path_factory.mktemp("means")
    for side, model, extra in (
        ("teacher", made.plain, ("--filter_interval", 2, "--cache_teacher")),
        ("student", made.tuned, ()),
    ):
        run(
            "run_ted.py",
            *base,
            *FAST,
            *f"--mode filters --filter_token mean --model_path {model}".split(),
            *extra,
            "--output_dir",
            folder / side,
        )
    return folder


def test_filters_of_the_mean(base, made, means, tmp_path):
    """They are others than the first token's; what is cached is one state an example, and makes the same."""
    assert read_json(means / "teacher" / "ckpt" / "filters.json")["pooled"] is True
    first, cached = tensors(made.teacher, "filters"), tensors(means / "teacher", "filters")
    assert max(float((cached[name] - first[name]).abs().max()) for name in cached) > 1e-3
    flags = (
        *base,
        *FAST,
        "--mode",
        "filters",
        "--filter_token",
        "mean",
        "--model_path",
        made.plain,
        "--filter_interval",
        2,
    )
    run("run_ted.py", *flags, "--output_dir", tmp_path / "anew")
    anew = tensors(tmp_path / "anew", "filters")
    assert max(float((cached[name] - anew[name]).abs().max()) for name in cached) < 1e-4
    kept = [
        line for line in (means / "teacher" / "log.txt").read_text().splitlines() if "kept in memory" in line
    ]
    number = read_json(means / "teacher" / "results.json")["data"]["train"]
    assert len(kept) == 2 and f"{2 * number * 128 * 4 / 2**20:.1f} MiB" in kept[0]
    for name, extra in (("all", ()), ("all_cached", ("--cache_teacher",))):
        run(
            "run_ted.py",
            *flags,
            "--filter_nonlinear",
            "--max_steps",
            2,
            *extra,
            "--output_dir",
            tmp_path / name,
        )
    one, two = (tensors(tmp_path / name, "filters") for name in ("all", "all_cached"))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5


def test_means_are_matched(base, means, made, tmp_path):
    """In stage II as in stage I, without saying so; with a cached teacher, and from new filters too."""
    words = ("--mode", "ted", *WEIGHTS, "--teacher_model_path", means / "teacher", "--max_steps", 3)
    stage1 = ("--student_model_path", means / "student")
    for name, extra in {
        "plain": stage1,
        "said": (*stage1, "--filter_token", "mean"),
        "cached": (*stage1, "--cache_teacher"),
        "new": ("--student_model_path", made.tuned, "--student_init", "finetuned"),
    }.items():
        run("run_ted.py", *base, *FAST, *words, *extra, "--output_dir", tmp_path / name)
        results = read_json(tmp_path / name / "results.json")
        assert results["matched_layers"] == {
            "student": [1, 2],
            "teacher": [2, 4],
            "output_dim": 128,
            "token": "mean",
        }
        assert "teacher_heads" in results and ("student_heads" in results) == (name != "new")
    plain, said, cached = (rows(tmp_path / name, "lr") for name in ("plain", "said", "cached"))
    for a, b, c in zip(plain, said, cached, strict=True):
        assert a["mse"] == b["mse"] and a["mse"] == pytest.approx(c["mse"], rel=1e-4) and a["mse"] > 0


@pytest.mark.parametrize(
    "sides, extra, message",
    [
        (
            ("means", "means"),
            ("--filter_token", "first"),
            "--filter_token first: the checkpoint's filters were trained with --filter_token mean",
        ),
        (
            ("made", "made"),
            ("--filter_token", "mean"),
            "--filter_token mean: the checkpoint's filters were trained with --filter_token first",
        ),
        (
            ("made", "means"),
            (),
            "the student's were trained with --filter_token mean, the teacher's with first",
        ),
        (
            ("means", "means"),
            ("--pad_in_losses",),
            "--pad_in_losses: these filters were trained with --filter_token mean",
        ),
    ],
)
def test_contradicting_tokens(sides, extra, message, base, made, means, tmp_path):
    folders = {"made": made.teacher.parent, "means": means}
    paths = [
        word
        for side, name in zip(("teacher", "student"), sides)
        for word in (f"--{side}_model_path", folders[name] / side)
    ]
    done = run(
        "run_ted.py",
        *base,
        "--mode",
        "ted",
        *WEIGHTS,
        *paths,
        *extra,
        "--output_dir",
        tmp_path / "run",
        code=2,
    )
    assert message in done.stderr and not (tmp_path / "run").exists()


# ---- Other architectures and tasks


def deberta(folder, tokenizer_from, *, layers, width):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_from)
    config = transformers.DebertaV2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=128,
        relative_attention=True,
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        pooler_hidden_size=width,
    )
    transformers.set_seed(0)
    transformers.DebertaV2Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_deberta_end_to_end_in_bf16(base, made, tmp_path):
    """4 layers of 32 to 2 of 16, through filters of one size; then BERT to DeBERTa, which share a
    tokenizer."""
    flags = (*base, *FAST, "--precision", "bf16", "--max_train_samples", 64)
    for side, layers, width in (("t", 4, 32), ("s", 2, 16)):
        plain = deberta(tmp_path / side, made.plain / "ckpt", layers=layers, width=width)
        run(
            "run_ted.py",
            *flags,
            "--mode",
            "ft",
            "--student_model_path",
            plain,
            "--output_dir",
            tmp_path / f"{side}_tuned",
        )
        run(
            "run_ted.py",
            *flags,
            *f"--mode filters --model_path {tmp_path / f'{side}_tuned'} --filter_output_dim 24".split(),
            "--filter_interval",
            layers // 2,
            *f"--filter_nonlinear --output_dir {tmp_path / f'{side}_filters'}".split(),
        )
    for name, words in {
        "ted": (
            "--mode",
            "ted",
            "--teacher_model_path",
            tmp_path / "t_filters",
            "--student_model_path",
            tmp_path / "s_filters",
        ),
        "lwd": (
            "--mode",
            "lwd",
            "--teacher_model_path",
            made.plain,
            "--teacher_filter_interval",
            2,
            "--student_model_path",
            tmp_path / "s",
        ),
    }.items():
        done = run("run_ted.py", *flags, *words, *WEIGHTS, "--output_dir", tmp_path / name)
        assert "nan" not in done.stderr.lower()
        model = models.load_model(tmp_path / name, kind="classification")
        assert type(model) is transformers.DebertaV2ForSequenceClassification
        assert all(tensor.isfinite().all() for tensor in model.parameters())


def task_data(folder, task):
    """A small data folder of a task and a bare BERT with a tokenizer that knows its words, or the unknown
    one."""
    if task == "squad2":
        return (
            tiny_squad.write(folder / "data"),
            tiny_squad.encoder(folder / "encoder", layers=4),
            tiny_squad.LENGTHS,
        )
    (folder / "data" / task).mkdir(parents=True)
    for name, text in FILES[task].items():
        (folder / "data" / task / name).write_text(text)
    return folder / "data", tiny_squad.encoder(folder / "encoder", layers=4), ("--max_length", 24)


@pytest.mark.parametrize(
    "task, extra",
    [
        ("stsb", ()),
        ("stsb", (*"--regression_kl listwise --pad_in_losses".split(),)),
        ("conll", ()),
        ("squad2", ()),
        ("squad2", ("--pad_in_losses",)),
    ],
)
def test_every_kind_of_task(task, extra, tmp_path):
    """Scores, tags and spans: stage I through heads of the task's kind on both sides, then distillation."""
    data, encoder, lengths = task_data(tmp_path, task)
    flags = ("--task_name", task, "--data_dir", data, *FAST, *lengths)
    run("run_finetuning.py", *flags, "--model_path", encoder, "--output_dir", tmp_path / "teacher")
    run(
        "run_ted.py",
        *flags,
        *f"--mode ft --teacher_model_path {tmp_path / 'teacher'} --student_layer 2".split(),
        *f"--output_dir {tmp_path / 'student'}".split(),
    )
    cached = () if extra else ("--cache_teacher",)
    for side, interval in (("teacher", 2), ("student", 1)):
        run(
            "run_ted.py",
            *flags,
            *cached,
            *f"--mode filters --model_path {tmp_path / side} --filter_interval {interval}".split(),
            *f"--output_dir {tmp_path / f'{side}_filters'}".split(),
        )
    metrics = read_json(tmp_path / "teacher_filters" / "results.json")["metrics"]["dev"]
    assert len(metrics) == 2 and all(name.endswith(("/2", "/4")) for name in metrics)
    heads = read_json(tmp_path / "teacher_filters" / "results.json")["heads"]
    assert [row["score"] for row in heads] == [*metrics.values()] and len(
        {row["baseline"] for row in heads}
    ) == 1
    if task != "stsb":
        done = run(
            "run_ted.py",
            *flags,
            *f"--mode filters --model_path {tmp_path / 'teacher'} --filter_token mean".split(),
            *f"--output_dir {tmp_path / 'refused'}".split(),
            code=2,
        )
        assert f"--filter_token: {task} is a" in done.stderr
    run(
        "run_ted.py",
        *flags,
        *cached,
        *extra,
        *f"--mode ted --teacher_model_path {tmp_path / 'teacher_filters'}".split(),
        *f"--student_model_path {tmp_path / 'student_filters'}".split(),
        *WEIGHTS,
        "--output_dir",
        tmp_path / "run",
    )
    assert all(0 <= row["mse"] < row["loss"] for row in rows(tmp_path / "run", "lr"))


# ---- Kill and resume, processes, dry run


CASES = {
    "filters": ((*"--mode filters --model_path {plain} --cls_dropout 0.3".split(),), [4, 7]),
    "filters cached": ((*"--mode filters --model_path {plain} --cache_teacher".split(),), [7]),
    "lwd": ((*"--mode lwd --teacher_model_path {plain} --student_layer 4".split(), *WEIGHTS), [3, 8]),
    "ted": (
        (
            *"--mode ted --teacher_model_path {teacher} --student_model_path {student}".split(),
            *WEIGHTS,
            "--cache_teacher",
        ),
        [6],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_killed_run_ends_with_the_same_bytes(name, base, made, tmp_path):
    words, moments = CASES[name]
    short = SHORT if "filters" not in name else SHORT[: SHORT.index("--hidn_dropout")]
    flags = [*base, *short, *(str(word).format(**vars(made)) for word in words)]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run("run_ted.py", *flags, "--output_dir", whole)
    for moment in moments:
        assert kill_when(
            lambda moment=moment: at_row(moment)(parts), "run_ted.py", *flags, "--output_dir", parts
        )
    run("run_ted.py", *flags, "--output_dir", parts)
    for file in ("model", *(["filters"] if "filters" in name else [])):
        assert sha256(parts / f"ckpt/{file}.safetensors") == sha256(whole / f"ckpt/{file}.safetensors")
    assert history(parts) == history(whole) and not (parts / "state").exists()
    assert {**read_json(parts / "results.json"), "seconds": 0} == {
        **read_json(whole / "results.json"),
        "seconds": 0,
    }


@pytest.mark.parametrize("mode", ["filters", "lwd", "ted"])
def test_two_processes_are_one(mode, base, made, tmp_path):
    words = (
        ("--mode", "filters", "--model_path", made.plain, "--cls_dropout", 0)
        if mode == "filters"
        else pair_flags(made, mode)
    )
    flags = (
        *base,
        *words,
        "--num_train_epochs",
        1,
        "--learning_rate",
        1e-4,
        "--use_cpu",
        "--log_interval",
        1,
    )
    run("run_ted.py", *flags, "--per_device_train_batch_size", 16, "--output_dir", tmp_path / "one")
    halves = (*flags, "--per_device_train_batch_size", 8)
    run("run_ted.py", *halves, "--output_dir", tmp_path / "two", processes=2)
    run("run_ted.py", *halves, "--shard", "--output_dir", tmp_path / "shards", processes=2)
    one = tmp_path / "one"
    for two in (tmp_path / "two", tmp_path / "shards"):
        for file in ("filters", "model") if mode == "filters" else ("model",):
            ours, theirs = tensors(one, file), tensors(two, file)
            assert ours.keys() == theirs.keys()
            assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 2e-5
        for a, b in zip(rows(one, "lr"), rows(two, "lr"), strict=True):
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-4) and a["grad_norm"] == pytest.approx(
                b["grad_norm"], rel=1e-3
            )
        assert read_json(one / "results.json")["metrics"] == read_json(two / "results.json")["metrics"]


def test_dry_run_leaves_nothing_behind(base, made, tmp_path):
    flags = (*base, "--use_cpu", "--dry_run", "--output_dir", tmp_path / "run")
    run("run_ted.py", *flags, "--mode", "filters", "--model_path", made.plain)
    run("run_ted.py", *flags, *pair_flags(made, "ted"))
    assert not list(tmp_path.iterdir())


# ---- Bad input


TED = ("--mode", "ted", "--teacher_model_path", "{teacher}", "--student_model_path", "{student}")
BAD = [
    ((), ["--mode: required"]),
    (("--mode", "filters"), ["--model_path: required"]),
    (
        (*"--mode filters --model_path {plain} --kl_alpha 1 --do_test --student_layer 2".split(),),
        [
            "--kl_alpha: has no meaning with --mode filters",
            "--do_test: has no meaning",
            "--student_layer: has no",
        ],
    ),
    (
        (
            *"--mode kd --kl_alpha 1 --teacher_model_path {plain} --student_layer 2".split(),
            *"--filters above_chance --filter_token mean".split(),
        ),
        ["--filters: has no meaning with --mode kd; it belongs to ted", "--filter_token: has no"],
    ),
    (
        (*"--mode filters --model_path {plain} --filter_interval 5".split(),),
        ["every 5 layers wanted: this model has 4"],
    ),
    (
        (*"--mode kd --student_model_path {tuned}".split(),),
        ["--teacher_model_path: required", "--kl_alpha: 0 leaves nothing"],
    ),
    (
        (
            *"--mode lwd --teacher_model_path {plain} --student_layer 2 --kl_alpha 1".split(),
            *"--filter_nonlinear".split(),
        ),
        [
            "--mse_alpha: 0 leaves nothing",
            "--filter_nonlinear: has no meaning with --mode lwd",
            "student has 2, on layers 1, 2, the teacher 4, on layers 1, 2, 3, 4",
        ],
    ),
    (("--mode", "ft"), ["--student_model_path: required"]),
    (
        (*"--mode ft --student_model_path {tuned} --mse_alpha 1".split(),),
        ["--mse_alpha: has no meaning with --mode ft"],
    ),
    (
        (*"--mode ted --teacher_model_path {plain} --student_model_path {tuned}".split(), *WEIGHTS),
        [
            "--teacher_model_path: ",
            "--student_model_path: ",
            "no filters (filters.json)",
            "run_ted.py --mode filters",
        ],
    ),
    (
        (
            *TED,
            *WEIGHTS,
            *"--filter_interval 2 --teacher_filter_interval 1 --filter_output_dim 64".split(),
            *"--filter_nonlinear".split(),
        ),
        [
            "--filter_interval 2: the checkpoint's filters are on layers 1, 2",
            "--teacher_filter_interval 1",
            "on layers 2, 4",
            "--filter_output_dim 64: outputs of the checkpoint's filters have the size 128",
            "--filter_nonlinear: the checkpoint's filters are linear",
        ],
    ),
    ((*TED, *WEIGHTS, "--task_name", "rte"), ["--task_name: demo of the filters, rte here"]),
    ((*TED, *WEIGHTS, "--student_layer", 1), ["--student_init stage1: filters belong to a whole model"]),
    (
        (
            *"--mode ted --teacher_model_path {teacher} --student_model_path {tuned}".split(),
            *"--student_init finetuned".split(),
            *WEIGHTS,
            "--filter_interval",
            2,
        ),
        ["student has 1, on layers 2, the teacher 2, on layers 2, 4"],
    ),
    ((*TED, *WEIGHTS, "--pad_in_losses", "--cache_teacher"), ["--pad_in_losses and --cache_teacher"]),
    (
        (*TED, *WEIGHTS, "--regression_kl", "listwise"),
        ["--regression_kl listwise: demo is a classification task"],
    ),
    (
        (
            *"--mode kd --kl_alpha 1 --teacher_model_path {plain}".split(),
            *"--student_model_path {encoder} --student_init finetuned".split(),
        ),
        ["no task head"],
    ),
    (
        (
            *"--mode kd --kl_alpha 1 --teacher_model_path {plain}".split(),
            *"--student_model_path {broth}".split(),
        ),
        ["another vocabulary", "BertTokenizer, 28 pieces", "BertTokenizer, 58 pieces"],
    ),
]


@pytest.fixture(scope="module")
def wrong(made, tmp_path_factory):
    """Names of checkpoints: those of `made`, an encoder without a head, one of another tokenizer."""
    folder = tmp_path_factory.mktemp("wrong")
    models.encoder(models.load_model(made.tuned, kind="classification")).save_pretrained(folder / "encoder")
    for file in (made.tuned / "ckpt").glob("tokenizer*"):
        shutil.copy(file, folder / "encoder")
    return {**vars(made), "encoder": folder / "encoder", "broth": tiny_squad.encoder(folder / "broth")}


@pytest.mark.parametrize("words, messages", BAD)
def test_bad_flags_and_checkpoints(words, messages, base, wrong, tmp_path):
    flags = [str(word).format(**wrong) for word in words]
    done = run("run_ted.py", *base, "--use_cpu", *flags, "--output_dir", tmp_path / "run", code=2)
    assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()
    for message in messages:
        assert message in done.stderr, done.stderr


def test_filters_that_are_not_there_are_not_counted(base, made, tmp_path):
    """One message, not a second one about how many there would be."""
    flags = (
        *f"--mode ted --teacher_model_path {made.plain} --student_model_path {made.student}".split(),
        *WEIGHTS,
    )
    done = run("run_ted.py", *base, "--use_cpu", *flags, "--output_dir", tmp_path / "run", code=2)
    assert "no filters (filters.json)" in done.stderr and "matched one to one" not in done.stderr


def test_filters_of_another_size_are_refused(base, made, tmp_path):
    """The count agrees, what they make does not; both sizes are shown."""
    run(
        "run_ted.py",
        *base,
        *FAST,
        *f"--max_steps 1 --mode filters --model_path {made.tuned} --filter_output_dim 64".split(),
        *f"--output_dir {tmp_path / 'narrow'}".split(),
    )
    done = run(
        "run_ted.py",
        *base,
        *f"--mode ted --teacher_model_path {made.teacher}".split(),
        *f"--student_model_path {tmp_path / 'narrow'}".split(),
        *WEIGHTS,
        "--output_dir",
        tmp_path / "run",
        code=2,
    )
    assert "found 64 of the student's filters and 128 of the teacher's" in done.stderr
