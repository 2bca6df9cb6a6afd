"""Rows that --hold_out keeps apart: told by their text, unknown to every stage, inherited from the
checkpoints."""

import pytest
from commands import run
from run_folders import SHORT

from data import hold_out, tasks
from data.readers import Examples
from data.task_data import TaskData
from utils import checkpoints
from utils.errors import DataError
from utils.files import read_json, write_json


def examples(first, second=None, labels=None):
    return Examples([str(i) for i in range(len(first))], first, second, labels, "train.tsv", "train")


def held_texts(first, **more):
    rows = examples(first, **more)
    return {rows.first[i] for i in hold_out.separate(rows, 0.3, kind="classification")[0]}


def test_a_rows_text_decides():
    """Another order, more rows, other labels: the same texts are held out; every row is in one of the two
    parts."""
    texts = [f"a sentence {i}" for i in range(1000)]
    held = held_texts(texts)
    assert 0.25 < len(held) / 1000 < 0.35
    assert held_texts(texts[::-1], labels=[1] * 1000) == held
    assert held_texts(texts[:200] * 2) == held & {*texts[:200]}  # repeated rows stay together
    rows = examples(texts)
    out, rest = hold_out.separate(rows, 0.3, kind="classification")
    assert sorted(out + rest) == list(range(1000)) and out == sorted(out)
    smaller, _ = hold_out.separate(rows, 0.1, kind="classification")
    assert {*smaller} < {*out}


def test_what_counts_as_the_text():
    """Both texts of a pair; the words of a sentence; of questions the text that they ask about."""
    one, other = ["same"] * 100, [f"other {i}" for i in range(100)]
    pairs = hold_out.separate(examples(one, other), 0.5, kind="classification")[0]
    assert 20 < len(pairs) < 80
    questions = examples([f"why {i}?" for i in range(100)], [f"text {i // 10}" for i in range(100)])
    out, _ = hold_out.separate(questions, 0.5, kind="spans")
    assert out and all(i in out for j in out for i in range(j // 10 * 10, j // 10 * 10 + 10))
    words = [["a", str(i)] for i in range(100)]
    assert 20 < len(hold_out.separate(examples(words), 0.5, kind="tagging")[0]) < 80


def test_a_share_that_leaves_nothing():
    with pytest.raises(DataError, match=r"--hold_out 0.001 of 3 rows leaves 0 held out and 3"):
        hold_out.separate(examples(["a", "b", "c"]), 0.001, kind="classification")


def test_no_row_is_on_both_sides(small_demo):
    """Train, scoring sample and held-out rows; --max_train_samples does not move a row from one side to the
    other."""

    def load(share, samples=None):
        options = {"data_dir": small_demo, "max_length": 64, "max_train_samples": samples, "hold_out": share}
        return TaskData(tasks.get("demo"), tokenizer_path=None, **options)

    def texts(split):
        return list(zip(split.examples.first, split.examples.second))

    whole, held, fewer = load(0.0), load(0.2), load(0.2, 50)
    assert list(whole.selection) == ["dev"] and list(held.selection) == ["hold_out"] == list(fewer.selection)
    out = texts(held.selection["hold_out"])
    assert sorted(texts(held.train) + out) == sorted(texts(whole.train)) and out == texts(
        fewer.selection["hold_out"]
    )
    assert len(fewer.train) == 50 and not {*texts(fewer.train)} & {*out}
    assert not {*texts(held.scoring_split("train", None))} & {*out}


@pytest.fixture(scope="module")
def held(small_demo, tmp_path_factory):
    """(base flags, the folder of a model that was fine-tuned and then sorted without the held-out rows)."""
    folder = tmp_path_factory.mktemp("held")
    base = ("--task_name", "demo", "--data_dir", small_demo, *SHORT)
    run("run_finetuning.py", *base, "--hold_out", 0.2, "--output_dir", folder / "teacher")
    run(
        "run_sparsification.py",
        *base[:4],
        *f"--use_cpu --model_path {folder / 'teacher'} --grid 0,50,70,80,90,95".split(),
        *f"--output_dir {folder / 'nested'}".split(),
    )
    return base, folder


def test_the_share_is_recorded_and_inherited(held):
    """Fine-tuning says 0.2; the stage after it need not, and hands it on. Dev is scored beside what chose."""
    _, folder = held
    for stage in ("teacher", "nested"):
        assert read_json(folder / stage / "ckpt/config.json")["hold_out"] == {"demo": 0.2}
        assert read_json(folder / stage / "args.json")["settings"]["hold_out"] == 0.2
        assert list(read_json(folder / stage / "results.json")["metrics"]) == ["hold_out", "dev"]
    rows = [line for line in (folder / "teacher/metrics.jsonl").read_text().splitlines() if '"score"' in line]
    assert rows and all("hold_out/acc" in row and "dev/acc" not in row for row in rows)


def test_contradictions_and_teachers_without_a_record(held, tuned_demo, nested_demo, tmp_path):
    base, folder = held
    student = ("--student_layer", 2, "--output_dir", tmp_path / "run")
    other = run(
        "run_distillation.py",
        *base,
        *student,
        "--teacher_model_path",
        folder / "teacher",
        "--hold_out",
        0.1,
        code=2,
    )
    assert "--teacher_model_path 0.2, --hold_out 0.1" in other.stderr
    unknown = run(
        "run_distillation.py", *base, *student, "--teacher_model_path", tuned_demo, "--hold_out", 0.1, code=2
    )
    assert (
        "--teacher_model_path: nothing in its config says" in unknown.stderr
        and "--teacher_saw_hold_out" in unknown.stderr
    )
    theirs = ("--teacher_model_path", folder / "teacher", "--student_model_path", tuned_demo)
    words = ("--model_type", "kdbert_cls", "--output_dir", tmp_path / "run")
    started = run("run_distillation.py", *base, *theirs, *words, code=2)
    assert "--student_model_path: nothing in its config says" in started.stderr
    words = ("--model_path", tuned_demo, "--hold_out", 0.2, "--output_dir", tmp_path / "run")
    started = run("run_finetuning.py", *base, *words, code=2)
    assert "--model_path: nothing in its config says" in started.stderr
    alone = run(
        "run_distillation.py",
        *base,
        *student,
        "--teacher_model_path",
        tuned_demo,
        "--teacher_saw_hold_out",
        code=2,
    )
    assert "has a meaning only with --hold_out" in alone.stderr
    words = ("--model_path", folder / "teacher", "--scoring_split", "dev", "--output_dir", tmp_path / "run")
    assert (
        "--scoring_split dev: with --hold_out"
        in run("run_sparsification.py", *base[:4], *words, code=2).stderr
    )


def test_what_a_checkpoint_was_trained_on(tmp_path):
    """Its head and the run around it say so; its config alone of a task of the user's own; a trimmed encoder
    was not, though its run names the task."""
    run_folder = tmp_path / "run"
    for folder in (run_folder / "ckpt", tmp_path / "copied"):
        folder.mkdir(parents=True)
    write_json(run_folder / "args.json", {"settings": {"task_name": "rte"}})
    write_json(run_folder / "results.json", {})
    for head, own, expected in (
        ("BertForSequenceClassification", {}, {"rte"}),
        ("BertForSequenceClassification", {"own_task": {"name": "mine"}}, {"rte", "mine"}),
        ("BertForMaskedLM", {}, set()),
        ("BertModel", {"own_task": {"name": "mine"}}, set()),
    ):
        config = {"model_type": "bert", "architectures": [head], **own}
        write_json(run_folder / "ckpt" / "config.json", config)
        assert {
            name for name in ("rte", "mine", "mrpc") if checkpoints.trained_on(run_folder, name)
        } == expected
    write_json(
        tmp_path / "copied" / "config.json", config | {"architectures": ["BertForTokenClassification"]}
    )
    assert checkpoints.trained_on(tmp_path / "copied", "mine")
    assert not checkpoints.trained_on(tmp_path / "copied", "rte")


def test_students_choose_on_held_out_rows(held, tmp_path):
    """Direct, MaxiDisc, MiniDisc: the chooser's metrics and dev's, the first hop's own slice, the record in
    the student."""
    base, folder = held
    teacher = ("--teacher_model_path", folder / "nested")
    run(
        "run_distillation.py",
        *base,
        *teacher,
        "--layer_or_sparsity",
        "90S",
        "--output_dir",
        tmp_path / "direct",
    )
    run(
        "run_maxidisc.py",
        *base,
        *teacher,
        "--layer_or_sparsity_path",
        "80,90S",
        "--output_dir",
        tmp_path / "maxi",
    )
    run(
        "run_minidisc.py",
        *base,
        *teacher,
        *f"--candidates 70,80 --learning_rates 1e-3,5e-4 --output_dir {tmp_path / 'mini'}".split(),
    )
    for name in ("direct", "maxi", "mini"):
        results = read_json(tmp_path / name / "results.json")
        assert list(results["metrics"]) == ["hold_out", "dev"]
        assert read_json(tmp_path / name / "ckpt/config.json")["hold_out"] == {"demo": 0.2}
    hops = read_json(tmp_path / "maxi/results.json")["trials_in_full"][0]["hops"]
    assert [list(hop["metrics"]) for hop in hops] == [["hold_out", "dev"]] * 2
    results = read_json(tmp_path / "mini/results.json")
    first, second = results["hops"]
    assert first["trained"] == [50, 70, 80, 90, 95] and second["trained"] == [90]
    assert [row["sparsity"] for row in first["table"]] == [70, 80] and first["pick"] in (70, 80)
    assert (
        list(results["last_metrics"]) == ["hold_out"] and results["slice_of_first_hop"]["sparsity"] == "90%"
    )
    assert list(results["slice_of_first_hop"]["metrics"]) == ["hold_out", "dev"]
    rates = [
        float(line.split('"lr": ')[1].split(",")[0])
        for line in (tmp_path / "mini/metrics.jsonl").read_text().splitlines()
        if '"lr"' in line
    ]
    assert max(rates) <= 1e-3 and rates[-1] < 5e-4


def test_evaluation_on_held_out_rows(held, tuned_demo, tmp_path):
    base, folder = held
    words = (
        *base[:4],
        "--use_cpu",
        "--num_repeats",
        0,
        "--split",
        "hold_out",
        "--output_dir",
        tmp_path / "run",
    )
    run("run_evaluation.py", *words, "--model_path", folder / "teacher", folder / "nested")
    rows = read_json(tmp_path / "run/results.json")["rows"]
    assert all("hold_out/acc" in row for row in rows)
    teacher = read_json(folder / "teacher/results.json")["metrics"]["hold_out"]["acc"]
    assert rows[0]["hold_out/acc"] == teacher
    assert (
        "nothing in its config"
        in run("run_evaluation.py", *words, "--model_path", folder / "teacher", tuned_demo, code=2).stderr
    )
    assert (
        "no model's config says"
        in run("run_evaluation.py", *words, "--model_path", tuned_demo, code=2).stderr
    )
