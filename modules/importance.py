"""Importance of attention heads, feed-forward neurons and hidden dimensions from the gradients of masks, and
the global ranking.

Source: MiniDisc (Zhang et al. 2024), sparsification, after Michel et al. 2019.
L layers, U units in a layer (heads or neurons; hidden dimensions are those of one layer), B examples.
"""

import math
from fractions import Fraction

import torch


class Accumulator:
    """Sums |d loss / d mask| over batches, for all kinds of units.

    masks: has .heads, .neurons and .hidden (or None), and .gradients(loss) -> one each, [L, U], or [B, L, U]
        where the masks distinguish the examples (models.scoring_masks).
    signed: sum - d loss / d mask instead, which is by how much the loss grows, to first order, when the unit
    is removed.
    heads, neurons, hidden: the sums so far, [L, U] float64; None where there is no such mask.
    """

    def __init__(self, masks, *, signed=False):
        self.masks, self.signed = masks, signed
        self.heads, self.neurons, self.hidden = (
            None if mask is None else torch.zeros_like(mask, dtype=torch.float64, requires_grad=False)
            for mask in (masks.heads, masks.neurons, masks.hidden)
        )

    def add(self, loss, *, weight, retain_graph=False):
        """Add one batch.

        loss: the batch's mean loss, with its graph.
        weight: how many examples, or words, the mean was taken over.  It turns the gradient of a mean into
            one of a sum, so that a short last batch does not count as a full one.
        retain_graph: another loss of the same forward pass comes after this one.
        """
        found = self.masks.gradients(loss, retain_graph=retain_graph)
        for total_LU, gradient in zip(self._totals(), found, strict=True):
            total_LU += weight * (-gradient.detach().double() if self.signed else magnitudes(gradient))

    def reduce(self, all_reduce):
        """Sum over processes.  all_reduce: sums a tensor over the processes in place."""
        for total_LU in self._totals():
            all_reduce(total_LU)

    def _totals(self):
        return [total_LU for total_LU in (self.heads, self.neurons, self.hidden) if total_LU is not None]


def magnitudes(gradient):
    """Absolute values of a mask's gradient, [L, U] float64; those of [B, L, U] are summed over the
    examples."""
    absolute = gradient.detach().abs().double()
    return absolute.sum(0) if absolute.dim() == 3 else absolute


def normalise(scores_LU):
    """Each layer's scores divided by their L2 norm, so that layers can be compared.  Source: MiniDisc (Zhang
    et al. 2024)."""
    return scores_LU / (scores_LU.norm(dim=1, keepdim=True) + 1e-17)


def orders(scores_LU):
    """[L, U] int64: each layer's units in descending importance; equal ones keep their order."""
    return torch.sort(scores_LU, dim=1, descending=True, stable=True).indices


def axis_sparsity(s) -> int:
    """Percent that rows and columns of every matrix lose where both do, and s percent of its weights go.

    Source: MiniMoE (Zhang et al. 2023), Sparse MiniLM.
    """
    return 100 - round(100 * math.sqrt(1 - s / 100))


def removed_counts(scores_LU, sparsities, *, normalised=False, vital=None):
    """How many units each layer loses at each sparsity, when the globally least important ones are removed.

    scores_LU: raw sums; they are normalised here, unless they can be compared between layers already
    (normalised).
    sparsities: percent.  vital: a layer whose best unit goes last of all; None: there is none.
    round(s / 100 * L * U), halves to even, units go at sparsity s; ties are broken by (layer, index).  One
    stable sort.
    Returns {sparsity: [count of layer 0, ...]}; a layer's count never falls as the sparsity grows, so all
    points are nested.
    """
    num_layers, num_units = scores_LU.shape
    compared_LU = scores_LU.clone() if normalised else normalise(scores_LU)
    if vital is not None:
        compared_LU[vital, compared_LU[vital].argmax()] = torch.inf
    ascending = torch.sort(compared_LU.flatten(), stable=True).indices // num_units
    counts = {}
    for sparsity in sparsities:
        # Exact: no binary fraction of s decides a half
        removed = round(Fraction(str(sparsity)) * num_layers * num_units / 100)
        counts[sparsity] = torch.bincount(ascending[:removed], minlength=num_layers).tolist()
    return counts
