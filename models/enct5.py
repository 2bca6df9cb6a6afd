"""EncT5: heads for T5's encoder, and mT5's and UMT5's, where transformers' own read a whole decoder.

Classification and regression: a decoder of one layer reads a learned prompt token, alone, and the encoder's
states; the head of transformers' class (dense, tanh, projection) reads what comes out. The decoder begins as
the first layer of the checkpoint's own where it has one. Spans: a start and an end for each of the encoder's
states. (Tags are transformers' own class, which is of the encoder.)
Source: Liu et al. 2021 (arXiv:2110.08426), as MiniDisc (Zhang et al. 2024) uses it.

The classes are subclasses of transformers' with model_type "enc-<stock>", so that no other software takes
such a checkpoint for one with a whole decoder.
B examples, L tokens, D hidden size, C classes.
"""

import functools

import torch
from torch import nn

from utils import families
from utils.families import ENCODER, HEADS


class EncoderConfig:
    """Mixed into a stock config class: no encoder with a decoder of its depth."""

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.num_decoder_layers, self.is_encoder_decoder = 1, False


class RegisteringConfig:
    """Mixed into these.  The first one made registers its models, as importing their code takes seconds."""

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        _register_models(self.model_type)


class Prompt(nn.Embedding):
    """The token, [1, D]; a class of its own, as it begins like other tokens of T5."""


class Prompted:
    """Mixed into a stock class with a head for classification, whose decoder then has one layer."""

    def __init__(self, config):
        super().__init__(config)
        self.prompt = Prompt(1, config.d_model)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, Prompt):
            nn.init.normal_(module.weight, std=self.config.initializer_factor)

    def forward(self, input_ids, attention_mask=None, labels=None, **options):
        """input_ids, attention_mask: [B, L].  labels: as config.problem_type has them.

        Returns an output with logits [B, C], loss where there are labels, and hidden_states, the encoder's,
        where output_hidden_states is among the options.
        """
        from transformers.modeling_outputs import SequenceClassifierOutput

        prompt_B1D = self.prompt.weight.expand(input_ids.shape[0], 1, -1)
        output = self.transformer(
            input_ids,
            attention_mask=attention_mask,
            decoder_inputs_embeds=prompt_B1D,
            use_cache=False,
            **options,
        )
        logits = self.classification_head(output.last_hidden_state[:, 0])
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(loss, logits, output.encoder_hidden_states, output.encoder_attentions)


class EncoderSpans:
    """Mixed into a stock class that tags tokens: its two labels are the start and the end of a span."""

    def forward(self, input_ids, attention_mask=None, start_positions=None, end_positions=None, **options):
        """input_ids, attention_mask: [B, L].  start_positions, end_positions: [B].

        Returns an output with start_logits and end_logits [B, L], loss where there are positions, and
        hidden_states where output_hidden_states is among the options.
        """
        from transformers.modeling_outputs import QuestionAnsweringModelOutput

        output = super().forward(input_ids, attention_mask=attention_mask, **options)
        start_logits, end_logits = output.logits.unbind(-1)
        loss = None
        if start_positions is not None:
            loss = self.loss_function(start_logits, end_logits, start_positions, end_positions)
        return QuestionAnsweringModelOutput(
            loss, start_logits, end_logits, output.hidden_states, output.attentions
        )


# Head: that of the stock class, and what is mixed into it
MADE_OF = {
    "SequenceClassification": ("SequenceClassification", Prompted),
    "QuestionAnswering": ("TokenClassification", EncoderSpans),
}


def is_own(stock) -> bool:
    """Whether a class that nothing was removed from is one of these."""
    return issubclass(stock, (Prompted, EncoderSpans))


def config_class(model_type) -> type:
    """The config class of a family's EncT5.  model_type: the stock one."""
    import transformers

    return _config_class(getattr(transformers, f"{families.of(model_type).stock}Config"))


def model_class(model_type, kind) -> type:
    """The class with the head of a kind of task.  model_type: the stock one."""
    return _model_class(model_type, HEADS[kind])


@functools.cache
def _config_class(stock):
    members = {"model_type": ENCODER + stock.model_type, "__module__": __name__}
    return type(f"Enc{stock.__name__}", (RegisteringConfig, EncoderConfig, stock), members)


@functools.cache
def _model_class(model_type, head):
    import transformers

    name, (begun_as, mixin) = families.of(model_type).stock, MADE_OF[head]
    members = {"config_class": config_class(model_type), "__module__": __name__}
    return type(f"Enc{name}For{head}", (mixin, getattr(transformers, f"{name}For{begun_as}")), members)


def fitted(config: dict, *, has_decoder) -> dict:
    """The settings of a config.json for a model with a decoder, or without.

    Where units are removed or sorted, rows of a decoder that is left out go, and those of a new one are
    whole; a grid whose rows change keeps but its first point.
    """
    entry, number = config.get("compression"), families.size(config, "layers")
    if not entry or families.has_experts(config):
        return config
    rows = {"heads": number + 2 * has_decoder, "neurons": number + has_decoder}
    if all(len(entry[unit]) == rows[unit] for unit in rows):
        return config

    def fit(row, unit, new):
        return [*row[: rows[unit]], *[new] * (rows[unit] - len(row))]

    counts = {unit: fit(entry[unit], unit, entry[f"original_{unit}"]) for unit in rows}
    made = {**entry, **counts, "grid": {f"{entry['sparsity']:g}": counts}}
    if "position_heads" in entry:
        every = [*range(entry["original_heads"])]
        made["position_heads"] = fit(entry["position_heads"], "heads", every)
    return {**config, "compression": made}


def register():
    """Make AutoConfig, and by way of the configs the Auto classes of task heads, know these models; cheap."""
    import transformers

    for model_type, family in families.FAMILIES.items():
        if family.decoder is not None:
            made = config_class(model_type)
            transformers.AutoConfig.register(made.model_type, made, exist_ok=True)


@functools.cache
def _register_models(model_type):
    import transformers

    family, stock = families.of(model_type), families.stock_type(model_type)
    for kind in family.tasks:
        if family.own_class(kind):
            auto = getattr(transformers, f"AutoModelFor{HEADS[kind]}")
            auto.register(config_class(stock), model_class(stock, kind), exist_ok=True)
