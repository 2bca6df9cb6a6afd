"""The teacher's outputs on the disk: the bits of those in memory; shared, continued, refused."""

import os
import shutil

import numpy as np
import pytest
import torch
from commands import checked_processes, forked_processes, outcome, run
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

import models
from data.splits import LengthGrouped
from utils import files, kept_on_disk
from utils.batch import Batch
from utils.errors import RunError
from utils.frozen_outputs import MEMORY, FrozenOutputs

HEADS = {"classification": BertForSequenceClassification, "tagging": BertForTokenClassification}


class Rows(LengthGrouped):
    """A split of 23 rows of random tokens."""

    def __init__(self, seed=0):
        random = np.random.default_rng(seed)
        self.lengths = random.integers(3, 12, 23)
        self.ids = [random.integers(5, 90, length) for length in self.lengths]

    def collate(self, indices):
        longest = self.lengths[indices].max()
        mask = torch.from_numpy((np.arange(longest) < self.lengths[indices][:, None]).astype(np.int64))
        ids = torch.zeros_like(mask)
        ids[mask.bool()] = torch.from_numpy(np.concatenate([self.ids[row] for row in indices]))
        return Batch({"input_ids": ids, "attention_mask": mask}, None, np.asarray(indices))


class Outputs(FrozenOutputs):
    """Counts the batches that the model has run on, and ends as a kill ends it in the one at `dies_at`."""

    number, dies_at = 0, None

    def _run(self, batch):
        if self.number == self.dies_at:
            os._exit(9)
        self.number += 1
        return super()._run(batch)


def teacher(kind="classification", seed=0):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return models.freeze(HEADS[kind](BertConfig(vocab_size=97, num_labels=3, **sizes)))


def kept(where, *, kind="classification", precision="fp32", layers=(0, 2), seed=0, dies_at=None, rows=0):
    """Outputs of all 23 rows, kept in memory or in a folder."""
    outputs = Outputs(teacher(kind, seed), layers=layers, precision=precision)
    outputs.dies_at = dies_at
    outputs.cache(Rows(rows), batch_size=4, where=where)
    return outputs


def answers(outputs):
    """What they say about batches of another order and other company: one tensor after the other."""
    split, found = Rows(), []
    for indices in ([20, 3, 4], [7], [0, 22, 1, 5, 9]):
        logits, states = outputs(split.collate(np.array(indices)))
        found += [logits, *states]
    return found


def same(ours, theirs):
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("kind, precision", [("classification", "fp32"), ("tagging", "bf16")])
@pytest.mark.parametrize("layers", [(), (0, 2)])
def test_the_bits_of_those_in_memory(kind, precision, layers, tmp_path):
    options = {"kind": kind, "precision": precision, "layers": layers}
    in_memory, written, found = (kept(where, **options) for where in (MEMORY, tmp_path, tmp_path))
    assert same(answers(written), answers(in_memory)) and same(answers(found), answers(in_memory))
    assert written.number == 7 and found.number == 1  # the first batch, and all six; the first alone
    (place,) = tmp_path.iterdir()
    states = place / "states.bin"
    size = len(layers) * 16 * int(Rows().lengths.sum()) * (4 if precision == "fp32" else 2)
    assert (states.stat().st_size if layers else 0) == size and states.exists() == bool(layers)


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"precision": "bf16"}, {"layers": (1, 2)}, {"kind": "tagging"}, {"rows": 1}]
)
def test_another_folder_for_what_is_not_the_same(other, tmp_path):
    """Weights, precision, layers, head, rows: nothing is taken for something else."""
    kept(tmp_path)
    assert kept(tmp_path, **other).number == 7
    assert len([*tmp_path.iterdir()]) == 2


def killed(folder, dies_at):
    torch.set_num_threads(1)
    kept_on_disk._PARTS = 3  # what is done is safe after every second batch
    kept(folder, dies_at=dies_at)


def test_a_killed_filling_is_continued(tmp_path):
    """Killed in the third and the sixth batch; what a kill leaves is not taken for whole."""
    whole = answers(kept(MEMORY))
    for dies_at, left in ((3, 2), (4, 4)):  # the first batch is asked for once more at each start
        assert forked_processes(killed, [(tmp_path, dies_at)]) == [9]
        (place,) = tmp_path.iterdir()
        assert files.read_json(place / "filling.json") == {"batches": left}
        assert not (place / "about.json").exists()
    with open(place / "states.bin", "r+b") as file:  # what the kill has left behind its last safe batch
        file.seek(0, os.SEEK_END)
        file.write(b"\xff" * 64)
    outputs = kept(tmp_path)
    assert outputs.number == 1 + 2 and same(answers(outputs), whole)


def at_once(rank, folder):
    torch.set_num_threads(1)
    kept_on_disk._POLL = 0.05
    outputs = kept(folder)
    (folder / f"number{rank}").write_text(str(outputs.number))
    torch.save(answers(outputs), folder / f"answers{rank}.pt")


def test_two_runs_at_once(tmp_path):
    """One fills, the other waits and finds it."""
    assert forked_processes(at_once, [(rank, tmp_path) for rank in (0, 1)]) == [0, 0]
    assert sorted(int((tmp_path / f"number{rank}").read_text()) for rank in (0, 1)) == [1, 7]
    whole = answers(kept(MEMORY))
    assert all(same(torch.load(tmp_path / f"answers{rank}.pt"), whole) for rank in (0, 1))


def joined(rank, folder):
    outputs = kept(folder / "kept")
    (folder / f"number{rank}").write_text(str(outputs.number))
    torch.save(answers(outputs), folder / f"answers{rank}.pt")


def test_two_processes_share_the_work(tmp_path):
    checked_processes(joined, [(rank, tmp_path) for rank in (0, 1)], tmp_path, joined=True)
    whole = answers(kept(MEMORY))
    for rank in (0, 1):
        assert (tmp_path / f"number{rank}").read_text() == "4"  # the first batch, and half of six
        assert same(torch.load(tmp_path / f"answers{rank}.pt"), whole)
    assert kept(tmp_path / "kept").number == 1  # what they have left serves one process too


def test_removed_while_it_is_filled(tmp_path, monkeypatch):
    """What another run has there then is not said to be whole."""
    monkeypatch.setattr(kept_on_disk, "_PARTS", 3)
    outputs = Outputs(teacher(), layers=(0, 2), precision="fp32")
    outputs.dies_at, run = None, outputs._run

    def removing(batch):
        if outputs.number == 3:
            (place,) = tmp_path.iterdir()
            shutil.rmtree(place)
            place.mkdir()
            for name in ("logits.bin", "states.bin"):
                (place / name).touch()
        return run(batch)

    monkeypatch.setattr(outputs, "_run", removing)
    with pytest.raises(RunError, match="removed while it was filled"):
        outputs.cache(Rows(), batch_size=4, where=tmp_path)
    assert not [*tmp_path.glob("*/*.json")]
    assert same(answers(kept(tmp_path)), answers(kept(MEMORY)))


def test_damage_is_refused(tmp_path):
    kept(tmp_path)
    (place,) = tmp_path.iterdir()
    with open(place / "states.bin", "r+b") as file:
        file.truncate(100)
    with pytest.raises(RunError, match=r"damaged \(states\.bin: .*remove"):
        kept(tmp_path)
    (place / "about.json").write_text("{")
    with pytest.raises(RunError, match=r"about\.json: damaged"):
        kept(tmp_path)


def scarce(num_bytes):
    """Have this process believe that so little of the disk is free."""
    import shutil

    real = shutil.disk_usage
    shutil.disk_usage = lambda folder: real(folder)._replace(free=num_bytes)


def test_the_flags(tuned_demo, small_demo, tmp_path):
    """Too small a disk is said first, with what would fit; a student of the same bits; the place may change
    when a run is continued; a dry run leaves nothing."""
    flags = [
        *f"--task_name demo --data_dir {small_demo} --use_cpu --teacher_model_path {tuned_demo}".split(),
        *"--max_steps 2 --layer_or_sparsity 1L --max_train_samples 64 --max_eval_samples 32".split(),
    ]
    run("run_distillation.py", *flags, "--cache_teacher", "--output_dir", tmp_path / "memory")
    flags += ["--output_dir", tmp_path / "run"]
    disk = ["--cache_teacher", "disk"]
    codes, text = outcome("run_distillation.py", *flags, *disk, before=[(scarce, (1000,))])
    message = text.partition("error: ")[2]
    assert codes == [2] and "Traceback" not in text and "--cache_teacher disk: the outputs of" in message
    assert "on the disk of" in message and "logits alone, for an objective that" in message
    run("run_distillation.py", *flags, *disk, "--dry_run")
    assert [entry.name for entry in (tmp_path / "teacher_outputs").glob("*/*")] == ["lock"]
    done = run("run_distillation.py", *flags, *disk, "--cache_dir", tmp_path / "elsewhere")
    assert f"to {tmp_path / 'elsewhere'}" in done.stderr
    ours, theirs = (tmp_path / name / "ckpt" / "model.safetensors" for name in ("run", "memory"))
    assert files.sha256(ours) == files.sha256(theirs)
    run("run_distillation.py", *flags, "--cache_teacher")  # finished: neither place is a setting
    refused = run("run_distillation.py", *flags, "--cache_teacher", "--cache_dir", tmp_path, code=2)
    assert "--cache_dir: has a meaning only with --cache_teacher disk" in refused.stderr
