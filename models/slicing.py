"""Encoders with fewer heads and neurons: the classes of cropped models, and slicing a nested model in place.

The classes are generated from the table in utils/families.py: subclasses of the stock ones with model_type
"sparse-<stock>", which differ in the sizes of some Linears. config.compression says which:

    {"kind": "sparse", "sparsity": s, "heads": [kept in each layer], "neurons": [...], "original_heads": A,
     "original_neurons": F, "grid": {"90": {"heads": [...], "neurons": [...]}, ...}}
    and, where the position bias has a column per head, "position_heads": [[column of each kept head], ...]
    and, where hidden dimensions are removed too (models/hidden_dimensions.py), "hidden": kept,
    "original_hidden": D, {..., "hidden": kept} in each point of the grid

A nested model's heads and neurons are sorted by importance, so that each point of its grid is a prefix of its
weights. It stays a stock model. T5 and MPNet share one position bias between layers whose heads are now in
different orders: they become sparse-*. L layers, A heads, F neurons.
A model with a decoder (models/enct5.py) has rows of it behind those of the layers: two of heads, onto itself
and onto the encoder's states, and one of neurons.
"""

import torch
from torch import nn

from models import architectures, attention, hidden_dimensions
from models.derived_classes import DerivedClasses
from modules.sliceable_linear import EmptyLinear, slice_linear
from utils import families
from utils.errors import CheckpointError
from utils.families import FAMILIES, SPARSE

UNITS = ("heads", "neurons")


# ---- The classes


class SparseModel:
    """Mixed into a stock model class: the stock model, then the Linears shrunk to the counts in
    config.compression."""

    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        _cut(self)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """transformers' own; what is frozen (see _freeze_unread) stays frozen, which it would forget."""
        result = super().from_pretrained(*args, **kwargs)
        _freeze_unread(result[0] if isinstance(result, tuple) else result)
        return result


CLASSES = DerivedClasses(SPARSE, SparseModel, FAMILIES)
sparse_config, sparse_class = CLASSES.config_class, CLASSES.model_class


# ---- What config.compression says


def sparse_entry(model) -> dict | None:
    """config.compression of a nested or cropped model; None for others."""
    entry = getattr(model.config, "compression", None)
    return None if not entry or families.is_of_experts(model.config.model_type) else entry


def sparsity(model) -> float:
    """The model's own sparsity in percent: 0 where nothing is removed."""
    entry = sparse_entry(model)
    return float(entry["sparsity"]) if entry else 0.0


def grid(model) -> list[float]:
    """Sparsities in percent that a nested model can be sliced or cropped to, its own and larger, ascending;
    [] for others."""
    return families.grid({"compression": sparse_entry(model)})


def kept(model, s=None) -> dict[str, list[int]]:
    """Kept units of each layer as stored, or at sparsity s: {"heads": [L], "neurons": [L]}, in EncT5 [L + 2]
    and [L + 1].

    Raises CheckpointError where s is not in the model's grid.
    """
    if s is None or s == sparsity(model):
        made = architectures.sublayers(model)
        return {unit: [each.count for each in made if each.unit == unit] for unit in UNITS}
    points = grid(model)
    if s not in points:
        known = ", ".join(f"{point:g}" for point in points)
        raise CheckpointError(
            f"sparsity {s:g}: this model offers {known or 'none'}"
            + ("; a removed unit does not come back" if points and s < points[0] else "")
            + ("" if points else "; sort it by importance first (run_sparsification.py)")
        )
    counts = sparse_entry(model)["grid"][key(s)]
    return {unit: list(counts[unit]) for unit in UNITS}


def kept_hidden(model, s=None) -> int:
    """Kept hidden dimensions as stored, or at sparsity s, which is in the model's grid."""
    entry = sparse_entry(model) or {}
    if s is None or s == sparsity(model) or "hidden" not in entry:
        return hidden_dimensions.width(model)
    return entry["grid"][key(s)]["hidden"]


def whole(model) -> tuple[int, int]:
    """(A, F) of a model from which nothing was removed.  Raises CheckpointError for a cropped one, and for
    one with experts."""
    architectures.require_dense(model)
    counts = kept(model)
    entry = sparse_entry(model)
    if len({*counts["heads"]}) > 1 or len({*counts["neurons"]}) > 1 or (entry and entry["sparsity"] > 0):
        raise CheckpointError(
            f"this model is cropped to {sparsity(model):g}% sparsity; units are scored and sorted before "
            "cropping, so take the checkpoint that it was cropped from"
        )
    return counts["heads"][0], counts["neurons"][0]


def key(s) -> str:
    """A sparsity as a JSON key."""
    return f"{float(s):g}"


# ---- Slicing in place


def set_sparsity(model, s) -> None:
    """Let a nested model compute with the units kept at sparsity s; None: as stored.

    In place and cheap: weights, their names, optimiser and wrappers stay as they are; gradients of all slices
    meet in the same tensors, and are zero beyond the slice.  A parameter of a layer that the slice empties
    gets no gradient.
    Raises CheckpointError where s is not in the grid, and where it removes hidden dimensions too.
    """
    counts = None if s is None else kept(model, s)
    if s is not None and kept_hidden(model, s) < hidden_dimensions.width(model):
        raise CheckpointError(
            f"sparsity {s:g}: this model's grid, made on a corpus, removes hidden dimensions too; such a "
            "part is cropped (--sparsity of run_minilmv2.py), not sliced in place; for a task's grid run "
            "run_sparsification.py with that task"
        )
    for sublayer in architectures.sublayers(model):
        wanted = sublayer.count if s is None else counts[sublayer.unit][sublayer.row]
        gate(model, sublayer, wanted)
        for projection in sublayer.projections:
            if isinstance(projection.linear, nn.Linear):
                size = None if wanted == sublayer.count else wanted * projection.size
                rows, columns = (size, None) if projection.dim == 0 else (None, size)
                slice_linear(projection.linear, rows=rows, columns=columns, groups=projection.groups)


def gate(model, sublayer, number):
    """Tell an attention, in place, how many heads it has, and which columns of the position bias are theirs;
    a feed-forward nothing."""
    if sublayer.attention is None:
        return
    row = architectures.of(model)
    if not isinstance(sublayer.attention, attention.Gate):
        inside = row.attention_out.startswith(f"{row.attention}.")
        columns = (sparse_entry(model) or {}).get("position_heads")
        attention.install(
            sublayer.attention,
            sublayer.head_bias,
            inner_out=row.attention_out.rpartition(".")[2] if inside else None,
            position_heads=columns and columns[sublayer.row],
        )
    attention.keep_heads(sublayer.attention, number, sublayer.size, family=row)


# ---- Shrinking a model as it is built


def _cut(model):
    """Cut a just built stock model down to the counts in its config.  Works on the meta device.

    Raises CheckpointError where the counts do not fit the rest of the config.
    """
    entry, sublayers = sparse_entry(model), architectures.sublayers(model)
    if entry is None:
        raise CheckpointError(
            f"config.json: model_type {model.config.model_type} needs a compression entry, found none"
        )
    _check_counts(model, entry, sublayers)
    for sublayer in sublayers:
        count = entry[sublayer.unit][sublayer.row]
        for projection in sublayer.projections:
            _cut_linear(model, projection, count)
        gate(model, sublayer, count)
    if "hidden" in entry:
        hidden_dimensions.crop_in_place(model, entry["hidden"])
    _freeze_unread(model)


def _freeze_unread(model):
    """Ask for no gradient of what nothing reads any more, as it would never get one: DDP waits for such
    parameters."""
    row, base = architectures.of(model), architectures.encoder(model)
    unread, number = [], len(architectures.layer_modules(model))
    emptied = [each for each in architectures.sublayers(model) if each.count == 0]
    unread += [each.norm for each in emptied if each.norm is not None]
    if sum(each.unit == "heads" and each.row < number for each in emptied) == number:
        unread += [base.get_submodule(path) for path in row.position_tables if architectures.has(base, path)]
    for each in emptied:
        if each.head_bias == "handed on" and each.row >= number:  # a decoder's, onto itself
            unread.append(each.attention.relative_attention_bias)
        if each.unit == "heads" and each.row == architectures.cross_attention(model):
            unread += [base.encoder, base.shared]
    for module in unread:
        module.requires_grad_(False)


def _cut_linear(model, projection, count):
    """Replace one Linear, or table of position biases, by one with its first `count` units."""
    old = projection.linear
    index = torch.arange(count, device=old.weight.device)
    parameters = {
        name: nn.Parameter(projection.select(tensor.detach(), index))
        for name, tensor in old.named_parameters()
    }
    rows, columns = parameters["weight"].shape
    parent, _, leaf = projection.name.rpartition(".")
    parent = model.get_submodule(parent)
    if count == 0:
        new = EmptyLinear(columns, rows, bias=parameters.get("bias") if projection.dim == 1 else None)
        parent._is_hf_initialized = True  # transformers' own initialisation would look for the weight
    else:
        if isinstance(old, nn.Embedding):
            new = nn.Embedding(rows, columns, device="meta")
        else:
            new = nn.Linear(columns, rows, bias="bias" in parameters, device="meta")
        for name, parameter in parameters.items():
            setattr(new, name, parameter)
    setattr(parent, leaf, new)


def _check_counts(model, entry, sublayers):
    for unit in UNITS:
        made = [each for each in sublayers if each.unit == unit]
        counts, size = entry.get(unit), made[0].count
        fits = isinstance(counts, list) and len(counts) == len(made)
        if not fits or not all(isinstance(count, int) and 0 <= count <= size for count in counts):
            raise CheckpointError(
                f"config.json: compression.{unit} is {counts}; expected {len(made)} numbers from 0 to {size} "
                f"for this {model.config.model_type} config"
            )
