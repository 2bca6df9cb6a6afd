"""Experts in plain operations, for models that leave this repository: what an exporter of graphs can follow,
and what the code file of a compact export is made of.

In eval mode on a CPU the same results as modules.experts, bit by bit, for any batch and length.  Left out:
noise in training mode, and what the balance loss needs.
B sequences, L tokens, T = B L, E experts, I inputs, O outputs.
"""

import torch
import torch.nn.functional as F
from torch import nn


class PlainRouter(nn.Linear):
    """Gives each token to the expert of the largest probability, which its output is scaled with, or by 1.

    real_BL: bool, True for tokens that are routed, padding gets zeros; None: all are.
    """

    def __init__(self, in_features, num_experts, *, scaled=True):
        super().__init__(in_features, num_experts)
        self.scaled = scaled
        self.reset(None)

    def reset(self, real_BL):
        """A batch begins."""
        self.real_BL, self.entered = real_BL, None

    def enter(self, hidden_BLI):
        """Route what a sublayer begins with, unless another of its linear layers has just done so."""
        if hidden_BLI is self.entered:
            return
        self.entered = hidden_BLI
        probability_T, expert_T = self(hidden_BLI).flatten(0, -2).t().softmax(0).max(0)
        factor_T = probability_T if self.scaled else torch.ones_like(probability_T)
        chosen = [expert_T == expert for expert in range(self.out_features)]
        if self.real_BL is not None:
            real_T = self.real_BL.flatten()
            chosen, factor_T = [chosen_T & real_T for chosen_T in chosen], factor_T * real_T
        self.tokens = [chosen_T.nonzero()[:, 0] for chosen_T in chosen]  # of each expert
        self.factor_T1 = factor_T[:, None]


class PlainExperts(nn.Module):
    """E linear layers, of which each token uses its expert's.

    weight_EOI, bias_EO: stacked, or a ParameterList; no bias: None.  router: shared with the sublayer's other
    layers.  enters: whether the sublayer begins with it; else it ends with it.
    """

    def __init__(self, weight_EOI, bias_EO, router, *, enters):
        super().__init__()
        self.weight, self.bias, self.enters = weight_EOI, bias_EO, enters
        vars(self)["router"] = router  # past nn.Module's own way: it belongs to the layer

    def forward(self, hidden_BLI):
        """[B, L, O]; zeros for padding."""
        router, hidden_TI = self.router, hidden_BLI.flatten(0, -2)
        if self.enters:
            router.enter(hidden_BLI)
        parts = [
            F.linear(hidden_TI[tokens], self.weight[expert], None if self.bias is None else self.bias[expert])
            for expert, tokens in enumerate(router.tokens)
        ]
        made_TO = parts[0].new_zeros(hidden_TI.shape[0], parts[0].shape[1])
        made_TO = made_TO.index_copy(0, torch.cat(router.tokens), torch.cat(parts))
        if not self.enters:
            router.entered = None
            made_TO = made_TO * router.factor_T1
        return made_TO.unflatten(0, hidden_BLI.shape[:-1])
