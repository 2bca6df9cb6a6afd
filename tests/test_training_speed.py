"""The speed benchmark runs from end to end on real data with a small encoder; its numbers are for a quiet
machine."""

import json

import pytest
import transformers

import run_finetuning
import run_minidisc
from benchmarks import training_cases, training_speed


@pytest.fixture(scope="module")
def options(data_dir, encoder_dir, tmp_path_factory):
    """Flags: real rows, a real tokenizer, a random encoder of two layers."""
    encoder = tmp_path_factory.mktemp("encoder") / "small"
    sizes = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 12, "intermediate_size": 192}
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder_dir)
    tokenizer.save_pretrained(encoder)
    transformers.BertModel(transformers.BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(
        encoder
    )
    return ["--data_dir", str(data_dir), "--encoder", str(encoder), "--batch_size", "2", "--num_updates", "2"]


@pytest.fixture(scope="module")
def case(options, tmp_path_factory):
    args = training_speed.parse([*options, "--tasks", "mrpc"])
    return training_cases.prepare(
        "mrpc", args, tmp_path_factory.mktemp("checkpoints") / "mrpc", num_batches=40
    )


def test_the_batches_are_as_long_as_those_of_an_epoch(case):
    lengths = [case.train.lengths[rows].max() for rows in case.train.epoch(0, 0, 2)]
    assert len(lengths) == 40
    assert sum(lengths) / 40 == pytest.approx(case.facts["mean_padded_length"], rel=0.03)


def test_each_update_is_timed_with_its_length(case):
    seconds, lengths, caching = training_cases.time_updates(run_finetuning, case, number=3, seed=1)
    order = case.train.epoch(1, 0, 2)[training_cases.WARMUP :][:3]
    assert len(seconds) == 3 and min(seconds) > 0 and caching == 0
    assert lengths.tolist() == [max(case.train.lengths[i] for i in rows) for rows in order]


def test_a_step_is_compared_with_all_that_it_does(case):
    parts = training_cases.time_parts(case, number=1, seed=0)
    assert list(parts) == ["teacher", "90%", "85%", "80%", "70%", "60%", "50%", "update"]
    assert all(len(times) == 1 and times[0] > 0 for times in parts.values())
    seconds, *_ = training_cases.time_updates(run_minidisc, case, number=1, seed=0)
    assert seconds[0] > max(parts["50%"])


def test_tables_and_json(options, tmp_path, capsys, monkeypatch, forked_benchmarks):
    monkeypatch.setattr(training_speed, "VARIANTS", {"fine-tuning": training_speed.VARIANTS["fine-tuning"]})
    small = ["--num_rounds", "1", "--num_plain_steps", "1", "--num_minidisc_updates", "1"]
    output = tmp_path / "results" / "speed.json"
    training_speed.main(
        [*options, *small, "--tasks", "rte", "--minidisc_tasks", "rte", "--output", str(output)]
    )
    found = json.loads(output.read_text())
    row = found["tasks"]["rte"]
    for stage in ("finetuning", "distillation"):
        (only,) = row[stage]
        assert only["ratio"] == pytest.approx(only["ours_examples_per_s"] / only["plain_examples_per_s"])
        assert only["ratio_over_padding"] == pytest.approx(only["ratio"] / only["padding_allows"])
    assert row["minidisc"][0]["ratio"] == pytest.approx(
        row["minidisc"][0]["step_s"] / sum(row["minidisc"][0]["parts_s"].values())
    )
    peaks = found["memory"]["fine-tuning"]
    assert 200 < peaks["before"] < peaks["training"] <= peaks["saving"]
    printed = capsys.readouterr().out
    assert found["command"] in printed and "rte" in printed and found["machine"]["cpu"] in printed
