"""New models from old ones: cropped, with fewer layers, or dense again; and sorting by importance, in place.

A new model is built without values and then filled with copies, so no random number is drawn.
L layers, A heads, F neurons.
"""

import copy
import functools

import torch

from models import architectures, hidden_dimensions
from models.derived_classes import become, stock_parent
from models.from_tensors import empty, fill, tensors_of
from models.slicing import (
    UNITS,
    SparseModel,
    gate,
    grid,
    kept,
    kept_hidden,
    key,
    set_sparsity,
    sparse_class,
    sparse_config,
    sparse_entry,
    whole,
)
from modules import importance
from modules.sliceable_linear import scatter
from utils import distributed
from utils.errors import CheckpointError

# ---- New models


@torch.no_grad()
def crop(model, s):
    """A new, smaller model with the units that a nested model keeps at sparsity s (percent); same logits as
    the slice.

    Trainable, in the old model's mode; its grid has the points from s on. A crop of a crop is the crop.
    Raises CheckpointError where s is not in the grid.
    """
    cropped, tensors = _crop_shape(model, s), tensors_of(model)
    counts = kept(cropped)
    for projection in _projections(model):
        index = torch.arange(counts[projection.unit][projection.row], device=model.device)
        for name in (f"{projection.name}.weight", f"{projection.name}.bias"):
            if name in tensors:
                select = functools.partial(projection.select, index=index)
                tensors[name] = distributed.changed(tensors[name], select)
    if (hidden := kept_hidden(cropped)) < hidden_dimensions.width(model):
        if distributed.is_shared_out(model):
            raise CheckpointError(
                f"--shard: the part at {s:g}% has fewer hidden dimensions, which a model that is shared out "
                "cannot lose; leave the flag out, or take a grid that was made on a task"
            )
        tensors = hidden_dimensions.crop_tensors(tensors, model, hidden)
    return fill(cropped, tensors, like=model)


def keep_layers(model, number, *, which="first"):
    """A new model with `number` of the encoder's layers, its embeddings and its head.

    which: "first"; or "even": evenly spaced from the first to the last, layer round(i (L - 1) / (number -
    1)).
    A nested model's grid, which was made for all layers together, is dropped; a cropped model's counts are
    kept per layer.
    Raises CheckpointError where the model has fewer layers.
    """
    total = len(architectures.layers(model))
    if not 1 <= number <= total:
        raise CheckpointError(f"{number} layers wanted: this model has {total}")
    step = (total - 1) / max(number - 1, 1)
    chosen = list(range(number)) if which == "first" else [round(i * step) for i in range(number)]
    assert chosen[0] == 0, (
        "layer 0 is special in T5 (it owns the position bias) and in ModernBERT (it has no norm)"
    )
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = number
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[layer] for layer in chosen]
    entry = sparse_entry(model)
    if entry and number < total:
        if isinstance(model, SparseModel):
            per_layer = {  # behind the layers' rows stand those of a decoder
                name: [entry[name][layer] for layer in chosen] + entry[name][total:]
                for name in (*UNITS, "position_heads")
                if name in entry
            }
            config.compression = {**entry, **per_layer, "grid": {}}
        else:
            del config.compression
    shorter, tensors = empty(type(model), config, like=model), tensors_of(model)
    prefix = f"{architectures.layers_path(model)}."
    for name in [name for name in tensors if name.startswith(prefix)]:
        layer, _, rest = name.removeprefix(prefix).partition(".")
        tensor = tensors.pop(name)
        if int(layer) in chosen:
            tensors[f"{prefix}{chosen.index(int(layer))}.{rest}"] = tensor
    return fill(shorter, tensors, like=model)


@torch.no_grad()
def export_dense(model):
    """The stock model with removed units filled by zeros: same logits, loads anywhere, no speed-up, no grid.

    Raises CheckpointError for a model with experts, and for one that has lost hidden dimensions.
    """
    architectures.require_dense(model)
    config, entry = copy.deepcopy(model.config), sparse_entry(model)
    if entry and (hidden := kept_hidden(model)) < entry.get("original_hidden", hidden):
        raise CheckpointError(
            f"this model has {hidden} of {entry['original_hidden']} hidden dimensions, which its norms run "
            "over: a stock model with zeros for the others would compute something else; export it as it is"
        )
    stock, tensors = stock_parent(model), tensors_of(model)
    if entry is not None:
        del config.compression
        become(config, stock.config_class)
    dense = empty(stock, config, like=model)
    if entry is not None:
        counts = kept(model)
        for projection in _projections(model):
            units = list(range(counts[projection.unit][projection.row]))
            if projection.unit == "heads" and "position_heads" in entry:
                units = entry["position_heads"][projection.row]
            index = torch.tensor(units, dtype=torch.int64, device=model.device)
            for leaf, parameter in dense.get_submodule(projection.name).named_parameters():
                name = f"{projection.name}.{leaf}"
                if name not in tensors:  # an emptied layer owns no weight
                    tensors[name] = torch.zeros(parameter.shape, dtype=model.dtype, device=model.device)
                elif leaf == "weight" or projection.dim == 0:
                    size = {"dim": projection.dim, "groups": projection.groups, "size": projection.size}
                    tensors[name] = scatter(
                        tensors[name], index, entry[f"original_{projection.unit}"], **size
                    )
    return fill(dense, tensors, like=model)


# ---- Sorting, in place


@torch.no_grad()
def sort_units(model, head_scores_LA, neuron_scores_LF, hidden_scores_1D=None, *, grid, normalised=False):
    """Permute each layer's heads and neurons into descending importance and write the grid; the function
    stays the same.

    head_scores_LA, neuron_scores_LF: raw sums of |d loss / d mask|; normalised per layer and ranked globally,
        heads and neurons apart.  grid: sparsities in percent; 0 is always added.  Source: MiniDisc (Zhang et
        al. 2024).
    normalised: the scores can be compared between layers as they are (StarK's).
    hidden_scores_1D: sort and remove hidden dimensions too; then both sides of each matrix shrink, and a
    point of the grid is
        the share of its weights: each axis loses less (modules.importance.axis_sparsity).
    T5 and MPNet models become sparse-*, see models/slicing.py.  A decoder's best head onto the encoder's
    states goes last of all: without any its answers would not depend on the text.
    Raises CheckpointError for a cropped model.
    """
    num_heads, num_neurons = whole(model)
    set_sparsity(model, None)
    scores = {"heads": head_scores_LA, "neurons": neuron_scores_LF}
    size = {"heads": num_heads, "neurons": num_neurons}
    points = sorted({0.0, *map(float, grid)})
    of_axis = {s: s if hidden_scores_1D is None else importance.axis_sparsity(s) for s in points}
    orders = {unit: importance.orders(scores[unit]) for unit in UNITS}
    vital = {"heads": architectures.cross_attention(model)}
    removed = {
        unit: importance.removed_counts(
            scores[unit], of_axis.values(), normalised=normalised, vital=vital.get(unit)
        )
        for unit in UNITS
    }
    for projection in _projections(model):
        order = orders[projection.unit][projection.row].to(model.device)
        for tensor in projection.linear.parameters():
            select = functools.partial(projection.select, index=order)
            distributed.local(tensor).copy_(distributed.local(distributed.changed(tensor, select)))

    counts = {
        s: {unit: [size[unit] - count for count in removed[unit][of_axis[s]]] for unit in UNITS}
        for s in points
    }
    original = {"original_heads": num_heads, "original_neurons": num_neurons}
    if hidden_scores_1D is not None:
        original["original_hidden"] = hidden_dimensions.width(model)
        hidden_dimensions.permute(model, importance.orders(hidden_scores_1D)[0])
        lost = importance.removed_counts(hidden_scores_1D, of_axis.values())
        counts = {
            s: {**counts[s], "hidden": original["original_hidden"] - lost[of_axis[s]][0]} for s in points
        }
    entry = {
        "kind": "sparse",
        "sparsity": 0.0,
        **counts[0.0],
        **original,
        "grid": {key(s): counts[s] for s in points},
    }
    if architectures.of(model).shared_bias:
        before = (sparse_entry(model) or {}).get(
            "position_heads", [list(range(num_heads))] * len(head_scores_LA)
        )
        order = orders["heads"].tolist()
        entry["position_heads"] = [[columns[head] for head in heads] for columns, heads in zip(before, order)]
    model.config.compression = entry
    if "position_heads" in entry:
        _become_sparse(model)


def _become_sparse(model):
    """Turn a stock model whose heads have left their columns of the position bias into its sparse class, in
    place."""
    stock = stock_parent(model)
    become(model.config, sparse_config(stock.config_class))
    model.__class__ = sparse_class(stock)
    for sublayer in architectures.sublayers(model):
        gate(model, sublayer, sublayer.count)
        if sublayer.attention is not None:
            columns = model.config.compression["position_heads"]
            sublayer.attention.position_heads = columns[sublayer.row]


def _crop_shape(model, s):
    """The crop without values, on the meta device."""
    counts, entry, config = kept(model, s), sparse_entry(model), copy.deepcopy(model.config)
    if entry is None:
        return empty(type(model), config, like=model)
    points = {key(point): entry["grid"][key(point)] for point in grid(model) if point >= s}
    config.compression = {**entry, "sparsity": float(s), **counts, "grid": points}
    if "hidden" in entry:
        config.compression["hidden"] = kept_hidden(model, s)
    model_class = stock_parent(model)
    if "position_heads" in entry:
        kept_columns = [columns[:count] for columns, count in zip(entry["position_heads"], counts["heads"])]
        config.compression["position_heads"] = kept_columns
    lost = any(count < entry[f"original_{unit}"] for unit in UNITS for count in counts[unit])
    if (
        lost
        or "position_heads" in entry
        or config.compression.get("hidden", 0) < entry.get("original_hidden", 0)
    ):
        model_class = sparse_class(model_class)
        become(config, model_class.config_class)
    return empty(model_class, config, like=model)


def _projections(model):
    return [each for sublayer in architectures.sublayers(model) for each in sublayer.projections]
