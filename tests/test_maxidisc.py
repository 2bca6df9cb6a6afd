"""MaxiDisc through the script: paths, hops found again by what they are, kill and resume between hops."""

import time
from pathlib import Path

import pytest
from commands import kill_when, outcome, run
from run_folders import SHORT, stage_done

import run_maxidisc
from utils.files import read_json, sha256


def flags(small_demo, nested_demo, tmp_path, *more):
    shared = ("--task_name", "demo", "--data_dir", small_demo, *SHORT, "--teacher_model_path", nested_demo)
    return (*shared, "--hops_dir", tmp_path / "hops", *more)


def test_a_path_is_a_chain_of_direct_distillations(small_demo, nested_demo, tmp_path):
    """80,90S ends with the bytes of run_distillation.py run twice by hand: nothing else happens between the
    hops."""
    run(
        "run_maxidisc.py",
        *flags(small_demo, nested_demo, tmp_path, "--layer_or_sparsity_path", "80,90S"),
        "--output_dir",
        tmp_path / "maxi",
    )
    teacher = nested_demo
    for student in ("80S", "90S"):
        run(
            "run_distillation.py",
            *f"--task_name demo --data_dir {small_demo}".split(),
            *SHORT,
            *f"--teacher_model_path {teacher} --layer_or_sparsity {student}".split(),
            *f"--output_dir {tmp_path / student}".split(),
        )
        teacher = tmp_path / student
    ours, theirs = (
        read_json(tmp_path / name / "ckpt" / "config.json")["compression"] for name in ("maxi", "90S")
    )
    assert ours == theirs and ours["sparsity"] == 90
    trial = read_json(tmp_path / "maxi" / "results.json")["trials_in_full"][0]
    assert trial["path"] == ["80S", "90S"] and len(trial["assistants"]) == 1


def test_finished_hops_are_found_by_what_they_are(small_demo, nested_demo, tmp_path):
    """Every path to 90S: the direct hop, trained before alone, is not trained again; with another rate it
    is."""
    words = flags(small_demo, nested_demo, tmp_path)
    run("run_maxidisc.py", *words, "--layer_or_sparsity_path", "90S", "--output_dir", tmp_path / "direct")
    run("run_maxidisc.py", *words, "--all_paths", "--trunc_sparsity", 70, "--output_dir", tmp_path / "all")
    results = read_json(tmp_path / "all" / "results.json")
    reused = {" ".join(trial["path"]): trial["reused"] for trial in results["trials_in_full"]}
    assert reused == {"90S": [True], "70S 90S": [False, False], "80S 90S": [False, False]}
    assert results["metrics"]["dev"]["acc"] == max(trial["score"] for trial in results["trials"])
    assert (tmp_path / "all" / "trials.png").stat().st_size > 10_000
    chosen = [trial["path"].split(" > ") for trial in results["trials"] if trial["chosen"]]
    assert chosen == [results["path"]]
    # what the page about all runs shows of it
    hop = next(each for each in results["trials_in_full"] if each["path"] == results["path"])["hops"][-1]
    assert results["best_step"] == hop["best_step"] and results["model"]["sparsity"] == 90
    run(
        "run_maxidisc.py",
        *words,
        "--layer_or_sparsity_path",
        "90S",
        "--weight_decay",
        0.1,
        "--output_dir",
        tmp_path / "other",
    )
    assert not any(read_json(tmp_path / "other" / "results.json")["trials_in_full"][0]["reused"])


def test_the_star_is_at_the_chosen_path(tmp_path):
    """Also where another one is as good: the run keeps the first."""
    trials = [{"path": [f"{s}S", "90S"], "score": 0.5, "assistants": [0.6]} for s in (70, 80)]
    (axes,) = run_maxidisc.draw_trials(tmp_path, trials, trials[0], metric="dev F1", title="t").axes
    assert "70S > 90S: 0.5000" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_dry_run_leaves_no_hop(small_demo, nested_demo, tmp_path):
    """Nor does it take one: each hop is planned; what a real run then trains are all rows."""
    words = flags(small_demo, nested_demo, tmp_path, "--layer_or_sparsity_path", "80,90S")
    done = run("run_maxidisc.py", *words, "--output_dir", tmp_path / "tried", "--dry_run")
    assert done.stderr.count("plan, for batches of") == 2 and not (tmp_path / "hops").exists()
    run("run_maxidisc.py", *words, "--output_dir", tmp_path / "run")
    done = run("run_maxidisc.py", *words, "--output_dir", tmp_path / "tried", "--dry_run")
    assert done.stderr.count("plan, for batches of") == 2 and "trained before" not in done.stderr


def test_hops_of_other_numbers_of_processes(small_demo, nested_demo, tmp_path):
    """They have seen other batches."""
    words = flags(small_demo, nested_demo, tmp_path, "--layer_or_sparsity_path", "90S")
    run("run_maxidisc.py", *words, "--output_dir", tmp_path / "two", processes=2)
    done = run("run_maxidisc.py", *words, "--output_dir", tmp_path / "one")
    assert "trained before" not in done.stderr and len([*(tmp_path / "hops").iterdir()]) == 2


def kept_by_another_run(folder, aside):
    """Have this process find a hop that another run keeps just before it looks."""

    def exists(path, look=Path.exists):
        if path == folder and look(aside):
            time.sleep(0.5)  # the other processes look, if they look for themselves
            aside.rename(folder)
        return look(path)

    Path.exists = exists


def test_a_hop_that_another_run_keeps_meanwhile(small_demo, nested_demo, tmp_path):
    """All processes take it or none does: those that train would wait for the others for ever."""
    words = flags(small_demo, nested_demo, tmp_path, "--layer_or_sparsity_path", "90S")
    run("run_maxidisc.py", *words, "--output_dir", tmp_path / "first", processes=2)
    (hop,) = (tmp_path / "hops").iterdir()
    hop.rename(tmp_path / "aside")
    codes, printed = outcome(
        "run_maxidisc.py",
        *words,
        "--output_dir",
        tmp_path / "second",
        processes=2,
        before=[(kept_by_another_run, (hop, tmp_path / "aside")), None],
        seconds=40,
    )
    assert codes == [0, 0], printed
    assert read_json(tmp_path / "second" / "results.json")["trials_in_full"][0]["reused"] == [True]


def test_killed_between_hops_ends_with_the_same_bytes(small_demo, nested_demo, tmp_path):
    def words(name):
        path = ("--layer_or_sparsity_path", "80S,3L,2L")
        return (
            *flags(small_demo, nested_demo, tmp_path / name, *path),
            "--output_dir",
            tmp_path / name / "run",
        )

    done = run("run_maxidisc.py", *words("whole"))
    folder = tmp_path / "parts" / "run"
    for moment in (
        lambda: stage_done("80S")(folder),
        lambda: (folder / "state" / "80S-3L" / "latest").exists(),
    ):
        assert kill_when(moment, "run_maxidisc.py", *words("parts"))
    run("run_maxidisc.py", *words("parts"))
    assert done.stdout and sha256(folder / "ckpt/model.safetensors") == sha256(
        tmp_path / "whole/run/ckpt/model.safetensors"
    )


@pytest.mark.parametrize(
    "path, message",
    [
        ("90,80S", "a higher sparsity"),
        ("80,99S", "not in the grid of the teacher"),
        ("3,4L", "fewer layers"),
        ("80,90X", "expected"),
        ("3L,90S", "sparsities go first"),
    ],
)
def test_contradictory_paths(path, message, small_demo, nested_demo, tmp_path):
    done = run(
        "run_maxidisc.py", *flags(small_demo, nested_demo, tmp_path, "--layer_or_sparsity_path", path), code=2
    )
    assert (
        message in done.stderr
        and "--layer_or_sparsity_path" in done.stderr
        and "Traceback" not in done.stderr
    )
