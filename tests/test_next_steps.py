"""The end of a run's log: how long it took, its pictures, and a next command that the next script takes."""

import importlib
import shlex

import pytest
from commands import run

from utils.files import read_json, write_json


def said(folder, word):
    """What stands behind `word` in the lines of a run's log."""
    lines = (folder / "log.txt").read_text(encoding="utf-8").splitlines()
    return [line.partition(f" INFO {word}")[2] for line in lines if f" INFO {word}" in line]


@pytest.mark.parametrize("name", ["tuned_demo", "nested_demo", "demo_corpus"])
def test_the_next_command_is_one(name, request):
    """It parses as the script that it names would, with every path in it there."""
    folder = request.getfixturevalue(name)
    (words,) = map(shlex.split, said(folder, "next: "))
    assert words[0] == "python" and len(said(folder, "finished in ")) == 1
    args = importlib.import_module(words[1].removesuffix(".py")).parse([*words[2:], "--use_cpu"])
    given = {str(value) for name in ("model_path", "teacher_model_path") if (value := vars(args).get(name))}
    assert str(folder) in given | {*(vars(args).get("corpus") or ())}


def test_rows_are_cut_as_they_were(tmp_path, tuned_demo, small_demo):
    """Later stages of a built-in task read as many tokens as its checkpoint, unless told otherwise; the next
    command asks for a sparsity that is there."""
    base = [*f"--task_name demo --data_dir {small_demo} --use_cpu --model_path {tuned_demo}".split()]
    tuned, nested = tmp_path / "tuned", tmp_path / "nested"
    run("run_finetuning.py", *base, "--max_length", 16, "--max_steps", 1, "--output_dir", tuned)
    base[-1] = tuned
    run("run_sparsification.py", *base, "--grid", "0,50,70", "--output_dir", nested)
    assert read_json(nested / "args.json")["settings"]["max_length"] == 16
    (words,) = map(shlex.split, said(nested, "next: "))
    args = importlib.import_module("run_minidisc").parse([*words[2:], "--use_cpu"])
    assert (args.max_length, args.target_sparsity) == (16, 70)
    words = ["--task_name", "demo", "--use_cpu", "--model_path", str(tuned_demo), str(nested)]
    assert importlib.import_module("run_evaluation").parse(words).max_length == 128
    for damaged in (-1, "16", 16.5, None):
        record = read_json(tuned / "args.json")
        record["settings"]["max_length"] = damaged
        write_json(tuned / "args.json", record)
        assert importlib.import_module("run_evaluation").parse([*words[:4], str(tuned)]).max_length == 128
    words[4:] = [str(tuned), "--max_length", "24"]
    assert importlib.import_module("run_evaluation").parse(words).max_length == 24


def test_pictures_are_named(nested_demo):
    (pictures,) = said(nested_demo, "pictures, beside each the same as SVG: ")
    assert pictures == str(nested_demo / "curve.png") and (nested_demo / "curve.svg").exists()
