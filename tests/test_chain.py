"""Each stage's output is the next stage's input: the chain as a user runs it, on a few rows of the demo
task."""

import csv

import pytest
from commands import run
from run_folders import SHORT
from transformers import AutoModelForSequenceClassification

import models
from utils.files import read_json


@pytest.fixture(scope="module")
def base(small_demo):
    return ("--task_name", "demo", "--data_dir", small_demo, "--use_cpu")


def test_nested_teacher_is_the_same_function(tuned_demo, nested_demo):
    """Scores before and after sorting agree, stock classes load it, and the curve begins with the teacher's
    own score."""
    results = read_json(nested_demo / "results.json")
    assert results["before"] == results["after"] == {"dev": results["metrics"]["dev"]}
    assert [row["sparsity"] for row in results["curve"]] == [0, 50, 60, 70, 80, 90, 95]
    assert results["curve"][0]["acc"] == results["metrics"]["dev"]["acc"]
    sizes = [row["macs"] for row in results["curve"]]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0] / 10
    AutoModelForSequenceClassification.from_pretrained(nested_demo / "ckpt")
    assert (nested_demo / "curve.png").stat().st_size > 10_000 and (
        nested_demo / "ckpt" / "README.md"
    ).exists()


@pytest.mark.parametrize("student, layers, sparsity", [("90S", 4, 90), ("2L", 2, 0)])
@pytest.mark.parametrize("model_type", ["sparsebert_cls", "kdbert_cls", "pkdbert_cls", "ftbert_cls"])
def test_every_objective_makes_every_student(
    base, nested_demo, tmp_path, student, layers, sparsity, model_type
):
    words = (
        "--layer_or_sparsity",
        student,
        "--layer_choice",
        "even",
        "--model_type",
        model_type,
        "--max_steps",
        3,
    )
    run(
        "run_distillation.py",
        *base,
        *SHORT,
        *words,
        "--teacher_model_path",
        nested_demo,
        "--output_dir",
        tmp_path / "run",
    )
    results = read_json(tmp_path / "run" / "results.json")
    assert (results["model"]["layers"], results["model"]["sparsity"]) == (layers, sparsity) and results[
        "num_steps"
    ] == 3
    model = models.load_model(tmp_path / "run", kind="classification")
    assert models.describe(model) == results["model"]


def test_a_student_distils_on(base, nested_demo, tmp_path):
    """A MiniDisc student with what it kept of the grid is a teacher; evaluation lines all of them up."""
    for name, teacher, target in (("first", nested_demo, 80), ("second", tmp_path / "first", 95)):
        run(
            "run_minidisc.py",
            *base,
            *SHORT,
            *f"--max_steps 4 --teacher_model_path {teacher} --target_sparsity {target}".split(),
            *f"--output_dir {tmp_path / name}".split(),
        )
    results = read_json(tmp_path / "second" / "results.json")
    table = {row["sparsity"]: row for row in results["hops"][0]["table"]}
    assert list(table) == [90] and results["assistants"] == [90]  # strictly between 80 and 95
    assert table[90]["t"] == pytest.approx(table[90]["metric"] + 0.2 * 0.9)
    assert (tmp_path / "second" / "tradeoff_1.png").exists()
    assert models.load_model(tmp_path / "second" / "assistant_1", kind="classification")
    run(
        "run_evaluation.py",
        *base,
        *f"--output_dir {tmp_path / 'table'} --num_repeats 2".split(),
        *f"--model_path {tmp_path / 'second'} {tmp_path / 'second' / 'assistant_1'} {nested_demo}".split(),
    )
    with open(tmp_path / "table" / "table.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["sparsity"]) for row in rows] == [95, 90, 0]
    assert float(rows[0]["dev/acc"]) == pytest.approx(results["metrics"]["dev"]["acc"])


def test_the_last_hop_of_the_published_code(base, nested_demo, tmp_path):
    """--final_hop grid: from its teacher's sparsity on, the student's and what lies beyond it too."""
    words = ("--teacher_model_path", nested_demo, "--max_steps", 2, "--final_hop", "grid")
    run("run_minidisc.py", *base, *words, "--candidates", 70, "--output_dir", tmp_path / "run")
    first, last = read_json(tmp_path / "run" / "results.json")["hops"]
    assert (first["pick"], last["trained"]) == (70, [70, 80, 90, 95])
    assert [row["sparsity"] for row in last["table"]] == [90]


def test_evaluation_of_a_grid(base, nested_demo, tmp_path):
    """The curve that sparsification drew from slices is that of the crops."""
    run(
        "run_evaluation.py",
        *base,
        *f"--output_dir {tmp_path / 'run'} --num_repeats 1 --model_path {nested_demo}".split(),
        *"--sparsities 0,50,90".split(),
    )
    curve = {row["sparsity"]: row for row in read_json(nested_demo / "results.json")["curve"]}
    for row in read_json(tmp_path / "run" / "results.json")["rows"]:
        expected = curve[row["sparsity"]]
        assert (row["dev/acc"], row["macs"]) == (expected["acc"], expected["macs"])


def test_test_and_predictions_of_a_finished_run(base, tmp_path):
    """The labelled test file is scored under its own name; the predictions are a GLUE file; training is not
    repeated."""
    flags = (*base, *SHORT, "--output_dir", tmp_path / "run")
    run("run_finetuning.py", *flags)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    run("run_finetuning.py", *flags, "--do_test", "--do_infer")
    results = read_json(tmp_path / "run" / "results.json")
    assert (
        set(results["metrics"]) == {"dev", "test"}
        and before == (tmp_path / "run" / "metrics.jsonl").read_bytes()
    )
    lines = (tmp_path / "run" / results["predictions"]["test"]).read_text().splitlines()
    assert lines[0] == "index\tprediction" and len(lines) == 33
    assert {line.split("\t")[1] for line in lines[1:]} <= {"entailment", "not_entailment"}
