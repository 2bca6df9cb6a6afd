"""The objectives' terms on a tiny student and teacher: weights, golden values of one update, the teacher's
cache."""

import math

import numpy as np
import pytest
import tiny_models
import torch
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

import models
from models import architectures
from modules import losses
from modules.losses import matched_layers
from modules.objectives import OBJECTIVES, Objective, Targets
from utils.batch import Batch
from utils.frozen_outputs import FrozenOutputs


def formula_weights(model, phase):
    """Weights from a formula, so that no random generator decides a golden value."""
    for number, (name, tensor) in enumerate(sorted(model.state_dict().items())):
        index = torch.arange(tensor.numel(), dtype=torch.float64)
        values = ((37 * index**2 + 11 * index + 101 * number + phase) % 1009) / 504.5 - 1
        scaled = (
            1 + 0.1 * values if "LayerNorm.weight" in name else (0.3 if tensor.dim() > 1 else 0.1) * values
        )
        tensor.copy_(scaled.reshape(tensor.shape))
    return model


def bert(layers, phase, kind=BertForSequenceClassification, num_labels=3):
    config = BertConfig(
        vocab_size=97,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=32,
        num_labels=num_labels,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return formula_weights(kind(config), phase).double().eval()


def batch(kind="classification"):
    lengths = torch.tensor([8, 5, 3])
    mask = (torch.arange(8) < lengths[:, None]).long()
    ids = (7 * torch.arange(3)[:, None] + 13 * torch.arange(8) + 5) % 97 * mask
    labels = torch.tensor([0, 2, 1])
    if kind == "regression":
        labels = torch.tensor([0.5, 4.0, 2.5])
    if kind == "tagging":
        labels = torch.where(mask.bool() & (torch.arange(8) % 2 == 1), ids % 3, -100)
    scored = float((labels != -100).sum()) if kind == "tagging" else 3.0
    divisors = {"examples": 3.0, "tokens": float(mask.sum()), "labels": scored}
    return Batch({"input_ids": ids, "attention_mask": mask}, labels, np.arange(3), divisors)


MODEL = {
    "classification": (BertForSequenceClassification, 3),
    "regression": (BertForSequenceClassification, 1),
    "tagging": (BertForTokenClassification, 3),
}


def pair(kind="classification"):
    model_class, num_labels = MODEL[kind]
    return bert(2, 7, model_class, num_labels), models.freeze(bert(3, 0, model_class, num_labels))


def targets(teacher, objective, data):
    with torch.no_grad():
        output = teacher(**data.inputs, output_hidden_states=True)
    return Targets(output.logits, [output.hidden_states[layer] for layer in objective.teacher_layers])


@pytest.mark.parametrize("kind", MODEL)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_terms_beside_the_papers_table(name, kind):
    """Each objective written out from its row of the table, with the losses' own tested functions and plain
    states."""
    student, teacher = pair(kind)
    objective, data = Objective(name, kind, matched_layers(2, 3), temperature=1.0), batch(kind)
    terms = objective(student, data, targets(teacher, objective, data))
    mine, theirs = (model(**data.inputs, output_hidden_states=True) for model in (student, teacher))
    mask = data.mask
    scored = data.labels != -100 if kind == "tagging" else None
    expected = {
        "task": losses.task_loss(mine.logits, data.labels, kind=kind),
        "soft_label": losses.soft_label(mine.logits, theirs.logits, kind=kind, mask=scored),
        "hidden": losses.hidden_states(
            [mine.hidden_states[i] for i in (0, 1, 2)], [theirs.hidden_states[i] for i in (0, 2, 3)], mask
        ),
        "patient": losses.patient(mine.hidden_states[2], theirs.hidden_states[3], mask),
    }
    assert set(terms) == set(OBJECTIVES[name].terms)
    for term, value in terms.items():
        torch.testing.assert_close(value, expected[term] / len(terms), rtol=1e-12, atol=0)


def test_patient_distillation_of_a_score():
    """The table's formula, token by token: mean squared differences of states of length 1 and of scores, a
    third each."""
    student, teacher = pair("regression")
    objective, data = Objective("pkd", "regression", matched_layers(2, 3)), batch("regression")
    found = sum(objective(student, data, targets(teacher, objective, data)).values())
    mine, theirs = (model(**data.inputs, output_hidden_states=True) for model in (student, teacher))
    states = []
    for example, length in enumerate((8, 5, 3)):
        for token in range(length):
            u, v = (output.hidden_states[-1][example, token].tolist() for output in (mine, theirs))
            u, v = ([x / math.sqrt(sum(y * y for y in vector)) for x in vector] for vector in (u, v))
            states += [(x - y) ** 2 for x, y in zip(u, v, strict=True)]
    z, z_t, y = mine.logits[:, 0].tolist(), theirs.logits[:, 0].tolist(), [0.5, 4.0, 2.5]
    soft, hard = ([(a - b) ** 2 for a, b in zip(z, other, strict=True)] for other in (z_t, y))
    expected = sum(sum(values) / len(values) for values in (states, soft, hard)) / 3
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_a_weight_of_zero_is_not_computed():
    """Without hidden states asked for, and without a teacher where nothing looks at it."""
    objective = Objective("sparse", "classification", matched_layers(2, 3), weights={"hidden": 0.0})
    assert objective.student_layers == [] and objective.needs_teacher
    objective = Objective(
        "kd", "classification", matched_layers(2, 3), weights={"soft_label": 0.0, "task": 1.0}
    )
    assert not objective.needs_teacher
    assert set(objective(pair()[0], batch(), None)) == {"task"}


@pytest.mark.parametrize("family", ["bert", "modernbert", "t5"])
def test_a_head_that_nothing_teaches_is_frozen(family):
    """Hidden states alone: what is trained has a gradient; several processes would wait for what has none."""
    student, teacher = tiny_models.build(family), models.freeze(tiny_models.build(family, seed=1))
    trained = {name for name, _ in student.named_parameters()}
    options = {"name": "sparse", "kind": "classification"}
    models.objective_for(student, teacher, **options)
    assert trained == {name for name, p in student.named_parameters() if p.requires_grad}
    objective = models.objective_for(student, teacher, **options, weights={"soft_label": 0.0})
    data = batch()
    data.inputs = tiny_models.inputs()
    sum(objective(student, data, targets(teacher, objective, data)).values()).backward()
    reached = {name for name, p in student.named_parameters() if p.grad is not None}
    assert reached == {name for name, p in student.named_parameters() if p.requires_grad}
    head = [f"{name}." for name in architectures.of(student).task_heads]
    assert trained - reached and not any(name.startswith(tuple(head)) for name in reached)


GOLDEN = {  # one MiniDisc update: 50% and 0% of a nested student learn from a teacher, half each
    "50/hidden": 0.034822744331942546,
    "50/soft_label": 0.2621959457080092,
    "0/hidden": 0.014702714255858139,
    "0/soft_label": 0.2599679479311962,
    "gradient_rms": 0.003234408587996979,
    "weights_mean": 0.01251374885695607,
    "weights_std": 0.20330583389944243,
}


def one_update():
    """Scores from a formula, both sub-networks forward and backward, one AdamW step in float64."""
    student, teacher = bert(3, 7), models.freeze(bert(3, 0))
    heads = torch.arange(12.0).reshape(3, 4) * 7 % 5 + 1
    neurons = torch.arange(72.0).reshape(3, 24) * 11 % 17 + 1
    models.sort_units(student, heads, neurons, grid=[0, 50])
    objective, data, found = Objective("sparse", "classification", matched_layers(3, 3)), batch(), {}
    answers = targets(teacher, objective, data)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, eps=1e-6, weight_decay=0.01)
    for sparsity in (50, 0):
        models.set_sparsity(student, sparsity)
        terms = {f"{sparsity}/{name}": term / 2 for name, term in objective(student, data, answers).items()}
        sum(terms.values()).backward()
        found.update({name: term.item() for name, term in terms.items()})
    gradient = torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])
    optimizer.step()
    weights = torch.cat([p.detach().flatten() for p in student.parameters()])
    stats = {
        "gradient_rms": gradient.square().mean().sqrt(),
        "weights_mean": weights.mean(),
        "weights_std": weights.std(),
    }
    return found | {name: value.item() for name, value in stats.items()}


def test_golden_update():
    """If you meant to refactor, a failure here is a bug; if you meant to change the method, update the
    numbers in a commit of their own and say why."""
    found = one_update()
    assert set(found) == set(GOLDEN)
    for name, value in GOLDEN.items():
        assert found[name] == pytest.approx(value, rel=1e-7), f"{name}: {found}"


class Three:
    """The three examples of batch() as a split."""

    lengths, whole_size = np.array([8, 5, 3]), (3, 16)

    def __init__(self, kind):
        self.whole = batch(kind)

    def __len__(self):
        return 3

    def in_order(self, batch_size):
        return [np.array([0, 1]), np.array([2])]

    def collate(self, indices):
        longest = self.lengths[indices].max()
        inputs = {name: tensor[indices][:, :longest] for name, tensor in self.whole.inputs.items()}
        labels = self.whole.labels[indices]
        return Batch(
            inputs,
            labels[:, :longest] if labels.ndim == 2 else labels,
            np.asarray(indices),
            self.whole.divisors,
        )


@pytest.mark.parametrize("kind", MODEL)
def test_cached_teacher_answers_as_the_teacher(kind):
    """Rows in another order and other company than when they were kept; padding is zero and masked."""
    split, model = Three(kind), pair(kind)[1].float()
    plain, cached = (FrozenOutputs(model, layers=[0, 3], precision="fp32") for _ in range(2))
    cached.cache(split, batch_size=2, where="memory")
    model.requires_grad_(False)
    for indices in ([2, 0], [1], [1, 2]):
        data = split.collate(np.array(indices))
        (logits, states), (kept_logits, kept_states) = plain(data), cached(data)
        real = data.mask if kind == "tagging" else slice(None)
        torch.testing.assert_close(kept_logits[real], logits[real], rtol=1e-5, atol=1e-6)
        for kept, state in zip(kept_states, states, strict=True):
            torch.testing.assert_close(kept[data.mask], state[data.mask], rtol=1e-5, atol=1e-6)
