"""What the code files of compact exports are made of, besides modules of this repository:
models/standalone.py copies these functions as they stand."""

import re

from torch import nn

from models.hidden_dimensions import tell_sizes
from modules.plain_experts import PlainExperts, PlainRouter
from modules.sliceable_linear import EmptyLinear


def resize(layer, path, *, rows=None, columns=None):
    """Leave a linear layer so many outputs (rows), or inputs (columns); or a table so many columns."""
    linear = layer.get_submodule(path)
    linear.weight = nn.Parameter(linear.weight[:rows, :columns].detach().clone())
    if isinstance(linear, nn.Embedding):
        linear.embedding_dim = linear.weight.shape[1]
        return
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias[:rows].detach().clone())
    linear.out_features, linear.in_features = linear.weight.shape


def empty(model):
    """Replace the linear layers that have no outputs, or no inputs."""
    for parent in [*model.modules()]:
        for name, old in parent.named_children():
            if isinstance(old, (nn.Linear, nn.Embedding)) and 0 in old.weight.shape:
                rows, columns = old.weight.shape
                bias = getattr(old, "bias", None) if rows else None
                setattr(parent, name, EmptyLinear(columns, rows, bias))
                parent._is_hf_initialized = True  # or transformers would look for the weight


def gate(attention, kind, **settings):
    """Put a gate before the forward of an attention module."""
    attention.__class__ = type(f"Gated{type(attention).__name__}", (kind, type(attention)), {})
    for name, value in settings.items():
        setattr(attention, name, value)


def narrow(model, states, count):
    """Cut a model to its first hidden dimensions.

    states: {parameter, * for the number of a layer: its dimensions that are hidden dimensions}.
    """
    for name, parameter in [*model.named_parameters()]:
        for dim in states.get(re.sub(r"\.\d+\.", ".*.", name), ()):
            parameter = nn.Parameter(parameter.narrow(dim, 0, count).clone())
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, parameter)
    tell_sizes(model)


def replace_by_experts(layer, path, router, *, enters):
    """Replace a linear layer by experts, each of its size."""
    parent, _, name = path.rpartition(".")
    parent = layer.get_submodule(parent)
    old = getattr(parent, name)
    stacked = [
        None if tensor is None else nn.Parameter(tensor.new_empty(router.out_features, *tensor.shape))
        for tensor in (old.weight, old.bias)
    ]
    setattr(parent, name, PlainExperts(*stacked, router, enters=enters))


def tell_padding(encoder, args, kwargs):
    """A forward pre-hook of an encoder: tells its routers which tokens are real."""
    mask_BL = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
    for module in encoder.modules():
        if isinstance(module, PlainRouter):
            module.reset(None if mask_BL is None else mask_BL.bool())
