"""Distil through a teacher assistant that is chosen in one run (MiniDisc, Zhang et al. 2024; arXiv:2205.14570).

    python run_minidisc.py --task_name mrpc --teacher_model_path outputs/sparsification/mrpc --target_sparsity 90 --lam 0.2
    torchrun --nproc_per_node 4 run_minidisc.py ...
All candidate assistants are trained together, as nested sub-networks of one set of weights; each evaluation scores them by the
trade-off t(A) = m(A) + lam * sparsity(A), m being the dev metric as a fraction; the best state of the best candidate becomes the
teacher of the student. Reads the nested teacher of run_sparsification.py; writes the student, the table of t and its picture.

Candidates are the grid points strictly between teacher and target, from --trunc_sparsity on (a heuristic for speed of the
published code, 0 switches it off). --include_target makes the student's own scale a candidate, as the published code did:
with lam 0.2 it often wins, which means no assistant. Dropout is on in the student while its targets are clean, as published.
"""

from utils import flags, runs


def parse(argv=None):
    """The flags, checked."""
    from data import tasks

    parser = flags.parser(__doc__, flags.task(tasks.NAMES), flags.training, flags.runtime, flags.distillation)
    flags.model_path(parser, "--teacher_model_path", "the nested teacher")
    add = parser.add_argument_group("minidisc").add_argument
    add("--target_sparsity", type=flags.percent, default=90, help="sparsity of the student, in percent, from the teacher's grid")
    add("--target_iteration", type=flags.positive_int, default=2, help="number of assistants + 1")
    add("--lam", type=flags.non_negative, default=0.2, help="lambda: what a sparsity of 100%% is worth, in units of the metric")
    add("--trunc_sparsity", type=flags.percent, default=50, help="smallest sparsity of an assistant; 0: any")
    add("--include_target", action="store_true", help="the student's own scale is a candidate too (the published behaviour)")
    add("--train_grid", choices=("all", "sandwich"), default="all",
        help="train all candidates at every update, or the largest, the smallest and some others")  # fmt: skip
    add("--num_sandwich", type=flags.count, default=2, help="how many others, drawn anew for every update")
    add("--final_hop", choices=("target", "grid"), default="target", help="the last hop trains the student, or its grid with it")

    def check(args):
        from utils import model_types

        config, problem = flags.config_of(args, "teacher_model_path")
        yield from [problem] if problem else []
        yield from model_types.check(args, tasks.get(args.task_name), config, objectives=("sparse", "kd", "pkd"))
        if config:
            yield from flags.check_student(f"{args.target_sparsity:g}S", config, "--target_sparsity")

    name = "{0.task_name}_{0.target_sparsity:g}S".format
    return flags.resolve(parser, argv, stage="minidisc", name=name, check=check)


def main(args):
    """Choose the assistant, distil the student; returns the folder of the student."""
    import models
    from data import tasks
    from data.task_data import TaskData
    from modules.tradeoff import candidates
    from utils import distributed, evaluation, plots

    # ---- Run folder, device, seed, data
    task = tasks.get(args.task_name)
    target = args.target_sparsity
    inputs = {"data": list(task.files(args.data_dir).values()), "teacher": args.teacher_model_path}
    run = runs.start(args, inputs=inputs)
    labels = {"kind": task.kind, "label_names": task.label_names}
    data = TaskData(task, args, tokenizer_path=run.checkpoint if run.finished else args.teacher_model_path)
    if not run.finished:
        path, hops, checkpoints = args.teacher_model_path, [], []
        for iteration in range(1, args.target_iteration + 1):
            # ---- Teacher of this iteration, its candidates
            teacher = models.freeze(models.load_model(path, **labels)).to(run.device)
            own = models.sparsity(teacher)
            if iteration == 1:
                run.report(data=data.sizes(), teacher=models.describe(teacher),
                           teacher_metrics=evaluation.evaluate(teacher, data.dev, args=args))  # fmt: skip
                run.begin()
            points = candidates(models.grid(teacher), own=own, target=target, smallest=args.trunc_sparsity,
                                include_target=args.include_target)  # fmt: skip
            last = iteration == args.target_iteration
            if not (points or last):
                run.report(**{f"iteration_{iteration}": f"no candidate between {own:g}% and {target:g}%: no assistant"})
                continue
            others = points if args.final_hop == "grid" or not last else []
            eligible = [target] if last else points
            # ---- Train the candidates together; keep the best state of the best one
            result = hop(iteration, teacher, sorted({*others, *eligible}), eligible, data=data, run=run)
            path = result.checkpoint
            checkpoints.append(path)
            hops.append({"iteration": iteration, **result.choice, "best_step": result.best_step, "num_steps": result.num_steps,
                         "seconds": result.seconds, "metrics": result.metrics})  # fmt: skip
            if result.choice["pick"] == target:
                break
        # ---- Report, draw, finish
        split = next(iter(data.dev))
        if distributed.is_main():
            for entry, checkpoint in zip(hops[:-1], checkpoints):
                run.keep(checkpoint, f"assistant_{entry['iteration']}", {"task": task.name, "metrics": entry["metrics"]})
                metric = f"{split} {args.selection_metric}"
                plots.tradeoff(run.folder / f"tradeoff_{entry['iteration']}.png", entry["table"], chosen=entry["pick"],
                               lam=args.lam, metric=metric, title=f"{task.name}: the assistant")  # fmt: skip
        student = models.load_model(path, **labels)
        run.finish(path, metrics=result.metrics, last_metrics=result.last_metrics, best_step=result.best_step, hops=hops,
                   assistants=[entry["pick"] for entry in hops[:-1]], model=models.describe(student))  # fmt: skip

    evaluation.test_and_infer(run, models.load_model(run.checkpoint, **labels).to(run.device), data)
    return run.checkpoint


def hop(iteration, teacher, points, eligible, *, data, run):
    """One iteration: train the nested sub-networks at `points` together, select among the `eligible` ones by the trade-off.

    points: ascending sparsities.  The last iteration has one candidate, the target, and its trade-off is the metric alone.
    Returns training.Result; its checkpoint is the chosen sub-network, cropped, with the weights that scored.
    """
    import numpy as np

    import models
    from modules.tradeoff import choose
    from utils import evaluation, logs, training

    args, stage = run.args, f"iteration_{iteration}"
    if (result := training.finished(run, stage)) is not None:
        return result
    student = models.with_dropout(models.crop(teacher, points[0]), args).to(run.device)
    objective, answers = models.teaching(student, teacher, data, args)
    lam = 0.0 if iteration == args.target_iteration else args.lam

    def step(module, batch):
        chosen = points
        if args.train_grid == "sandwich" and len(points) > 2:
            others = np.random.default_rng([args.seed, batch.update]).permutation(points[1:-1])[: args.num_sandwich]
            chosen = [points[0], *sorted(others.tolist()), points[-1]]
        targets = answers(batch)  # the teacher runs once for all sub-networks

        def at(sparsity):
            models.set_sparsity(student, sparsity)
            terms = objective(module, batch, targets)
            return {f"{sparsity:g}/{name}": term / len(chosen) for name, term in terms.items()}

        return [lambda sparsity=sparsity: at(sparsity) for sparsity in reversed(chosen)]  # the largest last: it uses every weight

    def evaluate():
        outputs = {}
        for name, split in data.dev.items():
            outputs[name] = evaluation.predict(
                student, split, batch_size=args.per_device_eval_batch_size, precision=args.precision,
                variants=eligible, use=lambda sparsity: models.set_sparsity(student, sparsity),
            )  # fmt: skip
        models.set_sparsity(student, None)
        scores = {s: {name: data.dev[name].score(outputs[name][s]) for name in outputs} for s in eligible}
        split = next(iter(data.dev))
        pick, rows = choose({s: scores[s][split][args.selection_metric] for s in eligible}, lam=lam)
        if len(rows) > 1:
            logs.logger.info("candidates:\n%s", logs.table(rows))
        score = next(row["t"] for row in rows if row["sparsity"] == pick)
        return evaluation.Score(score, scores[pick], {"pick": pick, "t": score, "table": rows})

    def save(folder, score):
        models.save_model(models.crop(student, score.choice["pick"]), folder, tokenizer=data.tokenizer)

    run.report(**{stage: {"teacher": f"{models.sparsity(teacher):g}%", "trained": points, "candidates": eligible}})
    return training.fit(student, step, data.train, evaluate=evaluate, save=save, args=args, run=run, stage=stage)


if __name__ == "__main__":
    runs.guard(main, parse)
