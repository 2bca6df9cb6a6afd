"""Linear layers whose rows and columns belong to units: attention heads (size: head dimension) or neurons
(size: 1).

A structured weight's dimension of units is laid out as (groups, units, size): groups is 3 where queries, keys
and values are one matrix, 2 where gate and value of a gated feed-forward are, else 1.
I input features, O output features, "..." any leading dimensions.
"""

import torch
import torch.nn.functional as F
from torch import nn


def select(tensor, index, *, dim, groups, size):
    """The units `index` of a weight or bias along its dimension of units, in that order; a copy.

    tensor: its dimension `dim` is groups * units * size long.  index: int64 unit numbers, the same in every
    group.
    """
    units = tensor.shape[dim] // (groups * size)
    return tensor.unflatten(dim, (groups, units, size)).index_select(dim + 1, index).flatten(dim, dim + 2)


def scatter(tensor, index, units, *, dim, groups, size):
    """The inverse of `select`: a tensor of so many units, zero but for units `index`, which are those of
    `tensor`."""
    unfolded = tensor.unflatten(dim, (groups, len(index), size))
    shape = list(unfolded.shape)
    shape[dim + 1] = units
    return tensor.new_zeros(shape).index_copy(dim + 1, index, unfolded).flatten(dim, dim + 2)


class SliceableLinear(nn.Linear):
    """A Linear that can compute with the first units of its rows or columns only; the weights are views,
    nothing is copied.

    Made in place from an existing Linear (`slice_linear`), so that parameters, their names and hooks stay the
    same.
    rows: kept output features of each of `groups` groups, or None for all.  columns: kept input features, or
    None.
    With rows 0 the output has no features; with columns 0 the input is ignored and the output is the bias.
    """

    rows = None
    columns = None
    groups = 1

    def forward(self, input):
        """input: [..., I] or [..., columns].  Returns [..., O] or [..., groups * rows]."""
        if self.rows == 0:
            return no_features(input)
        if self.columns == 0:
            return bias_only(input, self.bias, self.out_features)
        if self.columns is not None:
            return F.linear(input, self.weight[:, : self.columns], self.bias)
        if self.rows is None:
            return F.linear(input, self.weight, self.bias)
        weights = [weight_OI[: self.rows] for weight_OI in self.weight.chunk(self.groups)]
        biases = (
            [None] * self.groups
            if self.bias is None
            else [bias_O[: self.rows] for bias_O in self.bias.chunk(self.groups)]
        )
        outputs = [F.linear(input, weight_OI, bias_O) for weight_OI, bias_O in zip(weights, biases)]
        return outputs[0] if self.groups == 1 else torch.cat(outputs, dim=-1)


def slice_linear(linear, *, rows=None, columns=None, groups=1):
    """Let a Linear compute with so many rows of each group, or so many columns; None for all.  In place,
    cheap."""
    if type(linear) is nn.Linear:
        linear.__class__ = SliceableLinear
    # nn.Module's own way takes ten times as long
    vars(linear).update(rows=rows, columns=columns, groups=groups)


class EmptyLinear(nn.Module):
    """What is left of a Linear without rows (no output) or without columns (the bias); it owns no weight.

    weight is there, as None, because transformers' T5 looks at it.
    """

    def __init__(self, in_features, out_features, bias=None):
        super().__init__()
        assert in_features == 0 or out_features == 0, "an empty Linear has no inputs or no outputs"
        self.in_features, self.out_features = in_features, out_features
        self.register_parameter("weight", None)
        self.register_parameter("bias", bias)

    def forward(self, input):
        """input: [..., any].  Returns [..., O]."""
        return (
            no_features(input) if self.out_features == 0 else bias_only(input, self.bias, self.out_features)
        )

    def extra_repr(self):
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


def no_features(input):
    """[..., 0], on the device of input [..., any]; carries no gradient."""
    return input.new_zeros((*input.shape[:-1], 0))


def bias_only(input, bias_O, out_features):
    """[..., O]: the bias at every position of input [..., any], or zeros where there is none."""
    shape = (*input.shape[:-1], out_features)
    return input.new_zeros(shape) if bias_O is None else bias_O.expand(shape)
