"""Self-attention relations: the loss of MiniLMv2 and, in the same pass, its gradient.

B sequences, L tokens, D width of the projected vectors, R relation heads, K = D / R, N = B R matrices, C of
them at a time.

A relation (m, n) is how similar the vectors m of a model's tokens are to its vectors n, per relation head:
the softmax over keys of X_m X_n^T / sqrt(K).  Head r is columns r K .. (r + 1) K - 1, whatever the number of
attention heads, so that teacher and student may differ in width and heads.  Source: Wang et al. 2021, section
3 (arXiv:2012.15828).
"""

import torch
from torch.autograd.function import once_differentiable

KINDS = "qkv"  # queries, keys, values
_NEVER = -1e30  # score of padding; finite: the difference of two infinities is NaN
_CHUNK = {"cpu": 2**18, "cuda": 2**25}  # numbers in one buffer of C L L, of which four live at once


def relation_losses(
    student, teacher, mask_BL, *, relations, num_heads, weighting="sequence", divisors=None, chunk=None
):
    """The weighted loss term of each relation: KL(teacher || student) in nats.

    student, teacher: {"q": [B, L, D], "k": ..., "v": ...}, outputs of the projections; the two may differ in
    D.
    mask_BL: bool, True for real tokens; padding is in no mean, as row or as column.
    relations: {"qq": weight, ...}, any of the nine pairs.  num_heads: R, which divides all widths.
    weighting: "sequence": mean over heads and rows of a sequence, then over sequences, times the weight
    (MiniLMv2).
        "token": mean over heads and rows of all sequences, times the weight's share of all weights (MiniMoE).
    divisors: {"examples": sequences, "tokens": real tokens} of the whole update; the batch's own where
    absent.
    chunk: C, matrices computed at a time; chosen for the device where absent.  Changes neither loss nor
    gradient.
    Computed in float32, also under autocast; float64 stays float64.  Only the gradient is kept for the
    backward pass.  Returns {"qq": scalar, ...}.
    """
    lengths_B = mask_BL.sum(1).double()  # exact until the precision of the vectors is known
    if weighting == "sequence":
        divisor = len(mask_BL) if divisors is None else divisors["examples"]
        weights_B = 1 / (num_heads * lengths_B.clamp(min=1) * divisor)
    else:
        assert weighting == "token", weighting
        divisor = lengths_B.sum() if divisors is None else divisors["tokens"]
        weights_B = torch.ones_like(lengths_B) / (num_heads * divisor * sum(relations.values()))
    weights_BL = weights_B[:, None] * mask_BL
    return {
        name: _Divergence.apply(
            student[name[0]],
            student[name[1]],
            teacher[name[0]],
            teacher[name[1]],
            mask_BL,
            weight * weights_BL,
            num_heads,
            chunk,
        )
        for name, weight in relations.items()
    }


class _Divergence(torch.autograd.Function):
    """sum over rows i of w_i KL(P_T || P_S) for one relation; its gradient is formed on the way.

    With G = P_S - P_T: dX_m = w G X_n / sqrt(K_S) and dX_n = G^T w X_m / sqrt(K_S), and their sum where m =
    n.
    KL = sum_j P_T (Z_T - Z_S) - log sum exp Z_T + log sum exp Z_S.
    """

    @staticmethod
    def forward(
        ctx, left_BLD, right_BLD, left_teacher_BLD, right_teacher_BLD, mask_BL, weights_BL, num_heads, chunk
    ):
        device = left_BLD.device.type
        with torch.autocast(device, enabled=False):
            left_NKL, right_NKL = _heads(left_BLD, right_BLD, num_heads)
            left_teacher_NKL, right_teacher_NKL = _heads(left_teacher_BLD, right_teacher_BLD, num_heads)
            scale, teacher_scale = left_NKL.shape[1] ** -0.5, left_teacher_NKL.shape[1] ** -0.5
            num_tokens = left_NKL.shape[2]
            weights_NL = weights_BL.to(left_NKL.dtype).repeat_interleave(num_heads, 0)
            padding_BL = (~mask_BL).to(
                left_NKL.dtype
            ) * _NEVER  # added to scores: filling takes seven times as long
            padding_N1L = padding_BL.repeat_interleave(num_heads, 0)[:, None]
            sides = [left_NKL] if right_NKL is left_NKL else [left_NKL, right_NKL]
            gradients_NKL = (
                [torch.zeros_like(side_NKL) for side_NKL in sides] if any(ctx.needs_input_grad[:2]) else []
            )
            loss = weights_NL.new_zeros(())
            chunk = chunk or max(1, _CHUNK.get(device, _CHUNK["cuda"]) // num_tokens**2)
            for start in range(0, len(left_NKL), chunk):
                part = slice(start, start + chunk)
                left_CKL, right_CKL, weights_CL = left_NKL[part], right_NKL[part], weights_NL[part]
                teacher_CLL = _scores(
                    left_teacher_NKL[part], right_teacher_NKL[part], teacher_scale, padding_N1L[part]
                )
                student_CLL = _scores(left_CKL, right_CKL, scale, padding_N1L[part])
                difference_CLL = teacher_CLL - student_CLL
                teacher_CLL, teacher_sum_CL = _softmax(teacher_CLL)
                student_CLL, student_sum_CL = _softmax(student_CLL)
                divergence_CL = difference_CLL.mul_(teacher_CLL).sum(-1) - teacher_sum_CL + student_sum_CL
                loss += (weights_CL * divergence_CL).sum()
                if gradients_NKL:
                    G_CLL = student_CLL.sub_(teacher_CLL)
                    # X^T G^T and not G X: a matrix product is four times as fast with the long side last
                    by_rows_CKL = torch.bmm(right_CKL, G_CLL.transpose(1, 2)).mul_(weights_CL[:, None])
                    gradients_NKL[0][part] += by_rows_CKL.mul_(scale)
                    gradients_NKL[-1][part].baddbmm_(left_CKL * weights_CL[:, None], G_CLL, alpha=scale)
        ctx.dtype = left_BLD.dtype
        # Until it is scaled, float16 would make 0 of most of it
        kept = torch.float32 if ctx.dtype == torch.float16 else ctx.dtype
        ctx.save_for_backward(
            *(_merge(gradient_NKL, len(left_BLD)).to(kept) for gradient_NKL in gradients_NKL)
        )
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        # Of one tensor where m = n
        gradients = [(upstream * gradient_BLD).to(ctx.dtype) for gradient_BLD in ctx.saved_tensors]
        return *gradients, *[None] * (8 - len(gradients))


def _heads(left_BLD, right_BLD, num_heads):
    """Both as [B R, K, L], contiguous, float32 or float64; one tensor where they are one."""
    width = left_BLD.shape[2]
    assert width == right_BLD.shape[2] and width % num_heads == 0, (
        f"{num_heads} relation heads, widths {width}"
    )
    made = {}
    for vectors_BLD in (left_BLD, right_BLD):
        full_BLD = vectors_BLD if vectors_BLD.dtype == torch.float64 else vectors_BLD.float()
        made[id(vectors_BLD)] = (
            full_BLD.unflatten(2, (num_heads, -1)).permute(0, 2, 3, 1).flatten(0, 1).contiguous()
        )
    return made[id(left_BLD)], made[id(right_BLD)]


def _merge(gradient_NKL, num_sequences):
    """Back to [B, L, D]."""
    return gradient_NKL.unflatten(0, (num_sequences, -1)).permute(0, 3, 1, 2).flatten(2)


def _scores(left_CKL, right_CKL, scale, padding_C1L):
    """Z = X_m X_n^T / sqrt(K), [C, L, L]; very small for padding."""
    return torch.bmm((left_CKL * scale).transpose(1, 2), right_CKL).add_(padding_C1L)


def _softmax(scores_CLL):
    """(P, log sum exp Z [C, L]): the latter from the largest of each row, where P is at least 1 / L."""
    probabilities_CLL = scores_CLL.softmax(-1)
    return probabilities_CLL, scores_CLL.amax(-1) - probabilities_CLL.amax(-1).log()
