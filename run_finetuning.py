"""Fine-tune any encoder of the architecture table on a task: the teachers of all other stages.

    python run_finetuning.py --task_name mrpc --model_path bert-base-uncased --data_dir datasets
    torchrun --nproc_per_node 4 run_finetuning.py ...  # same flags; the examples per update are printed
    python run_finetuning.py --task_name demo --use_cpu  # generated data, a small BERT from random weights
Reads a pretrained encoder or any checkpoint of this repository; writes a run folder that
run_sparsification.py and run_distillation.py read.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils import environment, interruptions

    environment.require()
    interruptions.listen()

import models
from data import tasks
from data.task_data import TaskData
from modules.objectives import OBJECTIVES, Objective
from utils import evaluation, flags, runs, training


def parse(argv=None):
    """The flags, checked."""
    groups = (flags.training, flags.runtime, flags.class_weights, flags.balance)
    parser = flags.parser(__doc__, flags.task(tasks), *groups)
    flags.model_path(
        parser,
        "--model_path",
        "the encoder; for the demo task also `scratch`, a small BERT with random weights (its default)",
        required=False,
    )
    parser.add_argument("--model_type", help="ftbert_cls, ftbert_ner or ft")
    parser.add_argument(
        "--new_head",
        action="store_true",
        help="replace the checkpoint's head, of whatever task (an MNLI model for RTE), by a new one",
    )

    def check(args):
        task = tasks.find(args.task_name)
        if args.model_path is None and args.task_name == "demo":
            args.model_path = "scratch"
        if args.model_path is None:
            yield "--model_path: required"
            return
        config = None
        if args.model_path != "scratch":
            config = yield from flags.check_config(args, "model_path")
        elif args.task_name != "demo":
            yield (
                f"--model_path scratch: only for --task_name demo; {args.task_name} needs a pretrained "
                "encoder"
            )
        yield from flags.model_types.check_model_type(args, task, config, objectives={"ft": OBJECTIVES["ft"]})
        yield from flags.check_balance(args, config)
        yield from flags.check_hold_out(args, {"model_path": config})

    return flags.resolve(parser, argv, stage="finetuning", name=lambda args: args.task_name, check=check)


def main(args):
    """Fine-tune; returns the folder of the selected checkpoint."""
    # ---- Run folder, device, seed: a finished run is reported, an unfinished one continued, changed settings
    # refused
    task = tasks.get(args.task_name)
    scratch = args.model_path == "scratch"
    weights = None if scratch else args.model_path
    run = runs.start(args, inputs={**task.inputs(args.data_dir), "model": weights})

    # ---- Data
    data = TaskData(task, tokenizer_path=run.source(weights), **flags.data_options(args))
    load = models.loader(task, device=run.device, max_length=args.max_length, **flags.how_loaded(args))
    if not run.finished:
        run.report(data=data.sizes())  # reads all files that will be needed, before any model
        # ---- Model. Where its weights come from, in this order: this run's last state (training.fit restores
        # it); the given checkpoint; for the demo task, random ones
        if scratch:
            how = {"label_names": task.label_names, "attn_implementation": args.attn_implementation}
            model = models.small_bert(data.tokenizer, **how)
            model = models.share_out(model) if args.shard else model
        else:
            model = load(args.model_path, new_head=True, drop_head=args.new_head)
        model = models.for_training(model, **flags.how_trained(args)).to(run.device)
        run.report(model=models.describe(model))
        # ---- Objective: the loss against the gold labels; with experts, that they share the work
        objective = Objective("ft", task.kind, layers=[])
        balance = models.Balance(model, args.load_balance_weight, num_parts=args.num_grad_accum_steps)
        run.begin()
        # ---- Train, then keep the epoch that was best on dev, or on the rows held out
        result = training.fit(
            model,
            balance.beside(lambda student, batch: objective(student, batch, None)),
            data.train,
            settings=run.training,
            run=run,
            watch=balance,
            evaluate=evaluation.scorer(model, data.selection, metric=args.selection_metric, **run.inference),
            save=models.saver(model, data.tokenizer),
        )
        run.finish(result.checkpoint, **evaluation.outcome(result, load, data, **run.inference))

    evaluation.test_and_infer(run, load(run.checkpoint), data)
    return run.checkpoint


if __name__ == "__main__":
    runs.guard(main, parse)
