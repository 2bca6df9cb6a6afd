"""Models made of tensors: built without values, filled with copies, so that no random number is drawn."""

import torch
from torch import nn

from models import architectures


def empty(model_class, config, *, like):
    """A model without values, with a pooler only if `like` has one."""
    with torch.device("meta"):
        model = model_class(config)
    base = architectures.encoder(model)
    if getattr(architectures.encoder(like), "pooler", None) is None and hasattr(base, "pooler"):
        base.pooler = None
    return model


def tensors_of(model):
    """Parameters and buffers by name; shared ones under each of their names."""
    return dict(
        [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    )


def fill(model, tensors, *, like):
    """Give an empty model copies of these tensors, what is shared staying shared, and the mode of `like`."""
    copies = {}
    for name, old in tensors_of(model).items():
        source = tensors[name]
        if id(source) not in copies:
            value = source.detach().clone()
            copies[id(source)] = (
                nn.Parameter(value, old.requires_grad) if isinstance(old, nn.Parameter) else value
            )
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, copies[id(source)])
    return model.train(like.training)


def rebuilt(model, config):
    """A new model of the same class, weights and mode, of a config that differs in nothing that has
    weights."""
    return fill(empty(type(model), config, like=model), tensors_of(model), like=model)
