"""Conventional distillation of one student from one teacher: what a direct student, a hop and a rewinding
have in common."""

from models.architectures import layers
from models.balance import Balance
from models.saving import saver
from models.students import freeze_unreached
from modules.losses import matched_layers
from modules.objectives import Objective, Targets
from utils import evaluation, training
from utils.frozen_outputs import FrozenOutputs


def objective_for(student, teacher, *, name, kind, temperature=1.0, weights=None) -> Objective:
    """The objective of that name for a pair, whose layers are matched by their numbers.  The rest: see
    modules.objectives.

    What of the student lies behind all that the terms look at, its task head, is frozen.
    """
    matches = matched_layers(len(layers(student)), len(layers(teacher)))
    objective = Objective(name, kind, matches, temperature, weights)
    if not objective.needs_answers:
        freeze_unreached(student, lambda **inputs: student(**inputs, output_hidden_states=True).hidden_states)
    return objective


def teacher_targets(teacher, objective, train, *, cached, batch_size, precision, reads=None):
    """A function (batch) -> the teacher's Targets; it gives None, and runs nothing, where no term looks at
    the teacher.

    cached: None, or where the teacher's outputs for the split `train` are kept, computed now in batches of
    batch_size: frozen_outputs.MEMORY or a folder.  reads: that split in the teacher's own ids, where the
    student's are others.
    """
    if not objective.needs_teacher:
        return TeacherTargets(None)
    outputs = FrozenOutputs(teacher, layers=objective.teacher_layers, precision=precision, reads=reads)
    if cached:
        outputs.cache(train, batch_size=batch_size, where=cached)
    return TeacherTargets(outputs)


class TeacherTargets:
    """A function (batch) -> modules.objectives.Targets, or None.  outputs: FrozenOutputs of the teacher, or
    None."""

    def __init__(self, outputs):
        self.outputs = outputs

    def __call__(self, batch):
        return None if self.outputs is None else Targets(*self.outputs(batch))


def distil(
    student,
    teacher,
    objective,
    data,
    *,
    metric,
    run,
    cached=None,
    stage="train",
    draws=None,
    balance_weight=None,
    teacher_data=None,
) -> training.Result:
    """Train the student on the teacher's outputs, keep what is best on dev, or on the rows held out;
    continues an interrupted stage of the run.

    objective: as objective_for() makes it.  data: of the task.  metric: what chooses, of these rows.  cached:
    see teacher_targets().  draws: see training.fit.  balance_weight: of a student with experts, see
    models.balance.  teacher_data: of the task, in the teacher's ids where they are others.
    """
    if (result := training.finished(run, stage)) is not None:
        return result
    balance = Balance(student, balance_weight, num_parts=run.training.num_grad_accum_steps)
    reads = None if teacher_data in (None, data) else teacher_data.train
    targets = teacher_targets(teacher, objective, data.train, cached=cached, reads=reads, **run.inference)
    return training.fit(
        student,
        balance.beside(lambda module, batch: objective(module, batch, targets(batch))),
        data.train,
        settings=run.training,
        run=run,
        stage=stage,
        draws=draws,
        watch=balance,
        beside=[teacher, targets.outputs],
        evaluate=evaluation.scorer(student, data.selection, metric=metric, **run.inference),
        save=saver(student, data.tokenizer),
    )
