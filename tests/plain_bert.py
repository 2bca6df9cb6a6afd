"""BERT in loops over heads and neurons, which can be multiplied one by one.  L tokens, D hidden, F
neurons."""

import torch
import torch.nn.functional as F


def bert_layer(layer, hidden_LD, mask_L, heads, neurons):
    """One BERT layer for one example, head by head and neuron by neuron; heads, neurons: lists of scalars
    that multiply them."""
    core, size = layer.attention.self, layer.attention.self.attention_head_size
    context = []
    for number, factor in enumerate(heads):
        rows = slice(number * size, (number + 1) * size)
        query, key, value = (
            F.linear(hidden_LD, part.weight[rows], part.bias[rows])
            for part in (core.query, core.key, core.value)
        )
        scores_LL = (query @ key.T / size**0.5).masked_fill(~mask_L, float("-inf"))
        context.append(factor * (scores_LL.softmax(-1) @ value))
    out = layer.attention.output
    hidden_LD = out.LayerNorm(
        hidden_LD + F.linear(torch.cat(context, dim=-1), out.dense.weight, out.dense.bias)
    )
    active_LF = F.gelu(F.linear(hidden_LD, layer.intermediate.dense.weight, layer.intermediate.dense.bias))
    active_LF = torch.stack([factor * active_LF[:, number] for number, factor in enumerate(neurons)], dim=-1)
    out = layer.output
    return out.LayerNorm(hidden_LD + F.linear(active_LF, out.dense.weight, out.dense.bias))
