"""Two processes with half the batch do what one does with the whole: same updates, scores and grid; they
resume as exactly.

All dropout is off where weights are compared, because each process draws its own.  Adam hides a gradient's
scale, so the logged losses and gradient norms are compared too.  With 150 examples in updates of 16, the last
update of an epoch is a short one.
"""

import json
import os
import shutil
import signal as signals
import threading
import time

import pytest
from commands import kill_when, outcome, run
from safetensors.torch import load_file

from utils.files import read_json, sha256

PLAIN = (
    *"--hidn_dropout 0 --att_dropout 0 --cls_dropout 0 --max_train_samples 150".split(),
    *"--learning_rate 0.0001 --num_train_epochs 1 --eval_interval 100".split(),
    *"--log_interval 1 --use_cpu".split(),
)
# 16 examples an update: of one process, of two, of two that accumulate
WHOLE, HALVES, PARTS = (
    ("--per_device_train_batch_size", 16),
    ("--per_device_train_batch_size", 8),
    (*"--per_device_train_batch_size 4 --num_grad_accum_steps 2".split(),),
)


@pytest.fixture
def words(small_demo, tuned_demo, nested_demo):
    """words(flags): the demo task's flags and these, with {tuned} and {nested} filled in."""

    def fill(*flags):
        flags = ("--task_name", "demo", "--data_dir", small_demo, *flags)
        return [str(word).format(tuned=tuned_demo, nested=nested_demo) for word in flags]

    return fill


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def compare(whole, parts, before=None):
    """Weights within 1e-5, the same metrics (those that are losses within 1e-6 of them), losses and gradient
    norms within 1e-4."""
    ours, theirs = (load_file(folder / "ckpt" / "model.safetensors") for folder in (parts, whole))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-5
    found, wanted = (read_json(folder / "results.json")["metrics"] for folder in (parts, whole))
    assert found == {split: pytest.approx(values, rel=1e-6) for split, values in wanted.items()}
    assert len(rows(parts)) == len(rows(whole))
    for a, b in zip(rows(parts), rows(whole)):
        assert a["step"] == b["step"] and a.keys() == b.keys()
        for key in a.keys() - {"stage", "step", "examples_per_second", "eta_seconds", "choice"}:
            assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6), (a["step"], key)
    if before is not None:
        old = load_file(before / "ckpt" / "model.safetensors")
        assert max(float((ours[name] - old[name]).abs().max()) for name in ours) > 1e-4


def test_finetuning(words, tuned_demo, tmp_path):
    """Once through torchrun itself, as users start it."""
    flags = words(*PLAIN, "--model_path", "{tuned}")
    run("run_finetuning.py", *flags, *WHOLE, "--output_dir", tmp_path / "whole")
    launched = run(
        "run_finetuning.py", *flags, *HALVES, "--output_dir", tmp_path / "halves", processes=2, fresh=True
    )
    run("run_finetuning.py", *flags, *PARTS, "--output_dir", tmp_path / "parts", processes=2)
    run("run_finetuning.py", *flags, *PARTS, "--shard", "--output_dir", tmp_path / "shards", processes=2)
    # Said once, by the main process
    assert launched.stdout.splitlines() == [str(tmp_path / "halves" / "ckpt")]
    for parts in ("halves", "parts", "shards"):
        compare(tmp_path / "whole", tmp_path / parts, before=tuned_demo)


def test_minidisc(words, nested_demo, tmp_path):
    """A nested student, trained at five sparsities in one update, and the hop after it; the same assistant is
    picked.

    Torch sums gradients in the last pass of an update, so no weight may be unused in that one: at 90% a layer
    has no head.
    """
    grid = read_json(nested_demo / "ckpt" / "config.json")["compression"]["grid"]
    assert 0 in grid["90"]["heads"]
    flags = words(*PLAIN, "--teacher_model_path", "{nested}", "--target_sparsity", 95, "--max_steps", 5)
    runs = (
        ("whole", WHOLE, 1),
        ("halves", HALVES, 2),
        ("parts", PARTS, 2),
        ("shards", (*HALVES, "--shard"), 2),
    )
    for name, cut, processes in runs:
        run("run_minidisc.py", *flags, *cut, "--output_dir", tmp_path / name, processes=processes)
    for parts in ("halves", "parts", "shards"):
        compare(tmp_path / "whole", tmp_path / parts)
        assert (
            read_json(tmp_path / parts / "results.json")["assistants"]
            == read_json(tmp_path / "whole/results.json")["assistants"]
        )
        assert (tmp_path / parts / "assistant_1" / "model.safetensors").exists()


def test_minilmv2(demo_corpus, small_teacher, tmp_path):
    """A student by way of an assistant: whole, and shared out, where it is killed on its way."""
    flags = (
        *("--corpus", demo_corpus, "--teacher_model_path", small_teacher, "--num_relation_heads", 6),
        *"--student_path 3L,2L --hidden 24 --heads 4 --student_init slice".split(),
        *"--hidn_dropout 0 --att_dropout 0 --use_cpu --learning_rate 0.0003".split(),
        *"--max_steps 10 --eval_interval 5 --log_interval 1 --save_minutes 0 --num_heldout_blocks 39".split(),
    )
    whole, shards = tmp_path / "whole", tmp_path / "shards"
    run("run_minilmv2.py", *flags, *WHOLE, "--output_dir", whole)
    words = (*flags, *HALVES, "--shard", "--output_dir", shards)
    assert kill_when(at_row(shards, 19), "run_minilmv2.py", *words, processes=2)
    run("run_minilmv2.py", *words, processes=2)
    compare(whole, shards)
    assert (shards / "assistant_1" / "model.safetensors").exists()


def test_an_update_smaller_than_the_processes(words, tmp_path):
    """17 examples: the last update has one, which leaves the second process without any."""
    flags = words(*PLAIN, "--model_path", "{tuned}", "--max_train_samples", 17)
    run("run_finetuning.py", *flags, *WHOLE, "--output_dir", tmp_path / "whole")
    run("run_finetuning.py", *flags, *HALVES, "--output_dir", tmp_path / "halves", processes=2)
    compare(tmp_path / "whole", tmp_path / "halves")


def test_sparsification(words, tuned_demo, tmp_path):
    """Importance sums are added up over the processes: the same order of the same weights, the same grid, the
    same curve."""
    flags = words("--model_path", "{tuned}", "--grid", "0,50,80,90", "--scoring_batch_size", 16, "--use_cpu")
    for name, number in (("one", 1), ("two", 2)):
        run("run_sparsification.py", *flags, "--output_dir", tmp_path / name, processes=number)
    run("run_sparsification.py", *flags, "--shard", "--output_dir", tmp_path / "shards", processes=2)
    one, *others = (tmp_path / name for name in ("one", "two", "shards"))
    grid = read_json(one / "ckpt" / "config.json")["compression"]
    assert grid["grid"].keys() == {"0", "50", "80", "90"}
    for two in others:
        assert sha256(one / "ckpt" / "model.safetensors") == sha256(two / "ckpt" / "model.safetensors")
        assert read_json(two / "ckpt" / "config.json")["compression"] == grid
        assert read_json(one / "results.json")["curve"] == read_json(two / "results.json")["curve"]


SHORT = (
    *"--per_device_train_batch_size 8 --num_train_epochs 2 --max_train_samples 96".split(),
    *"--eval_interval 4 --log_interval 1 --save_minutes 0 --use_cpu".split(),
    *"--learning_rate 0.001 --hidn_dropout 0.1 --att_dropout 0.1".split(),
)


def at_row(folder, number):
    file = folder / "metrics.jsonl"
    return lambda: file.exists() and len(file.read_text().splitlines()) >= number


@pytest.mark.parametrize("shared_out", [(), ("--shard",)], ids=["whole", "shared out"])
def test_killed_run_ends_with_the_same_bytes(shared_out, words, tmp_path):
    """Dropout is on; SIGKILL of both processes in an epoch and in an evaluation, and SIGINT, which saves."""
    script, flags = "run_finetuning.py", words(*SHORT, *shared_out, "--model_path", "{tuned}")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(script, *flags, "--output_dir", whole, processes=2)
    for signal, number in (("kill", 7), ("interrupt", 9), ("kill", 12)):
        assert kill_when(
            at_row(parts, number), script, *flags, "--output_dir", parts, processes=2, signal=signal
        )
    refused = run(script, *flags, "--output_dir", parts, processes=3, code=2)
    assert "processes: 2 in the run, 3 now" in refused.stderr  # updates would be of other examples
    run(script, *flags, "--output_dir", parts, processes=2)
    assert sha256(parts / "ckpt" / "model.safetensors") == sha256(whole / "ckpt" / "model.safetensors")
    timed = ("examples_per_second", "eta_seconds")
    histories = [
        [{key: row[key] for key in row if key not in timed} for row in rows(folder)]
        for folder in (parts, whole)
    ]
    assert histories[0] == histories[1] and not (parts / "state").exists()
    if not shared_out:
        run(script, *flags, "--output_dir", parts, "--do_test", processes=1)  # a finished run is anyone's


def test_every_process_stops_at_an_error(words, tmp_path):
    """What only the main process can see (the run folder) and what all see (data); neither leaves a process
    waiting."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    shutil.copytree(words()[3], tmp_path / "data")
    (tmp_path / "data" / "demo" / "train.tsv").write_text("")
    for flags in (
        words("--output_dir", tmp_path / "notes"),
        words("--output_dir", tmp_path / "run", "--data_dir", tmp_path / "data"),
    ):
        done = run("run_finetuning.py", *flags, "--use_cpu", processes=2, code=2, seconds=60)
        assert "Traceback" not in done.stderr and "error: " in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "notes"]


def dies_at_row(folder, number):
    """Have this process killed when the main one has logged so many rows."""
    reached = at_row(folder, number)

    def die():
        while not reached():
            time.sleep(0.002)
        os.kill(os.getpid(), signals.SIGKILL)

    threading.Thread(target=die, daemon=True).start()


@pytest.mark.parametrize("victim", [0, 1])
def test_the_others_end_soon_where_one_is_killed(victim, words, tmp_path):
    """With a message; as many processes go on."""
    flags = words(*SHORT, "--model_path", "{tuned}", "--output_dir", tmp_path / "run")
    before = [None, None]
    before[victim] = dies_at_row, (tmp_path / "run", 7)
    codes, text = outcome("run_finetuning.py", *flags, processes=2, before=before)
    assert codes[victim] == -signals.SIGKILL and codes[1 - victim] == 2, text
    assert "Traceback" not in text and text.count("error: ") == 1
    assert "connection to another process is lost" in text and "FutureWarning" not in text
    done = run("run_finetuning.py", *flags, processes=2)
    assert "continued from update" in done.stderr


def set_variables(values):
    os.environ.update(values)


@pytest.mark.parametrize(
    "values, code, said",
    [
        ({"WORLD_SIZE": "2"}, 2, "start them with torchrun, or unset WORLD_SIZE"),
        ({"WORLD_SIZE": "two"}, 2, "WORLD_SIZE='two'"),
        ({"WORLD_SIZE": ""}, 0, "1 process(es)"),
    ],
    ids=["no launcher", "no number", "empty"],
)
def test_variables_that_no_launcher_has_set(values, code, said, words, tmp_path):
    flags = words("--model_path", "{tuned}", "--max_steps", 1, "--use_cpu", "--output_dir", tmp_path / "run")
    codes, text = outcome("run_finetuning.py", *flags, before=[(set_variables, (values,))])
    assert codes == [code] and said in text and "Traceback" not in text, text


def test_predictions_in_the_order_of_the_file(words, tmp_path):
    """33 rows in batches of 8: each dev and test row counts once, whichever process ran it."""
    flags = words(
        *"--model_path {tuned} --max_steps 1 --do_train --do_test --do_infer --use_cpu".split(),
        *"--hidn_dropout 0 --att_dropout 0 --cls_dropout 0 --per_device_eval_batch_size 5".split(),
    )
    for number in (1, 2):
        run(
            "run_finetuning.py",
            *flags,
            "--per_device_train_batch_size",
            16 // number,
            "--output_dir",
            tmp_path / str(number),
            processes=number,
        )
    results = [read_json(tmp_path / str(number) / "results.json") for number in (1, 2)]
    assert results[0]["metrics"] == results[1]["metrics"] and results[0]["metrics"].keys() == {"dev", "test"}
    file = results[0]["predictions"]["test"]
    assert (tmp_path / "1" / file).read_text() == (tmp_path / "2" / file).read_text()
