"""Sort a fine-tuned model's heads and neurons by importance and write the grid of sparsities (MiniDisc; no training).

    python run_sparsification.py --task_name mrpc --model_path outputs/finetuning/mrpc
    python run_sparsification.py --task_name corpus --corpus outputs/corpus/wiki --model_path bert-base-uncased
Reads a fine-tuned checkpoint; writes the same function, reordered ("nested"): every sparsity of the grid is a prefix of its
weights. run_distillation.py and run_minidisc.py read it. Prints and draws the dev metric, parameters and MACs at each sparsity.

The importance of a head or neuron is the sum over batches of |d loss / d mask| (Michel et al. 2019), scaled to unit norm in each
layer, ranked over all layers. It is taken on a sample of train: dev chooses and reports, so it must not score. Caution: a model
that fits its training data perfectly has small gradients there; --scoring_split dev is what the published code does.

On a corpus (Sparse MiniLM of MiniMoE, Zhang et al. 2023; arXiv:2305.12129) the loss is that of masked tokens, and hidden
dimensions are scored and sorted too, once for the whole model. run_minilmv2.py --sparsity 90 distils a crop of the result. Its
own flags: --task_name corpus --help.
"""

import models
from data import tasks
from data.corpus import memory_mapped, training_blocks
from data.model_tokenizer import load_tokenizer
from data.task_data import TaskData
from models import architectures, masked_tokens
from modules import importance, losses, objectives
from utils import distributed, evaluation, flags, runs


def parse(argv=None):
    """The flags, checked."""
    return parse_corpus(argv) if flags.parts.wants_corpus(argv) else parse_task(argv)


def parse_corpus(argv):
    """Those of --task_name corpus."""
    parser = flags.parser(__doc__, flags.parts.scoring, flags.runtime)
    flags.model_path(parser, "--model_path", "the pretrained model, with its head for masked tokens",
                     aliases=("--teacher_model_path", "--teacher_model_name_or_path"))  # fmt: skip
    return flags.resolve(parser, argv, stage="sparsification", name=lambda args: flags.parts.CORPUS,
                         check=flags.parts.check_scoring)  # fmt: skip


def parse_task(argv):
    """Those of a task."""
    parser = flags.parser(__doc__, flags.task(tasks.NAMES), flags.scoring, flags.runtime)
    flags.model_path(parser, "--model_path", "the fine-tuned model", aliases=("--teacher_model_path",))
    add = parser.add_argument_group("sparsification").add_argument
    add("--student_model_path", metavar="PATH", help="StarK's third stage, a teacher sorted for its student, is run_stark.py's")
    add("--model_type", help="sparsebert_cls, sparsebert_ner or ft")
    add("--grid", type=flags.percentages, default="0,10,20,30,40,50,60,70,80,85,90,95", help="sparsities in percent")
    add("--per_example", action="store_true", help="take the absolute value per example instead")

    def check(args):
        if args.student_model_path:
            yield (
                f"--student_model_path: a teacher is sorted for its student by: python run_stark.py --task_name {args.task_name} "
                f"--teacher_model_path {args.model_path} --student_model_path {args.student_model_path}"
            )
        del args.student_model_path
        config = yield from flags.config(args, "model_path")
        suitable = {name: objectives.OBJECTIVES[name] for name in ("sparse", "ft")}
        yield from flags.model_types.check_model_type(args, tasks.find(args.task_name), config, objectives=suitable)
        yield from flags.check_dense(config, "--model_path")
        yield from flags.check_hold_out(args, {"model_path": config}, trained=["model_path"])

    return flags.resolve(parser, argv, stage="sparsification", name=lambda args: args.task_name, check=check)


def main(args):
    """Score, sort, report; returns the folder of the nested checkpoint."""
    return on_corpus(args) if args.task_name == flags.parts.CORPUS else on_task(args)


def on_corpus(args):
    """Heads, neurons and hidden dimensions, by the loss of masked tokens."""
    # ---- Run folder, device, seed
    run = runs.start(args, inputs={**training_blocks.recorded_inputs(args.corpus), "model": args.model_path})

    # ---- Model and corpus
    tokenizer = load_tokenizer(args.model_path)
    model = models.freeze(models.load_model(args.model_path, kind="masked")).to(run.device)
    corpus = memory_mapped.open_corpus(args.corpus[0], tokenizer=tokenizer, max_positions=architectures.max_positions(model))
    if args.dry_run:
        args.num_heldout_blocks = args.num_scoring_samples = flags.DRY_RUN_ROWS
    scored, heldout = corpus.hold_out_blocks(args.num_heldout_blocks, at_least=args.scoring_batch_size)
    run.report(model=models.describe(model), data={"blocks to score": len(scored), "heldout": len(heldout)})
    run.begin()
    before = masked_tokens.heldout_loss(model, heldout, tokenizer, args=args, device=run.device)

    # ---- 1. Importance: mask gradients of the loss of masked tokens, in eval mode, weighted by their number
    with models.scoring_masks(model, hidden=True) as masks:
        scores = importance.Accumulator(masks)
        batches = masked_tokens.scored_batches(
            scored, number=args.num_scoring_samples, batch_size=args.scoring_batch_size, seed=args.seed
        )  # fmt: skip
        for number, indices in evaluation.share(batches):
            batch = scored.collate(indices).to(run.device)
            loss, weight = masked_tokens.batch_loss(model, batch, tokenizer, seeds=(args.seed, number))
            scores.add(loss, weight=weight)
        scores.reduce(distributed.all_reduce)

    # ---- 2. Sort: heads and neurons of each layer, hidden dimensions of all; the function stays the same
    models.sort_units(model, scores.heads, scores.neurons, scores.hidden, grid=args.grid)
    after = masked_tokens.heldout_loss(model, heldout, tokenizer, args=args, device=run.device)
    run.report(before={"masked loss": before}, after={"masked loss": after})

    # ---- 3. The curve: what each crop of the grid is before any distillation
    title = "Nested encoder, before distillation"
    run.report(curve=masked_tokens.curve(model, heldout, tokenizer, run=run, title=title))

    # ---- Save, finish
    kept = run.state("nested")
    if distributed.is_main():
        models.save_model(model, kept, tokenizer=tokenizer)
    run.finish(kept, metrics={"heldout": {"masked_loss": after}})
    return run.checkpoint


def on_task(args):
    """Heads and neurons, by the loss of a task."""
    # ---- Run folder, device, seed
    task = tasks.get(args.task_name)
    run = runs.start(args, inputs={"data": list(task.files(args.data_dir).values()), "model": args.model_path})

    # ---- Data and model
    source = run.source(args.model_path)
    data = TaskData(task, tokenizer_path=source, **flags.data_options(args))
    model = models.freeze(models.load_model(source, kind=task.kind, label_names=task.label_names)).to(run.device)
    if run.finished:
        evaluation.test_and_infer(run, model, data)
        return run.checkpoint
    scored = data.scoring_split(args.scoring_split, args.num_scoring_samples)
    splits = {"scored": scored, **data.selection, **data.dev, **data.tests, **data.inferred}
    counts = {name: len(split) for name, split in splits.items()}
    run.report(model=models.describe(model), data=counts)
    run.begin()
    before = evaluation.evaluate(model, data.selection, **run.inference)

    # ---- 1. Importance: mask gradients of the task loss, in eval mode, weighted by batch size
    with models.scoring_masks(model, per_example=args.per_example) as masks:
        scores = importance.Accumulator(masks)
        for indices in evaluation.share(scored.epoch(args.seed, 0, args.scoring_batch_size)):
            batch = scored.collate(indices).to(run.device)
            loss = losses.task_loss(batch.through(model).logits, batch.labels, kind=task.kind, mask=batch.mask)
            scores.add(loss, weight=len(indices))
        scores.reduce(distributed.all_reduce)

    # ---- 2. Sort: heads and neurons of each layer into descending importance; the function stays the same
    models.sort_units(model, scores.heads, scores.neurons, grid=args.grid)
    after = evaluation.evaluate(model, data.selection, **run.inference)
    run.report(before=before, after=after)

    # ---- 3. The curve: dev metric and cost at each sparsity
    run.report(curve=models.curve(model, data, run=run, title=f"{task.name}, nested teacher"))

    # ---- Save, finish
    kept = run.state("nested")
    if distributed.is_main():
        models.save_model(model, kept, tokenizer=data.tokenizer)
    run.finish(kept, metrics=evaluation.with_dev(after, lambda: model, data, **run.inference))
    evaluation.test_and_infer(run, model, data)
    return run.checkpoint


if __name__ == "__main__":
    runs.guard(main, parse)
