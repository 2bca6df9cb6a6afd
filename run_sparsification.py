"""Sort a fine-tuned model's heads and neurons by importance and write the grid of sparsities (MiniDisc; no training).

    python run_sparsification.py --task_name mrpc --model_path outputs/finetuning/mrpc
Reads a fine-tuned checkpoint; writes the same function, reordered ("nested"): every sparsity of the grid is a prefix of its
weights. run_distillation.py and run_minidisc.py read it. Prints and draws the dev metric, parameters and MACs at each sparsity.

The importance of a head or neuron is the sum over batches of |d loss / d mask| (Michel et al. 2019), scaled to unit norm in each
layer, ranked over all layers. It is taken on a sample of train: dev chooses and reports, so it must not score. Caution: a model
that fits its training data perfectly has small gradients there; --scoring_split dev is what the published code does.
"""

from utils import flags, runs


def parse(argv=None):
    """The flags, checked."""
    from data import tasks

    parser = flags.parser(__doc__, flags.task(tasks.NAMES), flags.scoring, flags.runtime)
    flags.model_path(parser, "--model_path", "the fine-tuned model")
    add = parser.add_argument_group("sparsification").add_argument
    add("--teacher_model_path", help="the papers' name of --model_path")
    add("--model_type", help="sparsebert_cls, sparsebert_ner or ft")
    add("--grid", type=flags.percentages, default="0,10,20,30,40,50,60,70,80,85,90,95", help="sparsities in percent")
    add("--per_example", action="store_true", help="take the absolute value per example instead")

    def check(args):
        from utils import model_types

        args.model_path = args.model_path or args.teacher_model_path
        del args.teacher_model_path
        config, problem = flags.config_of(args, "model_path")
        yield from [problem] if problem else []
        yield from model_types.check(args, tasks.get(args.task_name), config, objectives=("sparse", "ft"))
        yield from flags.check_dense(config, "--model_path")

    return flags.resolve(parser, argv, stage="sparsification", name=lambda args: args.task_name, check=check)


def main(args):
    """Score, sort, report; returns the folder of the nested checkpoint."""
    import models
    from data import tasks
    from data.task_data import TaskData
    from modules import importance, losses
    from utils import distributed, evaluation

    # ---- Run folder, device, seed
    task = tasks.get(args.task_name)
    run = runs.start(args, inputs={"data": list(task.files(args.data_dir).values()), "model": args.model_path})

    # ---- Data and model
    source = run.checkpoint if run.finished else args.model_path
    data = TaskData(task, args, tokenizer_path=source)
    model = models.freeze(models.load_model(source, kind=task.kind, label_names=task.label_names)).to(run.device)
    if run.finished:
        evaluation.test_and_infer(run, model, data)
        return run.checkpoint
    scored = data.scoring_split(args.scoring_split, args.num_scoring_samples)
    counts = {name: len(split) for name, split in {"scored": scored, **data.dev, **data.tests, **data.inferred}.items()}
    run.report(model=models.describe(model), data=counts)
    run.begin()
    before = evaluation.evaluate(model, data.dev, args=args)

    # ---- 1. Importance: mask gradients of the task loss, in eval mode, weighted by batch size
    with models.scoring_masks(model, per_example=args.per_example) as masks:
        scores = importance.Accumulator(masks)
        for indices in scored.epoch(args.seed, 0, args.scoring_batch_size)[distributed.rank() :: distributed.world()]:
            batch = scored.collate(indices).to(run.device)
            loss = losses.task_loss(batch.through(model).logits, batch.labels, kind=task.kind, mask=batch.mask)
            scores.add(loss, weight=len(indices))
        scores.reduce(distributed.all_reduce)

    # ---- 2. Sort: heads and neurons of each layer into descending importance; the function stays the same
    models.sort_units(model, scores.heads, scores.neurons, grid=args.grid)
    after = evaluation.evaluate(model, data.dev, args=args)
    run.report(before=before, after=after)

    # ---- 3. The curve: dev metric and cost at each sparsity
    run.report(curve=models.curve(model, data, run=run, title=f"{task.name}, nested teacher"))

    # ---- Save, finish
    kept = run.state("nested")
    if distributed.is_main():
        models.save_model(model, kept, tokenizer=data.tokenizer)
    run.finish(kept, metrics=after)
    evaluation.test_and_infer(run, model, data)
    return run.checkpoint


if __name__ == "__main__":
    runs.guard(main, parse)
