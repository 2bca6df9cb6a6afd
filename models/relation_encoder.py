"""Encoders that answer a batch with queries, keys and values of one layer, and compute nothing beyond.

The stock model stays whole and is what is saved; what runs is a view of it: the same modules, but layers
behind the wanted one and the pooler left out, and of that layer only the projections.  Forward hooks on the
projections take what they answer.
Of a model that is shared out (models/sharding.py) parameters are gathered by hooks on the model and on its
layers: these are called around what runs in their place, and before the backward of what that answers.
B sequences, L tokens, D width of the projections, H hidden size, M chosen tokens, V vocabulary.
"""

import copy
import functools
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from models import architectures, hidden_dimensions, sharding
from models.students import freeze_unreached
from modules.relation_losses import KINDS
from utils import distributed


class RelationEncoder(nn.Module):
    """A stock encoder with its queries, keys and values in reach; in eval mode until train() is called.

    model: the bare encoder.  layer: from 1; kinds: those of "qkv" that are wanted.
    source: "last": of that layer's own projections.  "extra": three new projections of the final states, a
        virtual layer behind the last, dropped when the model is saved (MiniMoE, Zhang et al. 2023).  They are
        as wide as the model was before hidden dimensions were removed: as if its states were put back into
        place, with zeros for the others.
    vocabulary: give the model a head for masked tokens too, dropped likewise.  seed: of what is new on top of
        the model; None: torch's random numbers go on.
    Parameters that cannot get a gradient are frozen, so that neither the optimiser nor DDP waits for them.
    Raises CheckpointError for a family that is not in the table.
    """

    def __init__(self, model, *, layer, kinds=KINDS, source="last", vocabulary=False, seed=None):
        super().__init__()
        self.model, self.kinds, self.captured = model, kinds, {}
        self.extra, self.vocabulary = None, None
        whole = source == "extra" or vocabulary
        last = architectures.layers(model)[layer - 1]
        projections = {module: names for module, names in _projections(last).items() if {*names} & {*kinds}}
        self.view = _view(model, None if whole else last, projections)
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            if source == "extra":
                self.extra = ExtraProjections(kinds, model)
            if vocabulary:
                self.vocabulary = VocabularyHead(model)
        if self.extra is None:
            for module, names in projections.items():
                module.register_forward_hook(self._keep(names))
        if distributed.is_shared_out(model):
            _hand_hooks(self.view, self)
            for module in filter(None, (self.extra, self.vocabulary)):
                sharding.gather_at_once(module)
        self.eval()
        freeze_unreached(self, self._everything)

    def forward(self, chosen_BL=None, **inputs):
        """inputs: what the stock model takes.  chosen_BL: bool, the tokens whose logits are wanted.

        Returns {"q": [B, L, D], ...} and, where tokens are chosen, "logits": [M, V].
        """
        self.captured.clear()
        states_BLH = self.view(**inputs).last_hidden_state
        if self.extra is not None:
            answer = self.extra(states_BLH)
        else:
            answer = {kind: self.captured[kind] for kind in self.kinds}
            self.captured.clear()  # or the graph would live until the next batch
        if chosen_BL is not None:
            words_VE = architectures.encoder(self.model).get_input_embeddings().weight
            answer["logits"] = self.vocabulary(states_BLH[chosen_BL], words_VE)
        return answer

    def _keep(self, names):
        def hook(module, inputs, output):  # returns nothing: what a hook returns replaces the output
            for name, part_BLD in zip(names, output.chunk(len(names), -1)):
                # DeBERTa projects relative positions too, after the tokens
                self.captured.setdefault(name, part_BLD)

        return hook

    def _everything(self, **inputs):
        chosen = {} if self.vocabulary is None else {"chosen_BL": inputs["input_ids"] > 0}
        return self(**inputs, **chosen).values()


class ExtraProjections(nn.ModuleDict):
    """A new projection of final states for each kind, as wide as the model was before hidden dimensions were
    removed."""

    def __init__(self, kinds, model):
        sizes = hidden_dimensions.width(model), model.config.hidden_size
        super().__init__({kind: _linear(*sizes, model) for kind in kinds})

    def forward(self, states_BLH):
        """states_BLH: final states.  Returns {"q": [B, L, D], ...}."""
        return {kind: projection(states_BLH) for kind, projection in self.items()}


class VocabularyHead(nn.Module):
    """Logits of masked tokens from final states: a projection, GELU, a norm, and the word embeddings
    themselves (BERT's head), which stay the model's."""

    def __init__(self, model):
        super().__init__()
        words, width = architectures.encoder(model).get_input_embeddings().weight.shape
        where = {"device": model.device, "dtype": model.dtype}
        self.projection, self.norm = (
            _linear(hidden_dimensions.width(model), width, model),
            nn.LayerNorm(width, **where),
        )
        self.bias_V = nn.Parameter(torch.zeros(words, **where))

    def forward(self, states_MH, words_VE):
        """states_MH: final states of the chosen tokens.  words_VE: the embeddings.  Returns [M, V]."""
        return F.linear(self.norm(F.gelu(self.projection(states_MH))), words_VE, self.bias_V)


def _linear(inputs, outputs, model):
    """A new projection, initialised as the model's own are."""
    made = nn.Linear(inputs, outputs, device=model.device, dtype=model.dtype)
    nn.init.normal_(made.weight, std=getattr(model.config, "initializer_range", 0.02))
    nn.init.zeros_(made.bias)
    return made


# ---- The view


class ProjectionsOnly:
    """Mixed into a stock layer of which no more than queries, keys and values is wanted; the states pass
    through."""

    def forward(self, hidden_states, *args, **kwargs):
        """hidden_states: [B, L, H].  Returns them as the stock layer returns its output."""
        self.projections(hidden_states)
        return (hidden_states, *[None] * (self.num_returned - 1)) if self.num_returned else hidden_states


class Projections(nn.Module):
    """What runs of a stock layer.  norm: before its projections, None where the family has none there."""

    def __init__(self, norm, projections):
        super().__init__()
        # Past nn.Module's own way: they are the layer's children
        vars(self).update(norm=norm, projections=projections)

    def forward(self, states_BLH):
        """Returns what each projection answers."""
        normed_BLH = states_BLH if self.norm is None else self.norm(states_BLH)
        return [projection(normed_BLH) for projection in self.projections]


@functools.cache
def _projecting(stock):
    return type(f"Projecting{stock.__name__}", (ProjectionsOnly, stock), {})


def _view(model, last, projections):
    """The encoder without pooler and without layers behind the last one, which only projects; None: with all
    layers, whole.

    Modules on the way to the layers are shallow copies; all others are the model's own.
    """
    row = architectures.of(model)
    base = _copy(architectures.encoder(model))
    if getattr(base, "pooler", None) is not None:
        base.pooler = None
    if last is None:
        return base
    parent, (*path, leaf) = base, row.layers.split(".")
    for name in path:
        setattr(parent, name, _copy(getattr(parent, name)))
        parent = getattr(parent, name)
    projecting = _copy(last.module)
    projecting.__class__ = _projecting(type(projecting))
    norm = last.module.get_submodule(row.norms[0]) if row.norms else None
    running = Projections(norm, tuple(projections))
    _hand_hooks(projecting, running)
    # Past nn.Module's own way, which would make them children
    vars(projecting).update(projections=running, num_returned=row.num_returned)
    setattr(parent, leaf, nn.ModuleList([*getattr(parent, leaf)[: last.number], projecting]))
    return base


_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
)


def _copy(module):
    """The same module object again, with a list of children of its own."""
    made = copy.copy(module)
    made._modules = dict(module._modules)
    return made


def _hand_hooks(view, module):
    """Let hooks on a copy's stock module be called around another module, no more around the copy."""
    vars(module).update({name: vars(view)[name] for name in _HOOKS})
    vars(view).update({name: OrderedDict() for name in _HOOKS})


def _projections(layer):
    """{projection: the kinds that it answers}, a fused one with all three."""
    if layer.fused_qkv:
        return {layer.query: KINDS}
    return {layer.query: "q", layer.key: "k", layer.value: "v"}
