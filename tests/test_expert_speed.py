"""The benchmark runs from end to end, and both of its sides compute the same; its numbers are for a quiet
machine."""

import json

import pytest
import torch

from benchmarks import expert_speed
from utils import cost

SMALL = [
    "--num_tokens",
    "24",
    "40",
    "--batch_size",
    "1",
    "--vocabulary",
    "1100",
    "--num_rounds",
    "2",
    "--seconds",
    "0.01",
]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in (("WIDTH", 24), ("NEURONS", 48), ("LAYERS", 1)):
        monkeypatch.setattr(expert_speed, name, value)


@pytest.mark.parametrize("shares, counts", [("balanced", [10, 10, 10, 10]), ("skewed", [31, 3, 3, 3])])
@pytest.mark.parametrize("passes", ["forward", "forward, backward"])
def test_both_blocks_are_one(shares, counts, passes, monkeypatch):
    """All experts are the dense block, and the chosen one's probability is 1 but for 1e-8."""
    seen = []
    monkeypatch.setattr(
        expert_speed,
        "_pass",
        lambda block, *rest, make=expert_speed._pass: seen.append(block) or make(block, *rest),
    )
    what = {"tokens": 40, "shares": shares, "precision": "fp32", "passes": passes}
    sides = expert_speed.blocks(what, expert_speed.parse(SMALL))
    dense, experts = (sides[side]() for side in ("dense", "experts"))
    assert torch.allclose(dense, experts, rtol=0, atol=1e-5)
    assert seen[1].router.routing.counts_E.tolist() == counts
    if passes == "forward, backward":  # of a copy each, summed over copies
        for theirs, ours in zip((seen[0].first, seen[0].last), (seen[1].first, seen[1].last)):
            assert torch.allclose(ours.weight.grad.sum(0), theirs.weight.grad, rtol=0, atol=1e-4)


def test_students_cost_the_same_but_for_routers(monkeypatch):
    seen = {}
    for name in ("_forward", "_step"):
        make = getattr(expert_speed, name)
        monkeypatch.setattr(
            expert_speed,
            name,
            lambda *rest, name=name, make=make: seen.setdefault(name, []).append(rest[0]) or make(*rest),
        )
    for passes in ("forward", "step"):
        sides = expert_speed.students({"precision": "fp32", "passes": passes}, expert_speed.parse(SMALL))
        found = {side: run() for side, run in sides.items()}
        assert found["dense"].shape == found["experts"].shape and not torch.equal(
            found["dense"], found["experts"]
        )
    for dense, experts in seen.values():
        macs = [cost.linear_macs(model.encoder.layer) for model in (dense, experts)]
        assert macs[1] - macs[0] == 128 * 24 * 4


def test_table_and_json(tmp_path, capsys):
    expert_speed.main(
        [*SMALL, "--precisions", "fp32", "bf16", "--output", str(tmp_path / "results" / "speed.json")]
    )
    found = json.loads((tmp_path / "results" / "speed.json").read_text())
    assert len(found["rows"]) == 2 * (2 * 4 + 2)
    assert all(row["rounds"][1][side] > 0 for row in found["rows"] for side in ("dense", "experts"))
    printed = capsys.readouterr().out
    assert (
        "experts / dense" in printed and "forward, backward" in printed and found["machine"]["cpu"] in printed
    )
