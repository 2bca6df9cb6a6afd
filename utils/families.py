"""The one table of encoder families: adding a family is adding a row, for every method.  And what a
config.json says of a model.

Nothing here imports torch: the flags are checked with it, and models/ finds a model's modules by it.
"""

from dataclasses import dataclass, field

from utils.errors import CheckpointError

SPARSE = "sparse-"  # model_type of a cropped model: this and the stock model_type
EXPERTS = "moe-"  # of one with experts
ENCODER = "enc-"  # of one with a head that its family has for encoders with a decoder only: EncT5
SIZES = ("layers", "hidden", "heads", "intermediate")
HEADS = {  # kind of task: stock head
    "classification": "SequenceClassification",
    "multilabel": "SequenceClassification",
    "regression": "SequenceClassification",
    "tagging": "TokenClassification",
    "spans": "QuestionAnswering",
}
PER_TOKEN = ("tagging", "spans")  # kinds of tasks that are answered for each token; others at the first one
# With that of masked tokens, which is no task's: importance on a corpus is that of their loss
ALL_HEADS = {**HEADS, "masked": "MaskedLM"}
ATTENTIONS = ("eager", "sdpa", "flash_attention_2")  # how attention is computed, as transformers calls it
USES = {  # what a row may refuse: in words
    "attention experts": "its attention cannot be experts",
    "ffn experts": "its feed-forward sublayers cannot be experts",
    "hidden": "its hidden dimensions cannot be sorted and removed",
}
REFUSED = {
    "albert": "all its layers are one and the same, so that nothing can be removed from one of them alone"
}


@dataclass(frozen=True)
class Decoder:
    """The one decoder layer of a model that reads a prompt (models/enct5.py).  Paths are relative to it, but
    for `layers`: to the base model.

    attentions: ((path, head_bias), ...), onto itself and onto the encoder's states, each with projections
    called as the encoder's are.  norms: before these and the feed-forward.  The rest: as in Family.
    """

    layers: str
    attentions: tuple[tuple[str, str], ...]
    ffn_in: tuple[str, ...]
    ffn_out: str
    norms: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """One family.  Paths are relative to an encoder layer, but for those of `layers`, `position_tables` and
    `other_states`: to the base model.

    stock: what its class names begin with.  base: how that of its encoder ends.  tasks: kinds that it has a
    head for, stock but for those of prompted and encoder_spans.
    prompted: kinds whose head reads what a decoder of one layer makes of a learned prompt.  decoder: that
    layer.  encoder_spans: whether spans are told by the encoder's states, unlike in the stock class.

    layers: the ModuleList of encoder layers.
    attention: the module that owns the queries' projection and computes attention.
    query, key, value: projections, one path for all three where they are fused (queries' rows first, then
    keys', values'). attention_out, ffn_in, ffn_out: projections; paths in ffn_in that a checkpoint's variant
    lacks are passed over.
    ffn_groups: 2 where one matrix in ffn_in makes both halves of a gated feed-forward.
    head_dim, num_heads, heads_width: attributes of the attention module, the last two where it reshapes by
    them.
    by_head: further projections onto heads, where a variant has them.  bias_table: a table of position biases
        with a column per head, where each layer has its own.
    norms: in families that normalise before a sublayer, the norms before attention and before
        the feed-forward.
    head_bias: how attention gets a position bias that has a column per head: made once for all layers, as an
        "argument" or "handed on" by the layer before; "own": made by each layer; "": there is none.
    position_tables: parameters that only attention uses and all layers share.
    other_states: modules besides norms whose outputs are states as layers read them, where a variant has
    them.
    num_returned: how long a tuple a layer returns, with the states first; 0 where it returns the bare states.
    vocabulary: modules between an encoder's states and the logits of masked tokens, in order; () where there
    is no stock head. other_heads: further heads that it is pretrained with.  task_heads: modules of its task
    heads outside the encoder.

    sizes: what its config calls SIZES.  head_size: what it calls the width of a head, where that is a setting
    of its own. key_heads: what it calls the number of keys, and values, where several query heads can share
        one; then these are one head wherever heads are scored, kept and counted.
    as_hidden: settings that are the hidden size wherever a teacher's are.
    hidn_dropout, att_dropout, cls_dropout: what it calls the probabilities that the flags of these names
    give.
    attentions: those of ATTENTIONS that it has; without a choice, sdpa where it does.
    large_layer: which layer of a teacher of 24 layers, 1024 wide, is best to learn relations from; None: the
    last.
    refuses: {one of USES: why}.
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
    num_heads: str = ""
    heads_width: str = ""
    by_head: tuple[str, ...] = ()
    bias_table: str = ""
    norms: tuple[str, ...] = ()
    head_bias: str = ""
    position_tables: tuple[str, ...] = ()
    other_states: tuple[str, ...] = ()
    num_returned: int = 0
    base: str = "Model"
    tasks: tuple[str, ...] = tuple(HEADS)
    prompted: tuple[str, ...] = ()
    decoder: Decoder | None = None
    encoder_spans: bool = False
    vocabulary: tuple[str, ...] = ()
    other_heads: tuple[str, ...] = ()
    task_heads: tuple[str, ...] = ("classifier", "qa_outputs")
    sizes: tuple[str, ...] = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    head_size: str = ""
    key_heads: str = ""
    as_hidden: tuple[str, ...] = ()
    hidn_dropout: tuple[str, ...] = ("hidden_dropout_prob",)
    att_dropout: tuple[str, ...] = ("attention_probs_dropout_prob",)
    cls_dropout: tuple[str, ...] = ("classifier_dropout",)
    attentions: tuple[str, ...] = ATTENTIONS
    large_layer: int | None = None
    refuses: dict = field(default_factory=dict)

    @property
    def fused_qkv(self) -> bool:
        """Whether queries, keys and values come from one matrix."""
        return self.query == self.key

    @property
    def shared_bias(self) -> bool:
        """Whether all layers use one position bias, so that each must know which columns are its heads'."""
        return self.head_bias in ("argument", "handed on")

    def own_class(self, kind) -> bool:
        """Whether the class with the head of a kind of task is one of models/enct5.py, and not the stock
        one."""
        return kind in self.prompted or (kind == "spans" and self.encoder_spans)

    def class_name(self, kind=None) -> str:
        """Name of the stock class with the head of a kind of task, or of the encoder."""
        return self.stock + (self.base if kind is None else f"For{ALL_HEADS[kind]}")


_NO_SPANS = tuple(kind for kind in HEADS if kind != "spans")


def _bert(stock, **others):
    paths = {
        "layers": "encoder.layer",
        "attention": "attention.self",
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_out": "attention.output.dense",
        "num_heads": "num_attention_heads",
        "heads_width": "all_head_size",
        "ffn_in": ("intermediate.dense",),
        "ffn_out": "output.dense",
        "vocabulary": ("cls",),
    }
    return Family(stock, **{**paths, **others})


def _llama(stock, **others):
    paths = {
        "layers": "layers",
        "attention": "self_attn",
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "attention_out": "self_attn.o_proj",
        "ffn_in": ("mlp.gate_proj", "mlp.up_proj"),
        "ffn_out": "mlp.down_proj",
        "head_dim": "head_dim",
        "vocabulary": ("lm_head",),
    }
    return Family(stock, **{**paths, **others})


def _t5_decoder(onto_itself, onto_encoder):
    return Decoder(
        layers="decoder.block",
        attentions=(("layer.0.SelfAttention", onto_itself), ("layer.1.EncDecAttention", onto_encoder)),
        ffn_in=("layer.2.DenseReluDense.wi", "layer.2.DenseReluDense.wi_0", "layer.2.DenseReluDense.wi_1"),
        ffn_out="layer.2.DenseReluDense.wo",
        norms=("layer.0.layer_norm", "layer.1.layer_norm", "layer.2.layer_norm"),
    )


def _t5(stock, **others):
    """The encoder, and EncT5 (Liu et al. 2021) where a task needs one vector: transformers' own heads for
    these tasks read a whole decoder."""
    parts = {
        "base": "EncoderModel",
        "prompted": ("classification", "multilabel", "regression"),
        "decoder": _t5_decoder("handed on", "crossed"),
        "encoder_spans": True,
        "layers": "encoder.block",
        "attention": "layer.0.SelfAttention",
        "query": "layer.0.SelfAttention.q",
        "key": "layer.0.SelfAttention.k",
        "value": "layer.0.SelfAttention.v",
        "attention_out": "layer.0.SelfAttention.o",
        "ffn_in": ("layer.1.DenseReluDense.wi", "layer.1.DenseReluDense.wi_0", "layer.1.DenseReluDense.wi_1"),
        "ffn_out": "layer.1.DenseReluDense.wo",
        "head_dim": "key_value_proj_dim",
        "num_heads": "n_heads",
        "heads_width": "inner_dim",
        "norms": ("layer.0.layer_norm", "layer.1.layer_norm"),
        "num_returned": 3,
        "head_bias": "handed on",
        "position_tables": ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias",),
        "other_heads": ("decoder", "lm_head"),
        "task_heads": ("prompt", "classification_head", "classifier"),
        "sizes": ("num_layers", "d_model", "num_heads", "d_ff"),
        "head_size": "d_kv",
        "hidn_dropout": ("dropout_rate",),
        "att_dropout": (),
        "attentions": ("eager", "sdpa"),
        "refuses": {"hidden": "its stock encoder has no head for masked tokens, whose loss would score them"},
    }
    return Family(stock, **{**parts, **others})


FAMILIES = {
    "bert": _bert("Bert", large_layer=21),
    "roberta": _bert("Roberta", vocabulary=("lm_head",), large_layer=19),
    "xlm-roberta": _bert("XLMRoberta", vocabulary=("lm_head",), large_layer=19),
    "electra": _bert(
        "Electra",
        vocabulary=("generator_predictions", "generator_lm_head"),
        other_heads=("discriminator_predictions",),
        other_states=("embeddings_project",),
        as_hidden=("embedding_size",),
    ),
    "camembert": _bert("Camembert", vocabulary=("lm_head",)),
    "ernie": _bert("Ernie"),
    "megatron-bert": _bert(
        "MegatronBert", norms=("attention.ln", "ln"), num_returned=2, cls_dropout=(), attentions=("eager",)
    ),
    "xlm-roberta-xl": _bert(
        "XLMRobertaXL", norms=("attention.self_attn_layer_norm", "LayerNorm"), vocabulary=("lm_head",)
    ),
    "distilbert": Family(
        stock="DistilBert",
        layers="transformer.layer",
        attention="attention",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_out="attention.out_lin",
        num_heads="n_heads",
        ffn_in=("ffn.lin1",),
        ffn_out="ffn.lin2",
        vocabulary=("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
        task_heads=("pre_classifier", "classifier", "qa_outputs"),
        sizes=("n_layers", "dim", "n_heads", "hidden_dim"),
        hidn_dropout=("dropout",),
        att_dropout=("attention_dropout",),
        cls_dropout=("seq_classif_dropout", "qa_dropout"),
    ),
    "mpnet": Family(
        stock="MPNet",
        layers="encoder.layer",
        attention="attention.attn",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attention_out="attention.attn.o",
        num_heads="num_attention_heads",
        heads_width="all_head_size",
        ffn_in=("intermediate.dense",),
        ffn_out="output.dense",
        num_returned=1,
        head_bias="argument",
        position_tables=("encoder.relative_attention_bias",),
        vocabulary=("lm_head",),
        cls_dropout=(),
        attentions=("eager",),
    ),
    "deberta-v2": Family(
        stock="DebertaV2",
        layers="encoder.layer",
        attention="attention.self",
        query="attention.self.query_proj",
        key="attention.self.key_proj",
        value="attention.self.value_proj",
        by_head=("attention.self.pos_key_proj", "attention.self.pos_query_proj"),
        attention_out="attention.output.dense",
        num_heads="num_attention_heads",
        heads_width="all_head_size",
        ffn_in=("intermediate.dense",),
        ffn_out="output.dense",
        position_tables=("encoder.rel_embeddings", "encoder.LayerNorm"),
        num_returned=2,
        vocabulary=("cls",),  # of a config with "legacy", the default
        other_heads=("lm_predictions", "mask_predictions"),
        as_hidden=("pooler_hidden_size",),
        cls_dropout=("cls_dropout",),  # read by its models, absent from its config until it is set
        attentions=("eager",),
        refuses={
            "attention experts": "relative positions go through the projections of its tokens, "
            "and no router sends them"
        },
    ),
    "modernbert": Family(
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
        vocabulary=("head", "decoder"),
        hidn_dropout=("embedding_dropout", "mlp_dropout"),
        att_dropout=("attention_dropout",),
    ),
    "gte": _llama("Gte", tasks=_NO_SPANS),
    "nomic_bert": _llama("NomicBert", vocabulary=("cls",), head_size="head_dim", tasks=_NO_SPANS),
    "eurobert": _llama(
        "EuroBert",
        norms=("input_layernorm", "post_attention_layernorm"),
        head_size="head_dim",
        key_heads="num_key_value_heads",
        tasks=_NO_SPANS,
        task_heads=("dense", "classifier"),
        hidn_dropout=(),
        att_dropout=("attention_dropout",),
        cls_dropout=(),
    ),
    "jina_embeddings_v3": _llama("JinaEmbeddingsV3", ffn_in=("mlp.fc1",), ffn_out="mlp.fc2"),
    "t5": _t5("T5"),
    "mt5": _t5("MT5"),
    "umt5": _t5(
        "UMT5",
        head_bias="own",
        bias_table="layer.0.SelfAttention.relative_attention_bias",
        position_tables=(),
        num_returned=0,
        decoder=_t5_decoder("own", ""),
    ),
}


# ---- A family


def stock_type(model_type: str) -> str:
    """The stock model_type behind one of ours."""
    return model_type.removeprefix(SPARSE).removeprefix(EXPERTS).removeprefix(ENCODER)


def of(model_type: str) -> Family:
    """The row of a model_type, stock, cropped or with experts.  Raises CheckpointError where there is
    none."""
    stock = stock_type(model_type)
    if stock not in FAMILIES:
        why = f": {REFUSED[stock]}" if stock in REFUSED else ""
        raise CheckpointError(
            f"model_type {stock!r} is not supported{why}; expected one of {', '.join(FAMILIES)} (a row of "
            "utils/families.py)"
        )
    return FAMILIES[stock]


def named(spelling: str) -> str | None:
    """The family that --model_type means by xlm-roberta or xlmroberta, and by t5 or enct5; None where there
    is no such family."""
    plain = spelling.replace("-", "").replace("_", "").removeprefix(ENCODER.rstrip("-"))
    return next((name for name in FAMILIES if plain == name.replace("-", "").replace("_", "")), None)


def fit_for(use: str) -> list[str]:
    """The families that do not refuse one of USES."""
    return [name for name, family in FAMILIES.items() if use not in family.refuses]


def refusal(model_type: str, use: str) -> str | None:
    """Why a family is not fit for one of USES, and which are; None where it is."""
    why = of(model_type).refuses.get(use)
    if why is None:
        return None
    return (
        f"model_type {stock_type(model_type)}: {USES[use]}, as {why}; expected one of "
        f"{', '.join(fit_for(use))}"
    )


def head_of(config: dict) -> str:
    """The head in a config's class name, as in ALL_HEADS; "" for an encoder."""
    return (config.get("architectures") or [""])[0].partition("For")[2]


def pretraining_heads() -> list[str]:
    """Modules of all families' pretraining heads, which a task model has no use for."""
    return sorted(
        {name for family in FAMILIES.values() for name in (*family.vocabulary, *family.other_heads)}
    )


# ---- A config.json


def is_of_experts(model_type: str) -> bool:
    """Whether models of this model_type have experts."""
    return model_type.startswith(EXPERTS)


def has_experts(config: dict | None) -> bool:
    """Whether a config.json is that of a model with experts; False where it is not known."""
    return config is not None and is_of_experts(config["model_type"])


def grid(config: dict) -> list[float]:
    """Sparsities in percent that a nested model with this config.json can be cropped to, its own and larger,
    ascending; [] for others."""
    points = (config.get("compression") or {}).get("grid", {})
    values = sorted(map(float, points))
    return [int(value) if value.is_integer() else value for value in values]


def size(config: dict, which: str) -> int | None:
    """One of SIZES of a model with this config.json; None where it does not say."""
    return config.get(dict(zip(SIZES, of(config["model_type"]).sizes))[which])


def sizes(config: dict) -> dict | None:
    """All of SIZES of a model with this config.json; None where it does not say one of them."""
    found = {which: size(config, which) for which in SIZES}
    return None if None in found.values() else found


def heads_per_key(config: dict) -> int:
    """How many query heads of a model with this config.json share a key and a value."""
    keys = config.get(of(config["model_type"]).key_heads)
    return size(config, "heads") // keys if keys else 1


def projection_widths(config: dict, layer: int) -> dict:
    """{"q", "k", "v"}: widths of a layer's projections, from 1: not the hidden size in T5, nor where heads
    are missing."""
    heads, shared = size(config, "heads"), heads_per_key(config)
    kept = (config.get("compression") or {}).get("heads", [heads // shared] * layer)[layer - 1]
    head = config.get(of(config["model_type"]).head_size)
    queries = (heads * head if head else size(config, "hidden")) * kept * shared // heads
    return {"q": queries, "k": queries // shared, "v": queries // shared}


def resized_settings(config: dict, wanted: dict) -> dict:
    """What changes in a config.json for a model of the SIZES that are wanted; dropout, vocabulary and all
    else stay.

    Widths that equal the hidden size before (ELECTRA's embeddings, DeBERTa's pooler) do so again, and as many
    query heads share a key.  Raises CheckpointError where that is not possible.
    """
    family, shared = of(config["model_type"]), heads_per_key(config)
    changes = dict(zip(family.sizes, (wanted[which] for which in SIZES)))
    changes |= {
        name: wanted["hidden"] for name in family.as_hidden if config.get(name) == size(config, "hidden")
    }
    if family.head_size:
        changes[family.head_size] = wanted["hidden"] // wanted["heads"]
    if family.key_heads:
        if wanted["heads"] % shared:
            raise CheckpointError(
                f"{wanted['heads']} heads: expected a multiple of {shared}, as so many share a key and a "
                "value"
            )
        changes[family.key_heads] = wanted["heads"] // shared
    return changes
