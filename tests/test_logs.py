"""metrics.jsonl and TensorBoard of a run that is continued: as if it had never been interrupted."""

import json

import pytest

from utils import logs
from utils.run import as_text


def metrics(folder):
    """What a start of a run writes its rows with."""
    return logs.Metrics(folder, tracker="tensorboard", name="test", settings={})


def shown(folder, stage):
    """{tag: [(step, value)]} as TensorBoard shows it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard" / stage)).Reload()
    return {
        tag: [(event.step, round(event.value, 4)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


@pytest.mark.parametrize("number", [3, 0])
def test_rows_after_the_state_are_taken_back(tmp_path, number):
    """A state after three rows of a stage, or none at all: later rows are neither there twice nor missing.

    Also those of its own step: the update's row stays, that of the evaluation that followed it goes.
    """
    pytest.importorskip("tensorboard")
    first = metrics(tmp_path)
    first.rewind("one", 0, step=0)
    for step in (1, 2):
        first.add("one", step, {"loss": step / 10})
    first.rewind("two", 0, step=0)
    for step in (1, 2, 3):
        first.add("two", step, {"loss": step / 100})
    assert first.sync("two") == 3
    for step, values in ((3, {"dev/acc": 0.1}), (4, {"loss": 9.0}), (5, {"loss": 9.0})):
        first.add("two", step, values)
    first.sync("two")
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"stage": "two", "st')

    second = metrics(tmp_path)
    second.rewind("two", number, step=number)
    for step in range(number + 1, 4):
        second.add("two", step, {"loss": step / 100})
    for step, values in ((3, {"dev/acc": 0.5}), (4, {"loss": 0.04})):
        second.add("two", step, values)
    assert second.sync("two") == 5

    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [
        ("one", 1, 0.1),
        ("one", 2, 0.2),
        ("two", 1, 0.01),
        ("two", 2, 0.02),
        ("two", 3, 0.03),
        ("two", 4, 0.04),
    ]
    assert [(row["stage"], row["step"], row["loss"]) for row in rows if "loss" in row] == losses
    assert [(row["step"], row["dev/acc"]) for row in rows if "dev/acc" in row] == [(3, 0.5)]
    assert shown(tmp_path, "one") == {"one/loss": [(1, 0.1), (2, 0.2)]}
    assert shown(tmp_path, "two") == {
        "two/loss": [(1, 0.01), (2, 0.02), (3, 0.03), (4, 0.04)],
        "two/dev/acc": [(3, 0.5)],
    }


def test_numbers_as_people_write_them():
    """Sparsities are percentages, without decimals that they do not have."""
    rows = [{"sparsity": 0.0, "acc": 0.5}, {"sparsity": 10, "acc": 1.0}, {"sparsity": 92.5, "acc": 1.0}]
    assert logs.table(rows).split()[2::2] == ["0", "10", "92.5"]
    assert as_text({"sparsity": 90.0, "acc": 0.5}) == "sparsity 90%, acc 0.5000"
