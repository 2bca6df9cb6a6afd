"""What a plan that does not fit proposes: with the flag it fits, and the figures are those that were said."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import checked_processes, outcome, scarce_memory
from transformers import BertConfig, BertForSequenceClassification

import models
from data.splits import LengthGrouped, Whole
from utils import memory
from utils.batch import Batch
from utils.errors import RunError
from utils.frozen_outputs import MEMORY, FrozenOutputs
from utils.plan import Allocations, Plan

MIB = 2**20
TOKENS = 24
PROGRAM = 100 * MIB  # not what this process has: that decides whether MiB or GiB are said


class Rows(LengthGrouped):
    """16 rows of 24 tokens that stand for 2,000."""

    stands_for = Whole(rows=2000, tokens=2000 * TOKENS, num_bytes=0)
    lengths = np.full(16, TOKENS)

    def collate(self, indices):
        ids = torch.arange(TOKENS * len(indices)).reshape(-1, TOKENS) % 97
        return Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, None, np.asarray(indices))


def bert():
    """7 MB of weights, most of them in layers."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 512}
    return BertForSequenceClassification(BertConfig(vocab_size=1000, **sizes))


def planned(folder, *, size=16, accumulated=1, where=MEMORY, dtype="fp32", shard=False, spare=()):
    """The plan of distilling from a teacher whose outputs are kept, made and measured in this process."""
    student, teacher = bert().train(), models.freeze(bert())
    if shard:
        student, teacher = models.share_out(student), models.share_out(teacher)
    teacher = models.frozen_in(teacher, dtype)
    outputs = FrozenOutputs(teacher, layers=[0, 6], precision="fp32")
    outputs.cache(Rows(), batch_size=8, where=where)

    def try_batch(number, share=0.0):
        with Allocations(student.parameters()) as found:
            for _ in range(min(2, accumulated)):
                batch = Rows().collate(np.arange(number))
                student(**batch.inputs, labels=torch.zeros(number, dtype=torch.long)).loss.backward()
        student.zero_grad(set_to_none=True)
        return found

    options = {"whole": None, "device": torch.device("cpu"), "in_buckets": False, "writes": False}
    options |= {"beside": [teacher, outputs], "spare": {*spare}, "folder": Path(folder, "run")}
    plan = Plan(student, try_batch, batch_size=size, num_accumulated=accumulated, **options)
    plan.need = dataclasses.replace(plan.need, program=PROGRAM, resident=PROGRAM)
    return plan


def counted(need):
    """The peak without what is measured of a process."""
    return need.peak - need.program - need.gaps


def said_with(plan, total, monkeypatch):
    """What a plan says where this process can have so much in all; None where it fits."""
    monkeypatch.setattr(memory, "available", lambda: total - plan.need.resident)
    try:
        plan.say()
    except RunError as error:
        return str(error)
    return None


def figure(message, flags):
    """The peak, in bytes, that is said of flags which help alone."""
    assert "what would make it fit, each alone:" in message
    (number,) = re.findall(rf"^  {flags}: peak (\S+) MiB$", message, re.MULTILINE)
    return float(number) * MIB


# What is proposed, and the options of planned() with it; the share of the gaps that goes with it; how far the
# rest may be from what was said
WAYS = [
    ("--cache_teacher disk", {"cache_teacher"}, {"where": "disk"}, 0, 0),
    ("--teacher_dtype bf16", {"teacher_dtype"}, {"dtype": "bf16"}, 0, 0),
    (
        "--per_device_train_batch_size 4 --num_grad_accum_steps 4",
        (),
        {"size": 4, "accumulated": 4},
        0.75,
        0.05,
    ),
]


@pytest.mark.parametrize("flags, spare, changed, gaps, tolerance", WAYS)
def test_with_the_flag_it_fits(flags, spare, changed, gaps, tolerance, tmp_path, monkeypatch):
    """By as much as was said; what else is there stays as it was."""
    before = planned(tmp_path, spare=spare)
    if changed.get("where") == "disk":
        changed = {**changed, "where": tmp_path}
    after = planned(tmp_path, **changed)
    saved = counted(before.need) - counted(after.need)
    assert saved > 2 * MIB
    expected = before.need.peak - saved - int(gaps * before.need.gaps)
    # No more: where there are many gaps, half of the batch would be enough
    message = said_with(before, expected + MIB + int(tolerance * saved), monkeypatch)
    assert figure(message, flags) == pytest.approx(expected, abs=0.1 * MIB + tolerance * saved)
    assert said_with(after, after.need.peak + MIB, monkeypatch) is None


def test_shared_out(tmp_path, monkeypatch):
    """By four processes: each fits where one alone did not, and takes about what was said."""
    before = planned(tmp_path, spare={"shard"})
    files = [tmp_path / f"counted{rank}" for rank in range(4)]
    checked_processes(shared_out, [(tmp_path, file) for file in files], tmp_path, joined=True)
    after = max(int(file.read_text()) for file in files)
    saved = counted(before.need) - after
    message = said_with(before, before.need.peak - saved // 2, monkeypatch)
    promised = figure(message, "--shard, torchrun on 4 .*") - before.need.program - before.need.gaps
    assert saved > 10 * MIB and 0 <= promised - after < 0.3 * saved


def shared_out(folder, out):
    """One of the processes: writes what its plan counts."""
    out.write_text(str(counted(planned(folder, shard=True).need)))


def test_together(tuned_demo, small_demo):
    """All that the script has, where none would do alone."""
    flags = [
        *f"--task_name demo --data_dir {small_demo} --use_cpu --teacher_model_path {tuned_demo}".split(),
        *"--model_type kdbert_cls --layer_or_sparsity 1L --cache_teacher --dry_run".split(),
        *"--per_device_train_batch_size 8".split(),
    ]
    codes, text = outcome("run_distillation.py", *flags, before=[(scarce_memory, (2**16,))])
    message = text.partition("error: ")[2]
    assert codes == [2] and "together these would not do, peak " in message
    proposed = re.findall(r"^  (--\w+)", message, re.MULTILINE)
    assert proposed == ["--per_device_train_batch_size", "--cache_teacher", "--teacher_dtype", "--shard"]
    assert "GLIBC_TUNABLES=glibc.malloc.tcache_count=0 before the command" in message
