"""The relation loss and its gradient against loops in float64, golden values and properties."""

import math

import pytest
import torch

from modules.relation_losses import relation_losses
from utils.flags.relations import RELATIONS

# Golden inputs of the method document: B sequences, L tokens, R relation heads, widths of teacher and student
B, L, R, WIDTHS = 2, 5, 2, {"teacher": 8, "student": 4}
LENGTHS = (5, 3)
QKV = {"qq": 1.0, "kk": 1.0, "vv": 1.0}
SEQUENCE = {
    "qq": 1.058614484318,
    "kk": 1.000062369809,
    "vv": 0.401587025629,
    "qk": 0.757771758969,
    "kq": 1.125434757270,
    "qv": 1.199180428330,
    "vq": 1.077571495783,
    "kv": 1.157913787751,
    "vk": 0.722953775483,
}
TOKEN = {"qq": 1.138825041879, "kk": 1.010439263652, "vv": 0.432171813738, "qk": 0.846441780899}


def mask_of(lengths=LENGTHS, num_tokens=L):
    return torch.tensor([[position < length for position in range(num_tokens)] for length in lengths])


def golden(side, dtype=torch.float64):
    """{"q": [B, L, D], ...} by the formula."""
    width, phase = WIDTHS[side], float(side == "student")
    index = torch.arange(B * L * width, dtype=torch.float64)
    vectors = [
        (1.5 * torch.sin(0.37 * index * (k + 1) + phase)).view(B, L, width).to(dtype) for k in range(3)
    ]
    return {kind: tensor.requires_grad_(side == "student") for kind, tensor in zip("qkv", vectors)}


def draw(lengths, widths, num_tokens, seed=0):
    """(student, teacher, mask) of random vectors, float64."""
    generator = torch.Generator().manual_seed(seed)
    sides = [
        {
            kind: torch.randn(len(lengths), num_tokens, width, generator=generator, dtype=torch.float64)
            for kind in "qkv"
        }
        for width in widths
    ]
    for tensor in sides[0].values():
        tensor.requires_grad_()
    return *sides, mask_of(lengths, num_tokens)


def loss_of(student, teacher, mask, **options):
    options = {"relations": QKV, "num_heads": R, **options}
    return relation_losses(student, teacher, mask, **options)


def probabilities(left, right, head, position, length, size):
    """P of one row, by loops over keys and features."""
    columns = range(head * size, (head + 1) * size)
    scores = [
        sum(float(left[position, c]) * float(right[key, c]) for c in columns) / math.sqrt(size)
        for key in range(length)
    ]
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def by_loops(student, teacher, lengths, pair, num_heads):
    """[mean KL of each sequence] of one relation."""
    means = []
    for b, length in enumerate(lengths):
        total = 0.0
        for head in range(num_heads):
            for position in range(length):
                rows = [
                    probabilities(
                        *(side[kind][b].detach() for kind in pair),
                        head,
                        position,
                        length,
                        side["q"].shape[2] // num_heads,
                    )
                    for side in (teacher, student)
                ]
                total += sum(p * math.log(p / q) for p, q in zip(*rows))
        means.append(total / (num_heads * length))
    return means


def by_autograd(student, teacher, mask, pair, num_heads):
    """The mean over sequences, in whole tensors that autograd can go through."""
    total = 0.0
    for b, length in enumerate(mask.sum(1).tolist()):
        logs = []
        for side in (teacher, student):
            left, right = (
                side[kind][b][mask[b]].unflatten(1, (num_heads, -1)).transpose(0, 1) for kind in pair
            )
            logs.append((left @ right.transpose(1, 2) / math.sqrt(left.shape[2])).log_softmax(-1))
        total = total + (logs[0].exp() * (logs[0] - logs[1])).sum() / (num_heads * length)
    return total / len(mask)


# ---- Golden values


def test_golden_losses():
    student, teacher, mask = golden("student"), golden("teacher"), mask_of()
    found = loss_of(student, teacher, mask, relations=dict.fromkeys(SEQUENCE, 1.0))
    assert {name: pytest.approx(value, abs=1e-11) for name, value in SEQUENCE.items()} == {
        k: v.item() for k, v in found.items()
    }
    for name, value in TOKEN.items():
        found = loss_of(student, teacher, mask, relations={name: 1.0}, weighting="token")
        assert found[name].item() == pytest.approx(value, abs=1e-11)
    assert sum(loss_of(student, teacher, mask).values()).item() == pytest.approx(2.460263879756, abs=1e-11)
    assert sum(loss_of(student, teacher, mask, weighting="token").values()).item() == pytest.approx(
        0.860478706423, abs=1e-11
    )


@pytest.mark.parametrize(
    "weighting, names, norms",
    [
        ("sequence", "qq kk vv", {"q": 0.397848098477, "k": 0.486476448427, "v": 0.162325566257}),
        ("token", "qq kk vv", {"q": 0.143154380494, "k": 0.158587861615, "v": 0.051432830944}),
        ("sequence", "qk", {"q": 0.184491679119, "k": 0.176872479452}),
    ],
)
def test_golden_gradients(weighting, names, norms):
    student = golden("student")
    wanted = dict.fromkeys(names.split(), 1.0)
    sum(
        loss_of(student, golden("teacher"), mask_of(), relations=wanted, weighting=weighting).values()
    ).backward()
    assert {kind: student[kind].grad.norm().item() for kind in norms} == pytest.approx(norms, abs=1e-11)
    assert all((student[kind].grad[1, 3:] == 0).all() for kind in norms)


def test_weights_multiply_losses():
    student, teacher, mask = golden("student"), golden("teacher"), mask_of()
    found = loss_of(student, teacher, mask, relations={"qq": 2.0, "kv": 0.5})
    assert found["qq"].item() == pytest.approx(2 * SEQUENCE["qq"]) and found["kv"].item() == pytest.approx(
        SEQUENCE["kv"] / 2
    )
    found = loss_of(student, teacher, mask, relations={"qq": 3.0, "kk": 1.0}, weighting="token")
    assert sum(found.values()).item() == pytest.approx((3 * TOKEN["qq"] + TOKEN["kk"]) / 4)


# ---- Against loops and autograd


@pytest.mark.parametrize("num_heads", [1, 2, 6])
def test_loss_is_that_of_loops(num_heads):
    lengths = (7, 3, 1)
    student, teacher, mask = draw(lengths, (6, 12), 7)
    for pair in RELATIONS:
        found = loss_of(student, teacher, mask, relations={pair: 1.0}, num_heads=num_heads)[pair].item()
        means = by_loops(student, teacher, lengths, pair, num_heads)
        assert found == pytest.approx(sum(means) / len(means), rel=1e-10)
        found = loss_of(
            student, teacher, mask, relations={pair: 1.0}, num_heads=num_heads, weighting="token"
        )[pair].item()
        assert found == pytest.approx(
            sum(n * mean for n, mean in zip(lengths, means)) / sum(lengths), rel=1e-10
        )


@pytest.mark.parametrize("pair", RELATIONS)
def test_gradient_is_that_of_autograd(pair):
    student, teacher, mask = draw((7, 3, 1), (6, 12), 7)
    loss = loss_of(student, teacher, mask, relations={pair: 1.7}, num_heads=3)[pair]
    theirs = 1.7 * by_autograd(student, teacher, mask, pair, 3)
    kinds = sorted({*pair})
    for ours, plain in zip(
        *(torch.autograd.grad(0.3 * term, [student[kind] for kind in kinds]) for term in (loss, theirs))
    ):
        assert (ours - plain).abs().max() < 1e-12 and plain.abs().max() > 1e-3


def test_float32_is_near_and_stays_so_under_autocast():
    student, teacher, mask = draw((40, 17), (48, 96), 40)
    exact = loss_of(student, teacher, mask, num_heads=12)
    half = [
        {kind: tensor.detach().to(torch.bfloat16).requires_grad_() for kind, tensor in side.items()}
        for side in (student, teacher)
    ]
    plain = loss_of(
        *[{kind: tensor.float() for kind, tensor in side.items()} for side in (student, teacher)],
        mask,
        num_heads=12,
    )
    assert {k: v.item() for k, v in plain.items()} == pytest.approx(
        {k: v.item() for k, v in exact.items()}, rel=1e-5
    )
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_of(*half, mask, num_heads=12)
    rounded = [{kind: tensor.double() for kind, tensor in side.items()} for side in half]
    exact = {k: v.item() for k, v in loss_of(*rounded, mask, num_heads=12).items()}
    # A matmul in bf16 is 1e-2 away
    assert {k: v.item() for k, v in found.items()} == pytest.approx(exact, rel=1e-5)
    assert found["qq"].dtype == torch.float32
    found["qq"].backward()
    assert half[0]["q"].grad.dtype == torch.bfloat16 and half[0]["k"].grad is None


def test_gradients_too_small_for_float16_arrive_scaled():
    """A real update's are some 1e-8, which float16 does not hold; the loss scale is for that."""
    student, teacher, mask = draw((40, 17), (48, 96), 40)
    half = {kind: tensor.detach().half().requires_grad_() for kind, tensor in student.items()}
    full = {kind: tensor.detach().float().requires_grad_() for kind, tensor in half.items()}
    of_update = {"examples": 2e6, "tokens": 2e8}
    for side, scale in ((half, 2.0**16), (full, 1.0)):
        theirs = {kind: tensor.detach().float() for kind, tensor in teacher.items()}
        terms = loss_of(side, theirs, mask, num_heads=12, divisors=of_update)
        (scale * sum(terms.values())).backward()
    for kind, tensor in half.items():
        exact = full[kind].grad
        assert exact.abs().max() < 6e-8 and tensor.grad.dtype == torch.float16
        assert (tensor.grad.double() / 2.0**16 - exact).norm() < 0.01 * exact.norm()


# ---- Properties


def test_teacher_equal_to_student_is_zero():
    student, _, mask = draw((7, 3, 1), (12, 12), 7)
    teacher = {kind: tensor.detach().clone() for kind, tensor in student.items()}
    found = loss_of(student, teacher, mask, relations=dict.fromkeys(RELATIONS, 1.0), num_heads=4)
    sum(found.values()).backward()
    assert max(abs(loss.item()) for loss in found.values()) < 1e-15
    assert max(tensor.grad.abs().max() for tensor in student.values()) < 1e-15


@pytest.mark.parametrize("weighting", ["sequence", "token"])
def test_padding_leaves_it_alone(weighting):
    """More padding, on either side and full of large numbers: same losses, same gradients, none on
    padding."""
    student, teacher, mask = draw((7, 3, 1), (6, 12), 7)
    relation = {"qq": 1.0, "kv": 1.0}
    before = loss_of(student, teacher, mask, relations=relation, num_heads=3, weighting=weighting)
    sum(before.values()).backward()
    for shift in (0, 4):
        wider = torch.zeros(3, 11, dtype=torch.bool)
        wider[:, shift : shift + 7] = mask
        sides = []
        for side in (student, teacher):
            sides.append({})
            for kind, tensor in side.items():
                padded = torch.full((3, 11, tensor.shape[2]), 30.0, dtype=torch.float64)
                padded[wider] = tensor.detach()[mask]
                sides[-1][kind] = padded.requires_grad_()
        after = loss_of(*sides, wider, relations=relation, num_heads=3, weighting=weighting)
        sum(after.values()).backward()
        assert {k: v.item() for k, v in after.items()} == pytest.approx(
            {k: v.item() for k, v in before.items()}, rel=1e-12
        )
        for kind in "qkv":
            assert torch.allclose(sides[0][kind].grad[wider], student[kind].grad[mask], atol=1e-14)
            assert (sides[0][kind].grad[~wider] == 0).all()


@pytest.mark.parametrize("weighting", ["sequence", "token"])
def test_cutting_an_update_changes_nothing(weighting):
    """Micro-batches with the update's divisors add up to the whole, as the training loop hands them out."""
    student, teacher, mask = draw((7, 3, 1, 5), (6, 12), 7)
    whole = loss_of(student, teacher, mask, num_heads=3, weighting=weighting)
    sum(whole.values()).backward()
    gradients = {kind: tensor.grad.clone() for kind, tensor in student.items()}
    divisors = {"examples": 4, "tokens": 16}
    for cuts in ((slice(0, 1), slice(1, 4)), (slice(0, 2), slice(2, 3), slice(3, 4))):
        for tensor in student.values():
            tensor.grad = None
        sums = dict.fromkeys(QKV, 0.0)
        for cut in cuts:
            part = [{kind: tensor[cut] for kind, tensor in side.items()} for side in (student, teacher)]
            losses = loss_of(*part, mask[cut], num_heads=3, weighting=weighting, divisors=divisors)
            sum(losses.values()).backward()
            sums = {name: sums[name] + loss.item() for name, loss in losses.items()}
        assert sums == pytest.approx({name: loss.item() for name, loss in whole.items()}, rel=1e-12)
        assert all(torch.allclose(student[kind].grad, gradients[kind], atol=1e-15) for kind in "qkv")


def test_chunks_agree():
    student, teacher, mask = draw((7, 3, 1), (12, 24), 7)
    relation = {"qq": 1.0, "qk": 1.0}
    found = []
    for chunk in (1, 4, 6, 18, 100):
        losses = loss_of(student, teacher, mask, relations=relation, num_heads=6, chunk=chunk)
        found.append(
            (
                losses["qq"].item(),
                losses["qk"].item(),
                *torch.autograd.grad(sum(losses.values()), [student["q"], student["k"]]),
            )
        )
    for qq, qk, q_gradient, k_gradient in found[1:]:
        assert (qq, qk) == pytest.approx(found[0][:2], rel=1e-13)
        assert torch.allclose(q_gradient, found[0][2], atol=1e-15) and torch.allclose(
            k_gradient, found[0][3], atol=1e-15
        )


def test_heads_matter_and_their_number_must_divide():
    student, teacher, mask = draw((7, 3), (6, 12), 7)
    assert loss_of(student, teacher, mask, num_heads=1)["qq"].item() != pytest.approx(
        loss_of(student, teacher, mask, num_heads=6)["qq"].item(), rel=1e-2
    )
    with pytest.raises(AssertionError, match="5 relation heads"):
        loss_of(student, teacher, mask, num_heads=5)


def test_nothing_is_kept_where_no_gradient_is_wanted():
    """Kept for the backward pass: one tensor of the shape of the vectors where m = n, two where not; without
    gradient none."""
    student, teacher, mask = draw((7, 3), (6, 12), 7)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tuple(tensor.shape)), lambda _: None
    ):
        loss_of(student, teacher, mask, relations={"qq": 1.0}, num_heads=3)
        assert kept == [(2, 7, 6)]
        loss_of(student, teacher, mask, relations={"kv": 1.0}, num_heads=3)
        assert kept == [(2, 7, 6)] * 3
        with torch.no_grad():
            loss_of(student, teacher, mask, relations={"qq": 1.0}, num_heads=3)
        loss_of({kind: tensor.detach() for kind, tensor in student.items()}, teacher, mask, num_heads=3)
    assert kept == [(2, 7, 6)] * 3
