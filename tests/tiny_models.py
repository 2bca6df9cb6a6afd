"""Tiny random encoders of every family, for tests: 3 layers, 4 heads, 10 neurons, and a batch with
padding."""

import contextlib

import torch
import transformers

from models import architectures, kept, set_sparsity, sort_units
from utils import families

GRID = (0, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95, 100)
LAYERS, HEADS, NEURONS, HIDDEN, VOCABULARY = 3, 4, 10, 16, 40
_T5 = {"d_kv": 6, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 10}
# Settings beside the sizes, of the families that have some for which a small model needs other values
_OTHERS = {
    "electra": {"embedding_size": 12},
    "ernie": {"use_task_id": True},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 4,
    "type_vocab_size": 0,
                   "norm_rel_ebd": "layer_norm", "position_biased_input": False,
                   "share_att_key": True},
    "modernbert": {"local_attention": 6},
    "t5": _T5,
    "mt5": _T5,
    "umt5": _T5,
}  # fmt: skip
_VARIANTS = {  # further cases: family, and what is different
    "electra with wide embeddings": ("electra", {"embedding_size": HIDDEN}),
    "deberta-v2 own position keys": ("deberta-v2", {"share_att_key": False, "conv_kernel_size": 3}),
    "modernbert with biases": ("modernbert", {"attention_bias": True, "mlp_bias": True}),
    "gte without segments": ("gte", {"type_vocab_size": 0}),
    "eurobert grouped": (
        "eurobert",
        {"num_attention_heads": 2 * HEADS, "num_key_value_heads": HEADS, "head_dim": 2},
    ),
    "eurobert with biases": ("eurobert", {"attention_bias": True, "mlp_bias": True}),
    "t5 gated": ("t5", {"feed_forward_proj": "gated-gelu"}),
}


def _settings(model_type):
    """A config's settings: small sizes, by the names in the family's row, and special tokens of a small
    vocabulary."""
    stock = transformers.AutoConfig.for_model(model_type).to_dict()
    sizes = {"layers": LAYERS, "hidden": HIDDEN, "heads": HEADS, "intermediate": NEURONS}
    made = {"vocab_size": VOCABULARY, **families.resized_settings(stock, sizes)}
    if "max_position_embeddings" in stock:
        made["max_position_embeddings"] = 40
    special = [
        name for name, value in stock.items() if name.endswith("_token_id") and (value or 0) >= VOCABULARY
    ]
    return made | {name: 0 if name == "pad_token_id" else 2 for name in special} | _OTHERS.get(model_type, {})


# Name of a case: model_type and config; every row of the table is one
CASES = {name: (name, _settings(name)) for name in families.FAMILIES}
CASES |= {case: (name, {**CASES[name][1], **others}) for case, (name, others) in _VARIANTS.items()}


def build(case="bert", *, kind="task", dtype=torch.float64, seed=0, **settings):
    """A model in eval mode, all parameters random.  kind "task": classification with 3 labels."""
    model_type, sizes = CASES[case]
    if kind == "task":
        kind = families.of(model_type).tasks[0]
    labels = {} if kind is None else {"num_labels": 2 if kind == "spans" else 3}
    made = architectures.stock_class(model_type, kind)
    config = made.config_class(**{**sizes, **labels, **settings})
    generator = torch.Generator().manual_seed(seed)
    model = made(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.4)
    return model


def sized(case, **sizes):
    """Settings that give a case other sizes, by families.SIZES: sized("distilbert", intermediate=12)."""
    config = transformers.AutoConfig.for_model(CASES[case][0], **CASES[case][1]).to_dict()
    return families.resized_settings(config, {**families.sizes(config), **sizes})


def norms(model):
    """{path: norm of states} of a model."""
    weighted = {
        path: module for path, module in model.named_modules() if getattr(module, "weight", None) is not None
    }
    return {path: module for path, module in weighted.items() if module.weight.dim() == 1}


def inputs(seed=0):
    """input_ids and attention_mask of 3 examples of 9, 7 and 4 tokens."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(3, 40, (3, 9), generator=generator)
    mask = torch.ones_like(input_ids)
    mask[1, 7:], mask[2, 4:] = 0, 0
    return {"input_ids": input_ids * mask, "attention_mask": mask}


def output(model, batch=None):
    """Logits, or the last hidden states of a bare encoder; of tagging and encoders only at real tokens."""
    batch = batch or inputs()
    result = model(**batch)
    values = result.logits if "logits" in result else result.last_hidden_state
    return values if values.dim() == 2 else values[batch["attention_mask"].bool()]


def nest(model, seed=0):
    """The model sorted by random scores, with GRID: from 60 on some layer is empty, at 100 all are."""
    generator = torch.Generator().manual_seed(seed)
    rows = {unit: len(counts) for unit, counts in kept(model).items()}
    heads = torch.rand(rows["heads"], HEADS, generator=generator, dtype=torch.float64) ** 3
    neurons = torch.rand(rows["neurons"], NEURONS, generator=generator, dtype=torch.float64) ** 3
    heads[1, 1:] *= 1e-3  # layer 1 has one head of weight: it is the last to go, its others the first
    neurons[2] = torch.tensor([1.0] + [1e-4] * (NEURONS - 1))
    sort_units(model, heads, neurons, grid=GRID)
    return model


@contextlib.contextmanager
def sliced(model, s):
    """A context in which a nested model computes at sparsity s; afterwards as it is stored."""
    set_sparsity(model, s)
    try:
        yield
    finally:
        set_sparsity(model, None)
