"""StarK's mathematics: golden values, and the scores against loops over heads, neurons and examples."""

from argparse import Namespace

import pytest
import torch
import torch.nn.functional as F
from plain_bert import bert_layer
from tiny_models import HEADS, LAYERS, NEURONS, build, inputs

import models
from models.knowledge_scores import knowledge_scores
from models.sorting_loss import TaskLoss
from modules import importance, knowledge, losses
from utils.batch import Batch

# ---- Golden values


def test_the_losses_by_hand():
    student, teacher, label = torch.tensor([[1.0, 2, 3]]), torch.tensor([[3.0, 2, 1]]), torch.tensor([2])
    soft = losses.soft_label(student, teacher, kind="classification", temperature=2.0)
    hard = losses.task_loss(student, label, kind="classification")
    divergence = knowledge.friendliness_loss(
        student, teacher, kind="classification", temperature=2.0, loss="kl"
    )
    assert [soft.item() / 4, soft.item(), hard.item()] == pytest.approx(
        [1.3403480, 5.3613920, 0.4076059], abs=1e-6
    )
    assert (soft + hard).item() / 2 == pytest.approx(2.8844990, abs=1e-6)
    assert divergence.item() == pytest.approx(1.2806269, abs=1e-6)
    student, teacher, scores = torch.tensor([[1.0], [2]]), torch.tensor([[2.0], [2]]), torch.tensor([1.0, 4])
    for loss in ("soft_ce", "kl"):
        soft = knowledge.friendliness_loss(student, teacher, kind="regression", loss=loss, temperature=2.0)
        assert soft == 0.5 and (soft + losses.task_loss(student, scores, kind="regression")) / 2 == 1.25


@pytest.mark.parametrize(
    "teacher, temperature, soft_ce, kl",
    [
        (1.0, 1, -0.1966119, 0),
        (1.0, 2, -0.2350037, 0),
        (2.0, 1, -0.1049936, 0.1049936),
        (2.0, 2, -0.1966119, 0.1966119),
    ],
)
def test_the_gradients_by_hand(teacher, temperature, soft_ce, kl):
    """Student [1, 0]: the soft cross-entropy pulls at a teacher that agrees, the divergence does not."""
    for loss, expected in (("soft_ce", soft_ce), ("kl", kl)):
        logits = torch.tensor([[teacher, 0.0]], dtype=torch.float64, requires_grad=True)
        student = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        found = knowledge.friendliness_loss(
            student, logits, kind="classification", loss=loss, temperature=temperature
        )
        (gradient,) = torch.autograd.grad(found, logits)
        assert gradient[0].tolist() == pytest.approx([expected, -expected], abs=1e-7)


def test_a_score_that_agrees_pulls_at_nothing():
    logits = torch.tensor([[2.0], [3.0]], requires_grad=True)
    knowledge.friendliness_loss(torch.tensor([[2.0], [1.0]]), logits, kind="regression").backward()
    assert logits.grad.tolist() == [[0.0], [2.0]]  # 2 (z_t - z_s) / B


def test_mixing_by_hand():
    express, friendly = torch.tensor([[3.0, 4]]).double(), torch.tensor([[4.0, 3]]).double()
    for lam, expected in ((0.5, [0.7, 0.7]), (0.25, [0.75, 0.65]), (1, [0.6, 0.8]), (0, [0.8, 0.6])):
        mixed = knowledge.knowledgeableness(express, friendly, lam=lam)
        assert mixed[0].tolist() == pytest.approx(expected, abs=1e-12)
        scaled = knowledge.knowledgeableness(express, 1e-6 * friendly, lam=lam)
        assert torch.allclose(scaled, mixed, rtol=1e-12)
    # A tie
    assert importance.orders(knowledge.knowledgeableness(express, friendly, lam=0.5)).tolist() == [[0, 1]]


def test_k_is_not_normalised_again():
    """In layer 1 the two scores contradict, so that its norm is .8; normalised, its best unit would outlive
    layer 0's."""
    express, friendly = (
        torch.tensor([[0.96, 0.28], [0.8, 0.6]]).double(),
        torch.tensor([[0.96, 0.28], [0.8, -0.6]]).double(),
    )
    mixed = knowledge.knowledgeableness(express, friendly, lam=0.5)
    assert torch.allclose(mixed, torch.tensor([[0.96, 0.28], [0.8, 0]]).double())
    assert importance.removed_counts(mixed, [75], normalised=True) == {75: [1, 2]}
    assert importance.removed_counts(mixed, [75]) == {75: [2, 1]}
    raw, points = torch.tensor([[3.0, 4], [60, 80]]), [25, 50, 75]
    plain = importance.removed_counts(raw, points)
    assert importance.removed_counts(importance.normalise(raw), points, normalised=True) == plain


# ---- Scores against loops over heads, neurons and examples


def fixed_split(batch, labels, kind, parts=((0, 1), (2,))):
    """What scores need of a split, with these batches."""

    def collate(rows):
        inputs = {name: values[rows] for name, values in batch.items()}
        counts = {"examples": len(rows), "labels": int((labels[rows] != losses.IGNORED).sum())}
        return Batch(inputs, labels[rows], rows, counts)

    batches = [torch.tensor(rows) for rows in parts]
    return Namespace(task=Namespace(kind=kind), collate=collate, epoch=lambda *_: batches)


def by_loops(teacher, trial, batch, labels, kind, *, friendliness_loss, signed, temperature):
    """{unit: (expressiveness, friendliness)}: a scalar factor per unit, a backward pass per example and loss,
    float64."""
    sizes = {"heads": HEADS, "neurons": NEURONS}
    totals = {unit: [torch.zeros(LAYERS, size).double() for _ in range(2)] for unit, size in sizes.items()}
    for rows in ((0, 1), (2,)):
        of_batch = {
            unit: [torch.zeros(LAYERS, size).double() for _ in range(2)] for unit, size in sizes.items()
        }
        for row in rows:
            ids, mask, label = batch["input_ids"][row], batch["attention_mask"][row].bool(), labels[row]
            student = trial(input_ids=ids[None], attention_mask=mask[None].long()).logits[0].detach()
            factors = {
                unit: [
                    [torch.ones((), dtype=torch.float64, requires_grad=True) for _ in range(size)]
                    for _ in range(LAYERS)
                ]
                for unit, size in sizes.items()
            }
            hidden = teacher.bert.embeddings(ids[None])[0]
            for layer, heads, neurons in zip(
                teacher.bert.encoder.layer, factors["heads"], factors["neurons"]
            ):
                hidden = bert_layer(layer, hidden, mask, heads, neurons)
            logits = teacher.classifier(torch.tanh(teacher.bert.pooler.dense(hidden[0])))
            if kind == "regression":
                task_loss, soft = (logits[0] - label) ** 2, (logits[0] - student[0]) ** 2
            else:
                p, q = (logits / temperature).softmax(-1), (student / temperature).softmax(-1)
                task_loss = -F.log_softmax(logits, -1)[label]
                soft = -(
                    p * (q.log() - (p.log() if friendliness_loss == "kl" else 0))
                ).sum()  # T^2, 1/2 cancel later
            for unit in sizes:
                for number, row_of_factors in enumerate(factors[unit]):
                    for which, loss in enumerate((task_loss, soft)):
                        gradient = torch.autograd.grad(loss, row_of_factors, retain_graph=True)
                        of_batch[unit][which][number] += torch.stack(gradient)
        for unit in sizes:
            totals[unit][0] += of_batch[unit][0].abs()
            totals[unit][1] += -of_batch[unit][1] if signed else of_batch[unit][1].abs()
    return totals


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("loss, sign", [("soft_ce", "abs"), ("soft_ce", "signed"), ("kl", "signed")])
def test_scores_against_loops(kind, loss, sign):
    """And: the student runs without gradients, neither model changes, and no parameter of either has a
    gradient afterwards."""
    number = 3 if kind == "classification" else 1
    teacher, trial = build(num_labels=number), models.keep_layers(build(num_labels=number, seed=1), 2)
    labels = torch.tensor([2, 0, 1]) if kind == "classification" else torch.tensor([2.0, 0.0, 1.5]).double()
    recorded = []
    trial.register_forward_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
    options = {"friendliness_loss": loss, "signed": sign == "signed", "temperature": 2.0}
    before = [
        {name: tensor.clone() for name, tensor in model.state_dict().items()} for model in (teacher, trial)
    ]
    split, cpu = fixed_split(inputs(), labels, kind), torch.device("cpu")
    found = knowledge_scores(teacher, trial, split, **options, batch_size=2, seed=0, device=cpu)
    assert recorded == [False, False]
    expected = by_loops(teacher, trial, inputs(), labels, kind, **options)
    for unit in expected:
        express, friendly = (getattr(accumulator, unit) for accumulator in found)
        assert torch.allclose(express, expected[unit][0], rtol=1e-9, atol=1e-12)
        assert torch.allclose(
            importance.normalise(friendly), importance.normalise(expected[unit][1]), rtol=1e-9, atol=1e-12
        )
        assert ((friendly < 0).any() if sign == "signed" else (friendly >= 0).all()) and not torch.allclose(
            express, friendly
        )
    for model, old in zip((teacher, trial), before):
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(torch.equal(tensor, old[name]) for name, tensor in model.state_dict().items())


def test_tagging_counts_scored_tokens():
    """The mean over labelled tokens: what an unlabelled token says does not matter."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 4, 3, generator=generator).double() for _ in range(2))
    mask = torch.tensor([[True, True, False, False], [True, False, False, False]])
    found = knowledge.friendliness_loss(student, teacher, kind="tagging", temperature=2.0, mask=mask)
    tokens = [(0, 0), (0, 1), (1, 0)]
    each = [-((teacher[at] / 2).softmax(-1) * (student[at] / 2).log_softmax(-1)).sum() * 4 for at in tokens]
    assert found.item() == pytest.approx(sum(each).item() / 3)


def test_words_count_alike_in_any_batch():
    """Of 8, 1 and 2 scored words a row: a word's gradient has one weight, whatever it is batched with; so has
    its loss in plain sparsification."""
    teacher, trial = build(kind="tagging"), build(kind="tagging", seed=1)
    labels = torch.full((3, 9), losses.IGNORED)
    labels[0, 1:], labels[1, 2], labels[2, 1:3] = torch.arange(8) % 3, 1, torch.tensor([2, 0])
    options = {"friendliness_loss": "soft_ce", "signed": True, "temperature": 2.0}
    options |= {"batch_size": 2, "seed": 0, "device": torch.device("cpu")}
    sums, summed = [], []
    for parts in (((0, 1), (2,)), ((0,), (1, 2)), ((0, 1, 2),)):
        split = fixed_split(inputs(), labels, "tagging", parts)
        sums.append(knowledge_scores(teacher, trial, split, **options)[1])
        run, data = Namespace(device=torch.device("cpu")), Namespace(task=split.task, tokenizer=None)
        more = {"batch_size": 2, "seed": 0, "metric": "f1", "per_example": False, "run": run}
        plain = TaskLoss(teacher, data, split, **more)
        summed.append(sum(float(loss.detach()) * weight for loss, weight in plain.batches()))
    for found, total in zip(sums, summed):
        assert torch.allclose(found.heads, sums[0].heads, rtol=1e-9)
        assert torch.allclose(found.neurons, sums[0].neurons, rtol=1e-9)
        assert total == pytest.approx(summed[0], rel=1e-12)
    scores = teacher(**inputs()).logits
    words = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="sum")
    assert summed[0] == pytest.approx(float(words), rel=1e-9)
