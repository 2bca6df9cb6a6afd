"""The conventional distillation objectives, as weighted loss terms by name.

A new term is a function and a row of TERMS, a new objective a row of OBJECTIVES: flags, their help and the
choices of --model_type come from these tables.

B examples, C classes, L tokens, D hidden size.  Source: MiniDisc (Zhang et al. 2024); the names are its
code's:

    ft      task                          fine-tuning
    kd      soft_label + task             Hinton et al. 2015
    pkd     patient + soft_label + task   Sun et al. 2019, with the last hidden states
    sparse  hidden + soft_label           the MiniDisc objective: no gold labels
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from modules import losses


@dataclass
class Targets:
    """What a teacher says about a batch: logits [B, C] or [B, L, C], and the states [B, L, D] of the layers
    asked for."""

    logits: torch.Tensor
    states: list


@dataclass
class Outputs:
    """What a term may look at.  logits, states: the student's.  targets: the teacher's, None where no term
    needs them.

    batch: utils.batch.Batch.  kind: of the task.
    """

    logits: torch.Tensor
    states: list
    targets: Targets | None
    batch: object
    kind: str
    temperature: float

    @property
    def per_label(self) -> float:
        """How many labels the update has."""
        return self.batch.per_label(self.kind)


def task(outputs):
    """The loss against the gold labels: losses.task_loss."""
    batch, kind = outputs.batch, outputs.kind
    options = {"divisor": outputs.per_label, "class_weights": batch.class_weights}
    return losses.task_loss(outputs.logits, batch.labels, kind=kind, mask=batch.mask, **options)


def soft_label(outputs):
    """The loss against the teacher's logits: losses.soft_label."""
    batch, kind = outputs.batch, outputs.kind
    scored = losses.scored_tokens(batch.labels, batch.mask, kind=kind)
    return losses.soft_label(
        outputs.logits,
        outputs.targets.logits,
        kind=kind,
        temperature=outputs.temperature,
        mask=scored,
        divisor=outputs.per_label,
    )


def hidden(outputs):
    """The distance of matched hidden states: losses.hidden_states."""
    batch = outputs.batch
    return losses.hidden_states(
        outputs.states, outputs.targets.states, batch.mask, divisor=batch.divisors["tokens"]
    )


def patient(outputs):
    """The distance of the last hidden states, normalised: losses.patient."""
    batch = outputs.batch
    return losses.patient(
        outputs.states[-1], outputs.targets.states[-1], batch.mask, divisor=batch.divisors["tokens"]
    )


@dataclass(frozen=True)
class Term:
    """function: Outputs to a scalar.  states: which matched layers it needs, "all", "last" or "none".  help:
    of its weight."""

    function: Callable
    needs_teacher: bool
    states: str
    help: str


TERMS = {
    "hidden": Term(hidden, True, "all", "distance of hidden states: of the embeddings and up to six layers"),
    "patient": Term(patient, True, "last", "distance of the normalised last hidden states"),
    "soft_label": Term(soft_label, True, "none", "loss against the teacher's answers"),
    "task": Term(task, False, "none", "loss against the gold labels"),
}
COMPARE_STATES = {name for name, term in TERMS.items() if term.states != "none"}


@dataclass(frozen=True)
class ObjectiveRow:
    """An objective.  terms: keys of TERMS, in the order in which they are logged.  kinds: of tasks; all where
    it is empty."""

    terms: tuple[str, ...]
    kinds: tuple[str, ...] = ()


OBJECTIVES = {
    "ft": ObjectiveRow(("task",)),
    "kd": ObjectiveRow(("soft_label", "task")),
    "pkd": ObjectiveRow(("patient", "soft_label", "task"), kinds=("classification", "regression")),
    "sparse": ObjectiveRow(("hidden", "soft_label")),
}


@dataclass
class Objective:
    """A distillation objective.

    name: a key of OBJECTIVES.  kind: of the task.  layers: [(student layer, teacher layer), ...] whose hidden
    states are compared.  weights: {term: weight}; equal ones that sum to 1 where absent, as published.
    """

    name: str
    kind: str
    layers: list
    temperature: float = 1.0
    weights: dict | None = None

    def __post_init__(self):
        names = OBJECTIVES[self.name].terms
        self.weights = {name: (self.weights or {}).get(name, 1 / len(names)) for name in names}
        self.weights = {name: weight for name, weight in self.weights.items() if weight}
        wanted = {TERMS[name].states for name in self.weights}
        matches = self.layers if "all" in wanted else self.layers[-1:] if "last" in wanted else []
        self.student_layers, self.teacher_layers = [s for s, _ in matches], [t for _, t in matches]

    @property
    def needs_teacher(self) -> bool:
        """Whether any term looks at the teacher."""
        return any(TERMS[name].needs_teacher for name in self.weights)

    @property
    def needs_answers(self) -> bool:
        """Whether any term looks at the student's logits."""
        return any(TERMS[name].states == "none" for name in self.weights)

    @property
    def of_tokens(self) -> list[str]:
        """The terms that hold each token of the student against the same one of the teacher."""
        tokens = self.kind in losses.PER_TOKEN
        terms = {name: TERMS[name] for name in self.weights}
        return [
            name for name, term in terms.items() if term.needs_teacher and (tokens or term.states != "none")
        ]

    def __call__(self, student, batch, targets: Targets | None) -> dict:
        """The weighted terms of a batch (utils.batch.Batch) for a student, which is run here."""
        output = batch.through(student, output_hidden_states=bool(self.student_layers))
        states = [output.hidden_states[layer] for layer in self.student_layers]
        outputs = Outputs(output.logits, states, targets, batch, self.kind, self.temperature)
        return {name: weight * TERMS[name].function(outputs) for name, weight in self.weights.items()}
