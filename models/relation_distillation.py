"""What a student learns from a teacher's relations, and how far it is from them on blocks that are held out.

B sequences, L tokens.  Source: MiniLMv2 (Wang et al. 2021).
"""

from collections import defaultdict

import torch

from models.relations import RelationEncoder
from models.saving import save_model
from models.students import describe
from modules.masking import mask_tokens, masked_loss
from modules.relations import KINDS, relation_losses
from utils import distributed, training
from utils.evaluation import Score, autocast


class RelationObjective:
    """Weighted loss terms of a batch: "relation/qq", ... and, where a weight is given for it, "mlm".

    teacher: a frozen RelationEncoder.  relations: {"qq": weight, ...}.  num_heads, weighting: see modules/relations.py.
    mlm_weight, mlm_probability: masked tokens of the same batch, which both models then read with its masks.
    tokenizer: says which tokens are special, and which one is the mask.
    """

    def __init__(self, teacher, *, relations, num_heads, weighting, tokenizer=None, mlm_weight=0.0, mlm_probability=0.15):
        self.teacher, self.tokenizer = teacher, tokenizer
        self.options = {"relations": relations, "num_heads": num_heads, "weighting": weighting}
        self.mlm_weight, self.mlm_probability = mlm_weight, mlm_probability

    def __call__(self, student, batch) -> dict:
        """student: a RelationEncoder, maybe wrapped.  batch: utils.batch.Batch."""
        if not self.mlm_weight:
            return self.relations(student(**batch.inputs), batch.inputs, batch)
        ids_BL = batch.inputs["input_ids"]
        special = torch.tensor(self.tokenizer.all_special_ids, device=ids_BL.device)
        masked_BL, chosen_BL = mask_tokens(
            ids_BL, batch.mask & ~torch.isin(ids_BL, special), probability=self.mlm_probability,
            mask_id=self.tokenizer.mask_token_id, vocabulary_size=len(self.tokenizer),
        )  # fmt: skip
        inputs = {**batch.inputs, "input_ids": masked_BL}
        answer = student(**inputs, chosen_BL=chosen_BL)
        expected = self.mlm_probability * batch.divisors["tokens"]
        mlm = self.mlm_weight * masked_loss(answer["logits"], ids_BL[chosen_BL], divisor=expected)
        return {**self.relations(answer, inputs, batch), "mlm": mlm}

    def relations(self, answer, inputs, batch) -> dict:
        """The terms of a student's answer to these inputs."""
        with torch.no_grad():
            target = self.teacher(**inputs)
        losses = relation_losses(answer, target, batch.mask, divisors=batch.divisors, **self.options)
        return {f"relation/{name}": loss for name, loss in losses.items()}


def distil(student, teacher, hop, train, heldout, *, tokenizer, run, stage):
    """Train a student on a teacher's relations; continues an interrupted stage of the run.

    student, teacher: bare encoders.  hop: utils.relation_flags.Hop.  train, heldout: parts of a corpus.
    Returns ({name: held-out loss} before training, training.Result); the checkpoint is the stock student, least held-out loss.
    """
    args = run.args
    kinds = "".join(kind for kind in KINDS if any(kind in name for name in args.relations))
    sides = {"kinds": kinds, "source": args.relation_source, "vocabulary": args.mlm_weight > 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)  # of what is new on top of the student
        student = RelationEncoder(student, layer=hop.layers, **sides).to(run.device)
    teacher = RelationEncoder(teacher, layer=hop.teacher_layer, kinds=kinds).to(run.device)
    objective = RelationObjective(
        teacher, relations=args.relations, num_heads=hop.relation_heads, weighting=args.relation_weighting, tokenizer=tokenizer,
        mlm_weight=args.mlm_weight, mlm_probability=args.mlm_probability,
    )  # fmt: skip
    before = heldout_score(student, objective, heldout, args=args).metrics["heldout"]
    trained = sum(parameter.numel() for parameter in student.parameters() if parameter.requires_grad)
    run.report(**{stage: {"student": describe(student.model), "trained parameters": trained, "held-out loss before": before}})
    return before, training.fit(
        student, objective, train, args=args, run=run, stage=stage,
        evaluate=lambda: heldout_score(student, objective, heldout, args=args),
        save=lambda folder, _: save_model(student.model, folder, tokenizer=tokenizer),
    )  # fmt: skip


@torch.no_grad()
def heldout_score(student, objective, heldout, *, args) -> Score:
    """The relation terms on blocks that are held out, without masks and dropout; the score is minus their sum.

    Every block counts once, whatever the number of processes.
    """
    device = next(student.parameters()).device
    was_training = student.training
    student.eval()
    divisors = heldout.counts(range(len(heldout)))
    sums = defaultdict(float)
    for indices in heldout.in_order(args.per_device_eval_batch_size)[distributed.rank() :: distributed.world()]:
        batch = heldout.collate(indices).to(device)
        batch.divisors = divisors
        with autocast(device, args.precision):
            terms = objective.relations(student(**batch.inputs), batch.inputs, batch)
        for name, term in terms.items():
            sums[name.removeprefix("relation/")] += float(term)
    student.train(was_training)
    names = objective.options["relations"]
    parts = distributed.gather(dict(sums))
    totals = {name: sum(part.get(name, 0.0) for part in parts) for name in names}
    loss = sum(totals.values())
    return Score(-loss, {"heldout": {**totals, "loss": loss}})
