"""The plan of a dry run: what follows from the parameters is exact, what is counted is there, what does not
fit is refused with what would."""

import re

import pytest
import torch
from commands import outcome, run, scarce_memory
from transformers import BertConfig, BertForSequenceClassification

from data.readers import Examples
from utils import plan, updates
from utils.plan import Allocations


def bert():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    return BertForSequenceClassification(BertConfig(vocab_size=97, **sizes)).train()


def step(model, rows):
    """A forward and a backward pass of rows of 24 tokens."""
    ids = torch.arange(24 * rows).reshape(rows, 24) % 97
    model(input_ids=ids, labels=torch.zeros(rows, dtype=torch.long)).loss.backward()


@pytest.mark.parametrize("frozen", [False, True])
def test_weights_gradients_optimiser_are_exact(frozen):
    """Beside a real update, also where part of the model is not trained."""
    model = bert()
    model.bert.embeddings.requires_grad_(not frozen)
    optimizer = updates.optimizer(model, updates.Settings())
    step(model, 2)
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    optimizer.step()
    moments = sum(tensor.nbytes for state in optimizer.state.values() for tensor in state.values())
    weights = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    found = plan.arithmetic(model)
    assert found == {
        "weights": weights,
        "gradients": gradients,
        "optimizer": moments,
        "state": weights + moments,
    }


def test_allocations():
    """What is kept is counted once and while it is there; a forward pass in proportion to its rows."""
    model = bert()
    with Allocations(model.parameters()) as found:
        kept = torch.ones(1000)
        kept.view(10, 100).t().add_(1)  # views and what is done in place are nothing new
        for _ in range(5):
            kept + 1  # gone at once
    assert found.peak == found.activations == 8000
    sizes = {}
    for rows in (1, 2, 5):
        with Allocations(model.parameters()) as sizes[rows]:
            step(model, rows)
        model.zero_grad()
    one, two, five = (sizes[rows].activations for rows in (1, 2, 5))
    assert five - one == pytest.approx(4 * (two - one), rel=0.01) and two > 1.9 * one
    gradients = plan.arithmetic(model)["gradients"]
    assert sizes[1].peak >= gradients and sizes[5].peak >= five


def test_the_longest_rows():
    texts = ["a" * n for n in (5, 30, 1, 20, 7, 8)]
    words = [["a"] * n for n in (5, 30, 1, 20, 7, 8)]
    for first in (texts, words):
        found = Examples(list("abcdef"), first, None, None, "file", "train").longest(2, beside=1)
        assert len(found) == 3 and {"b", "d"} < {*found.ids} and found.ids == sorted(found.ids)


def told(text):
    """{what: MiB} of the last plan that was printed."""
    table = text.rpartition("plan, for batches")[2]
    rows = re.findall(r"^ *(\S.*?)  +([\d,]+)$", table, re.MULTILINE)
    return {what: int(number.replace(",", "")) for what, number in rows}


def test_it_is_printed(tuned_demo, small_demo, tmp_path):
    """Of all rows, not of the dry run's; the peak is that of the dry run itself, nearly; nothing is left."""
    flags = [
        *f"--task_name demo --data_dir {small_demo} --use_cpu --teacher_model_path {tuned_demo}".split(),
        *f"--layer_or_sparsity 1L --cache_teacher --output_dir {tmp_path / 'run'} --dry_run".split(),
    ]
    said = run("run_distillation.py", *flags).stderr
    rows = told(said)
    assert {"weights", "gradients", "optimiser", "frozen models"} <= {name.split(" (")[0] for name in rows}
    assert rows["program, libraries, data"] > 50 and rows["their outputs, for all rows"] >= 1
    estimated, measured = map(int, re.search(r"peak of memory: (\d+) .*, (\d+) MiB measured", said).groups())
    assert estimated == rows["peak, not all of it at a time"] and abs(estimated / measured - 1) < 0.3
    assert "it fits: " in said and "nothing is kept" in said and not [*tmp_path.iterdir()]


def test_what_does_not_fit(tuned_demo, small_demo):
    """It ends before it is begun, with exit code 2 and the flags that would help, of those that there are."""
    flags = [
        *f"--task_name demo --data_dir {small_demo} --use_cpu --teacher_model_path {tuned_demo}".split(),
        *"--layer_or_sparsity 1L --cache_teacher --dry_run --per_device_train_batch_size 64".split(),
    ]
    codes, text = outcome("run_distillation.py", *flags, before=[(scarce_memory, (12 * 2**20,))])
    message = text.partition("error: ")[2]
    assert codes == [2] and "Traceback" not in text and message.startswith("it does not fit: ")
    assert told(text)["weights (with 16 bits these are the fp32 master copies)"] >= 1
    assert re.search(r"--per_device_train_batch_size \d+ --num_grad_accum_steps \d+", message), message
    assert "what would make it fit, each alone:" in message and "--gradient_checkpointing" in message
