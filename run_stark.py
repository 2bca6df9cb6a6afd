"""Sparsify a teacher for its student, and distil the student again from the sparser teacher (StarK; Yang et
al. 2022).

    python run_stark.py --task_name rte --teacher_model_path outputs/finetuning/rte \
        --student_model_path outputs/distillation/70S
    python run_stark.py --task_name rte --teacher_model_path outputs/stark/rte \\
        --do_rewind --student_init_path outputs/sparsification/rte --student_sparsity 70     # or both at once
With --student_model_path, the trial student (run_distillation.py --model_type kd --temperature 2): scores
every head and neuron of the teacher by K = lam * expressiveness + (1 - lam) * friendliness to that student,
and writes the teacher, sorted, with its grid. Nothing is trained. Without it the teacher must be sparse
already.
With --do_rewind: the student starts again from where the trial started (--student_init_path with
--student_sparsity or --student_layer), once for each of --teacher_sparsities, with the trial's data order;
the best one is kept. The dense teacher's student is reported beside and never chosen. With --hold_out, from
the fine-tuning on, rows of train that no stage has seen choose checkpoints and teacher, and leave dev clean.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils import interruptions

    interruptions.listen()

import torch

import models
from data import tasks
from data.task_data import TaskData
from modules import importance, knowledge, losses, objectives
from modules.tradeoff import choose
from utils import distributed, evaluation, families, files, flags, plots, runs


def parse(argv=None):
    """The flags, checked."""
    groups = (flags.scoring, flags.training, flags.runtime, flags.distillation(objectives), flags.student)
    parser = flags.parser(__doc__, flags.task(tasks.NAMES), *groups)
    parser.set_defaults(temperature=2.0)
    flags.model_path(
        parser, "--teacher_model_path", "the fine-tuned teacher; without a trial student, the sparse one"
    )
    flags.model_path(
        parser,
        "--student_model_path",
        "the trial student, that the teacher is sparsified for",
        required=False,
    )
    flags.model_path(
        parser, "--student_init_path", "what the trial started from; the teacher", required=False
    )
    add = parser.add_argument_group("stark").add_argument
    add(
        "--lam",
        type=flags.fraction,
        default=0.5,
        help="lambda: 1, expressiveness alone; 0, student-friendliness alone",
    )
    add(
        "--friendliness_loss",
        choices=("soft_ce", "kl"),
        default="soft_ce",
        help="kl leaves the teacher's entropy out",
    )
    add(
        "--friendliness_sign",
        choices=("abs", "signed"),
        default="abs",
        help="signed: below 0 where removing the unit would lower the student's loss",
    )
    add(
        "--grid",
        type=flags.percentages,
        default="0,10,20,30,40,50,60,70,80,90",
        help="sparsities of the teacher in percent",
    )
    add("--do_rewind", action="store_true", help="distil the student again, from sparser teachers")
    add("--teacher_sparsities", type=flags.percentages, help="grid points to rewind with; all above 0")

    def name(args):
        parts = flags.student_parts(args)
        return f"{args.task_name}_{parts[0][1] if parts else 'rewound'}" if args.do_rewind else args.task_name

    return flags.resolve(parser, argv, stage="stark", name=name, check=check)


def check(args):
    """Yield what is wrong with the flags, as far as the checkpoints' configs tell."""
    configs = {}
    for flag in ("teacher_model_path", "student_model_path", "student_init_path"):
        configs[flag] = yield from flags.config(args, flag)
        yield from flags.model_types.check_model_type(
            args, tasks.find(args.task_name), configs[flag], objectives={"kd": objectives.OBJECTIVES["kd"]}
        )
    yield from flags.check_hold_out(args, configs, trained=configs)
    teacher, scoring, parts = (
        configs["teacher_model_path"],
        args.student_model_path,
        flags.student_parts(args),
    )
    if args.friendliness_loss == "kl" and args.friendliness_sign == "abs":
        yield (
            "--friendliness_loss kl with --friendliness_sign abs: this gradient is large where teacher and "
            "student disagree, "
            "and its absolute value would keep the units that cause the disagreement; add "
            "--friendliness_sign signed"
        )
    for flag in ("student_model_path", "student_init_path"):
        sizes = [config.get("vocab_size") for config in (configs[flag], teacher) if config]
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            yield (
                f"--{flag}: its vocabulary has {sizes[0]} pieces, the teacher's {sizes[1]}; they read the "
                "same ids"
            )
    compression = (teacher or {}).get("compression") or {}
    grid = args.grid if scoring else sorted(float(key) for key in compression.get("grid", {}))
    if compression.get("sparsity"):
        yield (
            f"--teacher_model_path: cropped to a sparsity of {compression['sparsity']:g}; expected a teacher "
            "with all its units"
        )
    elif teacher and not scoring and not grid:
        yield (
            "--teacher_model_path: not nested (no grid in its config); give --student_model_path to have it "
            "sparsified first"
        )
    if not args.do_rewind:
        given = {
            "--student_init_path": args.student_init_path,
            "--teacher_sparsities": args.teacher_sparsities,
        }
        for flag in (flag for flag, value in given.items() if value):
            yield f"{flag}: has a meaning only with --do_rewind"
        if not scoring:
            yield (
                "--student_model_path: required, the trial student; or --do_rewind, where the teacher is "
                "sparse already"
            )
        yield from check_trial(configs["student_model_path"], parts)
        return
    if len(parts) > 1:
        yield f"{' and '.join(flag for flag, _ in parts)}: each says which part the student is; give one"
    if not args.student_init_path and not (scoring and parts):
        yield "--student_init_path: required, what the trial distillation started from" + (
            ", or a part of the teacher (--student_sparsity, --student_layer)" if scoring else ""
        )
    source = "student_init_path" if args.student_init_path else "teacher_model_path"
    for flag, part in parts if configs[source] else ():
        yield from flags.check_student(
            part, configs[source], flag, source="checkpoint" if args.student_init_path else "teacher"
        )
    for s in args.teacher_sparsities or ():
        if s == 0:
            yield (
                "--teacher_sparsities: 0 is the dense teacher, whose student is always reported and never "
                "chosen; leave it out"
            )
        elif grid and s not in grid:
            yield (
                f"--teacher_sparsities {s:g}: not in the teacher's grid: "
                f"{', '.join(f'{point:g}' for point in grid)}"
            )


def check_trial(config, parts):
    """Yield what contradicts the trial student's config (None: not known), where nothing is rewound: as
    published, no more."""
    sizes = {
        "S": ((config or {}).get("compression") or {}).get("sparsity", 0),
        "L": families.size(config, "layers") if config else None,
    }
    for flag, part in parts if config else ():
        if float(part[:-1]) != sizes[part[-1]]:
            yield (
                f"{flag} {part[:-1]}: the trial student has {sizes['L']} layers and a sparsity of "
                f"{sizes['S']:g}%"
            )


def main(args):
    """Sparsify the teacher, rewind; returns the folder of the chosen student, or of the sparse teacher."""
    # ---- Run folder, device, seed, data
    task = tasks.get(args.task_name)
    paths = {
        "teacher": args.teacher_model_path,
        "trial": args.student_model_path,
        "start": args.student_init_path,
    }
    run = runs.start(args, inputs={"data": list(task.files(args.data_dir).values()), **paths})
    data = TaskData(task, tokenizer_path=run.source(args.teacher_model_path), **flags.data_options(args))
    load = models.loader(task, device=run.device)

    if not run.finished:
        # ---- Models: the teacher, the trial student, and the state in which the student starts
        for path in filter(None, (args.student_model_path, args.student_init_path)):
            data.check_tokenizer(path)
        teacher = models.freeze(load(args.teacher_model_path))
        trial = models.freeze(load(args.student_model_path)) if args.student_model_path else None
        start = load(args.student_init_path) if args.student_init_path else teacher
        for _, part in flags.student_parts(args):
            start = models.shrink(start, part, which=args.layer_choice)
        run.report(data=data.sizes(), teacher=models.describe(teacher))
        if trial is not None:
            run.report(
                trial=models.describe(trial),
                trial_metrics=evaluation.evaluate(trial, data.selection, **run.inference),
            )
        run.begin()
        sparse_teacher, metrics = args.teacher_model_path, {}
        if args.do_rewind:
            models.save_initial_student(start, run, tokenizer=data.tokenizer)

        # ---- Stage 3: the teacher is sorted by what its units do for the task and for this student
        if trial is not None:
            sparse_teacher, metrics = sparsify(teacher, trial, data, run=run)
        if not args.do_rewind:
            run.finish(sparse_teacher, metrics=metrics, model=models.describe(teacher))
        else:
            # ---- Stage 4: the student again, from its start, once for each teacher; the dense one is not in
            # the choice
            teacher = models.freeze(load(sparse_teacher))
            points = args.teacher_sparsities or [s for s in models.grid(teacher) if s > 0]
            options = flags.model_types.objective_options(args, objectives, default="kd")
            chooser, metric, results = next(iter(data.selection)), args.selection_metric, {}
            for s in [0, *points]:
                student = models.with_dropout(
                    load(models.initial_student_folder(run)), **flags.dropouts(args)
                )
                sparser = models.freeze(models.crop(teacher, s))
                objective = models.objective_for(student, sparser, kind=task.kind, **options)
                results[s] = models.distil(
                    student,
                    sparser,
                    objective,
                    data,
                    metric=metric,
                    cached=args.cache_teacher,
                    run=run,
                    stage=f"rewind_{s:g}",
                    draws="train",
                )
            chosen, _ = choose(
                {s: results[s].metrics[chooser][metric] for s in points}, lam=0
            )  # the denser teacher where equal
            best = results[chosen]
            # ---- Dev, once for each student, when the choice is made
            scores = {
                s: evaluation.with_dev(
                    result.metrics, lambda path=result.checkpoint: load(path), data, **run.inference
                )
                for s, result in results.items()
            }
            run.report(
                rewinds=[
                    {
                        "teacher": f"{s:g}%" if s else "dense",
                        "best_step": result.best_step,
                        "seconds": result.seconds,
                    }
                    | {
                        f"{split}/{name}": value
                        for split, values in scores[s].items()
                        for name, value in values.items()
                    }
                    | {"chosen": s == chosen}
                    for s, result in results.items()
                ]
            )
            if distributed.is_main():
                rows = [{"sparsity": s, "metric": results[s].metrics[chooser][metric]} for s in points]
                plots.over_sparsity(
                    run.folder / "rewinds.png",
                    rows,
                    metric=f"{chooser} {metric}",
                    reference=("student of the dense teacher", scores[0][chooser][metric]),
                    title=f"{task.name}: the student over the teacher's sparsity",
                )
                if trial is not None:
                    run.keep(sparse_teacher, "sparse_teacher", {"task": task.name, "metrics": metrics})
            run.finish(
                best.checkpoint,
                metrics=scores[chosen],
                dense_metrics=scores[0],
                teacher_sparsity=chosen,
                best_step=best.best_step,
                last_metrics=best.last_metrics,
                model=models.describe(start),
            )

    evaluation.test_and_infer(run, load(run.checkpoint), data)
    return run.checkpoint


def sparsify(teacher, trial, data, *, run):
    """Stage 3.  Sorts the teacher by K and writes it, unless that was done before; returns (its folder, its
    dev metrics)."""
    args, folder, done = run.args, run.state("sparse_teacher"), run.state("sparse_teacher.json")
    if not done.exists():
        before = evaluation.evaluate(teacher, data.selection, **run.inference)
        express, friendly = scores(
            teacher, trial, data.scoring_split(args.scoring_split, args.num_scoring_samples), run=run
        )
        heads = knowledge.knowledgeableness(express.heads, friendly.heads, lam=args.lam)
        neurons = knowledge.knowledgeableness(express.neurons, friendly.neurons, lam=args.lam)
        models.sort_units(teacher, heads, neurons, grid=args.grid, normalised=True)
        after = evaluation.evaluate(teacher, data.selection, **run.inference)
        title = f"{data.task.name}, teacher sparsified for its student"
        curve = models.task_curve(teacher, data, metric=args.selection_metric, run=run, title=title)
        if distributed.is_main():
            with files.new_folder(folder) as aside:
                models.save_model(teacher, aside, tokenizer=data.tokenizer)
            files.write_json(done, {"before": before, "after": after, "curve": curve})
        distributed.barrier()
    facts = files.read_json(done)
    run.report(**facts)
    return folder, facts["after"]


def scores(teacher, trial, split, *, run):
    """(expressiveness, friendliness) of all units as importance.Accumulators: one forward of the teacher, two
    gradients."""
    args, kind = run.args, split.task.kind
    with models.scoring_masks(teacher) as masks:
        express = importance.Accumulator(masks)
        friendly = importance.Accumulator(masks, signed=args.friendliness_sign == "signed")
        for indices in evaluation.share(split.epoch(args.seed, 0, args.scoring_batch_size)):
            batch = split.collate(indices).to(run.device)
            with torch.no_grad():
                student_logits = batch.through(trial).logits
            logits = batch.through(teacher).logits
            soft = knowledge.friendliness_loss(
                student_logits,
                logits,
                kind=kind,
                loss=args.friendliness_loss,
                temperature=args.temperature,
                mask=losses.scored_tokens(batch.labels, batch.mask, kind=kind),
            )
            task_loss = losses.task_loss(logits, batch.labels, kind=kind, mask=batch.mask)
            express.add(task_loss, weight=len(indices), retain_graph=True)
            friendly.add(soft, weight=len(indices))
        express.reduce(distributed.all_reduce)
        friendly.reduce(distributed.all_reduce)
    return express, friendly


if __name__ == "__main__":
    runs.guard(main, parse)
