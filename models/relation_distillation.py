"""What a student learns from a teacher's relations, and how far it is from them on blocks that are held out.

B sequences, L tokens.  Source: MiniLMv2 (Wang et al. 2021).
"""

from collections import defaultdict

import torch

from models import architectures, moe_bert
from models.balance import Balance
from models.loading import freeze, load_model
from models.masked_tokens import masked_inputs
from models.relation_encoder import RelationEncoder
from models.resized import check_vocabulary, given_student
from models.saving import save_model
from models.students import describe, with_dropout
from modules.masking import masked_loss
from modules.relation_losses import KINDS, relation_losses
from utils import distributed, logs, plots, training
from utils import hops as chain
from utils.evaluation import Score, autocast, share
from utils.flags import dropouts

UNTRAINED = (
    "Behind the queries, keys and values of the last layer nothing was trained: its attention output and feed-forward, and the "
    "pooler, are as initialised. Fine-tuning trains them; as a frozen feature extractor take the states before that layer."
)
NO_VOCABULARY = "There is no head for masked words: `fill-mask` would give random words. Fine-tune it before use."


class RelationObjective:
    """Weighted loss terms of a batch: "relation/qq", ... and, where a weight is given for it, "mlm".

    teacher: a frozen RelationEncoder.  relations: {"qq": weight, ...}.  num_heads, weighting: see modules/relation_losses.py.
    mlm_weight, mlm_probability: masked tokens of the same batch, which both models then read with its masks.
    tokenizer: says which tokens are special, and which one is the mask.
    """

    def __init__(self, teacher, *, relations, num_heads, weighting, tokenizer=None, mlm_weight=0.0, mlm_probability=0.15):
        self.teacher, self.tokenizer = teacher, tokenizer
        self.options = {"relations": relations, "num_heads": num_heads, "weighting": weighting}
        self.mlm_weight, self.mlm_probability = mlm_weight, mlm_probability

    def __call__(self, student, batch) -> dict:
        """student: a RelationEncoder, maybe wrapped.  batch: utils.batch.Batch."""
        return self.terms(student, batch, self.prepared(batch))

    def prepared(self, batch):
        """(inputs, chosen tokens or None, the teacher's answer): what all that learn from a batch have in common."""
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
        mlm = self.mlm_weight * masked_loss(answer["logits"], batch.inputs["input_ids"][chosen_BL], divisor=expected)
        return {**self.relations(answer, target, batch), "mlm": mlm}

    def relations(self, answer, target, batch) -> dict:
        """The terms of a student's answer beside the teacher's."""
        losses = relation_losses(answer, target, batch.mask, divisors=batch.divisors, **self.options)
        return {f"relation/{name}": loss for name, loss in losses.items()}


def participants(args, tokenizer):
    """(teacher, given student or None, hops, longest input in tokens that both can take), checked against each other.

    args: resolved, with the flags of utils.flags.relations.  Raises CheckpointError and FlagError where they do not fit.
    """
    teacher = freeze(load_model(args.teacher_model_path))
    given = given_student(args.student_model_path, seed=args.seed) if args.student_model_path else None
    if given is not None:
        check_vocabulary(given, tokenizer, args.student_model_path)
    hops = chain.hops(args, teacher.config.to_dict(), given and given.config.to_dict())
    limits = [limit for limit in map(architectures.max_positions, filter(None, (teacher, given))) if limit is not None]
    return teacher, given, hops, min(limits, default=None)


def distil_along(hops, teacher, student_of, train, heldout, *, tokenizer, run, balance_weight=None):
    """Distil hop after hop, each student the next one's teacher; finishes the run and returns its checkpoint.

    hops: [utils.hops.Hop].  student_of(teacher, hop, is_last=...): a student as it starts.  balance_weight: see
    models.balance, of a student with experts.
    """
    args, found, checkpoints = run.args, [], []
    for number, hop in enumerate(hops, 1):
        student = with_dropout(student_of(teacher, hop, is_last=number == len(hops)), **dropouts(args))
        stage = "train" if len(hops) == 1 else f"iteration_{number}"
        weight = balance_weight if moe_bert.routers(student) else None
        before, result = distil(
            student, teacher, hop, train, heldout, tokenizer=tokenizer, run=run, stage=stage, balance_weight=weight
        )  # fmt: skip
        checkpoints.append(result.checkpoint)
        found.append({"stage": stage, **vars(hop), "heldout_before": before, "metrics": result.metrics,
                      "best_step": result.best_step, "num_steps": result.num_steps, "seconds": result.seconds})  # fmt: skip
        teacher = freeze(load_model(result.checkpoint))

    # ---- Pictures, assistants, the student with its card
    notes = [*([] if args.relation_source == "extra" or args.mlm_weight else [UNTRAINED]), NO_VOCABULARY]
    if distributed.is_main():
        for number, hop in enumerate(found, 1):
            suffix = "" if len(hops) == 1 else f"_{number}"
            _pictures(run.folder, hop, suffix)
        for number, hop in enumerate(found[:-1], 1):
            run.keep(checkpoints[number - 1], f"assistant_{number}", {**hop, "notes": notes})
    run.finish(result.checkpoint, metrics=result.metrics, last_metrics=result.last_metrics, best_step=result.best_step,
               num_steps=result.num_steps, hops=found, notes=notes, model=describe(teacher))  # fmt: skip
    return run.checkpoint


def _pictures(folder, hop, suffix):
    """The held-out loss and, of a student with experts, their shares of the tokens, over the updates of a hop."""
    title = f"{hop['layers']} layers, {hop['hidden']} wide"
    rows = [{"step": 0, **hop["heldout_before"]}, *logs.evaluations(folder, hop["stage"], split="heldout")]
    plots.history(folder / f"heldout{suffix}.png", rows, value="held-out loss (nats)", title=title)
    if shares := logs.evaluations(folder, hop["stage"], split="experts"):
        plots.shares(folder / f"experts{suffix}.png", shares, title=title)


def distil(student, teacher, hop, train, heldout, *, tokenizer, run, stage, balance_weight=None):
    """Train a student on a teacher's relations; continues an interrupted stage of the run.

    student, teacher: bare encoders.  hop: utils.hops.Hop.  train, heldout: parts of a corpus.
    Returns ({name: held-out loss} before training, training.Result); the checkpoint is the stock student, least held-out loss.
    """
    args = run.args
    student, objective = sides(student, teacher, hop, tokenizer=tokenizer, run=run)
    balance = Balance(student, balance_weight)
    before = heldout_score(student, objective, heldout, args=args).metrics["heldout"]
    trained = sum(parameter.numel() for parameter in student.parameters() if parameter.requires_grad)
    run.report(**{stage: {"student": describe(student.model), "trained parameters": trained, "held-out loss before": before}})
    return before, training.fit(
        student,
        lambda module, batch: {**objective(module, batch), **balance(batch)},
        train,
        settings=run.training,
        run=run,
        stage=stage,
        watch=balance,
        evaluate=lambda: heldout_score(student, objective, heldout, args=args),
        save=lambda folder, _: save_model(student.model, folder, tokenizer=tokenizer),
    )


def sides(student, teacher, hop, *, tokenizer, run):
    """(RelationEncoder of the student, its RelationObjective), on the run's device.  Arguments: as in distil()."""
    args = run.args
    kinds = "".join(kind for kind in KINDS if any(kind in name for name in args.relations))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)  # of what is new on top of the student
        options = {"kinds": kinds, "source": args.relation_source, "vocabulary": args.mlm_weight > 0}
        student = RelationEncoder(student, layer=hop.layers, **options).to(run.device)
    teacher = RelationEncoder(teacher, layer=hop.teacher_layer, kinds=kinds).to(run.device)
    objective = RelationObjective(
        teacher, relations=args.relations, num_heads=hop.relation_heads, weighting=args.relation_weighting, tokenizer=tokenizer,
        mlm_weight=args.mlm_weight, mlm_probability=args.mlm_probability,
    )  # fmt: skip
    return student, objective


def heldout_score(student, objective, heldout, *, args) -> Score:
    """The relation terms on blocks that are held out; the score is minus their sum."""
    (terms,) = heldout_terms(student, {"all": student}, objective, heldout, args=args).values()
    loss = sum(terms.values())
    return Score(-loss, {"heldout": {**terms, "loss": loss}})


@torch.no_grad()
def heldout_terms(student, parts, objective, heldout, *, args) -> dict:
    """{part: {"qq": its term on blocks that are held out, without masks and dropout, ...}}.

    parts: {name: a function of inputs that answers as a RelationEncoder}, all made of the student, which is in eval mode for it.
    Every block counts once, whatever the number of processes.
    """
    device = next(student.parameters()).device
    was_training = student.training
    student.eval()
    divisors = heldout.counts(range(len(heldout)))
    sums = defaultdict(float)
    for indices in share(heldout.in_order(args.per_device_eval_batch_size)):
        batch = heldout.collate(indices).to(device)
        batch.divisors = divisors
        with autocast(device, args.precision):
            target = objective.target(batch.inputs)
            for part, answer in parts.items():
                for name, term in objective.relations(answer(**batch.inputs), target, batch).items():
                    sums[part, name.removeprefix("relation/")] += float(term)
    student.train(was_training)
    found = distributed.gather(dict(sums))
    names = objective.options["relations"]
    return {part: {name: sum(each.get((part, name), 0.0) for each in found) for name in names} for part in parts}
