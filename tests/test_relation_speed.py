"""The benchmark runs from end to end, and both of its sides compute the same; its numbers are for a quiet
machine."""

import json

import pytest
import torch

from benchmarks import naive_relations, relation_speed

SMALL = (
    *"--batch_size 2 --num_tokens 12 --vocabulary 1100 --num_rounds 1 --num_steps 1".split(),
    *"--student_layer 1 --teacher_layer 2".split(),
)


def test_both_losses_are_one():
    args = relation_speed.parse(SMALL)
    assert relation_speed.our_loss(args)() == pytest.approx(relation_speed.naive_loss(args)(), rel=1e-4)


def test_both_steps_begin_with_one_loss(monkeypatch):
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, input: input)  # each side draws its own
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda input, **_: input)
    args = relation_speed.parse(SMALL)
    found = {side: step(args)() for side, step in relation_speed.SIDES["step"].items()}
    assert found["ours"] == pytest.approx(found["naive"], rel=1e-4)
    assert found["ours, bf16"] == pytest.approx(found["naive"], rel=0.05)


def test_the_naive_step_knows_lengths():
    student, teacher = relation_speed._models(relation_speed.parse(SMALL), attention="eager")
    ids = torch.arange(12).view(2, 6) + 3
    layers = {"student_layer": 1, "teacher_layer": 2, "num_heads": 48}
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    whole = naive_relations.loss_of_models(
        student, teacher, {"input_ids": ids, "attention_mask": mask}, **layers
    )
    parts = [
        naive_relations.loss_of_models(
            student, teacher, {"input_ids": row[None], "attention_mask": torch.ones_like(row[None])}, **layers
        )
        for row in (ids[0], ids[1, :4])
    ]
    assert whole.item() == pytest.approx(sum(part.item() for part in parts) / 2, rel=1e-4)


def test_table_and_json(tmp_path, capsys, forked_benchmarks):
    relation_speed.main([*SMALL, "--output", str(tmp_path / "results" / "speed.json")])
    found = json.loads((tmp_path / "results" / "speed.json").read_text())
    assert found["memory_mib"].keys() == {"ours", "naive"} and len(found["loss_s"]) == 1
    assert all(seconds > 0 for seconds in found["step_s"][0].values())
    printed = capsys.readouterr().out
    assert "naive / ours" in printed and "step, bf16" in printed and found["machine"]["cpu"] in printed
