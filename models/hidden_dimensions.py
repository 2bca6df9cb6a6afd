"""The width of an encoder: one order of hidden dimensions that embeddings and all layers share, sorted and
cut like units.

Heads and neurons belong to one layer, a hidden dimension to the whole model: to every matrix that reads or
writes states.  Where dimensions are removed, norms run over those that are left, so the crop is a function of
its own, and not that of the stock model with zeros.  Source: MiniMoE (Zhang et al. 2023), Sparse MiniLM.

D hidden dimensions, V pieces, B sequences, L tokens.
"""

import torch
from torch import nn

from models import architectures
from modules.sliceable_linear import EmptyLinear
from utils import families
from utils.errors import CheckpointError


def _is_norm(module, size) -> bool:
    """Whether it is a norm over states, of any class: every other module with a weight has a matrix."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.shape == (size,)


def width(model) -> int:
    """D: hidden dimensions as stored."""
    return architectures.layers(model)[0].ffn_out.out_features


def check_family(model):
    """Raise CheckpointError for a family whose dimensions cannot be sorted."""
    if refusal := families.refusal(model.config.model_type, "hidden"):
        raise CheckpointError(refusal)


def axes(model) -> list[tuple[str, int]]:
    """[(name of a parameter, its dimension of size D)], a square matrix twice; a shared parameter once, by
    its first name.

    The model: whole in heads, neurons and dimensions, or just as cropped in heads and neurons as
    config.compression says.
    """
    check_family(model)
    size, start = width(model), f"{architectures.layers_path(model)}."
    found = []
    for layer in architectures.layers(model):
        for projection in layer.projections:
            found += (
                [(f"{projection.name}.weight", 1)]
                if projection.dim == 0
                else [(f"{projection.name}.weight", 0), (f"{projection.name}.bias", 0)]
            )
    for path, module in model.named_modules():
        if _is_norm(module, size):
            found += [(f"{path}.weight", 0), (f"{path}.bias", 0)]
        elif isinstance(module, nn.Embedding) and module.embedding_dim == size:
            found += [(f"{path}.weight", 1)]
        elif isinstance(module, (nn.Linear, nn.Conv1d)) and not path.startswith(start):
            # poolers, heads, ELECTRA's projection; DeBERTa's convolution
            outputs, inputs, *_ = module.weight.shape
            sides = ((1, inputs, ("weight",)), (0, outputs, ("weight", "bias")))
            found += [
                (f"{path}.{leaf}", dim)
                for dim, features, leaves in sides
                if features == size
                for leaf in leaves
            ]
    # Without second names, and without those of emptied layers
    there = {name for name, _ in model.named_parameters()}
    return [(name, dim) for name, dim in found if name in there]


def writers(model) -> list[nn.Module]:
    """The modules whose outputs, [B, L, D], are states as matrices read them: norms behind embeddings and
    sublayers, or before."""
    check_family(model)
    base, size = architectures.encoder(model), width(model)
    found = [module for module in base.modules() if _is_norm(module, size)]
    others = [path for path in architectures.of(model).other_states if architectures.has(base, path)]
    return [*found, *map(base.get_submodule, others)]


@torch.no_grad()
def permute(model, order_D):
    """Put the hidden dimensions into another order, in place; the function stays the same."""
    for name, dim in axes(model):
        parameter = model.get_parameter(name)
        parameter.copy_(parameter.index_select(dim, order_D.to(parameter.device)))


def crop_tensors(tensors: dict, model, count) -> dict:
    """A model's tensors by name, all names of shared ones, with the first `count` hidden dimensions only;
    views."""
    cut = {}
    for name, dim in axes(model):
        old = tensors[name]
        cut[id(old)] = cut.get(id(old), old).narrow(dim, 0, count)
    return {name: cut.get(id(tensor), tensor) for name, tensor in tensors.items()}


@torch.no_grad()
def crop_in_place(model, count):
    """Cut a just built model, in place, to its first `count` hidden dimensions.  Works on the meta device.

    Raises CheckpointError where it has fewer.
    """
    size = width(model)
    if not (isinstance(count, int) and 1 <= count <= size):
        raise CheckpointError(
            f"config.json: compression.hidden is {count}; expected a number from 1 to {size}"
        )
    named, made = dict(model.named_parameters(remove_duplicate=False)), {}
    for name, tensor in crop_tensors(named, model, count).items():
        if tensor is not named[name]:
            parent, _, leaf = name.rpartition(".")
            made.setdefault(id(tensor), nn.Parameter(tensor.clone(), named[name].requires_grad))
            setattr(model.get_submodule(parent), leaf, made[id(tensor)])
    tell_sizes(model)
    for module in model.modules():
        if isinstance(module, EmptyLinear):
            module.out_features, module.in_features = (0, count) if module.out_features == 0 else (count, 0)


def tell_sizes(model):
    """Let the modules of a model say of themselves what their weights are now, in place."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.normalized_shape = tuple(module.weight.shape)
        elif isinstance(module, nn.Embedding):
            module.embedding_dim = module.weight.shape[1]
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape
        elif isinstance(module, nn.Conv1d):
            module.out_channels, module.in_channels = module.weight.shape[:2]
