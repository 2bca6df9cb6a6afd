"""Loss terms against loops in float64 and golden values for MiniDisc and StarK."""

import math
from itertools import pairwise

import pytest
import torch

from modules import losses

B, L, C, D = 4, 6, 3, 5
LENGTHS = (6, 3, 1, 4)  # real tokens of each example


@pytest.fixture
def draw():
    """Random float64 tensors of a given shape, the same in every run."""
    generator = torch.Generator().manual_seed(776)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def mask_of(lengths=LENGTHS, num_tokens=L):
    return torch.tensor([[position < length for position in range(num_tokens)] for length in lengths])


def tags():
    """[B, L] labels: every second real token is scored, and the whole of the third example is not."""
    labels = torch.full((B, L), -100)
    for example, length in enumerate(LENGTHS):
        for position in range(0, length, 2):
            labels[example, position] = (example + position) % C
    labels[2] = -100
    return labels


def softmax(logits, temperature=1.0):
    powers = [math.exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


def soft_cross_entropy(student, teacher, temperature):
    pairs = zip(softmax(student, temperature), softmax(teacher, temperature))
    return -sum(p * math.log(q) for q, p in pairs)


def squared_distance(student, teacher):
    return sum((a - b) ** 2 for a, b in zip(student, teacher))


def unit(vector):
    norm = math.sqrt(sum(value**2 for value in vector))
    return [value / norm for value in vector]


def close(found, expected, rel=1e-12):
    assert found.item() == pytest.approx(expected, rel=rel)


# ---- Golden values


# Some golden values are a few units off in their 7th decimal (float32); the references below are exact
LAST_DIGIT = 5e-7
STUDENT, TEACHER, LABEL = torch.tensor([[1.0, 2, 3]]), torch.tensor([[3.0, 2, 1]]), torch.tensor([2])


@pytest.mark.parametrize(
    "temperature, soft, half_sum", [(1.0, 1.9828162, 1.1952111), (2.0, 5.3613920, 2.8844990)]
)
def test_golden_kd(temperature, soft, half_sum):
    """kdbert of MiniDisc is the half sum at T = 1, L_KD of StarK that at T = 2."""
    student, teacher = STUDENT.double(), TEACHER.double()
    found_soft = losses.soft_label(student, teacher, kind="classification", temperature=temperature)
    found_task = losses.task_loss(student, LABEL, kind="classification")
    assert float(found_soft) == pytest.approx(soft, abs=LAST_DIGIT)
    assert float(found_task) == pytest.approx(0.4076059, abs=LAST_DIGIT)
    assert float(found_soft + found_task) / 2 == pytest.approx(half_sum, abs=LAST_DIGIT)


def test_golden_divergence():
    """T^2 KL = T^2 (soft cross-entropy - entropy of the teacher): 1.2806269 at T = 2."""
    student, teacher = STUDENT.double(), TEACHER.double()
    soft = losses.soft_label(student, teacher, kind="classification", temperature=2.0)
    entropy = losses.soft_label(teacher, teacher, kind="classification", temperature=2.0)
    assert float(soft - entropy) == pytest.approx(1.2806269, abs=LAST_DIGIT)


def test_golden_regression():
    student, teacher, labels = (
        torch.tensor([[1.0], [2.0]]),
        torch.tensor([[2.0], [2.0]]),
        torch.tensor([1.0, 4.0]),
    )
    # Without effect on purpose
    soft = losses.soft_label(student, teacher, kind="regression", temperature=2.0)
    task = losses.task_loss(student, labels, kind="regression")
    assert (float(soft), float(task), float(soft + task) / 2) == (0.5, 2.0, 1.25)


def test_golden_patient():
    student, teacher = torch.tensor([[[3.0, 4.0]]]).double(), torch.tensor([[[4.0, 3.0]]]).double()
    close(losses.patient(student, teacher, torch.ones(1, 1, dtype=torch.bool)), 0.04)


@pytest.mark.parametrize(
    "z_t, z_s, temperature, soft_gradient, kl_gradient",
    [
        ([1.0, 0], [1.0, 0], 1.0, -0.1966119, 0.0),
        ([1.0, 0], [1.0, 0], 2.0, -0.2350037, 0.0),
        ([2.0, 0], [1.0, 0], 1.0, -0.1049936, 0.1049936),
        ([2.0, 0], [1.0, 0], 2.0, -0.1966119, 0.1966119),
    ],
)
def test_golden_gradient_to_the_teacher(z_t, z_s, temperature, soft_gradient, kl_gradient):
    """StarK scores the teacher's units by this gradient: the target must not be detached."""
    teacher = torch.tensor([z_t], dtype=torch.float64, requires_grad=True)
    student = torch.tensor([z_s], dtype=torch.float64)
    soft = losses.soft_label(student, teacher, kind="classification", temperature=temperature)
    divergence = soft - losses.soft_label(teacher, teacher, kind="classification", temperature=temperature)
    for loss, expected in ((soft, soft_gradient), (divergence, kl_gradient)):
        (gradient,) = torch.autograd.grad(loss, teacher, retain_graph=True)
        assert gradient[0].tolist() == pytest.approx([expected, -expected], abs=1e-7)


@pytest.mark.parametrize(
    "num_student, num_teacher, expected",
    [
        (4, 12, [(0, 0), (1, 3), (2, 6), (3, 9), (4, 12)]),
        (8, 12, [(0, 0), (1, 2), (3, 4), (4, 6), (5, 8), (7, 10), (8, 12)]),
        (12, 12, [(0, 0), (2, 2), (4, 4), (6, 6), (8, 8), (10, 10), (12, 12)]),
        (24, 24, [(0, 0), (4, 4), (8, 8), (12, 12), (16, 16), (20, 20), (24, 24)]),
        (1, 12, [(0, 0), (1, 12)]),
    ],
)
def test_golden_matched_layers(num_student, num_teacher, expected):
    assert losses.matched_layers(num_student, num_teacher) == expected


# ---- Plain references


def test_classification_reference(draw):
    student, teacher, labels = draw(B, C), draw(B, C), torch.tensor([0, 2, 1, 2])
    expected = (
        -sum(math.log(softmax(row)[label]) for row, label in zip(student.tolist(), labels.tolist())) / B
    )
    close(losses.task_loss(student, labels, kind="classification"), expected)
    for temperature in (0.5, 1.0, 2.0, 7.0):
        rows = zip(student.tolist(), teacher.tolist())
        expected = temperature**2 * sum(soft_cross_entropy(*row, temperature) for row in rows) / B
        close(losses.soft_label(student, teacher, kind="classification", temperature=temperature), expected)


def test_regression_reference(draw):
    student, teacher, labels = draw(B, 1), draw(B, 1), draw(B)
    expected = sum((a - b) ** 2 for a, b in zip(student[:, 0].tolist(), labels.tolist())) / B
    close(losses.task_loss(student, labels, kind="regression"), expected)
    expected = sum((a - b) ** 2 for a, b in zip(student[:, 0].tolist(), teacher[:, 0].tolist())) / B
    close(losses.soft_label(student, teacher, kind="regression"), expected)


def test_tagging_reference(draw):
    student, teacher, labels = draw(B, L, C), draw(B, L, C), tags()
    scored = [
        (example, position) for example in range(B) for position in range(L) if labels[example, position] >= 0
    ]
    assert 0 < len(scored) < sum(LENGTHS)
    hard = -sum(math.log(softmax(student[at].tolist())[labels[at]]) for at in scored) / len(scored)
    close(losses.task_loss(student, labels, kind="tagging"), hard)
    soft = (
        4
        * sum(soft_cross_entropy(student[at].tolist(), teacher[at].tolist(), 2.0) for at in scored)
        / len(scored)
    )
    close(losses.soft_label(student, teacher, kind="tagging", temperature=2.0, mask=labels != -100), soft)


def test_hidden_states_reference(draw):
    student, teacher = [draw(B, L, D) for _ in range(3)], [draw(B, L, D) for _ in range(3)]
    real = [(example, position) for example in range(B) for position in range(LENGTHS[example])]
    total = sum(
        squared_distance(student[state][at].tolist(), teacher[state][at].tolist())
        for state in range(3)
        for at in real
    )
    close(losses.hidden_states(student, teacher, mask_of()), total / (len(real) * 3 * D))


def test_patient_reference(draw):
    student, teacher = draw(B, L, D), draw(B, L, D)
    real = [(example, position) for example in range(B) for position in range(LENGTHS[example])]
    total = sum(squared_distance(unit(student[at].tolist()), unit(teacher[at].tolist())) for at in real)
    close(losses.patient(student, teacher, mask_of()), total / (len(real) * D))


# ---- Properties, for every term at once


def batch_of(draw):
    """Everything that the terms need, example by example."""
    return {
        "logits": draw(B, C),
        "target": draw(B, C),
        "score": draw(B, 1),
        "target_score": draw(B, 1),
        "token_logits": draw(B, L, C),
        "token_target": draw(B, L, C),
        "first": draw(B, L, D),
        "last": draw(B, L, D),
        "target_first": draw(B, L, D),
        "target_last": draw(B, L, D),
        "classes": torch.tensor([0, 2, 1, 2]),
        "scores": draw(B),
        "tags": tags(),
        "mask": mask_of(),
    }


TERMS = {
    "task classification": lambda b, **k: losses.task_loss(
        b["logits"], b["classes"], kind="classification", **k
    ),
    "task regression": lambda b, **k: losses.task_loss(b["score"], b["scores"], kind="regression", **k),
    "task tagging": lambda b, **k: losses.task_loss(b["token_logits"], b["tags"], kind="tagging", **k),
    "soft classification": lambda b, **k: losses.soft_label(
        b["logits"], b["target"], kind="classification", temperature=2.0, **k
    ),
    "soft regression": lambda b, **k: losses.soft_label(
        b["score"], b["target_score"], kind="regression", **k
    ),
    "soft tagging": lambda b, **k: losses.soft_label(
        b["token_logits"], b["token_target"], kind="tagging", temperature=2.0, mask=b["tags"] >= 0, **k
    ),
    "hidden": lambda b, **k: losses.hidden_states(
        [b["first"], b["last"]], [b["target_first"], b["target_last"]], b["mask"], **k
    ),
    "patient": lambda b, **k: losses.patient(b["last"], b["target_last"], b["mask"], **k),
}
SEQUENCES = ("token_logits", "token_target", "first", "last", "target_first", "target_last", "tags", "mask")
STUDENT_NAMES = ("logits", "score", "token_logits", "first", "last")
each_term = pytest.mark.parametrize("name", TERMS)


def divisor_of(name, batch):
    """The count that the loop hands over for a term: examples, scored labels or real tokens."""
    if "tagging" in name:
        return int((batch["tags"] >= 0).sum())
    return int(batch["mask"].sum()) if name in ("hidden", "patient") else B


@each_term
def test_padding_leaves_the_loss_alone(draw, name):
    """Five more columns of padding, filled with large values: the losses keep every bit, up to the order of
    summing."""
    batch = batch_of(draw)
    padded = dict(batch)
    for key in SEQUENCES:
        value = {"tags": -100, "mask": False}.get(key, 1e3)
        tail = torch.full((B, 5, *batch[key].shape[2:]), value, dtype=batch[key].dtype)
        padded[key] = torch.cat([batch[key], tail], dim=1)
    close(TERMS[name](padded), TERMS[name](batch).item())


@each_term
def test_masked_tokens_do_not_count(draw, name):
    """What stands at padding and at unscored tokens changes neither the loss nor gets a gradient."""
    batch = batch_of(draw)
    counts = batch["tags"] >= 0 if "tagging" in name else batch["mask"]
    changed = dict(batch)
    for key in SEQUENCES[:-2]:
        changed[key] = batch[key].masked_fill(~counts[..., None], -50.0).requires_grad_()
    loss = TERMS[name](changed)
    close(loss, TERMS[name](batch).item())
    if loss.requires_grad:
        loss.backward()
        gradients = {key: changed[key].grad for key in SEQUENCES[:-2] if changed[key].grad is not None}
        assert gradients
        for gradient in gradients.values():
            assert not gradient[~counts].any()
            assert gradient[counts].any(-1).all()


@each_term
@pytest.mark.parametrize("cuts", [(0, 4), (0, 2, 4), (0, 3, 4), (0, 1, 2, 3, 4)])
def test_micro_batches_sum_to_the_whole(draw, name, cuts):
    """With the whole batch's divisor the parts add up; the third example alone has no scored token at all."""
    batch = batch_of(draw)
    divisor = divisor_of(name, batch)
    parts = [
        TERMS[name]({key: value[start:end] for key, value in batch.items()}, divisor=divisor)
        for start, end in pairwise(cuts)
    ]
    close(sum(parts), TERMS[name](batch).item())


@pytest.mark.parametrize("name", ["task tagging", "soft tagging", "hidden", "patient"])
def test_the_mean_over_nothing_is_zero(draw, name):
    """Without a divisor, a batch in which nothing counts has loss 0 and gradient 0, not NaN."""
    batch = batch_of(draw)
    batch["tags"], batch["mask"] = torch.full((B, L), -100), torch.zeros(B, L, dtype=torch.bool)
    for key in STUDENT_NAMES:
        batch[key] = batch[key].requires_grad_()
    loss = TERMS[name](batch)
    loss.backward()
    assert loss.item() == 0.0
    gradients = [batch[key].grad for key in STUDENT_NAMES if batch[key].grad is not None]
    assert gradients and all(not gradient.any() for gradient in gradients)


@pytest.mark.parametrize("name", [name for name in TERMS if not name.startswith("task")])
def test_student_equal_to_teacher_is_the_minimum(draw, name):
    """At equality the gradient to the student is 0 and a step to any side raises the loss; distances are 0
    there."""
    batch = batch_of(draw)
    targets = dict(
        zip(STUDENT_NAMES, ("target", "target_score", "token_target", "target_first", "target_last"))
    )
    equal = batch | {key: batch[target].clone().requires_grad_() for key, target in targets.items()}
    loss = TERMS[name](equal)
    gradients = torch.autograd.grad(loss, [equal[key] for key in targets], allow_unused=True)
    for gradient in gradients:
        assert gradient is None or gradient.abs().max() < 1e-15
    assert any(gradient is not None for gradient in gradients)
    if not name.startswith("soft") or name == "soft regression":
        assert loss.item() == 0.0
    for _ in range(5):
        aside = batch | {
            key: batch[target] + 0.1 * draw(*batch[target].shape) for key, target in targets.items()
        }
        assert TERMS[name](aside) > loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
@each_term
def test_computed_in_float32(draw, name, dtype, autocast):
    """16-bit logits and states give, with and without autocast, just what their float32 copies give."""
    batch = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in batch_of(draw).items()
    }
    copies = {key: value.float() if value.is_floating_point() else value for key, value in batch.items()}
    expected = TERMS[name](copies)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found = TERMS[name](batch)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@each_term
def test_float64_stays_float64(draw, name):
    batch = batch_of(draw)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = TERMS[name](batch)
    assert found.dtype == torch.float64
    assert torch.equal(found, TERMS[name](batch))


def test_large_16_bit_values_do_not_overflow():
    """A difference of 400 squared is 160,000, beyond float16."""
    states = torch.full((1, 2, 4), 400.0, dtype=torch.float16)
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert losses.hidden_states([states], [torch.zeros_like(states)], mask).item() == 160_000.0


def test_shapes_must_agree(draw):
    """Broadcasting would turn [B, 1] scores against [B] labels into a B x B table without a word."""
    with pytest.raises(AssertionError):
        losses.soft_label(draw(B, 1), draw(B), kind="regression")
    with pytest.raises(AssertionError):
        losses.soft_label(draw(B, 1), draw(B, C), kind="classification")
    with pytest.raises(AssertionError):
        losses.hidden_states([draw(B, L, D)], [draw(B, L, 1)], mask_of())
    with pytest.raises(AssertionError):
        losses.hidden_states([draw(B, L, D)], [], mask_of())
    with pytest.raises(AssertionError):
        losses.soft_label(draw(B, L, C), draw(B, L, C), kind="tagging")
    with pytest.raises(AssertionError):
        losses.task_loss(draw(B, C), torch.zeros(B, dtype=torch.long), kind="ranking")


def test_class_weights_are_factors_of_labels():
    """As by hand; all 1: no difference at all; a label that is not scored counts nowhere."""
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, 2, losses.IGNORED, 1])
    weights = torch.tensor([0.5, 2.0, 1.5])
    found = losses.task_loss(logits, labels, kind="classification", class_weights=weights)
    real = labels != losses.IGNORED
    each = -torch.log_softmax(logits, -1)[real, labels[real]]
    torch.testing.assert_close(found, (weights[labels[real]] * each).sum() / 4)
    plain = losses.task_loss(logits, labels, kind="classification")
    assert torch.equal(
        losses.task_loss(logits, labels, kind="classification", class_weights=torch.ones(3)), plain
    )
