"""Task-aware layer-wise distillation (TED; Liang et al. 2023, arXiv:2210.01351), with its stages and its
baselines.

    python run_finetuning.py --task_name mrpc --model_path path/to/deberta-v3-base \\
        --output_dir outputs/teacher  # stage 0
    python run_ted.py --mode ft --task_name mrpc --student_model_path path/to/deberta-v3-xsmall \\
        --output_dir outputs/student
    python run_ted.py --mode filters --task_name mrpc --model_path outputs/teacher \\
        --output_dir outputs/teacher_filters  # stage I
    python run_ted.py --mode filters --task_name mrpc --model_path outputs/student --filter_output_dim 768 \\
        --output_dir outputs/student_filters
    python run_ted.py --mode ted --task_name mrpc --teacher_model_path outputs/teacher_filters \\
        --student_model_path outputs/student_filters --kl_alpha 20 --mse_alpha 100  # stage II
Modes: filters, one filter with a task head of its own for each chosen layer of a frozen fine-tuned
model, which stays as it is (each head's score beside the best answer that never changes, with a 95% interval
of the difference, see utils/chance.py);
ted, task + kl_alpha * KL + mse_alpha * mean over layers of the masked MSE of filtered states; lwd, the same
against the teacher's bare states, through new linear maps; kd, without MSE; ft, the task loss alone. With
--task_weight 0 ted, lwd and kd need no gold labels and take more text (--unlabelled_file). The j-th filter
of the student meets the j-th of the teacher, so both must have equally many (12 layers to 6:
--teacher_filter_interval 2); --filters above_chance leaves out the pairs of which a head, of either side, was
not above chance.
--filter_token mean, of one-label tasks: stage I's heads read the mean over real tokens of what a filter makes
(for encoders that were pretrained so), and stage II matches these means; as published they read the first
token, and stage II matches all. --student_init says what the student starts from: pretrained (with a new head
where it has none), finetuned (a head is required), stage1 (a checkpoint of --mode filters). Published:
pretrained for kd and lwd, stage1 for ted, which is one training more; to compare, give all the same. With ted
and another start the student's filters are new and learn in stage II alone.
Reads and writes plain models. After stage I filters lie beside them (filters.json, filters.safetensors);
stage II drops them.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils import environment, interruptions

    environment.require()
    interruptions.listen()

import models
from data import tasks
from data.task_data import TaskData
from models import filter_learning, layerwise_distillation
from modules.filters import LayerwiseObjective
from utils import cost, distributed, evaluation, filter_specs, flags, runs
from utils.frozen_outputs import FrozenOutputs


def parse(argv=None):
    """The flags, checked."""
    parser = flags.parser(
        __doc__,
        flags.task(tasks),
        flags.training,
        flags.runtime,
        flags.student,
        flags.class_weights,
        flags.unlabelled,
        flags.ted.ted,
    )
    parser.set_defaults(max_grad_norm=1.0, model_type=None)

    def check(args):
        return flags.ted.check_ted(args, tasks.find(args.task_name))

    return flags.resolve(parser, argv, stage="ted", name=flags.ted.name, check=check)


def main(args):
    """Train filters or a student; returns the folder of the model with its filters, or of the selected
    student."""
    # ---- Run folder, device, seed, data; the first model that is there says how texts are tokenised
    task = tasks.get(args.task_name)
    paths = {"model": args.model_path, "teacher": args.teacher_model_path, "student": args.student_model_path}
    read = {**task.inputs(args.data_dir), "unlabelled": args.unlabelled_file}
    run = runs.start(args, inputs={**read, **paths})
    source = run.source(next(filter(None, paths.values())))
    data = TaskData(task, tokenizer_path=source, **flags.data_options(args))
    load = models.loader(task, device=run.device, max_length=args.max_length, **flags.how_loaded(args))

    if not run.finished and args.mode == "filters":
        # ---- Stage I: the model is frozen and saved as it came; its filters are kept as they are at the end
        run.report(data=data.sizes())
        model = models.freeze(load(args.model_path))
        metrics = evaluation.evaluate(model, data.selection, **run.inference)
        run.report(model=models.describe(model), model_metrics=metrics)
        output_dim, pooled = args.filter_output_dim, args.filter_token == "mean"
        filters, spec = models.new_filters(
            model, **flags.ted.filter_options(args), output_dim=output_dim, pooled=pooled
        )
        sizes = {"layers": spec.layers, "output_dim": spec.output_dim}
        run.report(filters={**sizes, "parameters": cost.parameters(filters)})
        run.begin()
        options = {"metric": args.selection_metric, "cached": run.cached, "run": run}
        dropout = 0.1 if args.cls_dropout is None else args.cls_dropout
        result = filter_learning.learn_filters(model, filters, spec, data, dropout=dropout, **options)
        run.report(heads=result.choice["heads"])
        if distributed.is_main() or args.shard:
            models.save_model(model, result.checkpoint, tokenizer=data.tokenizer)
        run.finish(result.checkpoint, metrics=result.last_metrics, num_steps=result.num_steps)

    elif not run.finished:
        # ---- Texts as the student reads them, and as the teacher does, whose pieces may be more
        teacher_data = data
        if args.teacher_model_path and args.student_model_path:
            data = teacher_data.for_student(args.student_model_path)
        run.report(data=data.sizes())
        # ---- Teacher: frozen, scored once
        teacher = None
        if args.teacher_model_path:
            teacher = models.freeze(load(args.teacher_model_path))
            metrics = evaluation.evaluate(teacher, teacher_data.selection, **run.inference)
            run.report(teacher=models.describe(teacher), teacher_metrics=metrics)
        # ---- Student. Where its weights come from, in this order: this run's last state (training.fit
        # restores it); the given checkpoint, or its layers, heads and neurons; the teacher's own
        student = teacher
        if args.student_model_path:
            student = load(args.student_model_path, new_head=args.student_init == "pretrained")
        for _, part in flags.student_parts(args):
            student = models.shrink(student, part, which=args.layer_choice)
        student = models.for_training(student, **flags.how_trained(args)).to(run.device)
        if teacher is not None:
            teacher = models.frozen_in(teacher, args.teacher_dtype)

        # ---- What is trained, and what of the teacher it is held against: nothing (ft), logits (kd), bare
        # states too (lwd), states through filters of both (ted)
        learner, outputs = student, None
        reads = None if teacher_data is data else teacher_data.train
        if args.mode == "kd":
            outputs = FrozenOutputs(teacher, layers=[], precision=args.precision, reads=reads)
        elif args.mode == "lwd":
            layers = len(models.layers(teacher))
            layers = filter_specs.filtered_layers(layers, args.teacher_filter_interval or 1)
            output_dim = teacher.config.hidden_size
            ours = models.new_filters(student, **flags.ted.filter_options(args), output_dim=output_dim)
            learner, outputs = layerwise_distillation.onto_states(
                student, ours, teacher, layers, run=run, reads=reads
            )
        elif args.mode == "ted":
            wanted = flags.ted.wanted_filters(args)
            interval = args.teacher_filter_interval
            theirs = models.load_filters(args.teacher_model_path, teacher, interval=interval, **wanted)
            if args.student_init == "stage1":
                interval = args.filter_interval
                ours = models.load_filters(args.student_model_path, student, interval=interval, **wanted)
            else:
                like = {"output_dim": theirs[1].output_dim, "pooled": theirs[1].pooled}
                ours = models.new_filters(student, **flags.ted.filter_options(args), **like)
            above = args.filters == "above_chance"
            learner, outputs = layerwise_distillation.through_filters(
                student, ours, teacher, theirs, only_above_chance=above, run=run, reads=reads
            )
        pooled = getattr(learner, "pooled", False)
        objective = LayerwiseObjective(task.kind, **flags.ted.objective_options(args), pooled=pooled)
        teacher_data.require_common_tokens(data, objective.of_tokens)
        metrics = evaluation.evaluate(student, data.selection, **run.inference)
        run.report(student=models.describe(student), start_metrics=metrics)
        run.begin()

        # ---- Stage II or a baseline: the epoch that was best on dev, or on the rows held out, is kept; its
        # filters are not
        options = {"metric": args.selection_metric, "cached": run.cached, "run": run}
        result = layerwise_distillation.train(learner, student, objective, outputs, data, **options)
        found = evaluation.outcome(result, load, data, **run.inference)
        run.finish(result.checkpoint, **found, model=models.describe(student))

    if args.mode != "filters":
        evaluation.test_and_infer(run, load(run.checkpoint), data)
    return run.checkpoint


if __name__ == "__main__":
    runs.guard(main, parse)
