"""Models made of tensors: built without values, filled with copies, so that no random number is drawn."""

import torch
from torch import nn

from models import architectures
from models.sharding import gather_for_forward
from utils import distributed


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
    """Give an empty model copies of these tensors, what is shared staying shared, and the mode of `like`.

    Where that is shared out among the processes (models/sharding.py), so are the tensors and the model.
    """
    if distributed.is_shared_out(like):
        gather_for_forward(model)
    copies = {}
    for name, old in tensors_of(model).items():
        source = tensors[name]
        if id(source) not in copies:
            value = source.detach().clone()
            copies[id(source)] = (
                nn.Parameter(value, old.requires_grad) if isinstance(old, nn.Parameter) else value
            )
        _put(model, name, copies[id(source)])
    return model.train(like.training)


def rebuilt(model, config):
    """A new model of the same class, weights and mode, of a config that differs in nothing that has
    weights."""
    return fill(empty(type(model), config, like=model), tensors_of(model), like=model)


@torch.no_grad()
def frozen_in(model, dtype):
    """A model, frozen, whose weights are kept as "fp32" or "bf16" says, None: as they are; buffers stay.

    In place; but of one that is shared out among the processes a new one is made, and the old one has no
    weights any more.
    """
    model.eval().requires_grad_(False)
    if dtype != "bf16":
        return model
    if not distributed.is_shared_out(model):
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        return model
    made = {id(old): old.to(torch.bfloat16) for old in model.parameters()}
    tensors = {name: made.get(id(old), old) for name, old in tensors_of(model).items()}
    result = fill(empty(type(model), model.config, like=model), tensors, like=model).requires_grad_(False)
    for old in model.parameters():
        distributed.local(old).untyped_storage().resize_(0)  # or it would stay until Python finds the cycle
    return result


@torch.no_grad()
def share_out(model):
    """Keep this process's rows of a model's parameters only, in float32, in place; see models/sharding.py.

    The parameters may be mapped from a file: no more of it is read.  Returns the model.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    empty_ones = {id(old): nn.Parameter(old.to("meta"), old.requires_grad) for old in parameters.values()}
    for name, old in parameters.items():
        _put(model, name, empty_ones[id(old)])
    gather_for_forward(model)
    made = {}
    for name, old in parameters.items():
        if id(old) not in made:
            made[id(old)] = nn.Parameter(distributed.share_out(old).float(), old.requires_grad)
        _put(model, name, made[id(old)])
    return model.to(distributed.mesh().device_type)


def _put(model, name, tensor):
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, tensor)
