"""Distil a fine-tuned teacher into a smaller student, directly (conventional distillation; MiniDisc, section 2.4 of its code).

    python run_distillation.py --task_name mrpc --teacher_model_path outputs/sparsification/mrpc --layer_or_sparsity 90S
    python run_distillation.py --task_name mrpc --teacher_model_path outputs/finetuning/mrpc --layer_or_sparsity 4L
    python run_distillation.py --task_name mrpc --teacher_model_path ... --student_model_path any/checkpoint
The student: 90S, the teacher's crop at 90% sparsity (a nested teacher of run_sparsification.py); 4L, its embeddings, 4 of its
layers and its head; or any checkpoint of the same tokenizer. Objectives (--model_type): sparsebert (hidden states and soft
labels, the default), kdbert (soft and hard labels), pkdbert (patient), ftbert (hard labels only, no teacher).
"""

from utils import flags, runs


def parse(argv=None):
    """The flags, checked."""
    from data import tasks

    parser = flags.parser(__doc__, flags.task(tasks.NAMES), flags.training, flags.runtime, flags.distillation)
    flags.model_path(parser, "--teacher_model_path", "the fine-tuned teacher; nested for a sparsity")
    flags.model_path(parser, "--student_model_path", "a student of its own, instead of a part of the teacher", required=False)
    add = parser.add_argument_group("student").add_argument
    add("--layer_or_sparsity", type=flags.layer_or_sparsity, help="4L: keep 4 layers; 90S: drop 90%% of heads and neurons; 4L")
    add("--layer_choice", choices=("first", "even"), default="first", help="which layers 4L keeps")

    def check(args):
        from utils import model_types

        if args.student_model_path and args.layer_or_sparsity:
            yield "--student_model_path and --layer_or_sparsity: both say what the student is; give one"
        elif not args.student_model_path:
            args.layer_or_sparsity = args.layer_or_sparsity or "4L"
        for flag in ("teacher_model_path", "student_model_path"):
            config, problem = flags.config_of(args, flag)
            yield from [problem] if problem else []
            yield from model_types.check(args, tasks.get(args.task_name), config)
            if flag == "teacher_model_path" and config and args.layer_or_sparsity:
                yield from flags.check_student(args.layer_or_sparsity, config, "--layer_or_sparsity")

    def name(args):
        from pathlib import Path

        return f"{args.task_name}_{args.layer_or_sparsity or Path(args.student_model_path).name}"

    return flags.resolve(parser, argv, stage="distillation", name=name, check=check)


def main(args):
    """Distil; returns the folder of the selected student."""
    import models
    from data import tasks
    from data.task_data import TaskData
    from utils import evaluation

    # ---- Run folder, device, seed
    task = tasks.get(args.task_name)
    inputs = {
        "data": list(task.files(args.data_dir).values()),
        "teacher": args.teacher_model_path,
        "student": args.student_model_path,
    }
    run = runs.start(args, inputs=inputs)
    labels = {"kind": task.kind, "label_names": task.label_names}
    data = TaskData(task, args, tokenizer_path=run.checkpoint if run.finished else args.teacher_model_path)
    if not run.finished:
        # ---- Teacher: frozen, scored once
        teacher = models.freeze(models.load_model(args.teacher_model_path, **labels)).to(run.device)
        # ---- Student. Where its weights come from, in this order: this run's last state (training.fit restores it); the given
        # checkpoint; the teacher's own layers, heads and neurons
        if args.student_model_path:
            data.check_tokenizer(args.student_model_path)
            student = models.load_model(args.student_model_path, new_head=True, **labels)
        else:
            student = models.shrink(teacher, args.layer_or_sparsity, which=args.layer_choice)
        student = models.with_dropout(student, args).to(run.device)
        run.report(data=data.sizes(), teacher=models.describe(teacher), student=models.describe(student),
                   teacher_metrics=evaluation.evaluate(teacher, data.dev, args=args))  # fmt: skip
        run.begin()

        # ---- Objective; train, keep what was best on dev
        result = models.distil(student, teacher, data, args=args, run=run)
        run.finish(result.checkpoint, metrics=result.metrics, last_metrics=result.last_metrics,
                   best_step=result.best_step, num_steps=result.num_steps, model=models.describe(student))  # fmt: skip

    evaluation.test_and_infer(run, models.load_model(run.checkpoint, **labels).to(run.device), data)
    return run.checkpoint


if __name__ == "__main__":
    runs.guard(main, parse)
