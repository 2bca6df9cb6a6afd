"""Masks on heads, neurons and hidden dimensions of a whole model: their gradients are the importance, zeros
switch units off.

They multiply the inputs of the two output projections of each layer (transformers 5 ignores head_mask=
without a word); the one of hidden dimensions, which all places share, multiplies what norms behind embeddings
and sublayers put out.
B examples, L layers, A heads, F neurons, D hidden dimensions; "..." positions.
"""

import contextlib

import torch
from torch import nn

from models import architectures, hidden_dimensions
from models.slicing import UNITS, whole


class Masks:
    """heads: [L, A], neurons: [L, F], hidden: [1, D], or None where they are not wanted: parameters of ones,
    outside the model.

    num_rows: L of heads and L of neurons, which a decoder's are among.
    per_example: let gradients() tell the examples of a batch apart; not those of hidden dimensions.
    """

    def __init__(
        self, num_rows, num_heads, num_neurons, num_hidden=None, *, per_example=False, device, dtype
    ):
        assert num_hidden is None or not per_example
        self.hidden = (
            None
            if num_hidden is None
            else nn.Parameter(torch.ones(1, num_hidden, device=device, dtype=dtype))
        )
        self.heads = nn.Parameter(torch.ones(num_rows["heads"], num_heads, device=device, dtype=dtype))
        self.neurons = nn.Parameter(torch.ones(num_rows["neurons"], num_neurons, device=device, dtype=dtype))
        self.per_example = per_example
        self._used = {unit: [None] * number for unit, number in num_rows.items()}

    def gradients(self, loss, *, retain_graph=False):
        """(heads, neurons): d loss / d mask for the last forward pass, [L, A] and [L, F]; [B, L, A] and [B,
        L, F] per example.

        Where hidden dimensions have a mask, a third one: [1, D].

        Per example: how the batch's loss changes with the units of that example alone.  retain_graph: as in
        torch, where another loss of the same forward pass follows.
        """
        if not self.per_example:
            wanted = [mask for mask in (self.heads, self.neurons, self.hidden) if mask is not None]
            return torch.autograd.grad(loss, wanted, retain_graph=retain_graph)
        used = [*self._used["heads"], *self._used["neurons"]]
        found = torch.autograd.grad(loss, used, retain_graph=retain_graph)
        return torch.stack(found[: len(self.heads)], dim=1), torch.stack(found[len(self.heads) :], dim=1)

    def hook(self, unit, row, size):
        """A forward pre-hook for the output projection of one sublayer.  size: features of a unit."""

        def multiply(_, inputs):
            (features,) = inputs  # [B, ..., units * size]
            mask_U = getattr(self, unit)[row]
            if self.per_example:
                mask = mask_U.expand(len(features), -1)  # a view of its own for each example
                self._used[unit][row] = mask
                mask = mask.unflatten(0, (-1, *[1] * (features.dim() - 2)))
            else:
                mask = mask_U
            return (features * mask.repeat_interleave(size, dim=-1).to(features.dtype),)

        return multiply

    def multiply_states(self, _, inputs, states):
        """A forward hook for a module that puts out states, [..., D]."""
        return states * self.hidden[0].to(states.dtype)


@contextlib.contextmanager
def scoring_masks(model, *, per_example=False, hidden=False):
    """A context in which masks act on a model; it yields them (Masks).

    per_example: see Masks.  hidden: hidden dimensions have one too.  Asking for the masks' gradients leaves
    the model's own alone.
    Raises CheckpointError for a cropped model, and for hidden dimensions of a family that
    models/hidden_dimensions.py does not know.
    """
    num_heads, num_neurons = whole(model)
    sublayers = architectures.sublayers(model)
    masks = Masks(
        {unit: sum(each.unit == unit for each in sublayers) for unit in UNITS},
        num_heads,
        num_neurons,
        hidden_dimensions.width(model) if hidden else None,
        per_example=per_example,
        device=model.device,
        dtype=model.dtype,
    )
    handles = [
        module.register_forward_hook(masks.multiply_states)
        for module in (hidden_dimensions.writers(model) if hidden else ())
    ]
    for each in sublayers:
        handles.append(each.out.register_forward_pre_hook(masks.hook(each.unit, each.row, each.size)))
    try:
        yield masks
    finally:
        for handle in handles:
            handle.remove()
