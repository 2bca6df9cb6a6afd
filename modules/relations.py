"""Self-attention relations: the loss of MiniLMv2 and, in the same pass, its gradient.

B sequences, L tokens, D width of the projected vectors, R relation heads, K = D / R, N = B R matrices, C of them at a time.

A relation (m, n) is how similar the vectors m of a model's tokens are to its vectors n, per relation head: the softmax over keys
of X_m X_n^T / sqrt(K).  Head r is columns r K .. (r + 1) K - 1, whatever the number of attention heads, so that teacher and
student may differ in width and heads.  Source: Wang et al. 2021, section 3 (arXiv:2012.15828).
"""

import torch
from torch.autograd.function import once_differentiable

KINDS = "qkv"  # queries, keys, values
_CHUNK = {"cpu": 2**18, "cuda": 2**25}  # numbers in one buffer of C L L, of which four live at once


def relation_losses(student, teacher, mask_BL, *, relations, num_heads, weighting="sequence", divisors=None, chunk=None):
    """The weighted loss term of each relation: KL(teacher || student) in nats.

    student, teacher: {"q": [B, L, D], "k": ..., "v": ...}, outputs of the projections; the two may differ in D.
    mask_BL: bool, True for real tokens; padding is in no mean, as row or as column.
    relations: {"qq": weight, ...}, any of the nine pairs.  num_heads: R, which divides all widths.
    weighting: "sequence": mean over heads and rows of a sequence, then over sequences, times the weight (MiniLMv2).
        "token": mean over heads and rows of all sequences, times the weight's share of all weights (MiniMoE).
    divisors: {"examples": sequences, "tokens": real tokens} of the whole update; the batch's own where absent.
    chunk: C, matrices computed at a time; chosen for the device where absent.  Changes neither loss nor gradient.
    Computed in float32, also under autocast; float64 stays float64.  Only what the gradient is is kept for the backward pass.
    Returns {"qq": scalar, ...}.
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
            student[name[0]], student[name[1]], teacher[name[0]], teacher[name[1]], mask_BL, weight * weights_BL, num_heads, chunk
        )
        for name, weight in relations.items()
    }


class _Divergence(torch.autograd.Function):
    """sum over rows i of w_i KL(P_T || P_S) for one relation; its gradient is formed on the way.

    With G = w (P_S - P_T): dX_m = G X_n / sqrt(K_S) and dX_n = G^T X_m / sqrt(K_S), and their sum where m = n.
    """

    @staticmethod
    def forward(ctx, left_BLD, right_BLD, left_teacher_BLD, right_teacher_BLD, mask_BL, weights_BL, num_heads, chunk):
        wanted = any(ctx.needs_input_grad[:2])
        device = left_BLD.device.type
        with torch.autocast(device, enabled=False):
            left_NLK, right_NLK = _heads(left_BLD, right_BLD, num_heads)
            left_teacher_NLK, right_teacher_NLK = _heads(left_teacher_BLD, right_teacher_BLD, num_heads)
            scale, teacher_scale = left_NLK.shape[2] ** -0.5, left_teacher_NLK.shape[2] ** -0.5
            num_tokens = left_NLK.shape[1]
            weights_NL1 = weights_BL.to(left_NLK.dtype).repeat_interleave(num_heads, 0)[..., None]
            padding_N1L = ~mask_BL.repeat_interleave(num_heads, 0)[:, None]
            sides = [left_NLK] if right_NLK is left_NLK else [left_NLK, right_NLK]
            gradients_NLK = [torch.zeros_like(side_NLK) for side_NLK in sides] if wanted else []
            loss = weights_NL1.new_zeros(())
            chunk = chunk or max(1, _CHUNK.get(device, _CHUNK["cuda"]) // num_tokens**2)
            for start in range(0, len(left_NLK), chunk):
                part = slice(start, start + chunk)
                left_CLK, right_CLK, weights_CL1 = left_NLK[part], right_NLK[part], weights_NL1[part]
                log_teacher_CLL = _log_softmax(left_teacher_NLK[part], right_teacher_NLK[part], teacher_scale, padding_N1L[part])
                log_student_CLL = _log_softmax(left_CLK, right_CLK, scale, padding_N1L[part])
                ratio_CLL = log_teacher_CLL - log_student_CLL
                teacher_CLL = log_teacher_CLL.exp_().mul_(weights_CL1)
                loss += ratio_CLL.mul_(teacher_CLL).sum()
                if wanted:
                    G_CLL = log_student_CLL.exp_().mul_(weights_CL1).sub_(teacher_CLL)
                    gradients_NLK[0][part].baddbmm_(G_CLL, right_CLK, alpha=scale)
                    gradients_NLK[-1][part].baddbmm_(G_CLL.transpose(1, 2), left_CLK, alpha=scale)
        ctx.save_for_backward(*(_merge(gradient_NLK, like=left_BLD) for gradient_NLK in gradients_NLK))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        gradients = [upstream * gradient_BLD for gradient_BLD in ctx.saved_tensors]  # of one tensor where m = n
        return *gradients, *[None] * (8 - len(gradients))


def _heads(left_BLD, right_BLD, num_heads):
    """Both as [B R, L, K], contiguous, float32 or float64; one tensor where they are one."""
    width = left_BLD.shape[2]
    assert width == right_BLD.shape[2] and width % num_heads == 0, f"{num_heads} relation heads, widths {width}"
    made = {}
    for vectors_BLD in (left_BLD, right_BLD):
        full_BLD = vectors_BLD if vectors_BLD.dtype == torch.float64 else vectors_BLD.float()
        made[id(vectors_BLD)] = full_BLD.unflatten(2, (num_heads, -1)).transpose(1, 2).flatten(0, 1).contiguous()
    return made[id(left_BLD)], made[id(right_BLD)]


def _merge(gradient_NLK, *, like):
    """Back to [B, L, D] and the vectors' own precision."""
    return gradient_NLK.unflatten(0, (len(like), -1)).transpose(1, 2).flatten(2).to(like.dtype)


def _log_softmax(left_CLK, right_CLK, scale, padding_C1L):
    """log P over keys.  Padding gets a finite score, as two infinities would differ by NaN."""
    scores_CLL = torch.bmm(left_CLK * scale, right_CLK.transpose(1, 2))
    scores_CLL.masked_fill_(padding_C1L, torch.finfo(scores_CLL.dtype).min / 4)
    return scores_CLL.log_softmax(-1)
