"""Where things are in a model: its encoder layers and their projections, found by its family's row in
utils/families.py."""

from dataclasses import dataclass, field

from torch import nn

from modules.sliceable_linear import select
from utils import families
from utils.errors import CheckpointError
from utils.families import EXPERTS, Family


@dataclass
class Projection:
    """A projection whose rows (dim 0) or columns (dim 1) belong to units.

    name: of the Linear in the model.  unit: "heads" or "neurons".  groups, size: layout, see
    modules/sliceable_linear.py.
    """

    linear: nn.Module = field(repr=False)
    name: str
    layer: int
    unit: str
    dim: int
    groups: int
    size: int

    def select(self, tensor, index):
        """Units `index` of this projection's weight, or of its bias, which is the output's and has units only
        with dim 0."""
        if tensor.dim() == 1 and self.dim == 1:
            return tensor.clone()
        return select(tensor, index, dim=self.dim, groups=self.groups, size=self.size)


@dataclass
class Layer:
    """The modules of one encoder layer; query, key and value are the same module where they are fused
    (fused_qkv)."""

    number: int
    module: nn.Module
    attention: nn.Module
    query: nn.Module
    key: nn.Module
    value: nn.Module
    fused_qkv: bool
    attention_out: nn.Module
    ffn_in: list
    ffn_out: nn.Module
    head_dim: int
    projections: list = field(repr=False)

    @property
    def num_heads(self) -> int:
        """Heads as stored, whatever the slice."""
        return self.attention_out.in_features // self.head_dim

    @property
    def num_neurons(self) -> int:
        """Feed-forward neurons as stored, whatever the slice."""
        return self.ffn_out.in_features


def of(model) -> Family:
    """The row of a model, by its config's model_type.  Raises CheckpointError where there is none."""
    return families.of(model.config.model_type)


def stock_class(model_type, kind=None) -> type:
    """The stock class of a family with the head of a kind of task, or of its encoder; imports it.

    Raises CheckpointError where the family is not in the table, or its encoder has no such head.
    """
    import transformers

    family = families.of(model_type)
    if kind in families.HEADS and kind not in family.tasks:
        raise CheckpointError(
            f"{model_type}: transformers' {family.class_name(kind)} {family.no_head}; take it for "
            f"{', '.join(family.tasks)}, or "
            f"another encoder for {kind}"
        )
    return getattr(transformers, family.class_name(kind))


def encoder(model) -> nn.Module:
    """The base model, without the task head."""
    return model.base_model


def max_positions(*models) -> int | None:
    """The longest input in tokens that all these encoders have positions for; None where they are
    relative."""
    return min(filter(None, map(_positions, models)), default=None)


def _positions(model):
    table, first = position_table(model)
    return None if table is None else table.num_embeddings - first


def position_table(model) -> tuple[nn.Embedding | None, int]:
    """(the table of positions, the row of the first one) of an encoder; (None, 0) where they are relative."""
    for name, module in encoder(model).named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and MPNet count from behind padding
            return module, 0 if module.padding_idx is None else module.padding_idx + 1
    return None, 0


def layer_modules(model) -> nn.ModuleList:
    """The modules of the encoder layers."""
    return encoder(model).get_submodule(of(model).layers)


def layers(model) -> list[Layer]:
    """The encoder layers, each with its projections."""
    family = of(model)
    start = f"{prefix(model)}{family.layers}"
    heads = model.config.num_attention_heads
    shared = heads // getattr(model.config, family.key_heads, heads)  # of which each key is that of so many
    made = []
    for number, module in enumerate(layer_modules(model)):
        find = module.get_submodule
        core = find(family.attention)
        key_dim = getattr(core, family.head_dim)
        head_dim = key_dim * shared
        ffn_in = [path for path in family.ffn_in if has(module, path)]
        by_head = [path for path in family.by_head if has(module, path)]
        if family.fused_qkv:
            layout = [(family.query, "heads", 0, 3, head_dim)]
        else:
            sizes = {family.query: head_dim, family.key: key_dim, family.value: key_dim}
            layout = [(path, "heads", 0, 1, size) for path, size in sizes.items()]
        layout += [(path, "heads", 0, 1, head_dim) for path in by_head]
        layout += [(family.attention_out, "heads", 1, 1, head_dim)]
        layout += [(path, "neurons", 0, family.ffn_groups, 1) for path in ffn_in]
        layout += [(family.ffn_out, "neurons", 1, 1, 1)]
        made.append(
            Layer(
                number=number,
                module=module,
                attention=core,
                query=find(family.query),
                key=find(family.key),
                value=find(family.value),
                fused_qkv=family.fused_qkv,
                attention_out=find(family.attention_out),
                ffn_in=[find(path) for path in ffn_in],
                ffn_out=find(family.ffn_out),
                head_dim=head_dim,
                projections=[
                    Projection(find(path), f"{start}.{number}.{path}", number, *rest)
                    for path, *rest in layout
                ],
            )
        )
    return made


def row_groups(model) -> dict[str, int]:
    """{name of a projection: groups that its rows are in, each of which begins with its own first units}."""
    projections = [each for layer in layers(model) for each in layer.projections]
    return {each.name: each.groups for each in projections if each.dim == 0}


def require_dense(model):
    """Raise CheckpointError for a model with experts, whose units belong to different tokens."""
    if model.config.model_type.startswith(EXPERTS):
        raise CheckpointError(
            f"this model has experts ({model.config.model_type}): heads and neurons are scored, removed and "
            "filled in on dense "
            "models; take a dense checkpoint"
        )


def prefix(model) -> str:
    """What the names of the base model's parameters begin with in the model."""
    return "" if encoder(model) is model else f"{model.base_model_prefix}."


def has(module, path):
    """Whether a submodule is there (a stock variant may lack it)."""
    for name in path.split("."):
        module = getattr(module, name, None)
    return module is not None
