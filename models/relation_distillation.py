"""Relation distillation in hops, from teacher to student: how each is set up and trained, what a run keeps of
it.

Source: MiniLMv2 (Wang et al. 2021).
"""

from dataclasses import dataclass

from models import architectures
from models.loading import freeze, load_model
from models.relation_encoder import RelationEncoder
from models.relation_objective import RelationObjective
from models.resized import given_student
from models.saving import saver
from models.students import describe
from modules.relation_losses import KINDS
from utils import config_values, distributed, logs, plots, training
from utils.student_sizes import Hop

UNTRAINED = (
    "Behind the queries, keys and values of the last layer nothing was trained: its attention output and "
    "feed-forward, and the pooler, are as initialised. Fine-tuning trains them; as a frozen feature "
    "extractor take the states before that layer."
)
NO_VOCABULARY = (
    "There is no head for masked words: `fill-mask` would give random words. Fine-tune it before use."
)


def teacher_and_student(teacher_path, student_path, tokenizer, *, seed, **how):
    """(teacher, frozen; the given student, None where student_path is; the longest input in tokens that both
    can take).

    how: of load_model(), for both.
    Raises CheckpointError where one of them cannot be loaded or the student does not fit the tokenizer.
    """
    teacher = freeze(load_model(teacher_path, **how))
    student = None if student_path is None else given_student(student_path, tokenizer, seed=seed, **how)
    return teacher, student, architectures.max_positions(*filter(None, (teacher, student)))


def encoder_and_objective(
    student,
    teacher,
    hop,
    *,
    relations,
    source,
    weighting,
    mlm_weight,
    mlm_probability,
    tokenizer,
    seed,
    device,
):
    """(RelationEncoder of the student, which is what is trained; its RelationObjective), on a device.

    student, teacher: bare encoders.  hop: its sizes.  source, seed: see RelationEncoder.  The rest: see
    RelationObjective.
    """
    kinds = "".join(kind for kind in KINDS if any(kind in name for name in relations))
    options = {"kinds": kinds, "source": source, "vocabulary": mlm_weight > 0, "seed": seed}
    encoder = RelationEncoder(student, layer=hop.layers, **options).to(device)
    return encoder, RelationObjective(
        RelationEncoder(teacher, layer=hop.teacher_layer, kinds=kinds).to(device),
        relations=relations,
        num_heads=hop.relation_heads,
        weighting=weighting,
        tokenizer=tokenizer,
        mlm_weight=mlm_weight,
        mlm_probability=mlm_probability,
    )


@dataclass(frozen=True)
class Distilled:
    """A hop that is done; the checkpoint of its result is the stock student.

    stage: of the run.  before: {name: held-out loss} of the student as it began.
    """

    hop: Hop
    stage: str
    before: dict
    result: training.Result

    @property
    def record(self) -> dict:
        """What results.json says of it."""
        result = self.result
        return {
            "stage": self.stage,
            **vars(self.hop),
            "heldout_before": self.before,
            "metrics": result.metrics,
            "best_step": result.best_step,
            "num_steps": result.num_steps,
            "seconds": result.seconds,
        }

    def draw(self, folder, *, suffix):
        """The held-out loss and, of a student with experts, their shares of the tokens, over the updates."""
        title = f"{self.hop.layers} layers, {self.hop.hidden} wide"
        rows = [{"step": 0, **self.before}, *logs.evaluations(folder, self.stage, split="heldout")]
        plots.history(folder / f"heldout{suffix}.png", rows, value="held-out loss (nats)", title=title)
        if shares := logs.evaluations(folder, self.stage, split="experts"):
            plots.shares(folder / f"experts{suffix}.png", shares, title=title)


def train(encoder, objective, hop, blocks, heldout, *, tokenizer, run, stage, balance=None) -> Distilled:
    """Train a student, keep what is best on blocks that are held out; continues an interrupted stage of the
    run.

    encoder, objective: of encoder_and_objective(), or their likes for parts (models/once_for_all.py).  hop:
    utils.student_sizes.Hop.
    blocks, heldout: parts of a corpus; the student's config says how long the blocks are.  balance:
    models.Balance of a student with experts.
    """
    config = encoder.model.config
    length = max(blocks.max_length, getattr(config, config_values.LENGTH, 0))  # a given student's may be more
    setattr(config, config_values.LENGTH, length)
    before = objective.score(encoder, heldout, **run.inference).metrics["heldout"]
    run.report(**{stage: objective.facts(encoder, before)})
    result = training.fit(
        encoder,
        objective if balance is None else balance.beside(objective),
        blocks,
        settings=run.training,
        run=run,
        stage=stage,
        watch=balance,
        beside=[objective.teacher],
        evaluate=lambda: objective.score(encoder, heldout, **run.inference),
        save=saver(encoder.model, tokenizer),
    )
    return Distilled(hop, stage, before, result)


def finish(run, done, student, *, last_layer_trained):
    """Draw the hops, keep the assistants, finish the run with the student, whose card says what was not
    trained.

    done: [Distilled], one for each hop.  student: the last one.
    """
    notes = [*([] if last_layer_trained else [UNTRAINED]), NO_VOCABULARY]
    if distributed.is_main():
        for number, each in enumerate(done, 1):
            each.draw(run.folder, suffix="" if len(done) == 1 else f"_{number}")
        for number, each in enumerate(done[:-1], 1):
            run.keep(each.result.checkpoint, f"assistant_{number}", {**each.record, "notes": notes})
    last, hops = done[-1].result, [each.record for each in done]
    run.finish(last.checkpoint, **last.outcome, hops=hops, notes=notes, model=describe(student))
