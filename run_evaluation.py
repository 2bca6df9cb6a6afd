"""Score and measure checkpoints side by side: dev metrics, parameters, MACs, time per example.

    python run_evaluation.py --task_name mrpc --model_path outputs/finetuning/mrpc outputs/minidisc/mrpc_90S
    python run_evaluation.py --task_name mrpc --model_path outputs/sparsification/mrpc --sparsities 0,50,90
Reads any checkpoints of one task; writes a table (results.json, table.csv). MACs by the published convention: linear layers of
the encoder at 128 tokens. Times: median over repeated forward passes of one dev batch of real length, on this machine.
"""

from utils import flags, runs


def parse(argv=None):
    """The flags, checked."""
    from data import tasks

    parser = flags.parser(__doc__, flags.task(tasks.NAMES), flags.runtime)
    add = parser.add_argument_group("evaluation").add_argument
    add("--model_path", nargs="+", required=True, metavar="PATH", help="hub names, checkpoint folders or run folders")
    add("--sparsities", type=flags.percentages, help="for nested checkpoints: one row for each of these; as stored")
    add("--num_repeats", type=flags.positive_int, default=20, help="timed forward passes")

    def check(args):
        from utils import checkpoints, model_types
        from utils.errors import CheckpointError

        for path in args.model_path:
            try:
                config = checkpoints.read_config(path)
                if args.sparsities and config:
                    for sparsity in args.sparsities:
                        yield from flags.check_student(f"{sparsity:g}S", config, f"--sparsities for {path}:")
            except CheckpointError as error:
                yield f"--model_path: {error}"
        args.model_type = None
        yield from model_types.check(args, tasks.get(args.task_name), None)

    return flags.resolve(parser, argv, stage="evaluation", name=lambda args: args.task_name, check=check)


def main(args):
    """Evaluate; returns the run folder."""
    import csv

    import models
    from data import tasks
    from data.task_data import TaskData
    from utils import cost, distributed, evaluation, logs

    task = tasks.get(args.task_name)
    paths = {f"model_{number}": path for number, path in enumerate(args.model_path)}
    run = runs.start(args, inputs={"data": list(task.files(args.data_dir).values()), **paths})
    rows = []
    for path in args.model_path:
        data = TaskData(task, args, tokenizer_path=path)
        model = models.load_model(path, kind=task.kind, label_names=task.label_names).to(run.device)
        first = next(iter(data.dev.values()))
        batch = first.collate(first.in_order(args.per_device_eval_batch_size)[len(first) // args.per_device_eval_batch_size // 2])
        for sparsity in args.sparsities or [None]:
            small = model if sparsity is None else models.crop(model, sparsity)
            metrics = evaluation.evaluate(small, data.dev, args=args)
            passes = cost.latency(small.eval(), batch.to(run.device).inputs, repeats=args.num_repeats)
            time = passes["median_ms"] / len(batch.indices)
            named = {f"{split}/{name}": value for split, values in metrics.items() for name, value in values.items()}
            rows.append({"model": str(path), **named, **models.describe(small), "ms_per_example": round(time, 4)})
    run.begin()
    logs.logger.info("%s", "\n" + logs.table(rows))
    if distributed.is_main():
        with open(run.folder / "table.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
            writer.writeheader()
            writer.writerows(rows)
    run.finish(None, metrics={}, rows=rows)
    return run.folder


if __name__ == "__main__":
    runs.guard(main, parse)
