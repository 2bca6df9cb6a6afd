"""Conventional distillation of one student from one teacher: what a direct student, a hop and a rewinding have in common."""

from models.architectures import layers
from models.balance import Balance
from models.saving import save_model
from modules.losses import matched_layers
from modules.objectives import OBJECTIVES, Objective, Targets
from utils import evaluation, flags, training
from utils.frozen_outputs import FrozenOutputs


def teaching(student, teacher, data, args, *, default="sparse"):
    """(objective, answers) for a pair: the terms that --model_type asks for, and answers(batch) -> the teacher's Targets.

    The teacher runs only if a term looks at it; with --cache_teacher it runs once over the training data, now.
    """
    matches = matched_layers(len(layers(student)), len(layers(teacher)))
    name = flags.model_types.objective_of(args.model_type, default, OBJECTIVES)
    objective = Objective(name, data.task.kind, matches, args.temperature, flags.weights(args))
    if not objective.needs_teacher:
        return objective, lambda batch: None
    outputs = FrozenOutputs(teacher, layers=objective.teacher_layers, precision=args.precision)
    if args.cache_teacher:
        outputs.cache(data.train, batch_size=args.per_device_eval_batch_size)
    return objective, lambda batch: Targets(*outputs(batch))


def distil(
    student, teacher, data, *, args, run, stage="train", default="sparse", draws=None, balance_weight=None
) -> training.Result:  # fmt: skip
    """Train the student on the teacher's outputs, keep what is best on dev; continues an interrupted stage of the run.

    default: the objective where --model_type names none.  draws: see training.fit.
    balance_weight: of a student with experts, see models.balance.
    """
    if (result := training.finished(run, stage)) is not None:
        return result
    balance = Balance(student, balance_weight)
    objective, answers = teaching(student, teacher, data, args, default=default)
    return training.fit(
        student,
        lambda module, batch: {**objective(module, batch, answers(batch)), **balance(batch)},
        data.train,
        settings=run.training,
        run=run,
        stage=stage,
        draws=draws,
        watch=balance,
        evaluate=evaluation.scorer(student, data.selection, metric=args.selection_metric, **run.inference),
        save=lambda folder, _: save_model(student, folder, tokenizer=data.tokenizer),
    )
