"""Distil a fine-tuned teacher into a smaller student, directly (the conventional distillation of MiniDisc,
Zhang et al. 2024).

    python run_distillation.py --task_name mrpc --teacher_model_path outputs/sparsification/mrpc \\
        --layer_or_sparsity 90S
    python run_distillation.py --task_name mrpc --teacher_model_path outputs/finetuning/mrpc \\
        --layer_or_sparsity 4L
    python run_distillation.py --task_name mrpc --teacher_model_path ... --student_model_path any/checkpoint
    python run_distillation.py --task_name mrpc --teacher_model_path outputs/finetuning/mrpc \\
        --temperature 2 --model_type kd \\
        --student_model_path outputs/sparsification/mrpc --student_sparsity 70  # StarK's trial
The student: 90S, the teacher's crop at 90% sparsity (a nested teacher of run_sparsification.py); 4L, its
embeddings, 4 of its layers and its head; or any checkpoint of the same tokenizer, or of one with a part of
its pieces (run_vocabulary.py; the teacher reads its own ids, and what compares tokens is refused). Objectives
(--model_type): sparsebert (hidden states and soft labels, the default), kdbert (soft and hard labels),
pkdbert (patient), ftbert (hard labels only, no teacher). StarK's --student_sparsity 70 and --student_layer 4
say 70S and 4L of --student_model_path, or of the teacher where none is given.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils import environment, interruptions

    environment.require()
    interruptions.listen()

from pathlib import Path

import models
from data import tasks
from data.task_data import TaskData
from modules import objectives
from utils import evaluation, flags, runs


def parse(argv=None):
    """The flags, checked."""
    parser = flags.parser(
        __doc__,
        flags.task(tasks),
        flags.training,
        flags.runtime,
        flags.distillation(objectives),
        flags.student,
        flags.balance,
        flags.unlabelled,
    )
    flags.model_path(parser, "--teacher_model_path", "the fine-tuned teacher; nested for a sparsity")
    flags.model_path(
        parser,
        "--student_model_path",
        "a student of its own, instead of a part of the teacher",
        required=False,
    )
    add = parser.add_argument_group("student, a part of the teacher").add_argument
    add(
        "--layer_or_sparsity",
        type=flags.layer_or_sparsity,
        help="4L: keep 4 layers; 90S: drop 90%% of heads and neurons (default: 4L)",
    )

    def check(args):
        if args.student_model_path and args.layer_or_sparsity:
            yield (
                "--student_model_path and --layer_or_sparsity: both say what the student is; give one (a "
                "part of that checkpoint is asked for by --student_sparsity or --student_layer)"
            )
        elif not (parts := flags.student_parts(args)) and not args.student_model_path:
            args.layer_or_sparsity = "4L"
        else:
            yield from flags.check_one_part(parts)
        task, configs = tasks.find(args.task_name), {}
        for flag in ("teacher_model_path", "student_model_path"):
            config = configs[flag] = yield from flags.check_config(args, flag)
            yield from flags.model_types.check_model_type(
                args, task, config, objectives=objectives.OBJECTIVES
            )
            if config and flag == ("student_model_path" if args.student_model_path else "teacher_model_path"):
                yield from flags.check_balance(args, config)
                source = f"{flag.partition('_')[0]} (--{flag} {getattr(args, flag)})"
                for part_flag, part in flags.student_parts(args):
                    yield from flags.check_student(part, config, part_flag, source=source)
        yield from flags.model_types.check_unlabelled(args, "sparse", objectives.OBJECTIVES)
        learning = flags.model_types.objective_of(args.model_type, "sparse", objectives.OBJECTIVES)
        yield from flags.model_types.check_terms(args, learning, objectives.OBJECTIVES)
        terms = objectives.COMPARE_STATES & {*objectives.OBJECTIVES[learning].terms} if learning else ()
        teacher, student = configs["teacher_model_path"], configs["student_model_path"]
        yield from flags.model_types.check_widths(args, learning, terms, teacher=teacher, student=student)
        yield from flags.check_hold_out(args, configs, trained=["teacher_model_path"])

    def name(args):
        parts = flags.student_parts(args)
        return f"{args.task_name}_{parts[0][1] if parts else Path(args.student_model_path).name}"

    return flags.resolve(parser, argv, stage="distillation", name=name, check=check)


def main(args):
    """Distil; returns the folder of the selected student."""
    # ---- Run folder, device, seed
    task = tasks.get(args.task_name)
    inputs = {
        **task.inputs(args.data_dir),
        "teacher": args.teacher_model_path,
        "student": args.student_model_path,
        "unlabelled": args.unlabelled_file,
    }
    run = runs.start(args, inputs=inputs)
    load = models.loader(task, device=run.device, max_length=args.max_length, **flags.how_loaded(args))
    data = TaskData(task, tokenizer_path=run.source(args.teacher_model_path), **flags.data_options(args))

    if not run.finished:
        # ---- Texts as the student reads them, and as the teacher does, whose pieces may be more
        teacher_data = data
        if args.student_model_path:
            data = teacher_data.for_student(args.student_model_path)
        run.report(data=data.sizes())
        # ---- Teacher: frozen, scored once
        teacher = models.freeze(load(args.teacher_model_path))
        # ---- Student. Where its weights come from, in this order: this run's last state (training.fit
        # restores it); the given checkpoint, or its layers, heads and neurons; the teacher's own
        student = teacher
        if args.student_model_path:
            student = load(args.student_model_path, new_head=True)
        for _, part in flags.student_parts(args):
            student = models.shrink(student, part, which=args.layer_choice)
        student = models.for_training(student, **flags.how_trained(args)).to(run.device)
        run.report(
            teacher=models.describe(teacher),
            student=models.describe(student),
            teacher_metrics=evaluation.evaluate(teacher, teacher_data.selection, **run.inference),
        )
        teacher = models.frozen_in(teacher, args.teacher_dtype)  # when its part has been taken from it
        options = flags.model_types.objective_options(args, objectives)
        objective = models.objective_for(student, teacher, kind=task.kind, **options)
        teacher_data.require_common_tokens(data, objective.of_tokens)
        run.begin()

        # ---- Train, keep the epoch that was best on dev, or on the rows held out
        result = models.distil(
            student,
            teacher,
            objective,
            data,
            metric=args.selection_metric,
            cached=run.cached,
            balance_weight=args.load_balance_weight,
            teacher_data=teacher_data,
            run=run,
        )
        found = evaluation.outcome(result, load, data, **run.inference)
        run.finish(result.checkpoint, **found, model=models.describe(student))

    evaluation.test_and_infer(run, load(run.checkpoint), data)
    return run.checkpoint


if __name__ == "__main__":
    runs.guard(main, parse)
