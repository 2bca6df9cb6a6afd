"""Importance of heads and neurons: by hand, against loops over heads, and as sums over parts of the data."""

import pytest
import torch
import torch.nn.functional as F
from plain_bert import bert_layer
from tiny_models import CASES, HEADS, LAYERS, NEURONS, build, inputs, output

import models
from modules import importance


def test_ranking_by_hand():
    """Golden values of MiniDisc."""
    raw = torch.tensor([[8.0, 1, 4, 0], [3, 6, 2, 0]])
    assert raw.norm(dim=1).tolist() == [9, 7]
    assert importance.orders(raw).tolist() == [[0, 2, 1, 3], [1, 0, 2, 3]]
    expected = {10: [1, 0], 30: [1, 1], 50: [2, 2], 70: [3, 3], 90: [3, 4], 95: [4, 4]}
    assert importance.removed_counts(raw, expected) == expected
    assert torch.allclose(importance.normalise(raw)[0], raw[0] / 9)
    louder = raw * torch.tensor([[1.0], [1000]])  # a layer with larger gradients is not more important
    assert importance.removed_counts(louder, expected) == expected
    assert torch.equal(importance.normalise(torch.zeros(1, 3)), torch.zeros(1, 3))  # a layer without signal


def test_halves_are_rounded_to_even():
    """Exactly, although 0.15 is no binary fraction; ties go by layer and index."""
    equal = torch.ones(3, 10)
    assert importance.removed_counts(equal, [5, 15, 25]) == {5: [2, 0, 0], 15: [4, 0, 0], 25: [8, 0, 0]}
    assert importance.removed_counts(torch.ones(2, 5), [70.5, 75]) == {70.5: [5, 2], 75: [5, 3]}
    assert importance.orders(equal).tolist() == [list(range(10))] * 3


def reference(model, batch, labels, *, per_example):
    """sum over batches of |d loss / d m|, times the batch size: one scalar factor per unit, one backward pass
    per example."""
    totals = {"heads": torch.zeros(LAYERS, HEADS).double(), "neurons": torch.zeros(LAYERS, NEURONS).double()}
    signed = {unit: torch.zeros_like(total) for unit, total in totals.items()}
    for ids, mask, label in zip(batch["input_ids"], batch["attention_mask"].bool(), labels):
        factors = {
            unit: [[torch.ones((), dtype=torch.float64, requires_grad=True) for _ in row] for row in total]
            for unit, total in totals.items()
        }
        hidden = model.bert.embeddings(ids[None])[0]
        for layer, heads, neurons in zip(model.bert.encoder.layer, factors["heads"], factors["neurons"]):
            hidden = bert_layer(layer, hidden, mask, heads, neurons)
        pooled = torch.tanh(model.bert.pooler.dense(hidden[0]))
        loss = F.cross_entropy(model.classifier(pooled), label)
        for unit, rows in factors.items():
            for number, row in enumerate(rows):
                gradient = torch.stack(torch.autograd.grad(loss, row, retain_graph=True))
                totals[unit][number] += gradient.abs()
                signed[unit][number] += gradient
    return totals if per_example else {unit: total.abs() for unit, total in signed.items()}


def score(model, batch, labels, *, per_example=False, sizes=(3,)):
    """The sums as run_sparsification.py makes them, over batches of these sizes."""
    with models.scoring_masks(model, per_example=per_example) as masks:
        scores, start = importance.Accumulator(masks), 0
        for size in sizes:
            rows = slice(start, start := start + size)
            logits = model(**{name: values[rows] for name, values in batch.items()}).logits
            scores.add(F.cross_entropy(logits, labels[rows]), weight=size)
    return {"heads": scores.heads, "neurons": scores.neurons}


@pytest.mark.parametrize("per_example", [False, True])
def test_against_loops(per_example):
    """Mean loss over the batch, weighted by its size: the sum of the examples' gradients, before or after the
    absolute value."""
    model, batch, labels = build(), inputs(), torch.tensor([2, 0, 1])
    expected = reference(model, batch, labels, per_example=per_example)
    found = score(model, batch, labels, per_example=per_example)
    for unit in expected:
        assert torch.allclose(found[unit], expected[unit], rtol=1e-9, atol=1e-12), unit
    other = reference(model, batch, labels, per_example=not per_example)
    assert not torch.allclose(expected["heads"], other["heads"], rtol=1e-2), (
        "the two must differ for this to prove anything"
    )


def test_parts_of_the_data_add_up():
    """Two batches of 2 and 1 weigh as their examples do; a small last batch does not count as a full one."""
    model, batch, labels = build(), inputs(), torch.tensor([2, 0, 1])
    parts = score(model, batch, labels, sizes=(2, 1))
    first = score(model, {name: values[:2] for name, values in batch.items()}, labels[:2], sizes=(2,))
    second = score(model, {name: values[2:] for name, values in batch.items()}, labels[2:], sizes=(1,))
    singles = score(model, batch, labels, sizes=(1, 1, 1))
    whole = score(model, batch, labels, per_example=True)
    for unit in parts:
        assert torch.allclose(parts[unit], first[unit] + second[unit], rtol=1e-12)
        assert torch.allclose(singles[unit], whole[unit], rtol=1e-9, atol=1e-13)
    doubled = {name: values.repeat(2, 1) for name, values in batch.items()}
    twice = score(model, doubled, labels.repeat(2), sizes=(6,))
    assert all(
        torch.allclose(twice[unit], 2 * score(model, batch, labels)[unit], rtol=1e-9) for unit in twice
    )


@pytest.mark.parametrize("case", CASES)
def test_per_example_in_every_family(case):
    """The examples' own gradients add up to the batch's, and the units have one; no model gradient is
    left."""
    model = build(case)
    with models.scoring_masks(model, per_example=True) as masks:
        found = masks.gradients(output(model).square().sum())
    with models.scoring_masks(model) as masks:
        expected = masks.gradients(output(model).square().sum())
    for each, total in zip(found, expected):
        assert each.shape == (3, *total.shape)
        assert torch.allclose(each.sum(0), total, rtol=1e-8, atol=1e-10)
        # A neuron of T5's may be dead on so few tokens, of its decoder's many: it reads one
        assert (total[:LAYERS] != 0).double().mean() > 0.9 and (total[LAYERS:] != 0).any(1).all()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_masked_unit_does_not_matter():
    """With a mask at zero the unit's own weights get no gradient, which is what makes the mask stand for the
    unit."""
    model = build()
    with models.scoring_masks(model) as masks:
        with torch.no_grad():
            masks.heads[1, 2] = 0
        output(model).square().sum().backward()
    size = model.bert.encoder.layer[1].attention.self.attention_head_size
    gradient = model.bert.encoder.layer[1].attention.self.value.weight.grad
    assert gradient[2 * size : 3 * size].count_nonzero() == 0 and gradient.count_nonzero() > 0


def test_sums_over_processes():
    model, batch, labels = build(), inputs(), torch.tensor([2, 0, 1])
    with models.scoring_masks(model) as masks:
        scores = importance.Accumulator(masks)
        scores.add(F.cross_entropy(model(**batch).logits, labels), weight=3)
        before = scores.heads.clone(), scores.neurons.clone()
        scores.reduce(lambda tensor: tensor.mul_(2))  # two processes with the same data
    assert torch.equal(scores.heads, 2 * before[0]) and torch.equal(scores.neurons, 2 * before[1])
