"""Distil through a teacher assistant that is chosen in one run (MiniDisc, Zhang et al. 2024;
arXiv:2205.14570).

    python run_minidisc.py --task_name mrpc --teacher_model_path outputs/sparsification/mrpc \\
        --target_sparsity 90 --lam 0.2
    torchrun --nproc_per_node 4 run_minidisc.py ...
All candidate assistants are trained together, as nested sub-networks of one set of weights, and with them the
student's own scale and what lies beyond, so that the second hop starts from a student that has learnt. Each
evaluation scores the candidates by the trade-off t = metric + lambda x sparsity / 100, the dev metric as a
fraction, the sparsity in percent; the best state of the best candidate becomes the teacher of the student.
Reads the nested teacher of run_sparsification.py; writes the student, the table of t and its picture, and
what the student's own slice of the first hop is worth: joint training alone gives something.

Candidates are the multiples of ten of the teacher's grid strictly between teacher and target, from
--trunc_sparsity on (a heuristic for speed of the published code, 0 switches it off); --candidates 70,80 are
these two, --candidates grid is the published set, with 85. --include_target makes the student's own scale a
candidate, as the published code did: with lam 0.2 it often wins, which means no assistant. Dropout is on in
the student while its targets are clean, as published.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils import environment, interruptions

    environment.require()
    interruptions.listen()

import dataclasses

import numpy as np

import models
from data import tasks
from data.task_data import TaskData
from modules import objectives
from modules.tradeoff import candidates, choose, trained_together
from utils import distributed, evaluation, flags, logs, plots, runs, training
from utils.metrics import label as metric_label


def parse(argv=None):
    """The flags, checked."""
    groups = (
        flags.training,
        flags.runtime,
        flags.distillation(objectives),
        flags.unlabelled,
        flags.assistants.minidisc,
    )
    parser = flags.parser(__doc__, flags.task(tasks), *groups)
    with_teacher = {name: row for name, row in objectives.OBJECTIVES.items() if name != "ft"}

    def check(args):
        task = tasks.find(args.task_name)
        return flags.assistants.check_minidisc(args, task, objectives=with_teacher)

    name = "{0.task_name}_{0.target_sparsity:g}S".format
    return flags.resolve(parser, argv, stage="minidisc", name=name, check=check)


def main(args):
    """Choose the assistant, distil the student; returns the folder of the student."""
    # ---- Run folder, device, seed, data
    task = tasks.get(args.task_name)
    target = args.target_sparsity
    target = int(target) if target == int(target) else target  # 90 as in the grid
    inputs = {**task.inputs(args.data_dir), "teacher": args.teacher_model_path}
    inputs["unlabelled"] = args.unlabelled_file
    run = runs.start(args, inputs=inputs)
    load = models.loader(task, device=run.device, **flags.how_loaded(args))
    data = TaskData(task, tokenizer_path=run.source(args.teacher_model_path), **flags.data_options(args))

    if not run.finished:
        run.report(data=data.sizes())
        path, hops, checkpoints = args.teacher_model_path, [], []
        for iteration in range(1, args.target_iteration + 1):
            # ---- Teacher of this iteration, its candidates
            teacher = models.freeze(load(path))
            if iteration == 1:
                teacher_metrics = evaluation.evaluate(teacher, data.selection, **run.inference)
                run.report(teacher=models.describe(teacher), teacher_metrics=teacher_metrics)
                run.begin()
            grid, own = models.grid(teacher), models.sparsity(teacher)
            bounds = {"own": own, "smallest": args.trunc_sparsity}
            wanted = {"wanted": args.candidates, "include_target": args.include_target}
            eligible = candidates(grid, target=target, **bounds, **wanted)
            if iteration == args.target_iteration:
                trained = eligible = [target]
                if args.final_hop == "grid":
                    trained = trained_together(grid, eligible, **bounds)
            elif eligible:
                trained = trained_together(grid, eligible, **bounds)
            else:
                said = f"none between {own:g}% and {target:g}%: no assistant"
                run.report(**{f"iteration_{iteration}": said})
                continue
            # ---- Train the sub-networks together; keep the best state of the best candidate
            result = hop(iteration, teacher, trained, eligible, data=data, run=run)
            path = result.checkpoint
            checkpoints.append(path)
            facts = {"seconds": result.seconds, "trained": trained}
            hops.append({"iteration": iteration, **result.choice, **result.outcome, **facts})
            if result.choice["pick"] == target:
                break
        # ---- Beside the student, its own slice of the first hop, of the weights the assistant was chosen for
        if len(hops) > 1:
            with_slice = models.crop(load(checkpoints[0]), target)
            own_slice = evaluation.evaluate(with_slice, data.selection, **run.inference)
            own_slice = evaluation.with_dev(own_slice, lambda: with_slice, data, **run.inference)
            run.report(slice_of_first_hop={"sparsity": f"{target:g}%", "metrics": own_slice})
        # ---- Report, draw, finish
        if distributed.is_main():
            split, metric = next(iter(data.selection)), args.selection_metric
            labels = {"metric": metric_label(split, metric), "title": f"{task.name}: the assistant"}
            labels["teacher"] = teacher_metrics[split][metric]
            for entry, checkpoint in zip(hops[:-1], checkpoints):
                number, results = entry["iteration"], {"task": task.name, "metrics": entry["metrics"]}
                run.keep(checkpoint, f"assistant_{number}", results)
                chosen, picture = entry["pick"], run.folder / f"tradeoff_{number}.png"
                plots.tradeoff(picture, entry["table"], chosen=chosen, lam=args.lam, **labels)
        found = evaluation.outcome(result, load, data, **run.inference)
        if len(hops) > 1:
            note_better_slice(own_slice, found["metrics"], data=data, metric=args.selection_metric)
        picks = [entry["pick"] for entry in hops[:-1]]
        run.finish(path, **found, hops=hops, assistants=picks, model=models.describe(load(path)))

    evaluation.test_and_infer(run, load(run.checkpoint), data)
    return run.checkpoint


def note_better_slice(own_slice, student, *, data, metric):
    """Say so where the slice of the first hop, which costs nothing more, is worth more than the student.
    Both: {split: {metric: value}}."""
    split = next(iter(data.selection))
    slice_score, score = own_slice[split][metric], student[split][metric]
    if slice_score > score:
        said = "the slice of the first hop is better than the student (%s/%s %.4f against %.4f)"
        advice = "; train the student for more epochs, or at another learning rate"
        logs.logger.info(said + advice, split, metric, slice_score, score)


def hop(iteration, teacher, points, eligible, *, data, run):
    """One iteration: train the nested sub-networks at `points` together, select among the `eligible` ones by
    the trade-off.

    points: ascending sparsities, the eligible ones among them.  The last iteration has one candidate, the
    target, and its trade-off is the metric alone.
    Returns training.Result; its checkpoint is the chosen sub-network, cropped, with the weights that scored.
    """
    args, stage, settings = run.args, f"iteration_{iteration}", run.training
    if args.learning_rates:
        settings = dataclasses.replace(settings, learning_rate=args.learning_rates[iteration - 1])
    facts = {"teacher": f"{models.sparsity(teacher):g}% sparse", "trained": points, "candidates": eligible}
    run.report(**{stage: facts})
    if (result := training.finished(run, stage)) is not None:
        return result
    student = models.for_training(models.crop(teacher, points[0]), **flags.how_trained(args)).to(run.device)
    teacher = models.frozen_in(teacher, args.teacher_dtype)
    options = flags.model_types.objective_options(args, objectives)
    objective = models.objective_for(student, teacher, kind=data.task.kind, **options)
    targets_of = models.teacher_targets(teacher, objective, data.train, cached=run.cached, **run.inference)
    lam = 0.0 if iteration == args.target_iteration else args.lam

    def use(sparsity):
        models.set_sparsity(student, sparsity)

    def step(module, batch):
        chosen = points
        if args.train_grid == "sandwich" and len(points) > 2:
            generator = np.random.default_rng([args.seed, batch.update])
            others = generator.permutation(points[1:-1])[: args.num_sandwich]
            chosen = [points[0], *sorted(others.tolist()), points[-1]]
        targets = targets_of(batch)  # the teacher runs once for all sub-networks

        def at(sparsity):
            use(sparsity)
            terms = objective(module, batch, targets)
            return {f"{sparsity:g}/{name}": term / len(chosen) for name, term in terms.items()}

        # The largest last: it uses every weight
        return [lambda sparsity=sparsity: at(sparsity) for sparsity in reversed(chosen)]

    def evaluate():
        scores = {s: {} for s in eligible}
        for name, split in data.selection.items():
            outputs = evaluation.predict(student, split, variants=eligible, use=use, **run.inference)
            for s in eligible:
                scores[s][name] = split.score(outputs[s])
        use(None)
        chooser = next(iter(data.selection))
        pick, rows = choose({s: scores[s][chooser][args.selection_metric] for s in eligible}, lam=lam)
        t = next(row["t"] for row in rows if row["sparsity"] == pick)
        choice = {"pick": pick, "t": t} if len(rows) > 1 else {"pick": pick}
        return evaluation.Score(t, scores[pick], {**choice, "table": rows})

    def save(folder, score):
        models.save_model(models.crop(student, score.choice["pick"]), folder, tokenizer=data.tokenizer)

    parts = {"evaluate": evaluate, "save": save, "settings": settings, "run": run, "stage": stage}
    parts["beside"] = [teacher, targets_of.outputs]
    result = training.fit(student, step, data.train, **parts)
    if len(eligible) > 1:
        logs.logger.info("%s, candidates:\n%s", stage, logs.table(result.choice["table"]))
    return result


if __name__ == "__main__":
    runs.guard(main, parse)
