"""Where things are in a model: its encoder layers, a decoder's one, and their projections, found by its
family's row in utils/families.py."""

from dataclasses import dataclass, field

from torch import nn

from models import enct5
from modules.sliceable_linear import select
from utils import families
from utils.errors import CheckpointError
from utils.families import Family


@dataclass
class Projection:
    """A projection whose rows (dim 0) or columns (dim 1) belong to units.

    linear: a Linear, or a table of position biases, whose columns are heads.  name: of it in the model.
    row: of its sublayer.  unit: "heads" or "neurons".  groups, size: layout, see modules/sliceable_linear.py.
    """

    linear: nn.Module = field(repr=False)
    name: str
    row: int
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
class Sublayer:
    """An attention or a feed-forward: its units are removed together, and have one row of scores and counts.

    unit: "heads" or "neurons".  row: among those of its unit: an encoder layer's number; then a decoder's
    attention onto itself and onto the encoder's states, and its feed-forward.  out: the projection that reads
    the units' features, so many (size) of each.  norm: before it, None where the family has it behind.
    attention: the module that computes it, None for a feed-forward.  head_bias: see utils/families.py.
    """

    unit: str
    row: int
    out: nn.Module
    size: int
    norm: nn.Module | None
    projections: list = field(repr=False)
    attention: nn.Module | None = None
    head_bias: str = ""

    @property
    def count(self) -> int:
        """Units as stored, whatever the slice."""
        return self.out.in_features // self.size


@dataclass
class Layer:
    """The modules of one encoder layer; query, key and value are the same module where they are fused
    (fused_qkv)."""

    number: int
    module: nn.Module
    query: nn.Module
    key: nn.Module
    value: nn.Module
    fused_qkv: bool
    heads: Sublayer
    neurons: Sublayer

    @property
    def ffn_out(self) -> nn.Module:
        """The feed-forward's output projection."""
        return self.neurons.out

    @property
    def projections(self) -> list:
        """Those of heads, then those of neurons."""
        return [*self.heads.projections, *self.neurons.projections]


def of(model) -> Family:
    """The row of a model, by its config's model_type.  Raises CheckpointError where there is none."""
    return families.of(model.config.model_type)


def stock_class(model_type, kind=None) -> type:
    """The class of a family with the head of a kind of task, or of its encoder, as it is before anything is
    removed: the stock one, which is imported, or one of models/enct5.py.

    Raises CheckpointError where the family is not in the table, or its encoder has no such head.
    """
    import transformers

    family = families.of(model_type)
    if kind in families.HEADS and kind not in family.tasks:
        raise CheckpointError(
            f"{model_type}: transformers' {family.class_name(kind)} does not exist; take it for "
            f"{', '.join(family.tasks)}, or another encoder for {kind}"
        )
    if family.own_class(kind):
        return enct5.model_class(families.stock_type(model_type), kind)
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
    norm_paths = dict(zip(("heads", "neurons"), family.norms))
    heads = model.config.num_attention_heads
    shared = heads // getattr(model.config, family.key_heads, heads)  # of which each key is that of so many
    made = []
    for number, module in enumerate(layer_modules(model)):
        find = module.get_submodule
        attention, norms = (
            find(family.attention),
            {unit: find(path) for unit, path in norm_paths.items() if has(module, path)},
        )
        key_dim = getattr(attention, family.head_dim)
        head_dim = key_dim * shared
        if family.fused_qkv:
            layout = [(family.query, 0, 3, head_dim)]
        else:
            sizes = {family.query: head_dim, family.key: key_dim, family.value: key_dim}
            layout = [(path, 0, 1, size) for path, size in sizes.items()]
        layout += [(path, 0, 1, head_dim) for path in family.by_head]
        layout += [(family.attention_out, 1, 1, head_dim), (family.bias_table, 1, 1, 1)]
        place = {"module": module, "name": f"{layers_path(model)}.{number}", "row": number}
        made.append(
            Layer(
                number=number,
                module=module,
                query=find(family.query),
                key=find(family.key),
                value=find(family.value),
                fused_qkv=family.fused_qkv,
                heads=Sublayer(
                    unit="heads",
                    row=number,
                    out=find(family.attention_out),
                    size=head_dim,
                    norm=norms.get("heads"),
                    projections=_projections(layout, unit="heads", **place),
                    attention=attention,
                    head_bias=family.head_bias,
                ),
                neurons=_feed_forward(family, norm=norms.get("neurons"), groups=family.ffn_groups, **place),
            )
        )
    return made


def sublayers(model) -> list[Sublayer]:
    """Everything that has heads or neurons: of the encoder layers, then of a decoder."""
    found = [sublayer for layer in layers(model) for sublayer in (layer.heads, layer.neurons)]
    return [*found, *_decoder_sublayers(model)]


def decoder(model) -> nn.ModuleList | None:
    """The one layer, in a list, of a decoder that reads a prompt (models/enct5.py); None where there is
    none."""
    paths = of(model).decoder
    there = paths is not None and has(encoder(model), paths.layers)
    return encoder(model).get_submodule(paths.layers) if there else None


def cross_attention(model) -> int | None:
    """The row of a decoder's heads onto the encoder's states, without which nothing of the text arrives;
    None where there is no decoder."""
    return None if decoder(model) is None else len(layer_modules(model)) + 1


def _decoder_sublayers(model):
    """Its attentions, onto itself and onto the encoder's states, and its feed-forward."""
    if (modules := decoder(model)) is None:
        return []
    family, (module,), row = of(model), modules, len(layer_modules(model))
    paths, made = family.decoder, []
    name, norms = f"{prefix(model)}{paths.layers}.0", [module.get_submodule(path) for path in paths.norms]
    for number, (path, head_bias) in enumerate(paths.attentions):
        attention = module.get_submodule(path)
        size = getattr(attention, family.head_dim)
        rows = [family.query, family.key, family.value]
        layout = [(old, 0, 1, size) for old in rows] + [(family.attention_out, 1, 1, size)]
        layout += [(family.bias_table, 1, 1, 1)] if head_bias else []
        layout = [(old.replace(family.attention, path), *rest) for old, *rest in layout]
        made.append(
            Sublayer(
                unit="heads",
                row=row + number,
                out=module.get_submodule(family.attention_out.replace(family.attention, path)),
                size=size,
                norm=norms[number],
                projections=_projections(layout, unit="heads", module=module, name=name, row=row + number),
                attention=attention,
                head_bias=head_bias,
            )
        )
    return [*made, _feed_forward(paths, norm=norms[-1], groups=1, module=module, name=name, row=row)]


def _feed_forward(paths, *, norm, groups, module, name, row):
    """The feed-forward of a layer.  paths: with ffn_in and ffn_out.  The rest: see Sublayer, _projections."""
    layout = [*((path, 0, groups, 1) for path in paths.ffn_in), (paths.ffn_out, 1, 1, 1)]
    projections = _projections(layout, unit="neurons", module=module, name=name, row=row)
    out = module.get_submodule(paths.ffn_out)
    return Sublayer("neurons", row, out, 1, norm, projections)


def _projections(layout, *, unit, module, name, row):
    """Of one sublayer.  layout: [(path, dim, groups, size)]; paths that a variant lacks are passed over.
    module, name: of the layer."""
    return [
        Projection(module.get_submodule(path), f"{name}.{path}", row, unit, *rest)
        for path, *rest in layout
        if path and has(module, path)
    ]


def row_groups(model) -> dict[str, int]:
    """{name of a projection: groups that its rows are in, each of which begins with its own first units}."""
    projections = [each for sublayer in sublayers(model) for each in sublayer.projections]
    return {each.name: each.groups for each in projections if each.dim == 0}


def require_dense(model):
    """Raise CheckpointError for a model with experts, whose units belong to different tokens."""
    if families.is_of_experts(model.config.model_type):
        raise CheckpointError(
            f"this model has experts ({model.config.model_type}): heads and neurons are scored, removed and "
            "filled in on dense models; take a dense checkpoint"
        )


def prefix(model) -> str:
    """What the names of the base model's parameters begin with in the model."""
    return "" if encoder(model) is model else f"{model.base_model_prefix}."


def layers_path(model) -> str:
    """The path of the list of encoder layers: what the names of all their parameters begin with, and a
    dot."""
    return f"{prefix(model)}{of(model).layers}"


def has(module, path):
    """Whether a submodule is there (a stock variant may lack it)."""
    for name in path.split("."):
        module = getattr(module, name, None)
    return module is not None
