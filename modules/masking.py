"""Masked tokens, as BERT was trained with.  B sequences, L tokens, V vocabulary, M chosen tokens."""

import torch
import torch.nn.functional as F


def mask_tokens(ids_BL, candidates_BL, *, probability, mask_id, vocabulary_size, at_most=None):
    """(ids_BL, chosen_BL): each candidate is chosen with a probability; of the chosen 80% become the mask,
    10% any token.

    candidates_BL: bool, tokens of text: neither padding nor special.  at_most: of a sequence are chosen;
    None: no limit.
    Draws from torch's random numbers.  Source: Devlin et al. 2019, section 3.1.
    """
    draw_BL, fate_BL = torch.rand(2, *ids_BL.shape, device=ids_BL.device)
    chosen_BL = candidates_BL & (draw_BL < probability)
    if at_most is not None and at_most < ids_BL.shape[1]:
        chosen_BL &= (
            draw_BL <= draw_BL.masked_fill(~chosen_BL, 1.0).kthvalue(at_most, dim=1, keepdim=True).values
        )
    others_BL = torch.randint_like(ids_BL, vocabulary_size)
    masked_BL = torch.where(fate_BL < 0.8, mask_id, torch.where(fate_BL < 0.9, others_BL, ids_BL))
    return torch.where(chosen_BL, masked_BL, ids_BL), chosen_BL


def masked_loss(logits_MV, ids_M, *, divisor):
    """Cross-entropy in nats of the chosen tokens, summed and divided: by the number expected in the whole
    update."""
    return F.cross_entropy(logits_MV.float(), ids_M, reduction="sum") / divisor
