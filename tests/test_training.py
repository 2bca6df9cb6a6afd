"""The training loop on a small plain model: updates against torch's own optimiser, resuming, stopping."""

import argparse
import math
import re
import shutil

import numpy as np
import pytest
import records
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from utils import flags, interruptions, logs, snapshots, training, updates
from utils.batch import Batch
from utils.errors import FlagError, RunError
from utils.evaluation import Score
from utils.run import Run


class Points:
    """A split of random points: input_ids are features, labels classes. Follows the protocol of
    data.splits.Split."""

    def __init__(self, number=50, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.features = torch.randn(number, 6, generator=generator)
        self.labels = (self.features[:, 0] + self.features[:, 1] > 0).long()
        self.lengths = np.full(number, 6)

    def __len__(self):
        return len(self.features)

    def counts(self, indices):
        return {"examples": float(len(indices)), "tokens": 6.0 * len(indices), "labels": float(len(indices))}

    def collate(self, indices):
        inputs = {
            "features": self.features[indices],
            "attention_mask": torch.ones(len(indices), 6, dtype=torch.long),
        }
        return Batch(inputs, self.labels[indices], np.asarray(indices), self.counts(indices))

    def epoch(self, seed, epoch, batch_size):
        order = np.random.default_rng([seed, epoch]).permutation(len(self))
        return [order[start : start + batch_size] for start in range(0, len(self), batch_size)]


class Classifier(torch.nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first, self.dropout, self.last = (
                torch.nn.Linear(6, 8),
                torch.nn.Dropout(dropout),
                torch.nn.Linear(8, 2),
            )

    def forward(self, features, attention_mask):
        return self.last(self.dropout(torch.tanh(self.first(features))))


def objective(model, batch):
    logits = model(**batch.inputs)
    return {"task": F.cross_entropy(logits, batch.labels, reduction="sum") / batch.divisors["examples"]}


def options(*extra):
    parser = flags.parser("", flags.training, flags.runtime)
    words = [
        "--per_device_train_batch_size",
        "8",
        "--num_train_epochs",
        "3",
        "--learning_rate",
        "0.01",
        "--save_minutes",
        "0",
    ]
    return flags.resolve(parser, [*words, *extra], stage="test", name=lambda args: "run")


def make_run(folder, args):
    args.precision = args.precision or "fp32"
    run = Run(folder, args, torch.device("cpu"), finished=False)
    folder.mkdir(exist_ok=True)
    run.metrics = logs.Metrics(folder, tracker="none", name="test", settings={})
    return run


class Watch:
    """Counts the micro-batches since the last logged row."""

    def reset(self, state=None):
        self.number = state or 0

    def state(self):
        return self.number

    def values(self):
        return {"watched": self.number}


def train(
    folder,
    *extra,
    dropout=0.0,
    model=None,
    objective=objective,
    during_evaluation=lambda number: None,
    watch=None,
):
    """Run the loop; returns (result, model).  during_evaluation(number of the evaluation) may interrupt
    it."""
    args = options(*extra)
    model, data, dev, count = model or Classifier(dropout), Points(), Points(40, seed=1), []
    run = make_run(folder, args)

    def evaluate():
        count.append(1)
        during_evaluation(len(count))
        with torch.no_grad():
            model.eval()
            accuracy = (
                (model(**dev.collate(np.arange(40)).inputs).argmax(-1) == dev.labels).float().mean().item()
            )
            model.train()
        return Score(accuracy, {"dev": {"acc": accuracy}})

    def save(path, score):
        path.mkdir()
        torch.save(model.state_dict(), path / "model.pt")

    return training.fit(
        model, objective, data, evaluate=evaluate, save=save, settings=run.training, run=run, watch=watch
    ), model


def rows(folder):
    """metrics.jsonl without clocks."""
    return records.records(folder)[f"{folder.name}/metrics.jsonl"]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_ten_updates_beside_plain_torch(tmp_path):
    """The reference writes out one update: mean loss, clipping by the global norm, decay on matrices only,
    linear schedule."""
    _, model = train(tmp_path / "run", "--max_grad_norm", "0.3", "--weight_decay", "0.1")
    reference, data = Classifier(), Points()
    decayed = [p for p in reference.parameters() if p.ndim == 2]
    plain = [p for p in reference.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        eps=1e-6,
        fused=False,
        foreach=False,
    )
    updates = [indices for epoch in range(3) for indices in data.epoch(776, epoch, 8)]
    total, warmup = len(updates), math.ceil(0.1 * len(updates))
    assert total == 21
    for number, indices in enumerate(updates):
        rate = 0.01 * ((number + 1) / warmup if number < warmup else 1 - (number - warmup) / (total - warmup))
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = rate
        batch = data.collate(indices)
        F.cross_entropy(reference(**batch.inputs), batch.labels).backward()
        norm = torch.cat([p.grad.flatten() for p in reference.parameters()]).norm()
        for parameter in reference.parameters():
            parameter.grad *= min(1.0, 0.3 / norm)
        optimizer.step()
        optimizer.zero_grad()
    for ours, theirs in zip(model.parameters(), reference.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_accumulation_gives_the_update_of_the_whole_batch(tmp_path):
    """50 examples in updates of 24: the last one of 2 is short, and its micro-batches must not count as full
    ones."""
    _, whole = train(tmp_path / "whole", "--per_device_train_batch_size", "24")
    _, parts = train(tmp_path / "parts", "--per_device_train_batch_size", "8", "--num_grad_accum_steps", "3")
    for a, b in zip(whole.parameters(), parts.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_updates_of_100_batches_accumulated_by_4():
    """The golden value of the papers' document: 25 updates, not the 26 of a loop that steps on step % 4 ==
    0."""
    assert math.ceil(100 * 8 / (8 * 4)) == len(Points(800).epoch(0, 0, 32)) == 25
    parts = updates.micro_batches(np.arange(32), per_device=8)
    assert [len(part) for part, real in parts] == [8, 8, 8, 8]


def test_several_passes_are_one_update(tmp_path):
    """A list of functions is run one by one; two halves of the loss give the gradient of the whole."""

    def halves(model, batch):
        return [lambda name=name: {name: objective(model, batch)["task"] / 2} for name in ("a", "b")]

    _, whole = train(tmp_path / "whole")
    _, parts = train(tmp_path / "parts", objective=halves)
    for a, b in zip(whole.parameters(), parts.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("accumulation", ["1", "3"])
def test_interrupted_run_ends_with_the_same_bits(tmp_path, asked_to_stop, accumulation):
    """Interrupted after the first evaluation, continued with a fresh model: dropout and data order must
    follow the update."""
    words = ["--num_grad_accum_steps", accumulation, "--eval_interval", "2"]
    _, whole = train(tmp_path / "whole", *words, dropout=0.3)

    for stop in (2, 1):
        with pytest.raises(interruptions.Interrupted):
            train(
                tmp_path / "parts",
                *words,
                dropout=0.3,
                during_evaluation=lambda number, stop=stop: asked_to_stop(number == stop),
            )
        asked_to_stop(False)
    result, parts = train(tmp_path / "parts", *words, dropout=0.3)
    assert equal(whole, parts) and not equal(whole, Classifier())
    assert torch.load(f"{result.checkpoint}/model.pt", weights_only=True)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_rows_around_a_state_are_those_of_an_uninterrupted_run(tmp_path, asked_to_stop):
    """Interrupted in every update: losses, gradient norms and what is watched are sums over windows of 4
    updates."""
    words = ["--log_interval", "4", "--eval_interval", "6", "--num_grad_accum_steps", "2"]

    def watched(watch, stop):
        def counted(model, batch):
            watch.number += 1
            asked_to_stop(stop)
            return objective(model, batch)

        return {"objective": counted, "watch": watch, "dropout": 0.3}

    train(tmp_path / "whole", *words, **watched(Watch(), False))
    number = 0
    while True:
        number += 1
        try:
            train(tmp_path / "parts", *words, **watched(Watch(), True))
        except interruptions.Interrupted:
            asked_to_stop(False)
            continue
        break
    assert number > 10 and rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert {row["watched"] for row in rows(tmp_path / "whole") if "loss" in row} == {7}


def test_logged_rows_leave_no_update_out(tmp_path):
    """However often is evaluated in between, a row is the mean of the updates since the one before."""
    train(tmp_path / "each", "--log_interval", "1", "--eval_interval", "100")
    train(tmp_path / "few", "--log_interval", "4", "--eval_interval", "3")
    each, few = ([row["loss"] for row in rows(tmp_path / name) if "loss" in row] for name in ("each", "few"))
    assert len(each) == 21
    assert few == pytest.approx([*np.reshape(each[:20], (5, 4)).mean(1), each[20]], rel=1e-6)


def test_interrupted_in_an_evaluation_evaluates_first(tmp_path, asked_to_stop):
    """The evaluation that was given up stands in no row and is done first; the state before it is kept."""

    def give_up(number):
        if number == 2:
            asked_to_stop(True)
            interruptions.check()

    with pytest.raises(interruptions.Interrupted):
        train(tmp_path / "parts", "--eval_interval", "3", during_evaluation=give_up)
    asked_to_stop(False)
    kept = snapshots.read_values(snapshots.latest(tmp_path / "parts/state/train"))
    assert (kept["step"], kept["evaluation_due"], len(rows(tmp_path / "parts"))) == (6, True, 1)
    train(tmp_path / "parts", "--eval_interval", "3")
    train(tmp_path / "whole", "--eval_interval", "3")
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_state_that_would_take_too_long_is_not_begun(tmp_path, asked_to_stop, monkeypatch, caplog):
    """torchrun kills after 30 seconds: the last whole state stays, and the log says so."""
    logs.logger.propagate = True
    monkeypatch.setattr(interruptions, "seconds_left", lambda: 0.0)
    with pytest.raises(interruptions.Interrupted):
        train(
            tmp_path / "run",
            *"--eval_interval 3 --log_interval 1".split(),
            objective=lambda model, batch: asked_to_stop(batch.update == 4) or objective(model, batch),
        )
    snapshot = snapshots.latest(tmp_path / "run/state/train")
    assert snapshots.read_values(snapshot)["step"] == 3
    assert f"{snapshot} stays the last one" in caplog.text and "interrupted after update 5" in caplog.text


@pytest.mark.parametrize(
    "tensor, change",
    [
        ("student/first.weight", None),
        ("optimizer/2/exp_avg_sq", None),
        ("optimizer/1/exp_avg", torch.zeros(3)),
        ("student/more", torch.zeros(3)),
    ],
)
def test_state_without_all_its_tensors_is_refused(tmp_path, asked_to_stop, tensor, change):
    """A weight or moment that is missing, too much or of another size: named, not replaced by a fresh one."""
    with pytest.raises(interruptions.Interrupted):
        train(
            tmp_path / "run",
            "--eval_interval",
            "3",
            during_evaluation=lambda number: asked_to_stop(number == 1),
        )
    asked_to_stop(False)
    file = snapshots.latest(tmp_path / "run/state/train") / "state.safetensors"
    tensors = load_file(file)
    tensors.pop(tensor, None)
    save_file(tensors | ({} if change is None else {tensor: change}), file)
    with pytest.raises(RunError, match=rf"{tensor}: found (nothing|\[3\]), expected .*--overwrite"):
        train(tmp_path / "run", "--eval_interval", "3")


def test_finished_stage_is_not_trained_again(tmp_path):
    first, _ = train(tmp_path / "run")
    second, untouched = train(tmp_path / "run")
    assert second == first and equal(untouched, Classifier())


def test_non_finite_loss_stops_before_the_update(tmp_path):
    """A NaN in the ninth update: the error names the step, and the state on the disk is that of the
    seventh."""
    calls = []

    def poisoned(model, batch):
        calls.append(1)
        return {"task": objective(model, batch)["task"] * (float("nan") if len(calls) == 9 else 1.0)}

    with pytest.raises(RunError, match=r"update 9.*not finite") as error:
        train(tmp_path / "run", objective=poisoned)
    tensors, values = snapshots.read(snapshots.latest(tmp_path / "run" / "state" / "train"), "cpu")
    assert values["step"] == 7 and all(tensor.isfinite().all() for tensor in tensors.values())
    assert "snapshot-7 stays as it was" in str(error.value) and "--overwrite" in str(error.value)


def test_non_finite_loss_before_any_state(tmp_path):
    """Nothing is said to be kept where nothing is; the lower rate goes with --overwrite."""
    with pytest.raises(RunError, match=r"No state had been saved yet.*--learning_rate.*with --overwrite"):
        train(
            tmp_path / "run",
            objective=lambda model, batch: {"task": objective(model, batch)["task"] * float("inf")},
        )


def test_weights_that_are_not_finite_to_begin_with(tmp_path):
    """No rate mends a checkpoint: the message names the weight and gives no such advice."""
    model = Classifier()
    with torch.no_grad():
        model.last.bias[1] = float("nan")
    with pytest.raises(RunError, match=r"not finite before training began: last.bias") as error:
        train(tmp_path / "run", model=model)
    assert "--learning_rate" not in str(error.value) and "another checkpoint" in str(error.value)


class Cut(Classifier):
    """Uses as many of its neurons as asked for."""

    width = 8

    def forward(self, features, attention_mask):
        hidden = torch.tanh(self.first(features))[:, : self.width]
        return F.linear(hidden, self.last.weight[:, : self.width], self.last.bias)


def test_a_compiled_model_has_a_graph_for_each_of_its_sizes(tmp_path):
    """More than the eight after which torch goes on without compiling."""

    def sizes(model, batch):
        terms = {}
        for model.width in range(1, 9):
            terms[f"task {model.width}"] = objective(model, batch)["task"]
        return terms

    torch._dynamo.utils.counters.clear()
    with torch.compiler.set_stance("default", force_backend="eager"):
        _, compiled = train(tmp_path / "a", "--compile", "--max_steps", "1", model=Cut(), objective=sizes)
    frames = torch._dynamo.utils.counters["frames"]
    assert frames["ok"] == frames["total"] > 8
    assert equal(compiled, train(tmp_path / "b", "--max_steps", "1", model=Cut(), objective=sizes)[1])


def test_updates_that_fp16_skips_count_for_no_mean(tmp_path, caplog):
    """A large loss overflows until the scale is small enough; then the first row is its, not a part of it."""

    def large(model, batch):
        return {"task": 1000 * objective(model, batch)["task"]}

    caplog.set_level("INFO", logger="compression")
    train(tmp_path / "run", "--precision", "fp16", "--log_interval", "1", objective=large)
    first = next(row for row in rows(tmp_path / "run") if "loss" in row)
    assert first["step"] == 1 and 300 < first["loss"] < 1500 and first["grad_norm"] > 50
    (skipped,) = re.findall(r"fp16 skipped (\d+) of 21 updates", caplog.text)
    assert 2 < int(skipped) < 21


def test_patience_stops(tmp_path):
    """With a score that never rises, training ends one epoch after the best."""
    args = options("--num_train_epochs", "9", "--num_patience_epochs", "1")
    run, model = make_run(tmp_path / "run", args), Classifier()
    result = training.fit(
        model,
        objective,
        Points(),
        evaluate=lambda: Score(-0.5, {"dev": {"corr": -0.5}}),
        save=lambda folder, _: folder.mkdir(),
        settings=run.training,
        run=run,
    )
    # 7 updates an epoch; a negative score is saved too
    assert (result.best_step, result.num_steps) == (7, 14)


@pytest.mark.parametrize(
    "limits, done, said",
    [
        (
            "--max_steps 80",
            80,
            "80 updates (7 an epoch),",
        ),  # the default of 10 epochs, 70 updates, is no limit
        ("--max_steps 80 --num_train_epochs 10", 70, "--num_train_epochs 10 ends it, not --max_steps 80"),
        ("--max_steps 9 --num_train_epochs 2", 9, "--max_steps 9 ends it, not --num_train_epochs 2"),
        ("--num_train_epochs 2", 14, "14 updates (7 an epoch),"),
        ("", 70, "70 updates (7 an epoch),"),
    ],
)
def test_what_ends_the_training(limits, done, said, tmp_path, caplog, monkeypatch):
    """The rate falls to its end over as many updates as there are."""
    monkeypatch.setattr(logs.logger, "propagate", True)
    caplog.set_level("INFO", logger="compression")
    words = f"--per_device_train_batch_size 8 --learning_rate 0.01 --log_interval 1 {limits}".split()
    parser = flags.parser("", flags.training, flags.runtime)
    run = make_run(tmp_path / "run", flags.resolve(parser, words, stage="test", name=lambda args: "run"))
    result = training.fit(
        Classifier(),
        objective,
        Points(),
        evaluate=lambda: Score(None, {}),
        save=lambda folder, _: folder.mkdir(),
        settings=run.training,
        run=run,
    )
    assert result.num_steps == done and said in caplog.text
    warmup = math.ceil(0.1 * done)
    last = [row["lr"] for row in rows(tmp_path / "run") if "lr" in row][-1]
    assert last == pytest.approx(0.01 / (done - warmup))


def test_half_written_snapshot_is_not_used(tmp_path):
    """Killed while saving: the folder aside and a renamed but not yet pointed-at folder are ignored."""
    folder = tmp_path / "state"
    rest = {
        "done": False,
        "position": 0,
        "evaluation_due": False,
        "best_step": 0,
        "best": None,
        "last": None,
        "scaler": {},
        "window": {"sums": [{}], "logged": {}, "seconds": 0.0},
        "rows": 0,
        "save_seconds": 0.0,
    }
    rest["seconds"] = 1.0
    snapshots.write(
        folder,
        "snapshot-1",
        tensors={"a": torch.ones(2)},
        values={**rest, "step": 1},
        save_best=lambda best: best.mkdir(),
    )
    (folder / "tmp").mkdir()
    shutil.copytree(folder / "snapshot-1", folder / "snapshot-2")
    assert snapshots.latest(folder).name == "snapshot-1"
    snapshots.write(folder, "snapshot-2", tensors={"a": torch.zeros(2)}, values={**rest, "step": 2})
    tensors, values = snapshots.read(snapshots.latest(folder), "cpu")
    assert values["step"] == 2 and not tensors["a"].any() and (snapshots.latest(folder) / "best").exists()
    assert sorted(entry.name for entry in folder.iterdir()) == ["latest", "snapshot-2"]
    # The same again, after a crash before the next
    snapshots.write(folder, "snapshot-2", tensors={}, values={**rest, "step": 2})
    assert snapshots.read_values(snapshots.latest(folder))["step"] == 2


def test_learning_rate():
    """Counted in updates: peak at the end of the warm-up; linear would reach 0 one update after the last."""
    rates = [updates.learning_rate(u, total=10, peak=1.0, num_warmup=2, kind="linear") for u in range(10)]
    assert rates == pytest.approx([0.5, 1.0, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert updates.learning_rate(9, total=10, peak=1.0, num_warmup=0, kind="constant") == 1
    assert updates.learning_rate(5, total=10, peak=1.0, num_warmup=0, kind="cosine") == pytest.approx(0.5)


def test_the_warm_up_is_as_long_as_asked_for():
    """A number of updates is that number, whatever share of all it is; a share is rounded up."""
    for total in range(1, 120):
        for steps in range(total + 2):
            assert updates.num_warmup(total, updates.Settings(warmup_steps=steps)) == min(steps, total)
    shares = [(10, 0.1, 1), (11, 0.1, 2), (221, 0.01, 3), (7, 0.0, 0), (7, 1.0, 7)]
    for total, share, expected in shares:
        assert updates.num_warmup(total, updates.Settings(warmup_proportion=share)) == expected


def test_a_warm_up_in_updates(tmp_path):
    """28 of 50: 50 * (28 / 50) is a little more than 28.  The peak is reached by the 28th."""
    train(tmp_path / "run", *"--num_train_epochs 9 --max_steps 50 --warmup_steps 28 --log_interval 1".split())
    rates = [row["lr"] for row in rows(tmp_path / "run") if "lr" in row]
    assert rates[26] < rates[27] == rates[28] == 0.01 > rates[29]


def test_every_problem_with_the_flags_is_named_at_once():
    with pytest.raises(FlagError) as error:
        options(
            "--learning_rate", "0", "--num_train_epochs", "x", "--lr_scheduler_type", "step", "--epochs", "3"
        )
    for word in ("--learning_rate", "--num_train_epochs", "--lr_scheduler_type", "--epochs"):
        assert word in str(error.value)
    assert isinstance(options(), argparse.Namespace)
