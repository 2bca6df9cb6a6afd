"""Layers that keep what they are given and compute the rest once more in the backward (gradient
checkpointing).

Memory for one more forward pass: of the activations inside layers only one layer's are there at a time.  The
second pass draws the same dropout and the same noise of routers, so that losses and gradients are those of
layers that keep everything, to the last bit.
Source: Chen et al. 2016 (arXiv:1604.06174), by torch.utils.checkpoint.
"""

import contextlib
import functools

import torch
from torch.utils.checkpoint import checkpoint

from models import architectures
from modules.experts import Router


class Recomputed:
    """Mixed into a stock layer.  In eval mode, and without gradients, it is the stock layer.

    What hooks on the layer itself do (FSDP2's gathering, hidden states that are wanted) happens once; those
    on modules inside would be called again.
    """

    def forward(self, *args, **kwargs):
        """What the stock layer takes and returns."""
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(*args, **kwargs)
        options = {"use_reentrant": False}
        if routers := [module for module in self.children() if isinstance(module, Router)]:
            options["context_fn"] = lambda: (contextlib.nullcontext(), _Again(routers))
        return checkpoint(super().forward, *args, **options, **kwargs)


class _Again:
    """A context in which a layer is computed once more: its routers route the batch anew, and keep what they
    had."""

    def __init__(self, routers):
        self.routers = routers

    def __enter__(self):
        self.kept = [router.routing for router in self.routers]

    def __exit__(self, *error):
        for router, routing in zip(self.routers, self.kept):
            router.reset(router.real_BL)  # or the second pass's graph would live until the next batch
            router.routing = routing


def recompute_layers(model):
    """Let a model's layers, a decoder's one among them, be computed once more in the backward, in place;
    returns it."""
    for module in (*architectures.layer_modules(model), *(architectures.decoder(model) or ())):
        module.__class__ = _recomputed(type(module))
    return model


@functools.cache
def _recomputed(stock):
    return type(f"Recomputed{stock.__name__}", (Recomputed, stock), {})
