"""Runs that are killed again and again and started again end with the same bytes as runs that were not.

What test_interruptions.py leaves out: more than one kill, accumulation, a teacher that is kept in memory,
MiniDisc's sandwich.  The moments are recognised by what is on the disk: rows of metrics.jsonl (in the middle
of an epoch), the folder `tmp` (while a snapshot is being written).
"""

import pytest
from commands import kill_when, run
from run_folders import SHORT, at_row, history, num_rows, while_saving

from utils.files import read_json, sha256

DISTIL = ("--teacher_model_path", "{nested}")
CASES = {
    "finetuning accumulated": (
        "run_finetuning.py",
        (*"--num_grad_accum_steps 3 --eval_interval 2".split(),),
        [while_saving(3), at_row(4), at_row(6)],
    ),
    "distillation cached": (
        "run_distillation.py",
        (*DISTIL, *"--layer_or_sparsity 3L --cache_teacher".split()),
        [at_row(7)],
    ),
    "minidisc sandwich": (
        "run_minidisc.py",
        (*DISTIL, *"--train_grid sandwich --num_sandwich 1 --final_hop grid".split()),
        [while_saving(6)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_killed_run_ends_with_the_same_bytes(name, small_demo, nested_demo, tmp_path):
    script, flags, moments = CASES[name]
    flags = [
        str(word).format(nested=nested_demo)
        for word in ("--task_name", "demo", "--data_dir", small_demo, *SHORT, *flags)
    ]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(script, *flags, "--output_dir", whole)
    for moment in moments:
        assert kill_when(lambda moment=moment: moment(parts), script, *flags, "--output_dir", parts), (
            "it ended before it was killed"
        )
        assert not (parts / "results.json").exists()
    done = run(script, *flags, "--output_dir", parts)
    assert done.stdout.splitlines()[-1] == str(parts / "ckpt")
    assert sha256(parts / "ckpt" / "model.safetensors") == sha256(whole / "ckpt" / "model.safetensors")
    ours, theirs = (read_json(folder / "results.json") for folder in (parts, whole))
    assert ours["metrics"] == theirs["metrics"] and ours["best_step"] == theirs["best_step"]
    assert history(parts) == history(whole)  # the selected weights may be older than what went wrong later
    assert not (parts / "state").exists()
    # once more: reported, not trained
    before = sha256(parts / "log.txt")
    again = run(script, *flags, "--output_dir", parts)
    assert (
        again.stdout == done.stdout
        and "finished before" in again.stderr
        and before != sha256(parts / "log.txt")
    )


def test_interrupt_saves_and_exits_with_130(small_demo, tmp_path):
    flags = ["--task_name", "demo", "--data_dir", small_demo, *SHORT, "--save_minutes", 60]
    assert kill_when(
        lambda: num_rows(tmp_path / "parts") >= 6,
        "run_finetuning.py",
        *flags,
        "--output_dir",
        tmp_path / "parts",
        signal="interrupt",
    )
    state = read_json(next(tmp_path.glob("parts/state/train/snapshot-*/state.json")))
    assert state["step"] >= 5
    run("run_finetuning.py", *flags, "--output_dir", tmp_path / "parts")
    run("run_finetuning.py", *flags, "--output_dir", tmp_path / "whole")
    assert sha256(tmp_path / "parts/ckpt/model.safetensors") == sha256(
        tmp_path / "whole/ckpt/model.safetensors"
    )


def test_changed_settings_are_refused(small_demo, tmp_path):
    """Every difference is listed, nothing is overwritten; --overwrite starts afresh."""
    flags = ["--task_name", "demo", "--data_dir", small_demo, *SHORT, "--output_dir", tmp_path / "run"]
    run("run_finetuning.py", *flags)
    before = sha256(tmp_path / "run/ckpt/model.safetensors")
    refused = run("run_finetuning.py", *flags, "--seed", 1, "--weight_decay", 0.5, code=2)
    assert "--seed: 776 in the run, 1 now" in refused.stderr and "--weight_decay" in refused.stderr
    assert "Traceback" not in refused.stderr and before == sha256(tmp_path / "run/ckpt/model.safetensors")
    run("run_finetuning.py", *flags, "--seed", 1, "--overwrite")
    assert before != sha256(tmp_path / "run/ckpt/model.safetensors")


def test_dry_run_leaves_nothing_behind(small_demo, tmp_path, nested_demo):
    flags = [
        "--task_name",
        "demo",
        "--data_dir",
        small_demo,
        "--use_cpu",
        "--dry_run",
        "--output_dir",
        tmp_path / "run",
    ]
    for words in (["run_finetuning.py"], ["run_minidisc.py", "--teacher_model_path", nested_demo]):
        done = run(words[0], *flags, *words[1:])
        assert "nothing is kept" in done.stderr
        # No folder that is not there any more
        assert done.stdout == "" and "bert-compression-dry-run" not in done.stderr
    assert not list(tmp_path.iterdir())
