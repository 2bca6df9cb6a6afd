"""Students and the facts about them: made from a teacher or from nothing, with other dropout, measured."""

import copy

import torch

from models import architectures
from models.from_tensors import rebuilt
from models.gradient_checkpointing import recompute_layers
from models.moe_bert import expert_entry
from models.slicing import kept, kept_hidden, sparsity
from models.sparse_bert import crop, keep_layers
from utils import cost
from utils.errors import FlagError


def shrink(teacher, wanted: str, *, which: str = "first"):
    """A student cut from a teacher: `4L` keeps 4 layers (which: first or even), `90S` is the crop at 90%
    sparsity."""
    if wanted.endswith("L"):
        return keep_layers(teacher, int(wanted[:-1]), which=which)
    return crop(teacher, float(wanted[:-1]))


def for_training(model, *, gradient_checkpointing=False, **dropouts):
    """The model as it is trained: with other dropout, see with_dropout(), and with layers that are computed
    once more in the backward, see models/gradient_checkpointing.py."""
    model = with_dropout(model, **dropouts)
    return recompute_layers(model) if gradient_checkpointing else model


@torch.enable_grad()
def freeze_unreached(module, answer):
    """Ask for no gradient of parameters that cannot get one, so that neither the optimiser nor DDP waits for
    them.

    answer: a function of inputs that gives the tensors that a loss looks at.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    # A model without values can be called with another's, not trained
    if not trained or trained[0].is_meta:
        return
    ids_BL = torch.full((1, 4), 2, device=trained[0].device)
    sum(
        tensor.sum() for tensor in answer(input_ids=ids_BL, attention_mask=torch.ones_like(ids_BL))
    ).backward()
    for parameter in trained:
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None


def with_dropout(model, *, hidn_dropout=None, att_dropout=None, cls_dropout=None):
    """The model with these dropout probabilities, of hidden states, attention and task head; as it is where
    none is given.

    Raises FlagError for a probability that the model's config has no name for.
    """
    wanted = {"hidn_dropout": hidn_dropout, "att_dropout": att_dropout, "cls_dropout": cls_dropout}
    given = {name: value for name, value in wanted.items() if value is not None}
    if not given:
        return model
    config, family = copy.deepcopy(model.config), architectures.of(model)
    for flag, value in given.items():
        if not getattr(family, flag):
            raise FlagError(f"--{flag}: {config.model_type} has no such dropout")
        for key in getattr(family, flag):
            setattr(config, key, value)
    return rebuilt(model, config)


def small_bert(tokenizer, *, label_names, attn_implementation=None):
    """A BERT of 4 layers, 128 wide, 4 heads, 256 neurons with random weights: the demo task's model, trained
    from nothing.

    Without dropout and with larger initial weights than a pretrained one had: it learns the task in a minute
    instead of five.
    """
    from transformers import BertConfig, BertForSequenceClassification

    labels = {
        "label2id": {name: i for i, name in enumerate(label_names)},
        "id2label": dict(enumerate(label_names)),
    }
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.05,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation=attn_implementation,
        **labels,
    )
    return BertForSequenceClassification(config).eval()


def describe(model, at=None) -> dict:
    """Size of a model, or of its crop at a sparsity: utils.cost.measure, sparsity in percent, kept heads and
    neurons in all.

    Where hidden dimensions can be removed too, their number is there.
    With experts heads and neurons are those that a token meets, and there is "experts": attention and
    feed-forward, as in "1,4".
    """
    if at is not None:
        model = crop(model, at)
    units = kept(model)
    totals = {
        "layers": len(architectures.layers(model)),
        "heads": sum(units["heads"]),
        "neurons": sum(units["neurons"]),
    }
    if "original_hidden" in (getattr(model.config, "compression", None) or {}):
        totals["hidden"] = kept_hidden(model)
    if entry := expert_entry(model):
        totals["experts"] = f"{entry['attention_experts']},{entry['ffn_experts']}"
    return {
        **cost.model_size(model, architectures.layer_modules(model)),
        "sparsity": sparsity(model),
        **totals,
    }
