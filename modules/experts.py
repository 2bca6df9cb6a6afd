"""Experts: stacked linear maps of which every token uses one, chosen by a router.

Source: MiniMoE (Zhang et al. 2023, arXiv:2305.12129); top-1 as in Fedus et al. 2022.
B sequences, L tokens, T = B L tokens of a batch, E experts, D hidden size, I inputs, O outputs, U units of an
expert.

A sublayer of experts is a Router and two or more ExpertLinears: those that enter the sublayer ask the router
for the batch's Routing, the one that leaves it scales its output by the router's factor: the probability of
the chosen expert, or 1 with the same relative gradient.  Padding is given zeros by the sublayer.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from modules.expert_products import way_for

NOISES = ("multiplicative", "additive", "none")
NOISE = 0.1  # the published hidden dropout rate
SCALES = ("probability", "one")


@dataclass
class Routing:
    """Where the tokens of a batch went.

    rows: modules.expert_products, moves tokens into the order of their experts and back.  factor_T1: of the
    chosen expert's output; 0 for padding.  sums_E: the probabilities, summed over tokens, with their graph.
    counts_E: tokens of each expert, int64.
    shape: (B, L).
    """

    shape: tuple
    rows: object
    factor_T1: torch.Tensor
    sums_E: torch.Tensor
    counts_E: torch.Tensor


class Router(nn.Linear):
    """Gives each token of a batch to the expert of the largest probability; no capacity limit, no dropped
    tokens.

    widths: of all linear maps behind it.  noise: on the logits in training mode; a factor from 0.9 to 1.1
    ("multiplicative"), a summand from -0.1 to 0.1 ("additive"), or "none"; from torch's random numbers.
    scale: of the chosen expert's output: "probability" p, as published, or "one", p / p with the divisor held
    fixed.  That is 1 for every token, so that a sublayer of equal experts computes what one of them does,
    whatever the router. The router's weights get what they get as published, d log p times the product of the
    sublayer's output and its gradient: an estimate of what the expert is worth to the token, as p itself does
    not change this output. So the states get no gradient through the router, neither of this nor of the
    balance loss.
    Computed in float32, also under autocast; float64 stays float64.  Initialised as nn.Linear is.
    """

    def __init__(self, num_experts, *, widths, noise="none", scale="probability"):
        super().__init__(widths[0], num_experts)
        assert noise in NOISES and scale in SCALES, (noise, scale)
        self.widths, self.noise, self.scale = tuple(widths), noise, scale
        self.reset(None)

    def reset(self, real_BL):
        """A batch begins.  real_BL: bool, True for tokens that are routed and counted; None: all are."""
        self.real_BL, self.routing, self.entered = real_BL, None, None

    def enter(self, hidden_BLI):
        """The batch's tokens in the order of their experts; routes them, unless another map has just entered
        with them."""
        if self.entered is None or self.entered[0] is not hidden_BLI:
            self.routing = self(hidden_BLI)
            self.entered = hidden_BLI, self.routing.rows.take(hidden_BLI.flatten(0, -2))
        return self.entered[1]

    def forward(self, hidden_BLI) -> Routing:
        """hidden_BLI: what the sublayer begins with."""
        hidden_TI = hidden_BLI.flatten(0, -2)
        with torch.autocast(hidden_TI.device.type, enabled=False):
            hidden_TI = hidden_TI if hidden_TI.dtype == torch.float64 else hidden_TI.float()
            hidden_TI = hidden_TI.detach() if self.scale == "one" else hidden_TI
            logits_ET = (
                F.linear(hidden_TI, self.weight.to(hidden_TI.dtype), self.bias.to(hidden_TI.dtype))
                .t()
                .contiguous()
            )
            if self.training and self.noise != "none":
                draw_ET = torch.empty_like(logits_ET).uniform_(-NOISE, NOISE)
                logits_ET = (
                    logits_ET * (1 + draw_ET) if self.noise == "multiplicative" else logits_ET + draw_ET
                )
            probabilities_ET = logits_ET.softmax(0)
        probability_T, expert_T = probabilities_ET.max(0)
        chosen_ET = expert_T == torch.arange(self.out_features, device=expert_T.device)[:, None]
        factor_T = probability_T / probability_T.detach() if self.scale == "one" else probability_T
        real_T = None if self.real_BL is None else self.real_BL.flatten()
        if real_T is not None:
            probabilities_ET, factor_T, chosen_ET = (
                probabilities_ET * real_T,
                factor_T * real_T,
                chosen_ET & real_T,
            )
        counts_E = chosen_ET.sum(1)
        rows = way_for(expert_T, real_T, counts_E, dtype=_precision(hidden_BLI), widths=self.widths)
        return Routing(hidden_BLI.shape[:-1], rows, factor_T[:, None], probabilities_ET.sum(1), counts_E)


class ExpertLinear(nn.Module):
    """E linear maps side by side, of which each token uses its expert's.

    bias_EO: None where the maps have none.
    router: of the sublayer, shared with its other maps; it belongs to the layer, not to this module.
    enters: the map is one of those that the sublayer begins with; else the one that it ends with, whose
    output is scaled.
    sorted_inside: between the two, tokens stay in the order of their experts (nothing there looks at other
    tokens).
    The gradient of an expert without tokens is zero.
    """

    def __init__(self, weight_EOI, bias_EO, router, *, enters, sorted_inside):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight_EOI), None if bias_EO is None else nn.Parameter(bias_EO)
        self.enters, self.sorted_inside = enters, sorted_inside
        vars(self)["router"] = router  # past nn.Module's own way, which would make it a child

    @property
    def in_features(self) -> int:
        """Inputs of one expert."""
        return self.weight.shape[2]

    @property
    def out_features(self) -> int:
        """Outputs of one expert."""
        return self.weight.shape[1]

    @property
    def weights_per_token(self) -> int:
        """Numbers in the matrix that a token is multiplied with."""
        return self.in_features * self.out_features

    def forward(self, hidden):
        """hidden: [B, L, I], or rows in the order of their experts where the map leaves a sublayer that is
        sorted inside.

        Returns [B, L, O], zeros for padding; such rows where the map enters a sublayer that is sorted inside.
        """
        router = self.router
        if self.enters:
            rows = router.enter(hidden)
        else:
            router.entered = None  # nothing else enters: free it
            rows = hidden if self.sorted_inside else router.routing.rows.take(hidden.flatten(0, -2))
        routing, dtype = router.routing, _precision(hidden)
        bias_EO = None if self.bias is None else self.bias.to(dtype)
        made = routing.rows.linear(rows.to(dtype), self.weight.to(dtype), bias_EO)
        if self.enters and self.sorted_inside:
            return made
        factor_T1 = None if self.enters else routing.factor_T1.to(made.dtype)
        return routing.rows.put(made, factor_T1).unflatten(0, routing.shape)

    def extra_repr(self):
        """What print shows."""
        return f"experts={len(self.weight)}, in_features={self.in_features}, out_features={self.out_features}"


def balance_loss(sums_E, counts_E, *, num_tokens):
    """E sum_i P_i f_i: 1 where tokens are shared out evenly, E where one expert gets all.

    P_i: mean probability of expert i, sums_E / num_tokens.  f_i: its share of the tokens, counts_E over their
    sum, which has no gradient; they may be those of more tokens than the probabilities (of all processes).
    """
    share_E = counts_E / counts_E.sum().clamp(min=1)
    return len(sums_E) * (sums_E / num_tokens * share_E).sum()


def expert_units(num_experts, num_units, num_shared):
    """[E, U] int64: which units of one wide layer are those of each expert.

    The first num_shared are everybody's; expert i also gets units num_shared + i, + i + E, + i + 2 E, ...
    Source: MiniMoE (Zhang et al. 2023), its published code.
    """
    own = torch.arange(num_units - num_shared)
    return torch.stack(
        [
            torch.cat([torch.arange(num_shared), num_shared + expert + num_experts * own])
            for expert in range(num_experts)
        ]
    )


def _precision(tensor):
    """What a linear map of this input is computed in."""
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype
