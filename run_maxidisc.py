"""Distil along a given path of teacher assistants, or along every path with one assistant (MaxiDisc; Zhang et
al. 2024).

    python run_maxidisc.py --task_name mrpc --teacher_model_path outputs/sparsification/mrpc \\
        --layer_or_sparsity_path 80,90S
    python run_maxidisc.py --task_name mrpc --teacher_model_path outputs/sparsification/mrpc --target 90S \\
        --all_paths
Each hop takes the current teacher, cuts the next model from it as run_distillation.py does, and distils it;
what is best on dev, or on the rows held out, is the teacher of the next hop. --all_paths is the maximal
effort that MiniDisc is measured against: every grid point between teacher and target as the assistant (from
--trunc_sparsity on, 50 by default), and none. A hop that was trained before from the same teacher with the
same settings is found in --hops_dir and used again. Writes the best student, score and seconds of every
trial, and a picture.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils import environment, interruptions

    environment.require()
    interruptions.listen()

import hashlib
import json
from pathlib import Path

import models
from data import tasks
from data.task_data import TaskData
from modules import objectives
from utils import checkpoints, distributed, evaluation, files, flags, logs, plots, run_folder, runs, training
from utils.errors import RunError
from utils.metrics import label as metric_label


def parse(argv=None):
    """The flags, checked."""
    groups = (
        flags.training,
        flags.runtime,
        flags.distillation(objectives),
        flags.unlabelled,
        flags.assistants.maxidisc,
    )
    parser = flags.parser(__doc__, flags.task(tasks), *groups)

    def check(args):
        task = tasks.find(args.task_name)
        return flags.assistants.check_maxidisc(args, task, objectives=objectives.OBJECTIVES)

    def name(args):
        return f"{args.task_name}_{'-'.join(args.layer_or_sparsity_path or ['all', args.target])}"

    return flags.resolve(parser, argv, stage="maxidisc", name=name, check=check)


def main(args):
    """Distil along the path or paths; returns the folder of the best student."""
    # ---- Run folder, device, seed, data
    task = tasks.get(args.task_name)
    inputs = {**task.inputs(args.data_dir), "teacher": args.teacher_model_path}
    inputs["unlabelled"] = args.unlabelled_file
    run = runs.start(args, inputs=inputs)
    load = models.loader(task, device=run.device, **flags.how_loaded(args))
    data = TaskData(task, tokenizer_path=run.source(args.teacher_model_path), **flags.data_options(args))
    if not run.finished:
        run.report(data=data.sizes())
        teacher = load(args.teacher_model_path)
        metrics = evaluation.evaluate(teacher, data.selection, **run.inference)
        run.report(teacher=models.describe(teacher), teacher_metrics=metrics)
        run.begin()
        paths = [args.layer_or_sparsity_path] if args.layer_or_sparsity_path else all_paths(teacher, args)
        del teacher  # each hop loads its own
        split, trials = next(iter(data.selection)), []
        for path in paths:
            # ---- One trial: hop by hop, each from the best checkpoint of the one before
            folder, hops = args.teacher_model_path, []
            for number, wanted in enumerate(path):
                hop = one_hop(folder, wanted, "-".join(path[: number + 1]), data=data, run=run, load=load)
                folder = hop["checkpoint"]
                hops.append(hop)
            score = hops[-1]["metrics"][split][args.selection_metric]
            trials.append(
                {
                    "path": path,
                    "score": score,
                    "seconds": sum(hop["seconds"] for hop in hops),
                    "reused": [hop["reused"] for hop in hops],
                    "metrics": hops[-1]["metrics"],
                    "checkpoint": folder,
                    "assistants": [hop["metrics"][split][args.selection_metric] for hop in hops[:-1]],
                    "hops": [{key: hop[key] for key in HOP if key in hop} for hop in hops],
                }
            )
        # ---- The best trial, the table, the picture
        best = max(trials, key=lambda trial: trial["score"])
        rows = [{**trial, "path": " > ".join(trial["path"])} for trial in trials]
        kept = [{key: row[key] for key in ("path", "score", "seconds")} for row in rows]
        run.report(trials=[{**row, "chosen": trial is best} for row, trial in zip(kept, trials)])
        if distributed.is_main() and len(trials) > 1:
            title = f"{task.name}: {args.target} students over the assistant's sparsity"
            draw_trials(
                run.folder, trials, best, metric=metric_label(split, args.selection_metric), title=title
            )
        checkpoint, seconds = best["checkpoint"], sum(trial["seconds"] for trial in trials)
        for trial in trials:
            del trial["checkpoint"]
        found = {"metrics": best["metrics"], "path": best["path"], "total_seconds": seconds}
        found["best_step"] = best["hops"][-1]["best_step"]
        run.finish(checkpoint, **found, trials_in_full=trials, model=models.describe(load(checkpoint)))

    evaluation.test_and_infer(run, load(run.checkpoint), data)
    return run.checkpoint


def all_paths(teacher, args) -> list[list[str]]:
    """The direct path to the target and every path with one assistant from the teacher's grid, or with fewer
    layers."""
    if args.target.endswith("L"):
        between = [f"{n}L" for n in range(len(models.layers(teacher)) - 1, int(args.target[:-1]), -1)]
    else:
        low, high = models.sparsity(teacher), float(args.target[:-1])
        between = [f"{s:g}S" for s in models.grid(teacher) if low < s < high and s >= args.trunc_sparsity]
    return [[args.target], *([assistant, args.target] for assistant in between)]


def draw_trials(folder, trials, chosen, *, metric, title):
    """The picture trials.png: students and assistants over the assistant's sparsity, where it has one; a star
    for the chosen trial.  Returns the matplotlib figure, or None."""
    direct = next((("no assistant", trial["score"]) for trial in trials if len(trial["path"]) == 1), None)
    rows, best = [], None
    for trial in trials:
        if len(trial["path"]) == 2 and trial["path"][0].endswith("S"):
            sparsity = float(trial["path"][0][:-1])
            for series, value in (("student", trial["score"]), ("assistant", trial["assistants"][0])):
                rows.append({"sparsity": sparsity, "metric": value, "series": series})
            if trial is chosen:
                best = (" > ".join(trial["path"]), sparsity, trial["score"])
    if not rows:
        return None
    levels = {"reference": direct, "best": best}
    return plots.over_sparsity(folder / "trials.png", rows, metric=metric, title=title, **levels)


def one_hop(folder, wanted, stage, *, data, run, load) -> dict:
    """Distil `wanted` (90S, 4L) from the teacher in a folder, or find it among the finished hops.

    Returns {"checkpoint": folder, "metrics", "seconds", "reused": whether another run has trained it}.  A hop
    is known by the hash of its teacher, its data, its settings and the number of processes, not by a name.
    That of a dry run is with it in its folder, which goes.
    """
    args = run.args
    settings = run_folder.with_task(flags.settings(args))
    settings = {n: v for n, v in settings.items() if n not in NOT_A_HOPS and not n.endswith("_path")}
    inputs = {name: value for name, value in run.inputs.items() if name.startswith(("data", "unlabelled"))}
    identity = {"student": wanted, "settings": settings, "inputs": inputs}
    identity |= {"teacher": checkpoints.fingerprint(folder), "processes": distributed.world()}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    folder_of_hops = run.folder if args.dry_run else args.hops_dir or run.folder.parent / "hops"
    kept = Path(folder_of_hops) / f"{args.task_name}_{wanted}_{key}"
    if distributed.from_main(kept.exists):  # another run may be about to keep this hop
        logs.logger.info("%s: trained before, taken from %s", stage, kept)
        by_another = training.finished(run, stage) is None
        advice = f"remove {kept} to train it again"
        if not (kept / "ckpt" / "config.json").is_file():
            raise RunError(f"{kept}: damaged (no ckpt/config.json in it); {advice}")
        found = files.read_object(kept / "hop.json", HOP, error=RunError, advice=advice)
        return {**found, "checkpoint": str(kept / "ckpt"), "reused": by_another}
    teacher = models.freeze(load(folder))
    student = models.shrink(teacher, wanted, which=args.layer_choice)
    student = models.for_training(student, **flags.how_trained(args)).to(run.device)
    teacher = models.frozen_in(teacher, args.teacher_dtype)
    options = flags.model_types.objective_options(args, objectives)
    objective = models.objective_for(student, teacher, kind=data.task.kind, **options)
    options = {"metric": args.selection_metric, "cached": run.cached, "run": run, "stage": stage}
    result = models.distil(student, teacher, objective, data, **options)
    found = evaluation.outcome(result, load, data, **run.inference)
    hop = {**found, "seconds": result.seconds, "identity": identity}
    if distributed.is_main():
        with files.new_folder(kept, replace=False) as aside:
            files.link_tree(result.checkpoint, aside / "ckpt")
            files.write_json(aside / "hop.json", hop)
    distributed.barrier()
    return {**hop, "checkpoint": str(kept / "ckpt"), "reused": False}


HOP = {"metrics": dict, "last_metrics": dict, "best_step": int, "num_steps": int, "seconds": float}
NOT_A_HOPS = {"all_paths", "target", "trunc_sparsity", "hops_dir", "data_dir", "unlabelled_file"}

if __name__ == "__main__":
    runs.guard(main, parse)
