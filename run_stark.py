"""Sparsify a teacher for its student, and distil the student again from the sparser teacher (StarK; Yang et
al. 2022).

    python run_stark.py --task_name rte --teacher_model_path outputs/finetuning/rte \\
        --student_model_path outputs/distillation/rte_70S
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
    from utils import environment, interruptions

    environment.require()
    interruptions.listen()

from functools import partial

import models
from data import tasks
from data.task_data import TaskData
from models.knowledge_scores import knowledge_scores
from modules import knowledge, objectives
from modules.tradeoff import choose
from utils import distributed, evaluation, files, flags, plots, runs
from utils.metrics import label as metric_label


def parse(argv=None):
    """The flags, checked."""
    groups = (flags.scoring, flags.training, flags.runtime, flags.distillation(objectives), flags.student)
    parser = flags.parser(__doc__, flags.task(tasks), *groups, flags.unlabelled, flags.stark.stark)

    def check(args):
        return flags.stark.check_stark(args, tasks.find(args.task_name), objectives=objectives.OBJECTIVES)

    return flags.resolve(parser, argv, stage="stark", name=flags.stark.name, check=check)


def main(args):
    """Sparsify the teacher, rewind; returns the folder of the chosen student, or of the sparse teacher."""
    # ---- Run folder, device, seed, data
    task = tasks.get(args.task_name)
    inputs = {
        **task.inputs(args.data_dir),
        "teacher": args.teacher_model_path,
        "trial": args.student_model_path,
        "start": args.student_init_path,
        "unlabelled": args.unlabelled_file,
    }
    run = runs.start(args, inputs=inputs)
    data = TaskData(task, tokenizer_path=run.source(args.teacher_model_path), **flags.data_options(args))
    load = models.loader(task, device=run.device, **flags.how_loaded(args))

    if not run.finished:
        used = {"train": data.train}
        if args.student_model_path:
            used["scored"] = data.scoring_split(args.scoring_split, args.num_scoring_samples)
        run.report(data=data.sizes(**used))
        # ---- Models: the teacher, the trial student, and the state in which the student starts
        for path in filter(None, (args.student_model_path, args.student_init_path)):
            data.check_tokenizer(path)
        teacher = models.freeze(load(args.teacher_model_path))
        trial = models.freeze(load(args.student_model_path)) if args.student_model_path else None
        start = load(args.student_init_path) if args.student_init_path else teacher
        for _, part in flags.student_parts(args):
            start = models.shrink(start, part, which=args.layer_choice)
        run.report(teacher=models.describe(teacher))
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
            # ---- Stage 4: the student again, from its start, once for each teacher
            student = models.describe(start)
            del teacher, trial, start  # the rewinding loads its own
            chosen, results, scores = rewind(sparse_teacher, data, load=load, run=run)
            if args.student_model_path and distributed.is_main():
                facts = {"stage": "sparse teacher", "task": task.name, "metrics": metrics}
                run.keep(sparse_teacher, "sparse_teacher", facts)
            best = results[chosen]
            run.finish(
                best.checkpoint,
                metrics=scores[chosen],
                dense_metrics=scores[0],
                teacher_sparsity=chosen,
                best_step=best.best_step,
                last_metrics=best.last_metrics,
                model=student,
            )

    evaluation.test_and_infer(run, load(run.checkpoint), data)
    return run.checkpoint


def sparsify(teacher, trial, data, *, run):
    """Stage 3.  Sorts the teacher by K and writes it, unless that was done before; returns (its folder, its
    dev metrics)."""
    args, folder, done = run.args, run.state("sparse_teacher"), run.state("sparse_teacher.json")
    if not distributed.from_main(done.exists):
        before = evaluation.evaluate(teacher, data.selection, **run.inference)
        split = data.scoring_split(args.scoring_split, args.num_scoring_samples)
        options = flags.stark.scoring_options(args)
        express, friendly = knowledge_scores(teacher, trial, split, device=run.device, **options)
        heads = knowledge.knowledgeableness(express.heads, friendly.heads, lam=args.lam)
        neurons = knowledge.knowledgeableness(express.neurons, friendly.neurons, lam=args.lam)
        models.sort_units(teacher, heads, neurons, grid=args.grid, normalised=True)
        after = evaluation.evaluate(teacher, data.selection, **run.inference)
        title = f"{data.task.name}, teacher sparsified for its student"
        curve = models.task_curve(teacher, data, metric=args.selection_metric, run=run, title=title)
        models.save_anew(teacher, folder, tokenizer=data.tokenizer)
        if distributed.is_main():
            files.write_json(done, {"before": before, "after": after, "curve": curve})
        distributed.barrier()
    facts = files.read_json(done)
    run.report(**facts)
    return folder, facts["after"]


def rewind(folder, data, *, load, run):
    """Stage 4.  Distils the student again, from its start, once for each sparsity of the teacher in a folder;
    the dense one is not in the choice.

    Returns (the chosen sparsity, {sparsity: training.Result of its student}, {sparsity: metrics, dev's among
    them}).
    """
    args, metric, chooser = run.args, run.args.selection_metric, next(iter(data.selection))
    teacher = models.frozen_in(load(folder), args.teacher_dtype)
    points = args.teacher_sparsities or [s for s in models.grid(teacher) if s > 0]
    options = flags.model_types.objective_options(args, objectives, default="kd")
    training = {"metric": metric, "cached": run.cached, "run": run, "draws": "train"}
    results = {}
    for s in [0, *points]:
        student = models.for_training(load(models.initial_student_folder(run)), **flags.how_trained(args))
        sparser = models.freeze(models.crop(teacher, s))
        objective = models.objective_for(student, sparser, kind=data.task.kind, **options)
        results[s] = models.distil(student, sparser, objective, data, stage=f"rewind_{s:g}", **training)
    # The denser teacher where equal
    chosen, _ = choose({s: results[s].metrics[chooser][metric] for s in points}, lam=0)
    # Dev, once for each student, when the choice is made
    scores = {
        s: evaluation.with_dev(result.metrics, partial(load, result.checkpoint), data, **run.inference)
        for s, result in results.items()
    }
    rows = []
    for s, result in results.items():
        facts = {"best_step": result.best_step, "seconds": result.seconds}
        named = {f"{split}/{name}": v for split, values in scores[s].items() for name, v in values.items()}
        rows.append({"teacher": f"{s:g}%" if s else "dense", **facts, **named, "chosen": s == chosen})
    run.report(rewinds=rows)
    if distributed.is_main():
        plots.over_sparsity(
            run.folder / "rewinds.png",
            [
                {"sparsity": s, "metric": results[s].metrics[chooser][metric], "series": "student"}
                for s in points
            ],
            metric=metric_label(chooser, metric),
            x_label="Teacher's sparsity (% of heads and neurons removed)",
            reference=("student of the dense teacher", scores[0][chooser][metric]),
            best=(f"chosen, teacher of {chosen:g}%", chosen, results[chosen].metrics[chooser][metric]),
            title=f"{data.task.name}: the student over the teacher's sparsity",
        )
    return chosen, results, scores


if __name__ == "__main__":
    runs.guard(main, parse)
