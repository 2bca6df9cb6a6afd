"""Trim a model's vocabulary to the pieces that text needs most, before fine-tuning (no training).

    python run_vocabulary.py --model_path bert-base-uncased --corpus wiki/AA --task_name mrpc \\
        --vocabulary_size 12000
    python run_vocabulary.py --model_path xlm-roberta-base --corpus 'german/*.txt' --min_count 3 \\
        --max_length 128
    python run_vocabulary.py --model_path outputs/minidisc/mrpc_90S --task_name mrpc --trim_embeddings \\
        --vocabulary_size 12000
Reads an encoder of any kind and text; writes a checkpoint of the same kind with fewer rows in its tables of
pieces (and positions), and its tokenizer. Fine-tune it as any other: teacher, assistants and students then
share its ids. A model that is fine-tuned already is trimmed with --trim_embeddings, and scored before and
after.

Special tokens stay, and all characters or bytes: no word becomes unknown; some take more pieces. For a text
all of whose pieces stay the model's outputs are the same, bit by bit; this is checked on real text before
anything is kept. Prints and draws how much longer texts that were not counted become: dev of the task, and
one document of the corpus in twenty.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils import environment, interruptions

    environment.require()
    interruptions.listen()

from functools import partial

from tqdm import tqdm

import models
from data import tasks
from data.corpus import documents
from data.model_tokenizer import load_tokenizer, plain_backend
from data.task_data import TaskData
from data.vocabulary import counting, trimmed
from data.vocabulary.pieces import Pieces
from models import architectures, exporting, vocabulary
from models.checkpoint_files import local_folder
from models.loading import load_config
from utils import cost, evaluation, files, flags, logs, plots, runs

LONGEST = 128  # tokens of the texts that both models are compared on


def parse(argv=None):
    """The flags, checked."""
    parser = flags.parser(__doc__, flags.vocabulary.vocabulary(tasks), flags.inference)

    def check(args):
        return flags.vocabulary.check_vocabulary(args, parser.given, tasks=tasks)

    return flags.resolve(parser, argv, stage="vocabulary", name=flags.vocabulary.name, check=check)


def main(args):
    """Count, choose, cut, compare; returns the folder of the trimmed checkpoint."""
    # ---- Run folder; a run that was stopped begins again
    task = tasks.get(args.task_name) if hasattr(args, "task_name") else None
    sources = []
    if hasattr(args, "corpus"):
        options = {"format": args.corpus_format, "columns": args.columns, "sample_by": args.sample_by}
        sources = documents.find_sources(args.corpus, **options)
    read = task.inputs(args.data_dir) if task else {}
    run = runs.start(args, inputs={**read, "corpus": documents.hashes(sources), "model": args.model_path})

    # ---- Its pieces, and which of them must stay
    source = local_folder(args.model_path)
    tokenizer = load_tokenizer(source)
    pieces = Pieces(tokenizer, named=vocabulary.named_ids(load_config(source)))
    if args.vocabulary_size is not None:
        pieces.require_size(args.vocabulary_size)

    # ---- 1. Count the pieces of the text, before the model is loaded; some of it is kept apart
    few = flags.DRY_RUN_ROWS if args.dry_run else None
    counts, apart = {}, []
    backend = plain_backend(tokenizer)
    if task:
        train, dev = counting.task_texts(task, args.data_dir, share=args.hold_out)
        counts["task"], apart = counting.count(backend, train[:few], pieces.size), dev[:few]
    if sources:
        counted, more = counting.corpus_texts(sources, most=few)
        counted = tqdm(counted, unit="documents", disable=None, leave=False)
        counts["corpus"], apart = counting.count(backend, counted, pieces.size), apart + more
    counting.require_tokens(counts, apart)
    total_P = counting.weighted(counts, {"task": args.task_weight, "corpus": 1})

    # ---- Model, whole, with its task head if it is fine-tuned
    load = partial(models.load_model, max_length=args.max_length)
    if args.trim_embeddings:
        load = models.loader(task, max_length=args.max_length, device="cpu")
    before = models.freeze(load(source))

    # ---- 2. Choose: what must stay, then the most frequent pieces; what becomes of text that was not counted
    kept = pieces.chosen(total_P, size=args.vocabulary_size, min_count=args.min_count)
    text = counting.Apart(tokenizer, pieces, apart)
    row = text.row(kept)
    run.report(
        pieces={"before": len(tokenizer), "required": len(pieces.required), "after": len(kept)},
        counted={name: int(counts_P.sum()) for name, counts_P in counts.items()},
        covered={name: float(counts_P[kept].sum() / counts_P.sum()) for name, counts_P in counts.items()},
        not_counted={"tokens": int(text.counts_P.sum()), **row},
    )
    run.begin()

    # ---- 3. Cut: the tokenizer and all tables of pieces, and of positions
    made = run.state("trimmed")
    made.parent.mkdir(parents=True, exist_ok=True)
    with files.new_folder(made) as aside:
        smaller = trimmed.write_trimmed(
            tokenizer, pieces, kept, aside, source=source, max_length=args.max_length
        )
        vocabulary.write_trimmed(before, source, aside, kept=kept, max_length=args.max_length)

    # ---- 4. Compare: the same, bit by bit, where all pieces stay
    after = models.freeze(load(made))
    longest = min(filter(None, (LONGEST, args.max_length, architectures.max_positions(after))))
    pairs = trimmed.whole_texts(tokenizer, smaller, apart, kept, max_length=longest)
    compared = vocabulary.check_trimmed(before, after, pairs, kept=kept)
    run.report(compared={"texts": compared})
    if not compared:
        said = "no text that was kept apart, and no part of one, has all its pieces: nothing was compared"
        logs.logger.warning("%s; compare the scores, or keep more pieces", said)

    # ---- 5. Sizes before and after, as parameters in fp32 and as graphs; the picture
    sizes = []
    for name, model, its_tokenizer in (("before", before, tokenizer), ("after", after, smaller)):
        encoder = architectures.encoder(model)
        parameters = cost.parameters(model)
        size = {"model": name, "parameters": parameters, "fp32": 4 * parameters}
        if flags.vocabulary.measures_graphs(args):
            inputs = its_tokenizer(apart[:1] * 2, truncation=True, max_length=longest, return_tensors="pt")
            size |= exporting.graph_bytes(encoder, run.state("graphs"), inputs)
        sizes.append(size)
    curve = text.curve(total_P)
    title = f"{len(tokenizer):,} pieces, {len(kept):,} kept"
    plots.growth(run.folder / "growth.png", [*curve, row], chosen=row, title=title)
    run.report(sizes=sizes, curve=curve, model=models.describe(after))

    # ---- Score a fine-tuned model before and after; finish
    scores = {}
    if args.trim_embeddings:
        options = {**flags.data_options(args), "max_length": args.max_length or task.max_length}
        for name, path, model in (("before", source, before), ("after", made, after)):
            data = TaskData(task, tokenizer_path=path, **options)
            scores[name] = evaluation.evaluate(model.to(run.device), data.dev, **run.inference)
        run.report(metrics_before=scores["before"])
    run.finish(made, metrics=scores.get("after", {}))
    return run.checkpoint


if __name__ == "__main__":
    runs.guard(main, parse)
