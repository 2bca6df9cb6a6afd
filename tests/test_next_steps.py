"""The end of a run's log: how long it took, its pictures, and a next command that the next script takes."""

import importlib
import shlex

import pytest


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


def test_pictures_are_named(nested_demo):
    (pictures,) = said(nested_demo, "pictures, beside each the same as SVG: ")
    assert pictures == str(nested_demo / "curve.png") and (nested_demo / "curve.svg").exists()
