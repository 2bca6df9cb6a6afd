"""The TED benchmark: both sides of a comparison do the same work, and it runs from end to end on real
data."""

import json

import pytest
import torch

from benchmarks import ted_speed, training_cases
from modules.filters import LayerwiseObjective


@pytest.fixture(scope="module")
def options(data_dir, encoder_dir):
    return [
        "--data_dir",
        str(data_dir),
        "--encoder",
        str(encoder_dir),
        "--batch_size",
        "2",
        "--num_updates",
        "1",
    ]


def test_naive_and_ours_are_one_loss_where_nothing_is_padded(options, tmp_path):
    args = ted_speed.parse(options)
    case = training_cases.prepare("mrpc", args, tmp_path / "mrpc", num_batches=4)
    run = ted_speed.start(
        case, tmp_path, "--mode", "ft", "--student_model_path", "hub/student", number=1, seed=0
    )
    student, teacher = (side.eval() for side in ted_speed.pair(case, run))
    batch = case.train.collate([0])
    targets = batch.through(teacher, output_hidden_states=True)
    objective = LayerwiseObjective("classification", *ted_speed.WEIGHTS.values())
    with torch.no_grad():
        terms = objective(student, batch, (targets.logits, targets.hidden_states))
        assert float(sum(terms.values())) == pytest.approx(
            float(ted_speed.naive_loss(student, teacher, batch)), rel=1e-5
        )


def test_tables_and_json(options, tmp_path, capsys, forked_benchmarks):
    output = tmp_path / "speed.json"
    ted_speed.main([*options, "--num_rounds", "1", "--task", "rte", "--output", str(output)])
    found = json.loads(output.read_text())
    (stage,), (steps,) = found["stage_one"], found["step_s"]
    assert stage["cached_update_s"] < stage["recomputed_update_s"] and stage["ratio"] > 0
    assert all(seconds > 0 for seconds in steps.values()) and found["memory_mib"]["naive"] > 200
    printed = capsys.readouterr().out
    assert found["command"] in printed and "teacher cached" in printed
