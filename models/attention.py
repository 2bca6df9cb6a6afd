"""What a stock attention module does where heads are missing: sliced away for now, or cropped for good.

A gate is mixed into the stock class of a module in place (`install`), so that parameters, their names and
hooks stay the same.
B examples, L tokens, D hidden size, A heads of the checkpoint as it was before cropping, K kept heads.
"""

import functools

from modules.sliceable_linear import no_features


class Gate:
    """Stock attention whose forward takes the hidden states first and returns (output, attention
    probabilities or None).

    num_kept: K.  With none left the module returns what its output projection makes of no input, or, where
        that projection stands outside, no features; stock code would fail on some devices and in DeBERTa.
    position_heads: for each stored head the column of the position bias that is its own; None for the first
    ones in order. inner_out: name of the output projection inside the module, or None.
    """

    num_kept = None
    position_heads = None
    inner_out = None

    def forward(self, hidden_states, *args, **kwargs):
        """hidden_states: [B, L, D]."""
        if self.num_kept == 0:
            return self.nothing(hidden_states), None
        return super().forward(hidden_states, *args, **kwargs)

    def nothing(self, hidden_BLD):
        """Output of attention without heads."""
        return (
            no_features(hidden_BLD) if self.inner_out is None else getattr(self, self.inner_out)(hidden_BLD)
        )

    def kept_bias(self, bias_BALL):
        """The kept heads' position bias, [B, K, L, L]."""
        if self.position_heads is None:
            return bias_BALL[:, : self.num_kept]
        return bias_BALL[:, self.position_heads[: self.num_kept]]


class MPNetGate(Gate):
    """MPNet: the position bias, made once for all layers, arrives as an argument."""

    def forward(self, hidden_states, attention_mask=None, position_bias=None, **kwargs):
        """hidden_states: [B, L, D].  position_bias: [B, A, L, L]."""
        if self.num_kept:
            position_bias = self.kept_bias(position_bias)
        return super().forward(hidden_states, attention_mask, position_bias, **kwargs)


class T5Gate(Gate):
    """T5: layer 0 makes the position bias of all heads, every layer uses its own heads' part and hands on the
    whole."""

    def forward(self, hidden_states, mask=None, position_bias=None, **kwargs):
        """hidden_states: [B, L, D].  position_bias: [1, A, L, L], or None in layer 0."""
        if position_bias is None:
            length = hidden_states.shape[1]
            position_bias = self.compute_bias(length, length, device=hidden_states.device)
        if self.num_kept == 0:
            return self.nothing(hidden_states), position_bias, None
        kept = self.kept_bias(position_bias)
        output, _, probabilities = super().forward(hidden_states, mask=mask, position_bias=kept, **kwargs)
        return output, position_bias, probabilities


class T5CrossGate(Gate):
    """T5's decoder, onto the encoder's states: there is no position bias, and zeros are handed on for it."""

    def forward(self, hidden_states, *args, **kwargs):
        """hidden_states: [B, L, D]."""
        if self.num_kept == 0:
            return self.nothing(hidden_states), None, None
        return super().forward(hidden_states, *args, **kwargs)


class UMT5Gate(Gate):
    """UMT5: every layer makes a position bias of its own; where it is not cropped, the table has more columns
    than heads are kept."""

    def compute_bias(self, *args, **kwargs):
        """[1, K, L, L]."""
        return super().compute_bias(*args, **kwargs)[:, : self.num_kept]


# By Family.head_bias
GATES = {"": Gate, "argument": MPNetGate, "handed on": T5Gate, "crossed": T5CrossGate, "own": UMT5Gate}


def install(module, head_bias, *, inner_out, position_heads):
    """Refine a stock attention module by a gate, in place.  head_bias: of its family, see
    utils/families.py."""
    module.__class__ = _gated(GATES[head_bias], type(module))
    module.inner_out, module.position_heads = inner_out, position_heads


def keep_heads(module, num_heads, head_dim, *, family):
    """Let a gated attention module work with its first heads only.  family: its row of utils/families.py."""
    if module.num_kept == num_heads:
        return
    module.num_kept = num_heads
    for name, value in ((family.num_heads, num_heads), (family.heads_width, num_heads * head_dim)):
        if name:
            setattr(module, name, value)


@functools.cache
def _gated(gate, stock):
    """The stock class with a gate before its forward."""
    return type(f"Gated{stock.__name__}", (gate, stock), {})
