"""Sort a fine-tuned model's heads and neurons by importance and write the grid of sparsities (MiniDisc; no
training).

    python run_sparsification.py --task_name mrpc --model_path outputs/finetuning/mrpc
    python run_sparsification.py --task_name corpus --corpus outputs/corpus/wiki \\
        --model_path bert-base-uncased
Reads a fine-tuned checkpoint; writes the same function, reordered ("nested"): every sparsity of the grid is a
prefix of its weights. run_distillation.py and run_minidisc.py read it. Prints and draws the dev metric,
parameters and MACs at each sparsity.

The importance of a head or neuron is the sum over batches of |d loss / d mask| (Michel et al. 2019), scaled
to unit norm in each layer, ranked over all layers. It is taken on a sample of train: dev chooses and reports,
so it must not score. Caution: a model that fits its training data perfectly has small gradients there;
--scoring_split dev is what the published code does.

On a corpus (Sparse MiniLM of MiniMoE, Zhang et al. 2023; arXiv:2305.12129) the loss is that of masked tokens,
and hidden dimensions are scored and sorted too, once for the whole model. run_minilmv2.py --sparsity 90
distils a crop of the result.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils import environment, interruptions

    environment.require()
    interruptions.listen()

from functools import partial

import models
from data import tasks
from data.corpus import memory_mapped, training_blocks
from data.model_tokenizer import load_tokenizer
from data.task_data import TaskData
from models import architectures
from models.sorting_loss import MaskedTokenLoss, TaskLoss
from modules import importance, objectives
from utils import distributed, evaluation, flags, runs


def parse(argv=None):
    """The flags, checked."""
    parser = flags.parser(__doc__, flags.sparsification.sparsification(tasks), flags.runtime)
    trained = {name: objectives.OBJECTIVES[name] for name in ("sparse", "ft")}

    def check(args):
        return flags.sparsification.check_sparsification(args, parser.given, tasks=tasks, objectives=trained)

    return flags.resolve(parser, argv, stage="sparsification", name=lambda args: args.task_name, check=check)


def main(args):
    """Score, sort, report; returns the folder of the nested checkpoint."""
    # ---- Run folder, device, seed
    on_corpus = args.task_name == flags.sparsification.CORPUS
    task = None if on_corpus else tasks.get(args.task_name)
    read = training_blocks.recorded_inputs(args.corpus) if on_corpus else task.inputs(args.data_dir)
    run = runs.start(args, inputs={**read, "model": args.model_path})

    # ---- Data: of the task, or the tokenizer that reads the corpus
    source = run.source(args.model_path)
    if on_corpus:
        tokenizer = load_tokenizer(source, masks=True)
        load = partial(models.load_model, kind="masked", attn_implementation=args.attn_implementation)
    else:
        data = TaskData(task, tokenizer_path=source, **flags.data_options(args))
        load = models.loader(task, device=run.device, **flags.how_loaded(args))
        tokenizer = data.tokenizer

    if not run.finished:
        # ---- Rows, or blocks, that units are scored on and others: all files are read before the model
        few = flags.DRY_RUN_ROWS if args.dry_run else None
        if on_corpus:
            corpus = memory_mapped.open_corpus(args.corpus[0], tokenizer=tokenizer)
            scored, heldout = corpus.hold_out_blocks(
                few or args.num_heldout_blocks, at_least=args.scoring_batch_size
            )
            sizes = {"blocks to score": len(scored), "heldout": len(heldout)}
        else:
            scored = data.scoring_split(args.scoring_split, args.num_scoring_samples)
            sizes = data.sizes(scored=scored)
        run.report(data=sizes)

        # ---- Model; what its units are sorted by: the loss of masked tokens, or of the task
        model = models.freeze(load(source).to(run.device))
        run.report(model=models.describe(model))
        scoring = {"batch_size": args.scoring_batch_size, "seed": args.seed, "run": run}
        if on_corpus:
            corpus.require_positions(architectures.max_positions(model))
            loss = MaskedTokenLoss(
                model, scored, heldout, tokenizer, number=few or args.num_scoring_samples, **scoring
            )
        else:
            loss = TaskLoss(
                model, data, scored, metric=args.selection_metric, per_example=args.per_example, **scoring
            )
        run.begin()
        before = loss.evaluate()

        # ---- 1. Importance: mask gradients of the loss, in eval mode, each batch weighted by what its mean
        # was taken over
        with models.scoring_masks(model, **loss.masks) as masks:
            scores = importance.Accumulator(masks)
            for mean, weight in loss.batches():
                scores.add(mean, weight=weight)
            scores.reduce(distributed.all_reduce)

        # ---- 2. Sort into descending importance: heads and neurons of each layer, on a corpus also the
        # hidden dimensions of all; the function stays the same
        models.sort_units(model, scores.heads, scores.neurons, scores.hidden, grid=args.grid)
        after = loss.evaluate()
        run.report(before=before, after=after)

        # ---- 3. The curve: what the model is worth and costs at each sparsity, before any distillation
        run.report(curve=loss.curve())

        # ---- Save, finish
        nested = run.state("nested")
        if distributed.is_main() or args.shard:
            models.save_model(model, nested, tokenizer=tokenizer)
        run.finish(nested, metrics=loss.metrics(after))

    if not on_corpus:
        evaluation.test_and_infer(run, load(run.checkpoint), data)
    return run.checkpoint


if __name__ == "__main__":
    runs.guard(main, parse)
