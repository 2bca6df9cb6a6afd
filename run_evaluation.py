"""Score, measure and export checkpoints; answer new text with one; a page about all runs.

    python run_evaluation.py --task_name mrpc --model_path outputs/finetuning/mrpc outputs/minidisc/mrpc_90S
    python run_evaluation.py --task_name mrpc --model_path outputs/sparsification/mrpc --sparsities 0,50,90
    python run_evaluation.py --task_name mrpc --teacher_model_path outputs/finetuning/mrpc \\
        --model_path a b --compare
    python run_evaluation.py --task_name mrpc --model_path outputs/minidisc/mrpc_90S --export compact onnx
    python run_evaluation.py --task_name mrpc --model_path outputs/minidisc/mrpc_90S \\
        --predict new.tsv > answers.tsv
    python run_evaluation.py --task_name ax --model_path outputs/minidisc/mnli_90S --do_infer
    python run_evaluation.py --report outputs
Reads any checkpoints of one task; writes tables (terminal, results.json, table.csv) and a picture, metric
over cost. MACs by the published convention: linear layers of the encoder at 128 tokens. FLOPs as torch counts
them: two for each multiply-accumulate of all products. Times are those of this machine: 1 and 32 examples, of
real lengths and of 128 tokens.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils import environment, interruptions

    environment.require()
    interruptions.listen()

from functools import partial
from pathlib import Path

import torch

import models
from data import answer_lines, new_rows, tasks
from data.task_data import TaskData
from models import exporting, measuring
from utils import (
    checkpoints,
    distributed,
    evaluation,
    evaluation_tables,
    files,
    flags,
    logs,
    plots,
    report,
    runs,
    timing,
)
from utils.metrics import label as metric_label


def parse(argv=None):
    """The flags, checked."""
    parser = flags.parser(
        __doc__, flags.evaluation.evaluation(tasks, formats=answer_lines.FORMATS), flags.inference
    )
    check = partial(flags.evaluation.check_evaluation, tasks=tasks)
    return flags.resolve(parser, argv, stage="evaluation", name=flags.evaluation.run_name, check=check)


def main(args):
    """Do what is asked for; returns the run folder, or the page, or nothing after predicting."""
    if args.report is not None:
        return report.write(args.report, args.output_dir)
    if args.do_infer:
        return write_submissions(args)
    return answer_rows(args) if args.predict is not None else score_and_export(args)


def score_and_export(args):
    """Score and measure checkpoints, export one; returns the run folder."""
    # ---- Run folder, device
    paths = flags.evaluation.model_paths(args)
    task = tasks.get(args.task_name).judged_by(args.selection_metric)
    inputs = {
        "data": list(task.files(args.data_dir).values()),
        **{f"model_{i}": path for i, path in enumerate(paths)},
    }
    run = runs.start(args, inputs=inputs)
    targets = {
        kind: Path(run.folder if args.dry_run else args.export_dir) / kind for kind in args.export or ()
    }
    exporting.require_new(targets, run=run)
    if args.num_threads:
        torch.set_num_threads(args.num_threads)

    # ---- One row for each checkpoint, or for each sparsity of it; then for each graph of the last one
    load = models.loader(task, max_length=args.max_length, device=run.device, unnamed_labels=args.label_names)
    rows, answers, model, data = measured(paths, task, load=load, run=run)
    run.begin()
    exports, of_graphs = exported(model, targets, data, rows[-1], run=run)
    rows += [row for row, _ in of_graphs]
    answers += [found for _, found in of_graphs]

    # ---- Differences, tables, picture
    splits = data.labelled(args.split)
    if args.compare:
        measuring.add_differences(
            rows, answers, splits, task=task, samples=args.num_resamples, seed=args.seed
        )
    hardware = measuring.hardware(run.device, rows)
    logs.logger.info("%s\n\n%s", hardware, evaluation_tables.text(rows, splits=splits))
    if distributed.is_main():
        evaluation_tables.write_csv(run.folder / "table.csv", rows)
        metric = f"{next(iter(splits))}/{args.selection_metric}"
        of_rows = f", {len(next(iter(splits.values())))} rows" if args.max_eval_samples else ""
        plots.costs(
            run.folder / "costs.png",
            evaluation_tables.panels(rows, metric),
            metric=metric_label(*metric.split("/", 1)),
            title=f"{task.name}{of_rows}: {hardware}",
        )
    run.report(hardware=hardware, **({"exports": exports} if exports else {}))
    run.finish(None, metrics={}, rows=rows)
    return run.folder


def measured(paths, task, *, load, run):
    """Score and time checkpoints, or the sparsities of them.

    Returns (their rows of the table, their answers as models.measuring.measure() gives them, the last model,
    its TaskData).
    """
    args, rows, answers = run.args, [], []
    for path, name in zip(paths, flags.evaluation.short_names(paths)):
        data = TaskData(task, tokenizer_path=path, **flags.data_options(args))
        splits = data.labelled(args.split)
        if not rows:
            run.report(data={split: len(rows_of) for split, rows_of in splits.items()})
        whole = load(path)
        is_teacher = args.teacher_model_path is not None and not rows
        for sparsity in [None] if is_teacher else args.sparsities or [None]:
            model = whole if sparsity is None else models.crop(whole, sparsity)
            facts = measuring.facts(model)
            options = {"repeats": args.num_repeats, "device": run.device, **run.inference}
            row, found = measuring.measure(model, splits, facts=facts, **options)
            rows.append(
                {
                    "name": name if sparsity is None else f"{name} {sparsity:g}S",
                    "model": str(path),
                    "runtime": "torch",
                    "teacher": is_teacher,
                    **row,
                    **facts,
                    "disk_bytes": checkpoints.weight_bytes(path) if sparsity is None else None,
                }
            )
            answers.append(found)
    return rows, answers, model, data


def exported(model, targets, data, row, *, run):
    """Export a model, the only one but for a teacher; its graphs are scored and timed as models are.  Each
    export's card has the scores of what lies beside it.

    targets: {kind: folder}.  data: of the task.  row: of the model, in the table.
    Returns ({kind: what models.exporting.export() says of it}, [(row, answers) of each graph]).
    """
    args, exports, of_graphs, splits = run.args, {}, [], data.labelled(run.args.split)
    for kind, folder in targets.items():
        exporting.note_begun(kind, run=run)
        exports[kind] = exporting.export(
            model,
            kind,
            folder,
            next(iter(splits.values())),
            tokenizer=data.tokenizer,
            task_kind=data.task.kind,
            batch_size=args.per_device_eval_batch_size,
        )
        scored = [row]
        if kind == "onnx":
            options = {"repeats": args.num_repeats, "device": torch.device("cpu"), **run.inference}
            for runtime, (graph, size) in exporting.graphs(folder).items():
                own, found = measuring.measure(graph, splits, facts=row, **options)
                own |= {"name": f"{row['name']} {runtime}", "runtime": runtime}
                own |= {"bytes": size, "disk_bytes": size, "teacher": False}
                of_graphs.append(({**row, **own}, found))
            scored = [each for each, _ in of_graphs]
        exporting.write_card(kind, folder, scored, splits=splits, run=run)
    return exports, of_graphs


def write_submissions(args):
    """Answer the test files of a task as GLUE wants it; returns the run folder."""
    task, path = tasks.get(args.task_name), args.model_path[0]
    run = runs.start(args, inputs={"data": list(task.files(args.data_dir).values()), "model": path})
    data = TaskData(task, tokenizer_path=path, **flags.data_options(args))
    run.report(data={name: len(split) for name, split in data.inferred.items()})
    model = model_to_answer(args, task, run.device)
    if not run.finished:
        run.begin()
        run.finish(None, metrics={})
    evaluation.test_and_infer(run, model, data)
    return run.folder


def answer_rows(args):
    """Answer the rows of a file or of standard input on standard output, in their order, a part at a time."""
    task, path, device = tasks.get(args.task_name), args.model_path[0], runs.prepare(args)
    logs.start(is_main=True)
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    data = TaskData(task, tokenizer_path=path, **flags.data_options(args))
    can_be_said = partial(answer_lines.check, kind=task.kind, format=args.predict_format)
    new_rows.check_file(args.predict, task, can_be_said)
    model = model_to_answer(args, task, device)
    runner = timing.AutocastModel(model, device=device, precision=args.precision)
    lines = answer_lines.heading(task, args.predict_format)
    for examples in new_rows.read_parts(args.predict, task, size=args.per_device_eval_batch_size):
        split = data.tokenised(examples)
        outputs = evaluation.logits(runner, split, batch_size=args.per_device_eval_batch_size, device=device)
        lines += answer_lines.of_split(split, outputs, args.predict_format)
        with files.writing("standard output"):
            print(*lines, sep="\n", flush=True)
        lines = []
    for line in lines:  # of no rows
        print(line)


def model_to_answer(args, task, device):
    """The model of --model_path, cut where a sparsity is asked for."""
    options = {"max_length": args.max_length, "unnamed_labels": args.label_names}
    model = models.loader(task, device=device, **options)(args.model_path[0])
    return models.crop(model, args.sparsities[0]) if args.sparsities else model


if __name__ == "__main__":
    runs.guard(main, parse)
