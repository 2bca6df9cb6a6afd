"""SQuAD 2.0 through the scripts as users run them: training, distilling, the files of predictions, and bad
input.

The model is tiny and the data made up: scores only have to follow from the files.
"""

import json
import re

import numpy as np
import pytest
import tiny_squad
from commands import run

from data import tasks
from data.squad.questions import read_questions
from utils.errors import DataError

FLAGS = [
    "--task_name",
    "squad2",
    *tiny_squad.LENGTHS,
    "--use_cpu",
    "--per_device_train_batch_size",
    8,
    "--log_interval",
    1,
]


@pytest.fixture(scope="module")
def squad_dir(tmp_path_factory):
    return tiny_squad.write(tmp_path_factory.mktemp("squad"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_squad.encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, squad_dir, encoder):
    """A fine-tuned run with predictions for dev."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    run(
        "run_finetuning.py",
        *FLAGS,
        *f"--data_dir {squad_dir} --model_path {encoder} --output_dir {folder}".split(),
        *"--learning_rate 0.003 --num_train_epochs 12 --do_train --do_infer".split(),
        *"--infer_split dev".split(),
    )
    return folder


def losses(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_fine_tuning_learns(tuned):
    """The loss falls to less than half; the metrics are all there and hang together."""
    found = losses(tuned)
    assert np.mean(found[-5:]) < 0.5 * found[0]
    dev = json.loads((tuned / "results.json").read_text())["metrics"]["dev"]
    assert {*tasks.get("squad2").metrics} <= {*dev}
    assert (dev["total"], dev["HasAns_total"], dev["NoAns_total"]) == (24, 18, 6)
    assert dev["exact"] == pytest.approx((18 * dev["HasAns_exact"] + 6 * dev["NoAns_exact"]) / 24)
    assert dev["best_exact"] >= dev["exact"] and dev["best_f1"] >= dev["f1"] >= dev["exact"]


def test_files_of_predictions(tuned, squad_dir):
    """The answers agree with the odds and the threshold, the n best with both, and scoring the file gives the
    metric reported."""
    folder = tuned / "predictions"
    answers, best, odds = (
        json.loads((folder / f"squad2_dev_{name}.json").read_text())
        for name in ("predictions", "nbest_predictions", "null_odds")
    )
    examples = tasks.get("squad2").read(squad_dir, "dev")
    assert [*answers] == [*best] == [*odds] == examples.ids
    for number, context in zip(examples.ids, examples.second):
        entries = best[number]
        assert sum(entry["text"] == "" for entry in entries) == 1 and all(
            entry["text"] in context for entry in entries
        )
        assert sum(entry["probability"] for entry in entries) == pytest.approx(1)
        scores = [entry["score"] for entry in entries]
        assert scores == sorted(scores, reverse=True) or entries[-1]["text"] == ""
        top = next(entry for entry in entries if entry["text"])
        null = next(entry for entry in entries if not entry["text"])
        assert odds[number] == pytest.approx(null["score"] - top["score"], abs=1e-5)
        assert answers[number] == ("" if odds[number] > 0 else top["text"])
        assert top["score"] == pytest.approx(top["start_logit"] + top["end_logit"], abs=1e-5)
    right = [answers[i] == (gold[0][1] if gold else "") for i, gold in zip(examples.ids, examples.labels)]
    assert np.mean(right) == pytest.approx(
        json.loads((tuned / "results.json").read_text())["metrics"]["dev"]["exact"]
    )


def test_another_threshold_and_the_test_file_after_training(tuned, squad_dir, encoder):
    """What only turns scores into answers may change once the run has finished; windows may not."""
    flags = [
        *FLAGS,
        *f"--data_dir {squad_dir} --model_path {encoder} --output_dir {tuned}".split(),
        *"--learning_rate 0.003 --num_train_epochs 12 --do_infer".split(),
    ]
    run("run_finetuning.py", *flags, "--null_threshold", -1e6, "--num_best", 3)
    answers = json.loads((tuned / "predictions" / "squad2_test_predictions.json").read_text())
    assert len(answers) == 12 and {*answers.values()} == {""}
    best = json.loads((tuned / "predictions" / "squad2_test_nbest_predictions.json").read_text())
    assert max(map(len, best.values())) in (3, 4)
    done = run("run_finetuning.py", *flags, "--doc_stride", 9, code=2)
    assert "--doc_stride: 8 in the run, 9 now" in done.stderr


@pytest.mark.parametrize("objective", ["ft", "kd", "sparse"])
def test_distillation(objective, tuned, squad_dir, tmp_path):
    done = run(
        "run_distillation.py",
        *FLAGS,
        *f"--data_dir {squad_dir} --teacher_model_path {tuned} --layer_or_sparsity 1L".split(),
        *f"--model_type {objective}bert_qa --learning_rate 0.003".split(),
        *f"--num_train_epochs 3 --output_dir {tmp_path / 'run'}".split(),
        *([] if objective == "ft" else ["--temperature", 2]),
        *(["--cache_teacher"] if objective == "kd" else []),
    )
    found = losses(tmp_path / "run")
    assert found[-1] < found[0] and done.stdout.strip().endswith("ckpt")
    if objective == "kd":  # the same without the cache
        run(
            "run_distillation.py",
            *FLAGS,
            *f"--data_dir {squad_dir} --teacher_model_path {tuned} --layer_or_sparsity 1L".split(),
            *"--model_type kd --temperature 2 --learning_rate 0.003 --num_train_epochs 3".split(),
            *f"--output_dir {tmp_path / 'other'}".split(),
        )
        assert losses(tmp_path / "other") == pytest.approx(found, rel=1e-4)


def test_two_processes_are_one(tuned, squad_dir, tmp_path):
    """Windows are shared out for training and for scoring; each question counts once."""
    flags = [
        *FLAGS[:-4],
        *f"--data_dir {squad_dir} --teacher_model_path {tuned} --layer_or_sparsity 1L".split(),
        *"--max_length 24 --model_type kd --doc_stride 4 --max_steps 4 --log_interval 1".split(),
    ]
    for name, size, processes in (("one", 10, 1), ("two", 5, 2)):
        run(
            "run_distillation.py",
            *flags,
            *f"--per_device_train_batch_size {size} --output_dir {tmp_path / name}".split(),
            processes=processes,
        )
    one, two = (
        json.loads((tmp_path / name / "results.json").read_text())["metrics"]["dev"]
        for name in ("one", "two")
    )
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "two"), rel=1e-4)
    assert one == pytest.approx(two, abs=1e-3) and one["total"] == 24


def test_sparsification_and_minidisc(tuned, squad_dir, tmp_path):
    """The chain to a pruned student works for spans too: the nested model scores as the dense one did."""
    data = [*FLAGS[:-4], "--data_dir", squad_dir]
    run(
        "run_sparsification.py",
        *data,
        "--model_path",
        tuned,
        "--grid",
        "0,40,60,80",
        "--output_dir",
        tmp_path / "nested",
    )
    before, after = (
        json.loads((folder / "results.json").read_text())["metrics"]["dev"]
        for folder in (tuned, tmp_path / "nested")
    )
    assert after["f1"] == pytest.approx(before["f1"])
    run(
        "run_minidisc.py",
        *data,
        *f"--teacher_model_path {tmp_path / 'nested'} --target_sparsity 80".split(),
        *"--num_train_epochs 1 --per_device_train_batch_size 8 --trunc_sparsity 40".split(),
        *f"--output_dir {tmp_path / 'mini'}".split(),
    )
    assert json.loads((tmp_path / "mini" / "results.json").read_text())["metrics"]["dev"]["total"] == 24


def test_questions_are_cut_for_a_quick_score_never_their_windows(tuned, squad_dir, tmp_path):
    """Each of the sampled questions keeps all of its windows, and the files of predictions are about them."""
    run(
        "run_distillation.py",
        *FLAGS,
        *f"--data_dir {squad_dir} --teacher_model_path {tuned} --model_type ft".split(),
        *"--layer_or_sparsity 1L --max_eval_samples 5 --max_length 24 --doc_stride 4".split(),
        *"--max_steps 1 --do_train --do_infer --infer_split dev".split(),
        *f"--output_dir {tmp_path / 'run'}".split(),
    )
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    # Windows: two or more of each question
    assert results["metrics"]["dev"]["total"] == 5 and results["data"]["dev"] >= 10
    assert len(json.loads((tmp_path / "run" / "predictions" / "squad2_dev_null_odds.json").read_text())) == 5
    assert "dev/total 5 " in (tmp_path / "run" / "log.txt").read_text()


def test_patient_distillation_is_refused(tuned, squad_dir, tmp_path):
    done = run(
        "run_distillation.py",
        *FLAGS,
        *f"--data_dir {squad_dir} --teacher_model_path {tuned} --model_type pkd".split(),
        *f"--output_dir {tmp_path / 'run'}".split(),
        code=2,
    )
    assert "pkd is for classification and regression; squad2 is a spans task" in done.stderr


def test_flags_of_spans_belong_to_spans(encoder, squad_dir, tmp_path):
    flags = ["--model_path", encoder, "--data_dir", squad_dir, "--output_dir", tmp_path / "run", "--use_cpu"]
    done = run(
        "run_finetuning.py", "--task_name", "rte", "--doc_stride", 4, "--null_threshold", 0, *flags, code=2
    )
    assert "--doc_stride: has a meaning only" in done.stderr and "--null_threshold: has" in done.stderr
    done = run(
        "run_finetuning.py", "--task_name", "squad2", "--max_length", 24, "--doc_stride", 16, *flags, code=2
    )
    assert "--doc_stride 16: with --max_length 24 a question of 5 tokens leaves 16" in done.stderr
    assert not (tmp_path / "run").exists()


# ---- The reader


def test_real_files(data_dir):
    for split, questions, impossible in (("train", 4719, 348), ("dev", 6078, 3168)):
        examples = tasks.get("squad2").read(data_dir, split)
        assert (len(examples), sum(not answers for answers in examples.labels)) == (questions, impossible)
        for context, answers in zip(examples.second, examples.labels):
            assert all(context[start : start + len(text)] == text for start, text in answers)
        assert len(set(examples.ids)) == questions
    assert examples.first[0] == "In what country is Normandy located?" and examples.labels[0] == (
        (159, "France"),
    )


def file_of(tmp_path, content, name="dev-v2.0.json"):
    (tmp_path / "squad2").mkdir(exist_ok=True)
    path = tmp_path / "squad2" / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def test_samples_are_questions(squad_dir):
    sample = tasks.get("squad2").read(squad_dir, "train").sample(5)
    assert len(sample.first) == len(sample.second) == len(sample.labels) == 5


def test_squad_1_and_byte_order_mark_and_unlabelled_test(tmp_path):
    content = tiny_squad.content(1, 0)
    entries = content["data"][0]["paragraphs"][0]["qas"]
    del entries[3]
    for entry in entries:
        del entry["is_impossible"]
    file_of(tmp_path, b"\xef\xbb\xbf" + json.dumps(content, indent=1).replace("\n", "\r\n").encode())
    assert len(tasks.get("squad2").read(tmp_path, "dev").labels) == 3
    file_of(tmp_path, tiny_squad.content(1, 0, answered=False), "test-v2.0.json")
    assert tasks.get("squad2").read(tmp_path, "test").labels is None


PARAGRAPH = "data[0].paragraphs[1]"
ENTRY = f"{PARAGRAPH}.qas[2]"


def at(*keys, value):
    """Replace a value of the second paragraph, or remove it (value None)."""

    def edit(content):
        holder = content["data"][0]["paragraphs"][1]
        for key in keys[:-1]:
            holder = holder[key]
        if value is None:
            del holder[keys[-1]]
        else:
            holder[keys[-1]] = value

    return edit


def top(value):
    def edit(content):
        content.clear()
        content.update(value)

    return edit


# Name: fault, the place that the message names, what it says
BAD = {
    "no data": (top({"version": "v2.0"}), "top level", "no 'data'"),
    "data is no list": (top({"data": {}}), "data", "found {}; expected a list"),
    "no articles": (top({"data": []}), "data", "no questions"),
    "article is a text": (top({"data": ["x"]}), "data[0]", 'found "x"; expected an object'),
    "no paragraphs": (top({"data": [{"title": "x"}]}), "data[0]", "no 'paragraphs'"),
    "question without context": (at("context", value=None), PARAGRAPH, "no 'context'"),
    "blank context": (at("context", value=" \n"), f"{PARAGRAPH}.context", "a blank context"),
    "context is a number": (at("context", value=7), f"{PARAGRAPH}.context", "found 7; expected a text"),
    "no questions": (at("qas", value=None), PARAGRAPH, "no 'qas'"),
    "question is null": (at("qas", 2, value=[]), ENTRY, "found []; expected an object"),
    "no id": (at("qas", 2, "id", value=None), ENTRY, "no 'id'"),
    "id is a list": (at("qas", 2, "id", value=[]), f"{ENTRY}.id",
    "found []; expected a text or a whole number"),
    "id twice": (at("qas", 2, "id", value="1-0-1"), f"{ENTRY}.id",
    "'1-0-1', which data[0].paragraphs[0].qas[1] has too"),
    "no question": (at("qas", 2, "question", value=None), ENTRY, "no 'question'"),
    "no answers": (at("qas", 2, "answers", value=None), ENTRY, "no 'answers'"),
    "answers is an object": (at("qas", 2, "answers", value={}), f"{ENTRY}.answers", "expected a list"),
    "offset is a text": (at("qas", 2, "answers", 0, "answer_start", value="9"),
    f"{ENTRY}.answers[0].answer_start", 'found "9"'),
    "offset is true": (at("qas", 2, "answers", 0, "answer_start", value=True),
    f"{ENTRY}.answers[0].answer_start", "found true"),
    "other offset": (at("qas", 2, "answers", 0, "answer_start", value=3), f"{ENTRY}.answers[0].answer_start",
    "offset of"),
    "offset below 0": (at("qas", 2, "answers", 0, "answer_start", value=-1),
    f"{ENTRY}.answers[0].answer_start", "it is at"),
    "other text": (at("qas", 2, "answers", 0, "text", value="berlin"), f"{ENTRY}.answers[0].answer_start",
    "does not hold it"),
    "blank answer": (at("qas", 2, "answers", 0, "text", value=" "), f"{ENTRY}.answers[0].text",
    "a blank answer"),
    "no text": (at("qas", 2, "answers", 0, "text", value=None), f"{ENTRY}.answers[0]", "no 'text'"),
    "impossible and answered": (at("qas", 2, "is_impossible", value=True), f"{ENTRY}.is_impossible",
    "true with 1 answers"),
    "possible and not answered": (at("qas", 2, "answers", value=[]), f"{ENTRY}.is_impossible",
    "false with 0 answers"),
    "impossible is a text": (at("qas", 2, "is_impossible", value="no"), f"{ENTRY}.is_impossible",
    'found "no"'),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case, tmp_path):
    fault, place, said = BAD[case]
    content = tiny_squad.content(2, 1)
    fault(content)
    path = file_of(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_questions(path, split="dev")
    message = str(caught.value)
    assert (
        message.startswith(f"{path}: {place}: found ")
        and said in message
        and "expected" in message
        and "\n" not in message
    )


def test_half_labelled_test_file(tmp_path):
    content = tiny_squad.content(2, 1)
    at("qas", 2, "answers", value=None)(content)
    path = file_of(tmp_path, content, "test-v2.0.json")
    with pytest.raises(
        DataError, match=re.escape(f"{path}: {ENTRY}: found no 'answers', which other questions have")
    ):
        tasks.get("squad2").read(tmp_path, "test")


SCRIPT_BAD = {
    "cut off": (lambda text: text[:-40], ":1: found no complete JSON"),
    "empty": (lambda text: "", ":1: found no complete JSON"),
    "not UTF-8": (lambda text: text.encode("utf-16"), ":1: found UTF-16 text"),
    "answer not at its offset": (
        lambda text: re.sub(r'"answer_start": \d+', '"answer_start": 1', text, count=1),
        "answers[0]",
    ),
    "ids twice": (
        lambda text: text.replace("0-0-1", "0-0-0"),
        "data[0].paragraphs[0].qas[1].id: found '0-0-0'",
    ),
    "question without context": (
        lambda text: text.replace('"context"', '"text"', 1),
        "paragraphs[0]: found no 'context'",
    ),
}


@pytest.mark.parametrize("case", SCRIPT_BAD)
def test_bad_files_through_the_script(case, squad_dir, encoder, tmp_path):
    fault, said = SCRIPT_BAD[case]
    (tmp_path / "data" / "squad2").mkdir(parents=True)
    for split in ("train", "dev"):
        source, path = (folder / "squad2" / f"{split}-v2.0.json" for folder in (squad_dir, tmp_path / "data"))
        text = source.read_text()
        damaged = fault(text) if split == "train" else text
        path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    done = run(
        "run_finetuning.py",
        *FLAGS,
        *f"--data_dir {tmp_path / 'data'} --model_path {encoder}".split(),
        *f"--output_dir {tmp_path / 'run'}".split(),
        code=2,
    )
    path = tmp_path / "data" / "squad2" / "train-v2.0.json"
    assert f"error: {path}" in done.stderr and said in done.stderr and "Traceback" not in done.stderr
    assert "expected" in done.stderr and not (tmp_path / "run").exists()


def test_scoring_an_unlabelled_test_file(squad_dir, encoder, tmp_path):
    done = run(
        "run_finetuning.py",
        *FLAGS,
        *f"--data_dir {squad_dir} --model_path {encoder} --do_train --do_test".split(),
        *f"--output_dir {tmp_path / 'run'}".split(),
        code=2,
    )
    assert "test-v2.0.json:1: found no labels; expected answers" in done.stderr
