"""What a student learns from a teacher's relations, and how far it is from them on blocks that are held out.

B sequences, L tokens.  Source: MiniLMv2 (Wang et al. 2021).
"""

from collections import defaultdict

import torch

from models.masked_tokens import masked_inputs
from models.students import describe
from modules.masking import masked_loss
from modules.relation_losses import relation_losses
from utils import distributed
from utils.evaluation import Score, autocast, share


class RelationObjective:
    """Weighted loss terms of a batch: "relation/qq", ... and, where a weight is given for it, "mlm".

    teacher: a frozen RelationEncoder.  relations: {"qq": weight, ...}.  num_heads, weighting: see
    modules/relation_losses.py. mlm_weight, mlm_probability: masked tokens of the same batch, which both
    models then read with its masks.
    tokenizer: says which tokens are special, and which one is the mask.
    """

    def __init__(
        self,
        teacher,
        *,
        relations,
        num_heads,
        weighting,
        tokenizer=None,
        mlm_weight=0.0,
        mlm_probability=0.15,
    ):
        self.teacher, self.tokenizer = teacher, tokenizer
        self.options = {"relations": relations, "num_heads": num_heads, "weighting": weighting}
        self.mlm_weight, self.mlm_probability = mlm_weight, mlm_probability

    def __call__(self, student, batch) -> dict:
        """student: a RelationEncoder, maybe wrapped.  batch: utils.batch.Batch."""
        return self.terms(student, batch, self.prepared(batch))

    def prepared(self, batch):
        """(inputs, chosen tokens or None, the teacher's answer): what all that learn from a batch have in
        common."""
        inputs, chosen_BL = batch.inputs, None
        if self.mlm_weight:
            inputs, chosen_BL = masked_inputs(batch, self.tokenizer, probability=self.mlm_probability)
        return inputs, chosen_BL, self.target(inputs)

    @torch.no_grad()
    def target(self, inputs):
        """The teacher's answer."""
        return self.teacher(**inputs)

    def terms(self, student, batch, prepared) -> dict:
        """The terms of a student's answer."""
        inputs, chosen_BL, target = prepared
        if chosen_BL is None:
            return self.relations(student(**inputs), target, batch)
        answer = student(**inputs, chosen_BL=chosen_BL)
        expected = self.mlm_probability * batch.divisors["tokens"]
        mlm = self.mlm_weight * masked_loss(
            answer["logits"], batch.inputs["input_ids"][chosen_BL], divisor=expected
        )
        return {**self.relations(answer, target, batch), "mlm": mlm}

    def relations(self, answer, target, batch) -> dict:
        """The terms of a student's answer beside the teacher's."""
        losses = relation_losses(answer, target, batch.mask, divisors=batch.divisors, **self.options)
        return {f"relation/{name}": loss for name, loss in losses.items()}

    # ---- Blocks that are held out

    def facts(self, student, before) -> dict:
        """What is told before training.  before: {name: held-out loss} of the student as it begins."""
        trained = sum(parameter.numel() for parameter in student.parameters() if parameter.requires_grad)
        return {
            "student": describe(student.model),
            "trained parameters": trained,
            "held-out loss before": before,
        }

    def score(self, student, heldout, *, batch_size, precision) -> Score:
        """The relation terms of a student on blocks that are held out; the score is minus their sum."""
        options = {"batch_size": batch_size, "precision": precision}
        (terms,) = self.heldout_terms(student, {"all": student}, heldout, **options).values()
        loss = sum(terms.values())
        return Score(-loss, {"heldout": {**terms, "loss": loss}})

    @torch.no_grad()
    def heldout_terms(self, student, answers, heldout, *, batch_size, precision) -> dict:
        """{name: {"qq": its term on blocks that are held out, without masks and dropout, ...}}.

        answers: {name: a function of inputs that answers as a RelationEncoder}, all made of the student,
        which is in eval mode for it.  Every block counts once, whatever the number of processes.
        """
        device = next(student.parameters()).device
        was_training = student.training
        student.eval()
        divisors = heldout.counts(range(len(heldout)))
        sums = defaultdict(float)
        for indices, own in share(heldout.in_order(batch_size)):
            batch = heldout.collate(indices).to(device)
            batch.divisors = divisors
            with autocast(device, precision):
                target = self.target(batch.inputs)
                for name, answer in answers.items():
                    for relation, term in self.relations(answer(**batch.inputs), target, batch).items():
                        sums[name, relation.removeprefix("relation/")] += float(term) * own
        student.train(was_training)
        found = distributed.gather(dict(sums))
        relations = self.options["relations"]
        return {
            name: {each: sum(part.get((name, each), 0.0) for part in found) for each in relations}
            for name in answers
        }
