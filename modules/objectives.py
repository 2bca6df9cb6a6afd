"""The conventional distillation objectives, as weighted loss terms by name.

B examples, C classes, L tokens, D hidden size.  Source: MiniDisc (Zhang et al. 2024); the names are its code's:

    ft      task                          fine-tuning
    kd      soft_label + task             Hinton et al. 2015
    pkd     patient + soft_label + task   Sun et al. 2019, with the last hidden states
    sparse  hidden + soft_label           the MiniDisc objective: no gold labels
"""

from dataclasses import dataclass

import torch

from modules import losses

TERMS = {
    "ft": ("task",),
    "kd": ("soft_label", "task"),
    "pkd": ("patient", "soft_label", "task"),
    "sparse": ("hidden", "soft_label"),
}


@dataclass
class Targets:
    """What a teacher says about a batch: logits [B, C] or [B, L, C], and the states [B, L, D] of the layers asked for."""

    logits: torch.Tensor
    states: list


@dataclass
class Objective:
    """A distillation objective.

    name: a key of TERMS.  kind: of the task.  layers: [(student layer, teacher layer), ...] whose hidden states
    are compared.  weights: {term: weight}; equal ones that sum to 1 where absent, as published.
    """

    name: str
    kind: str
    layers: list
    temperature: float = 1.0
    weights: dict | None = None

    def __post_init__(self):
        names = TERMS[self.name]
        self.weights = {name: (self.weights or {}).get(name, 1 / len(names)) for name in names}
        self.weights = {name: weight for name, weight in self.weights.items() if weight}
        if "hidden" in self.weights:
            self.student_layers, self.teacher_layers = [list(side) for side in zip(*self.layers)]
        else:
            last = [self.layers[-1]] if "patient" in self.weights else []
            self.student_layers, self.teacher_layers = [s for s, _ in last], [t for _, t in last]

    @property
    def needs_teacher(self) -> bool:
        """Whether any term looks at the teacher."""
        return any(name != "task" for name in self.weights)

    def __call__(self, student, batch, targets: Targets | None) -> dict:
        """The weighted terms of a batch (utils.batch.Batch) for a student, which is run here."""
        output = batch.through(student, output_hidden_states=bool(self.student_layers))
        states = [output.hidden_states[layer] for layer in self.student_layers]
        scored = losses.scored_tokens(batch.labels, batch.mask, kind=self.kind)
        divisors = batch.divisors
        per_label = divisors["labels" if self.kind == "tagging" else "examples"]
        terms = {}
        for name, weight in self.weights.items():
            if name == "task":
                term = losses.task_loss(output.logits, batch.labels, kind=self.kind, mask=batch.mask, divisor=per_label)
            elif name == "soft_label":
                term = losses.soft_label(
                    output.logits, targets.logits, kind=self.kind, temperature=self.temperature, mask=scored, divisor=per_label
                )
            elif name == "hidden":
                term = losses.hidden_states(states, targets.states, batch.mask, divisor=divisors["tokens"])
            else:
                term = losses.patient(states[-1], targets.states[-1], batch.mask, divisor=divisors["tokens"])
            terms[name] = weight * term
        return terms
