"""Task-aware layer-wise distillation (TED; Liang et al. 2023, arXiv:2210.01351), with its stages and its
baselines.

    python run_finetuning.py --task_name mrpc --model_path path/to/deberta-v3-base \
        --output_dir outputs/teacher  # stage 0
    python run_ted.py --mode ft --task_name mrpc --student_model_path path/to/deberta-v3-xsmall \
        --output_dir outputs/student
    python run_ted.py --mode filters --task_name mrpc --model_path outputs/teacher \
        --output_dir outputs/teacher_filters  # stage I
    python run_ted.py --mode filters --task_name mrpc --model_path outputs/student --filter_output_dim 768 \\
        --output_dir outputs/student_filters
    python run_ted.py --mode ted --task_name mrpc --teacher_model_path outputs/teacher_filters \\
        --student_model_path outputs/student_filters --kl_alpha 20 --mse_alpha 100
# stage II Modes: filters, one filter with a task head of its own for each chosen layer of a frozen fine-tuned
model, which stays as it is (each head's score beside the best answer that never changes, with a 95% interval
of the difference, see utils/chance.py);
ted, task + kl_alpha * KL + mse_alpha * mean over layers of the masked MSE of filtered states; lwd, the same
against the teacher's bare states, through new linear maps; kd, without MSE; ft, the task loss alone. The j-th
filter of the student meets the j-th of the teacher, so both must have equally many (12 layers to 6:
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
    from utils import interruptions

    interruptions.listen()

from dataclasses import replace
from pathlib import Path

import models
from data import tasks
from data.task_data import TaskData
from modules import losses
from modules.filters import FilterTraining, LayerwiseObjective, first_token
from utils import chance, cost, distributed, evaluation, filter_specs, flags, runs, training
from utils.errors import CheckpointError
from utils.frozen_outputs import FrozenOutputs


def parse(argv=None):
    """The flags, checked."""
    parser = flags.parser(
        __doc__, flags.task(tasks.NAMES), flags.training, flags.runtime, flags.student, flags.ted.ted
    )
    parser.set_defaults(max_grad_norm=1.0, model_type=None)

    def name(args):
        return f"{args.task_name}_{args.mode}" + (
            f"_{Path(args.model_path).name}" if args.mode == "filters" else ""
        )

    return flags.resolve(
        parser,
        argv,
        stage="ted",
        name=name,
        check=lambda args: flags.ted.check_ted(args, tasks.find(args.task_name)),
    )


def main(args):
    """Train filters or a student; returns the folder of the model with its filters, or of the selected
    student."""
    # ---- Run folder, device, seed, data; the first model that is there says how texts are tokenised
    task = tasks.get(args.task_name)
    paths = {"model": args.model_path, "teacher": args.teacher_model_path, "student": args.student_model_path}
    run = runs.start(args, inputs={"data": list(task.files(args.data_dir).values()), **paths})
    data = TaskData(
        task, tokenizer_path=run.source(next(filter(None, paths.values()))), **flags.data_options(args)
    )
    load = models.loader(task, max_length=args.max_length, device=run.device)

    if not run.finished and args.mode == "filters":
        # ---- Stage I: the model is frozen; its filters are kept as they are at the end, it is saved as it
        # came
        model = models.freeze(load(args.model_path))
        run.report(
            data=data.sizes(),
            model=models.describe(model),
            model_metrics=evaluation.evaluate(model, data.selection, **run.inference),
        )
        filters, spec = models.new_filters(
            model,
            task=task.name,
            interval=args.filter_interval or 1,
            output_dim=args.filter_output_dim,
            nonlinear=args.filter_nonlinear,
            pooled=args.filter_token == "mean",
        )
        run.report(
            filters={
                "layers": spec.layers,
                "output_dim": spec.output_dim,
                "parameters": cost.parameters(filters),
            }
        )
        run.begin()
        result = learn_filters(model, filters, spec, data, run=run)
        run.report(heads=result.choice["heads"])
        if distributed.is_main():
            models.save_model(model, result.checkpoint, tokenizer=data.tokenizer)
        run.finish(result.checkpoint, metrics=result.last_metrics, num_steps=result.num_steps)

    elif not run.finished:
        if args.teacher_model_path and args.student_model_path:
            data.check_tokenizer(args.student_model_path)
        # ---- Teacher: frozen, scored once
        teacher = None
        if args.teacher_model_path:
            teacher = models.freeze(load(args.teacher_model_path))
            run.report(
                teacher=models.describe(teacher),
                teacher_metrics=evaluation.evaluate(teacher, data.selection, **run.inference),
            )
        # ---- Student. Where its weights come from, in this order: this run's last state (training.fit
        # restores it); the given checkpoint, or its layers, heads and neurons; the teacher's own
        student = teacher
        if args.student_model_path:
            student = load(args.student_model_path, new_head=args.student_init == "pretrained")
        for _, part in flags.student_parts(args):
            student = models.shrink(student, part, which=args.layer_choice)
        student = models.with_dropout(student, **flags.dropouts(args)).to(run.device)
        module, outputs = pair(student, teacher, run=run)
        run.report(
            data=data.sizes(),
            student=models.describe(student),
            start_metrics=evaluation.evaluate(student, data.selection, **run.inference),
        )
        run.begin()
        # ---- Stage II or a baseline; the epoch that was best on dev is kept, without filters
        result = distil(module, student, outputs, data, run=run)
        found = evaluation.outcome(result, load, data, **run.inference)
        run.finish(result.checkpoint, **found, model=models.describe(student))

    if args.mode != "filters":
        evaluation.test_and_infer(run, load(run.checkpoint), data)
    return run.checkpoint


def learn_filters(model, filters, spec, data, *, run):
    """Stage I: filters with a task head each, on the states of a frozen model; the mean of their task losses.

    The heads are scored, which chooses nothing here: the last state is kept.  Returns training.Result; its
    checkpoint holds the filters alone, the heads are dropped; choice["heads"] says how these did beside a
    constant answer (FilterSpec.heads).
    """
    args, task = run.args, data.task
    if (result := training.finished(run, "filters")) is not None:
        return result
    dropout = 0.1 if args.cls_dropout is None else args.cls_dropout
    stage = FilterTraining(
        filters,
        kind=task.kind,
        output_dim=spec.output_dim,
        num_labels=task.num_labels,
        dropout=dropout,
        pooled=spec.pooled,
    )
    stage.to(run.device)
    states = models.FrozenStates(
        model, [data.train, *data.selection.values()], spec=spec, kind=task.kind, args=args
    )
    first = next(iter(data.selection))
    constants = {first: chance.constant(data.selection[first], args.selection_metric)}

    def objective(module, batch):
        divisor = batch.divisors["labels" if task.kind == "tagging" else "examples"]
        logits = module(*states(data.train, batch))
        options = {"kind": task.kind, "mask": batch.mask, "divisor": divisor}
        terms = [losses.task_loss(z, batch.labels, **options) / len(logits) for z in logits]
        return {f"task/{layer}": term for layer, term in zip(spec.layers, terms)}

    def evaluate():
        metrics, tables = models.head_metrics(
            stage,
            states,
            data.selection,
            layers=spec.layers,
            metric=args.selection_metric,
            constants=constants,
            args=args,
            device=run.device,
        )
        return evaluation.Score(None, metrics, {"heads": tables[first]})  # later is better, as published

    def save(folder, score):
        models.save_filters(filters, replace(spec, heads=score.choice["heads"]), folder)

    return training.fit(
        stage,
        objective,
        data.train,
        evaluate=evaluate,
        settings=run.training,
        run=run,
        stage="filters",
        save=save,
    )


def pair(student, teacher, *, run):
    """(what is trained: the student, with filters where states are matched; the teacher's outputs, or
    None)."""
    args = run.args
    if args.mode == "ft":
        return student, None
    if args.mode == "kd":
        return student, FrozenOutputs(teacher, layers=[], precision=args.precision)
    wanted = {
        "output_dim": args.filter_output_dim,
        "nonlinear": args.filter_nonlinear,
        "task": args.task_name,
    }
    theirs, pooled = None, False
    if args.mode == "ted":
        wanted["token"] = args.filter_token
        seen, theirs = models.load_filters(
            args.teacher_model_path, teacher, interval=args.teacher_filter_interval, **wanted
        )
        matched, output_dim, pooled = theirs.layers, theirs.output_dim, theirs.pooled
    else:
        matched = filter_specs.filtered_layers(len(models.layers(teacher)), args.teacher_filter_interval or 1)
        output_dim = teacher.config.hidden_size
    if args.mode == "ted" and args.student_init == "stage1":
        filters, spec = models.load_filters(
            args.student_model_path, student, interval=args.filter_interval, **wanted
        )
    else:
        filters, spec = models.new_filters(
            student,
            task=args.task_name,
            interval=args.filter_interval or 1,
            output_dim=output_dim,
            nonlinear=args.filter_nonlinear,
            pooled=pooled,
        )
    tokens = theirs and [filter_specs.token_of(side) for side in (spec, theirs)]
    if problems := [*filter_specs.unmatched(spec.layers, matched, spec.output_dim, output_dim, tokens)]:
        raise CheckpointError("\n".join(problems))
    known = {"teacher": theirs and theirs.heads, "student": spec.heads}
    run.report(**{f"{side}_heads": heads for side, heads in known.items() if heads})
    if args.filters == "above_chance":
        numbers = filter_specs.above_chance(spec, theirs)
        spec, theirs = filter_specs.picked(spec, numbers), filter_specs.picked(theirs, numbers)
        matched = theirs.layers
        filters.keep(spec.layers)
        seen.keep(matched)
    token = {"token": "mean"} if pooled else {}
    run.report(matched_layers={"student": spec.layers, "teacher": matched, "output_dim": output_dim, **token})
    outputs, layers = teacher, matched
    if args.mode == "ted":
        outputs, layers = (
            models.freeze(models.FilteredModel(teacher, seen, pooled=pooled)),
            range(len(matched)),
        )
    outputs = FrozenOutputs(
        outputs, layers=layers, precision=args.precision, pool=first_token if pooled else None
    )
    return models.FilteredModel(student, filters, pooled=pooled), outputs


def distil(module, student, outputs, data, *, run):
    """Stage II, a baseline or plain fine-tuning of a student.  module, outputs: of pair().  Returns
    training.Result."""
    args = run.args
    if (result := training.finished(run, "train")) is not None:
        return result
    if args.mode == "ft":
        objective, answers = LayerwiseObjective(data.task.kind), lambda batch: None
    else:
        objective = LayerwiseObjective(
            data.task.kind,
            args.kl_alpha,
            args.mse_alpha or 0.0,
            args.temperature,
            args.pad_in_losses,
            args.regression_kl == "listwise",
            pooled=getattr(module, "pooled", False),
        )
        answers = outputs
        if args.cache_teacher:
            outputs.cache(data.train, batch_size=args.per_device_eval_batch_size)
    return training.fit(
        module,
        lambda wrapped, batch: objective(wrapped, batch, answers(batch)),
        data.train,
        settings=run.training,
        run=run,
        evaluate=evaluation.scorer(student, data.selection, metric=args.selection_metric, **run.inference),
        save=models.saver(student, data.tokenizer),
    )


if __name__ == "__main__":
    runs.guard(main, parse)
