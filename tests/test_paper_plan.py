"""The plan on paper: tensors without values take what those with values take; shares, sums, the table."""

import contextlib
import dataclasses
import json

import pytest
from commands import checked_processes

import models
from benchmarks import paper_plan

TINY = {"d_model": 16, "d_kv": 8, "num_heads": 4, "d_ff": 40, "num_layers": 1, "vocab_size": 50}
CHECKS = ("with_values", "table")


@pytest.mark.parametrize("check", CHECKS)
def test_on_paper(check, tmp_path):
    """In a process of its own, which is the first of four that are not there."""
    checked_processes(globals()[check], [(tmp_path,)], tmp_path)


def planned(smallest):
    return paper_plan.planned(TINY, smallest=smallest, rows=3, tokens=7)


def with_values(folder):
    """The same numbers, activations included."""
    with paper_plan.one_of(4):
        on_paper = planned(50)
        paper_plan.FakeTensorMode = lambda **_: contextlib.nullcontext()
        need, facts = planned(50)
    assert facts == on_paper[1] and abs(need.activations / on_paper[0].activations - 1) < 0.02, (
        need,
        on_paper,
    )
    need = dataclasses.replace(need, activations=0, passes=0)
    assert need == dataclasses.replace(on_paper[0], activations=0, passes=0)


def table(folder):
    """Of each parameter a quarter of its rows, rounded up: 16 bytes a number, and the teacher's in bf16."""
    paper_plan.SIZES = {"tiny": TINY}
    words = ["--devices", "4", "--device_gib", "1e-4", "--output", str(folder / "plan.json")]
    found = paper_plan.main([*words, "--rows", "3", "--tokens", "7"])
    assert json.loads((folder / "plan.json").read_text())["plans"] == found["plans"]
    nested = paper_plan.nested_on_paper(TINY)
    for row, smallest in zip(found["plans"], (50, 0), strict=True):
        assert row["trunc_sparsity"] == row["trained"][0] == smallest
        student = [*models.crop(nested, smallest).parameters()]
        assert row["student_parameters"] == sum(each.numel() for each in student)
        numbers = quarter(student)
        bytes_of = {what.partition(" ")[0].rstrip(","): number for what, number in row["bytes"].items()}
        assert bytes_of["weights"] == bytes_of["gradients"] == 4 * numbers
        assert bytes_of["optimiser"] == 8 * numbers + 4 * len(student)
        assert bytes_of["frozen"] == 2 * quarter(nested.parameters())
        assert row["fits"] == (bytes_of["peak"] <= 1e-4 * 2**30)
    assert [row["fits"] for row in found["plans"]] == [True, False]


def quarter(parameters):
    """Numbers that the first of four processes has of them."""
    return sum(-(-len(each) // 4) * each[:1].numel() for each in parameters)
