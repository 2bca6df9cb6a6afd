"""Task-aware filters, their heads, and the losses that are taken through them.  Source: TED (Liang et al.
2023).

B examples, L tokens (1 where only the first, or the mean, is filtered), D hidden size, P filter output
dimension, C classes, N filters.
"""

from dataclasses import dataclass

import torch
from torch import nn

from modules import losses

INITIAL_STD = 0.02  # of the weights; biases start at 0


class Filters(nn.ModuleDict):
    """One filter for each chosen layer, beside the model: Linear(D, P), or Linear(D, D) - GELU - Linear(D,
    P).

    layers: numbers of the filtered hidden states; the names of the weights begin with them.
    """

    def __init__(self, layers, *, hidden_size, output_dim, nonlinear=False):
        def one():
            linear = nn.Linear(hidden_size, output_dim)
            return (
                nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.GELU(), linear) if nonlinear else linear
            )

        super().__init__({str(layer): one() for layer in layers})
        self.nonlinear = nonlinear
        _initialise(self)

    def forward(self, states):
        """states: [B, L, D] of each filtered layer, in order.  Returns as many [B, L, P]."""
        assert len(states) == len(self), (len(states), len(self))
        return [module(state_BLD) for module, state_BLD in zip(self.values(), states)]

    def keep(self, layers):
        """Drop the filters of all other layers."""
        for name in {*self} - {str(layer) for layer in layers}:
            del self[name]

    def pooled(self, states, mask_BL):
        """The mean over real tokens of what forward() returns: as many [B, 1, P].

        mask_BL: bool, True for real tokens; None where the states are such means already, which is right for
        linear filters: the mean of what they make is what they make of the mean.
        """
        if mask_BL is None:
            assert not self.nonlinear, "what a filter that is not linear makes of a mean is not its mean"
            return self(states)
        if self.nonlinear:
            return [mean_token(state_BLP, mask_BL) for state_BLP in self(states)]
        return self([mean_token(state_BLD, mask_BL) for state_BLD in states])


class FilterTraining(nn.Module):
    """What stage I trains: filters, and a task head of its own on each; the model stays outside.

    kind: classification and regression have Linear(P, P) - GELU - dropout - Linear(P, C) on the first token,
        other tasks Linear(P, C) on every token (C is 2 for spans: first and last).  dropout: a probability.
    pooled: these heads read the mean over real tokens instead of the first one.
    """

    def __init__(self, filters, *, kind, output_dim, num_labels, dropout, pooled=False):
        super().__init__()
        self.filters, self.first_token, self.mean = filters, kind not in losses.PER_TOKEN, pooled
        assert self.first_token or not pooled, kind

        def head():
            last = nn.Linear(output_dim, num_labels)
            if not self.first_token:
                return last
            return nn.Sequential(nn.Linear(output_dim, output_dim), nn.GELU(), nn.Dropout(dropout), last)

        self.heads = nn.ModuleDict({layer: head() for layer in filters})
        _initialise(self.heads)

    def forward(self, states, mask_BL=None):
        """states: [B, L, D] of each filtered layer.  Returns the logits: [B, C], or [B, L, C] where tokens
        are scored.

        mask_BL: bool, for means over tokens, see Filters.pooled().
        """
        if self.first_token and not self.mean:
            states = [state_BLD[:, :1] for state_BLD in states]
        filtered = self.filters.pooled(states, mask_BL) if self.mean else self.filters(states)
        logits = [head(filtered_BLP) for head, filtered_BLP in zip(self.heads.values(), filtered)]
        return [z_BLC[:, 0] for z_BLC in logits] if self.first_token else logits


def first_token(state_BLD, mask_BL):
    """[B, 1, D]: the first token's; takes what mean_token does."""
    return state_BLD[:, :1]


def mean_token(state_BLD, mask_BL):
    """[B, 1, D]: the mean over the tokens where mask_BL (bool) is True, at least one in each row; in float32
    or float64."""
    state_BLD = state_BLD if state_BLD.dtype == torch.float64 else state_BLD.float()
    return (
        state_BLD.masked_fill(~mask_BL[..., None], 0.0).sum(1, keepdim=True) / mask_BL.sum(1)[:, None, None]
    )


def _initialise(module):
    for linear in module.modules():
        if isinstance(linear, nn.Linear):
            nn.init.normal_(linear.weight, std=INITIAL_STD)
            nn.init.zeros_(linear.bias)


def divergence(
    student_logits, teacher_logits, *, kind, temperature=1.0, mask=None, divisor=None, listwise=False
):
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) in nats, mean over examples; 0 where the two
    agree.

    kind, logits, mask, divisor: as in losses.soft_label, of which the teacher's own entropy is subtracted
    here.
    kind "regression": the squared difference of the scores, mean over examples.  listwise: a softmax over the
        batch's scores instead, divided by their number; the published behaviour. It depends on how an update
        is cut into batches.
    Returns a scalar.
    """
    if listwise:
        assert kind == "regression", kind
        divisor = len(student_logits) if divisor is None else divisor
        kind, student_logits, teacher_logits = "classification", student_logits.T, teacher_logits.T
    options = {"kind": kind, "temperature": temperature, "mask": mask, "divisor": divisor}
    return losses.soft_label(student_logits, teacher_logits, **options) - losses.soft_label(
        teacher_logits, teacher_logits, **options
    )


@dataclass
class LayerwiseObjective:
    """Stage II and its baselines: task_weight * task + kl_alpha * KL + mse_alpha * mean over layers of the
    masked MSE of filtered states.

    kind: of the task.  Terms of weight 0 are not computed; without the task's, labels need not be known.
    pad_in_losses: padding counts like real tokens, in the MSE and where positions are scored (spans); the
    published behaviour. listwise: see divergence(); for regression.
    pooled: states are [B, 1, P], means over real tokens, and the MSE is the mean over examples.
    """

    kind: str
    kl_alpha: float = 0.0
    mse_alpha: float = 0.0
    temperature: float = 2.0
    pad_in_losses: bool = False
    listwise: bool = False
    pooled: bool = False
    task_weight: float = 1.0

    @property
    def of_tokens(self) -> list[str]:
        """The terms that hold each token of the student against the same one of the teacher."""
        terms = {
            "kl": self.kl_alpha and self.kind in losses.PER_TOKEN,
            "mse": self.mse_alpha and not self.pooled,
        }
        return [name for name, compares in terms.items() if compares]

    def __call__(self, student, batch, targets) -> dict:
        """The weighted terms of a batch (utils.batch.Batch).

        student: is run here; answers with logits and, where there is an MSE, hidden_states [B, L, P] of each
        matched layer. targets: the teacher's (logits, states), equally many and wide; None where no term
        needs them.
        """
        output = batch.through(student, output_hidden_states=bool(self.mse_alpha))
        mask_BL = torch.ones_like(batch.mask) if self.pad_in_losses else batch.mask
        divisors, per_label = batch.divisors, batch.per_label(self.kind)
        terms = {}
        if self.task_weight:
            options = {"divisor": per_label, "class_weights": batch.class_weights}
            terms["task"] = self.task_weight * losses.task_loss(
                output.logits, batch.labels, kind=self.kind, mask=mask_BL, **options
            )
        if self.kl_alpha:
            scored = losses.scored_tokens(batch.labels, mask_BL, kind=self.kind)
            terms["kl"] = self.kl_alpha * divergence(
                output.logits,
                targets[0],
                kind=self.kind,
                temperature=self.temperature,
                mask=scored,
                divisor=per_label,
                listwise=self.listwise,
            )
        if self.mse_alpha:
            # with padding, the batch's own mean, and the batch counts for as much of the update as it has
            # examples
            tokens = divisors["examples"] * mask_BL.shape[1] if self.pad_in_losses else divisors["tokens"]
            if self.pooled:
                mask_BL, tokens = torch.ones_like(batch.mask[:, :1]), divisors["examples"]
            terms["mse"] = self.mse_alpha * losses.hidden_states(
                output.hidden_states, targets[1], mask_BL, divisor=tokens
            )
        return terms
