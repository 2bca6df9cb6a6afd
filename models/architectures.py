"""The one table of where things are in each family of encoders.  Adding an architecture is adding a row.

Paths are relative to an encoder layer, but for `layers` and `position_tables`, which are relative to the base model.
"""

from dataclasses import dataclass, field

from torch import nn

from models import attention
from modules.linear import select
from utils.checkpoints import PREFIXES, stock_type
from utils.errors import CheckpointError

PREFIX, EXPERTS = PREFIXES  # model_type of a cropped model, and of one with experts: this and the stock model_type
HEADS = {  # kind of task: stock head
    "classification": "SequenceClassification",
    "regression": "SequenceClassification",
    "tagging": "TokenClassification",
    "spans": "QuestionAnswering",
}
ALL_HEADS = {**HEADS, "masked": "MaskedLM"}  # no task's: importance on a corpus is that of the loss on masked tokens
# Weights of pretraining heads, which a task model has no use for
PRETRAINING_HEADS = (
    r"^(cls|lm_head|predictions|discriminator_predictions|generator_\w+|vocab_\w+|lm_predictions|mask_predictions|head|decoder)\."
)


@dataclass(frozen=True)
class Architecture:
    """One family.

    stock: what its class names begin with.  layers: the ModuleList of encoder layers.
    attention: the module that owns the queries' projection and computes attention; its class is refined by `gate`, which
        says what happens where heads are missing.
    query, key, value: projections, one path for all three where they are fused (queries' rows first, then keys', values').
    attention_out, ffn_in, ffn_out: projections; paths in ffn_in that a checkpoint's variant lacks are passed over.
    ffn_groups: 2 where one matrix in ffn_in makes both halves of a gated feed-forward.
    head_dim: name of the attention module's attribute.
    by_head: further projections onto heads, where a variant has them.
    norms: in families that normalise before a block, the norms before attention and before the feed-forward.
    position_tables: parameters that only attention uses and all layers share.
    num_returned: how long a tuple a layer returns, with the states first; 0 where it returns the bare states.
    bias_by_head: the shared position bias has a column per head, which must follow the heads when a layer is sorted.
    heads: tasks that the stock encoder has a head for.
    """

    stock: str
    layers: str
    attention: str
    query: str
    key: str
    value: str
    attention_out: str
    ffn_in: tuple[str, ...]
    ffn_out: str
    ffn_groups: int = 1
    head_dim: str = "attention_head_size"
    gate: type = attention.Gate
    by_head: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    position_tables: tuple[str, ...] = ()
    num_returned: int = 0
    bias_by_head: bool = False
    base: str = "Model"
    heads: tuple[str, ...] = tuple(HEADS)

    @property
    def fused_qkv(self) -> bool:
        """Whether queries, keys and values come from one matrix."""
        return self.query == self.key

    def class_name(self, kind=None) -> str:
        """Name of the stock class with the head of a kind of task, or of the encoder."""
        return self.stock + (self.base if kind is None else f"For{ALL_HEADS[kind]}")


def _bert(stock):
    return Architecture(
        stock=stock,
        layers="encoder.layer",
        attention="attention.self",
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        attention_out="attention.output.dense",
        ffn_in=("intermediate.dense",),
        ffn_out="output.dense",
    )


TABLE = {
    "bert": _bert("Bert"),
    "roberta": _bert("Roberta"),
    "xlm-roberta": _bert("XLMRoberta"),
    "electra": _bert("Electra"),
    "distilbert": Architecture(
        stock="DistilBert",
        layers="transformer.layer",
        attention="attention",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_out="attention.out_lin",
        ffn_in=("ffn.lin1",),
        ffn_out="ffn.lin2",
    ),
    "mpnet": Architecture(
        stock="MPNet",
        layers="encoder.layer",
        attention="attention.attn",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attention_out="attention.attn.o",
        ffn_in=("intermediate.dense",),
        ffn_out="output.dense",
        gate=attention.MPNetGate,
        num_returned=1,
        position_tables=("encoder.relative_attention_bias",),
        bias_by_head=True,
    ),
    "deberta-v2": Architecture(
        stock="DebertaV2",
        layers="encoder.layer",
        attention="attention.self",
        query="attention.self.query_proj",
        key="attention.self.key_proj",
        value="attention.self.value_proj",
        by_head=("attention.self.pos_key_proj", "attention.self.pos_query_proj"),
        attention_out="attention.output.dense",
        ffn_in=("intermediate.dense",),
        ffn_out="output.dense",
        position_tables=("encoder.rel_embeddings", "encoder.LayerNorm"),
        num_returned=2,
    ),
    "modernbert": Architecture(
        stock="ModernBert",
        layers="layers",
        attention="attn",
        query="attn.Wqkv",
        key="attn.Wqkv",
        value="attn.Wqkv",
        attention_out="attn.Wo",
        ffn_in=("mlp.Wi",),
        ffn_groups=2,
        ffn_out="mlp.Wo",
        head_dim="head_dim",
        norms=("attn_norm", "mlp_norm"),
    ),
    # The encoder alone. transformers' T5ForSequenceClassification and T5ForQuestionAnswering need the decoder.
    "t5": Architecture(
        stock="T5",
        base="EncoderModel",
        heads=("tagging",),
        layers="encoder.block",
        attention="layer.0.SelfAttention",
        query="layer.0.SelfAttention.q",
        key="layer.0.SelfAttention.k",
        value="layer.0.SelfAttention.v",
        attention_out="layer.0.SelfAttention.o",
        ffn_in=("layer.1.DenseReluDense.wi", "layer.1.DenseReluDense.wi_0", "layer.1.DenseReluDense.wi_1"),
        ffn_out="layer.1.DenseReluDense.wo",
        head_dim="key_value_proj_dim",
        norms=("layer.0.layer_norm", "layer.1.layer_norm"),
        gate=attention.T5Gate,
        num_returned=3,
        position_tables=("encoder.block.0.layer.0.SelfAttention.relative_attention_bias",),
        bias_by_head=True,
    ),
}


@dataclass
class Part:
    """One projection whose rows (dim 0) or columns (dim 1) belong to units.

    name: of the Linear in the model.  unit: "heads" or "neurons".  groups, size: layout, see modules/linear.py.
    """

    linear: nn.Module = field(repr=False)
    name: str
    layer: int
    unit: str
    dim: int
    groups: int
    size: int

    def select(self, tensor, index):
        """Units `index` of this projection's weight, or of its bias, which is the output's and has units only with dim 0."""
        if tensor.dim() == 1 and self.dim == 1:
            return tensor.clone()
        return select(tensor, index, dim=self.dim, groups=self.groups, size=self.size)


@dataclass
class Block:
    """The modules of one encoder layer; query, key and value are the same module where they are fused (fused_qkv)."""

    number: int
    layer: nn.Module
    attention: nn.Module
    query: nn.Module
    key: nn.Module
    value: nn.Module
    fused_qkv: bool
    attention_out: nn.Module
    ffn_in: list
    ffn_out: nn.Module
    head_dim: int
    parts: list = field(repr=False)

    @property
    def num_heads(self) -> int:
        """Heads as stored, whatever the slice."""
        return self.attention_out.in_features // self.head_dim

    @property
    def num_neurons(self) -> int:
        """Feed-forward neurons as stored, whatever the slice."""
        return self.ffn_out.in_features


def of(model) -> Architecture:
    """The row of a model, by its config's model_type.  Raises CheckpointError where there is none."""
    return row(model.config.model_type)


def row(model_type) -> Architecture:
    """The row of a model_type, stock, cropped or with experts.  Raises CheckpointError where there is none."""
    stock = stock_type(model_type)
    if stock not in TABLE:
        raise CheckpointError(
            f"model_type {stock!r} is not supported; expected one of {', '.join(TABLE)} (a row of models/architectures.py)"
        )
    return TABLE[stock]


def stock_class(model_type, kind=None) -> type:
    """The stock class of a family with the head of a kind of task, or of its encoder; imports it.

    Raises CheckpointError where the family is not in the table, or its encoder has no such head.
    """
    import transformers

    architecture = row(model_type)
    if kind in HEADS and kind not in architecture.heads:
        raise CheckpointError(
            f"{model_type}: transformers' {architecture.class_name(kind)} needs the decoder, and only the encoder is supported "
            f"here; take it for {', '.join(architecture.heads)}, or another encoder for {kind}"
        )
    return getattr(transformers, architecture.class_name(kind))


def encoder(model) -> nn.Module:
    """The base model, without the task head."""
    return model.base_model


def max_positions(model) -> int | None:
    """The longest input in tokens that an encoder has positions for; None where they are relative."""
    for name, module in encoder(model).named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            first = 0 if module.padding_idx is None else module.padding_idx + 1  # RoBERTa and MPNet count from behind padding
            return module.num_embeddings - first
    return None


def layers(model) -> nn.ModuleList:
    """The encoder layers."""
    return encoder(model).get_submodule(of(model).layers)


def blocks(model) -> list[Block]:
    """Handles of each encoder layer's projections."""
    architecture = of(model)
    start = f"{prefix(model)}{architecture.layers}"
    made = []
    for number, layer in enumerate(layers(model)):
        find = layer.get_submodule
        core = find(architecture.attention)
        head_dim = getattr(core, architecture.head_dim)
        ffn_in = [path for path in architecture.ffn_in if has(layer, path)]
        by_head = [path for path in architecture.by_head if has(layer, path)]
        qkv = dict.fromkeys((architecture.query, architecture.key, architecture.value))
        layout = [(path, "heads", 0, 3 if architecture.fused_qkv else 1, head_dim) for path in qkv]
        layout += [(path, "heads", 0, 1, head_dim) for path in by_head]
        layout += [(architecture.attention_out, "heads", 1, 1, head_dim)]
        layout += [(path, "neurons", 0, architecture.ffn_groups, 1) for path in ffn_in]
        layout += [(architecture.ffn_out, "neurons", 1, 1, 1)]
        made.append(
            Block(
                number=number,
                layer=layer,
                attention=core,
                query=find(architecture.query),
                key=find(architecture.key),
                value=find(architecture.value),
                fused_qkv=architecture.fused_qkv,
                attention_out=find(architecture.attention_out),
                ffn_in=[find(path) for path in ffn_in],
                ffn_out=find(architecture.ffn_out),
                head_dim=head_dim,
                parts=[Part(find(path), f"{start}.{number}.{path}", number, *rest) for path, *rest in layout],
            )
        )
    return made


def check_dense(model):
    """Raise CheckpointError for a model with experts, whose units belong to different tokens."""
    if model.config.model_type.startswith(EXPERTS):
        raise CheckpointError(
            f"this model has experts ({model.config.model_type}): heads and neurons are scored, removed and filled in on dense "
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
