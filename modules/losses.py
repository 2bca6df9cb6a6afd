"""Loss terms of fine-tuning and distillation.

B examples, C classes, L tokens, D hidden size; "..." is B, or B and L where tokens are tagged.
The logits of spans are [B, L, 2]: each token's as the first one (start) and as the last one (end) of the
answer.

Each term is a sum over what it averages, divided by `divisor`: how many examples, scored labels or real
tokens there are in the whole update (see utils/batch.py). A batch that is cut into micro-batches then has the
loss of the whole, however it was cut. Without a divisor a batch's own count is taken. What is padding, or not
labelled, counts nowhere.

Everything is computed in float32, also under autocast, where logits and states arrive in 16 bits; float64
stays float64.
Student and teacher must agree in shape; the stages check classes and widths when they read the checkpoints.
Targets are not detached: a teacher that is only a target runs under no_grad (StarK needs the gradient to the
teacher).
"""

import torch
import torch.nn.functional as F

PER_TOKEN = ("tagging", "spans")  # kinds of tasks that are answered for each token; others at the first one
IGNORED = -100  # label of tokens that are not scored
NUM_MATCHES = 6  # hidden states that are compared at most, besides the embedding output


def task_loss(logits, labels, *, kind, mask=None, divisor=None, class_weights=None):
    """Loss against the gold labels.

    kind "classification": cross-entropy in nats, mean over examples; logits [B, C], labels [B] class ids.
    kind "multilabel": binary cross-entropy in nats, mean over examples and labels; logits [B, C],
        labels [B, C] 1 for each label that an example has, else 0.
    kind "regression": squared error, mean over examples; logits [B, 1], labels [B] scores.
    kind "tagging": cross-entropy in nats, mean over labelled tokens; logits [B, L, C], labels [B, L], -100
    not scored.
    kind "spans": cross-entropy over positions in nats, of start and end, mean over both and over examples;
        logits [B, L, 2], labels [B, 2]; mask [B, L] (bool, needed here, for other kinds without effect): True
        for real tokens. Padding is no position; a label outside of 0..L-1 adds 0.
    class_weights: [C] factors of the labels' terms, for classification and tagging; divisors count labels.
    Returns a scalar. Source: MiniDisc (Zhang et al. 2024); spans: TED (Liang et al. 2023).
    """
    if kind == "regression":
        return _squared_error(logits, labels[:, None], divisor)
    if kind == "multilabel":
        return _binary_cross_entropy(_full(logits), labels.to(_full(logits).dtype), divisor)
    if kind == "spans":
        scores_BL2 = _full(logits).masked_fill(~mask[..., None], -torch.inf)
        labels = labels.masked_fill((labels < 0) | (labels >= logits.shape[1]), IGNORED)
        total = F.cross_entropy(scores_BL2, labels, ignore_index=IGNORED, reduction="sum") / 2
        return total / (len(logits) if divisor is None else divisor)
    assert kind in ("classification", "tagging"), kind
    if divisor is None:
        divisor = _at_least_one((labels != IGNORED).sum())
    total = F.cross_entropy(
        _full(logits).flatten(0, -2),
        labels.flatten(),
        weight=class_weights,
        ignore_index=IGNORED,
        reduction="sum",
    )
    return total / divisor


def soft_label(student_logits, teacher_logits, *, kind, temperature=1.0, mask=None, divisor=None):
    """Loss of the student's logits against the teacher's.

    kind "classification", logits [B, C]: T^2 * cross-entropy (nats) of softmax(student / T) under
    softmax(teacher / T), mean over examples. It is no divergence: its minimum, at equal logits, is T^2 times
    the entropy of the teacher.
    kind "multilabel", logits [B, C]: T^2 * binary cross-entropy of sigmoid(student / T) under
    sigmoid(teacher / T), mean over examples and labels.
    kind "tagging", logits [B, L, C]: as for classes, mean over the tokens where mask [B, L] (bool) is True.
    kind "spans", logits [B, L, 2]: the same over the positions where mask [B, L] is True, of start and end,
    mean over both and over examples.
    kind "regression", logits [B, 1]: squared difference, mean over examples; there is no temperature.
    Returns a scalar. Source: Hinton et al. 2015, section 2; MiniDisc (Zhang et al. 2024); StarK (Yang et al.
    2022).
    """
    if kind == "regression":
        return _squared_error(student_logits, teacher_logits, divisor)
    if kind == "multilabel":
        probs = torch.sigmoid(_full(teacher_logits) / temperature)
        return temperature**2 * _binary_cross_entropy(_full(student_logits) / temperature, probs, divisor)
    assert kind in ("classification", *PER_TOKEN), kind
    assert student_logits.shape == teacher_logits.shape, (student_logits.shape, teacher_logits.shape)
    assert (mask is not None) == (kind != "classification"), "a mask belongs to tokens, and only there"
    if kind == "spans":
        return _soft_positions(student_logits, teacher_logits, mask, temperature, divisor)
    student_log_probs = F.log_softmax(_full(student_logits) / temperature, dim=-1)
    teacher_probs = F.softmax(_full(teacher_logits) / temperature, dim=-1)
    entropies = -(teacher_probs * student_log_probs).sum(-1)  # [...]
    if mask is not None:
        entropies = entropies.masked_fill(~mask, 0.0)
    if divisor is None:
        divisor = len(student_logits) if mask is None else _at_least_one(mask.sum())
    return temperature**2 * entropies.sum() / divisor


def _binary_cross_entropy(logits_BC, probs_BC, divisor):
    assert logits_BC.shape == probs_BC.shape, (logits_BC.shape, probs_BC.shape)
    total = F.binary_cross_entropy_with_logits(logits_BC, probs_BC, reduction="sum")
    return total / (logits_BC.shape[1] * (len(logits_BC) if divisor is None else divisor))


def scored_tokens(labels, mask_BL, *, kind):
    """The mask that soft_label needs for a kind of task: labelled tokens, the positions of spans, or None."""
    if kind == "tagging":
        return labels != IGNORED
    return mask_BL if kind == "spans" else None


def hidden_states(student_states, teacher_states, mask_BL, *, divisor=None):
    """Squared difference of matched hidden states, mean over real tokens, states and dimensions.

    student_states, teacher_states: lists of equally many [B, L, D], picked by `matched_layers`.
    mask_BL: bool, True for real tokens.  divisor: number of tokens (states and dimensions are divided by
    here).
    Returns a scalar. Source: MiniDisc (Zhang et al. 2024).
    """
    assert len(student_states) == len(teacher_states) > 0, (len(student_states), len(teacher_states))
    pairs = zip(student_states, teacher_states)
    total = sum(
        _token_distance(_full(student_BLD), _full(teacher_BLD), mask_BL) for student_BLD, teacher_BLD in pairs
    )
    if divisor is None:
        divisor = _at_least_one(mask_BL.sum())
    return total / (divisor * len(student_states) * student_states[0].shape[-1])


def patient(student_BLD, teacher_BLD, mask_BL, *, divisor=None):
    """Squared difference of the last hidden states, each divided by its L2 norm per token.

    Mean over real tokens and dimensions.  mask_BL: bool, True for real tokens.  divisor: number of tokens.
    Returns a scalar in [0, 4 / D]. Source: MiniDisc (Zhang et al. 2024, pkdbert), after Sun et al. 2019.
    """
    student_BLD = F.normalize(_full(student_BLD), dim=-1)
    teacher_BLD = F.normalize(_full(teacher_BLD), dim=-1)
    return hidden_states([student_BLD], [teacher_BLD], mask_BL, divisor=divisor)


def matched_layers(num_student_layers, num_teacher_layers):
    """Which hidden states are compared: [(student layer, teacher layer), ...], 0 being the embedding output.

    m = min(6, student layers) evenly spaced matches besides the embeddings: student round(j * L_s / m) with
    teacher round(j * L_t / m), j = 0..m, halves to even. Source: MiniDisc (Zhang et al. 2024).
    """
    assert num_student_layers > 0 and num_teacher_layers > 0, (num_student_layers, num_teacher_layers)
    matches = min(NUM_MATCHES, num_student_layers)
    return [
        (round(index * num_student_layers / matches), round(index * num_teacher_layers / matches))
        for index in range(matches + 1)
    ]


def _full(tensor):
    """The tensor in float32, or float64 where it is that already."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _at_least_one(count):
    """A count to divide by: the mean over nothing is 0, not NaN (a micro-batch in which nothing is
    labelled)."""
    return count.clamp(min=1)


def _soft_positions(student_BL2, teacher_BL2, mask_BL, temperature, divisor):
    """soft_label for spans: both are softmaxes over the positions that the mask leaves."""
    padding_BL1 = ~mask_BL[..., None]
    student_BL2, teacher_BL2 = (
        _full(z).masked_fill(padding_BL1, -torch.inf) / temperature for z in (student_BL2, teacher_BL2)
    )
    log_probs_BL2 = F.log_softmax(student_BL2, dim=1).masked_fill(padding_BL1, 0.0)  # 0 * -inf is not 0
    total = -(F.softmax(teacher_BL2, dim=1) * log_probs_BL2).sum() / 2
    return temperature**2 * total / (len(mask_BL) if divisor is None else divisor)


def _squared_error(predictions_B1, targets_B1, divisor):
    """Squared error, summed over the examples and divided by the divisor (default: their number)."""
    assert predictions_B1.shape == targets_B1.shape, (predictions_B1.shape, targets_B1.shape)
    total = (_full(predictions_B1) - _full(targets_B1)).square().sum()
    return total / (len(predictions_B1) if divisor is None else divisor)


def _token_distance(student_BLD, teacher_BLD, mask_BL):
    """Sum of squared differences over real tokens and dimensions."""
    assert student_BLD.shape == teacher_BLD.shape, (student_BLD.shape, teacher_BLD.shape)
    return (student_BLD - teacher_BLD).square().sum(-1).masked_fill(~mask_BL, 0.0).sum()
