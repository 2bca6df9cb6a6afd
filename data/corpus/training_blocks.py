"""What --corpus names, for training: blocks of a built corpus, or of text files as they are read; some of them held out."""

from pathlib import Path

from data.corpus import documents, manifest, memory_mapped, streaming
from utils import distributed
from utils.errors import FlagError
from utils.runs import DRY_RUN_ROWS


def from_flags(args, tokenizer, *, max_positions: int | None):
    """What --corpus names: a built Corpus, or with --streaming a StreamedCorpus.

    args: resolved, with flags.corpus.corpus and flags.training, after runs.start().
    Raises like open_corpus() and documents.find().
    """
    if not args.streaming:
        return memory_mapped.open_corpus(
            args.corpus[0], tokenizer=tokenizer, max_length=args.max_length, max_positions=max_positions
        )
    max_length = args.max_length or streaming.MAX_LENGTH
    memory_mapped.check_length(max_length, max_positions, "--max_length: ")
    sources = documents.find(args.corpus, format=args.corpus_format, columns=args.columns, sample_by=args.sample_by)
    return streaming.StreamedCorpus(
        sources, tokenizer, max_length=max_length, seed=args.seed, buffer=args.shuffle_buffer or streaming.BUFFER,
        batch_size=args.per_device_train_batch_size, num_updates=args.max_steps, num_accumulated=args.num_grad_accum_steps,
    )  # fmt: skip


def train_and_heldout(args, tokenizer, *, max_positions: int | None):
    """(train, heldout) of what --corpus names.  Arguments and errors: as from_flags() and split()."""
    corpus = from_flags(args, tokenizer, max_positions=max_positions)
    per_update = args.per_device_train_batch_size * args.num_grad_accum_steps * distributed.world()
    return corpus.split(DRY_RUN_ROWS if args.dry_run else args.num_heldout_blocks, at_least=per_update)


def recorded_inputs(args) -> dict:
    """What runs.start() records of --corpus: the hash of a built corpus's manifest, or those of the text files."""
    if not args.streaming:
        manifest.read_manifest(args.corpus[0])
        return {"corpus": [Path(args.corpus[0]).expanduser() / manifest.NAME]}
    for path in args.corpus:
        if manifest.is_built(path):
            raise FlagError(f"--streaming: {path} is a built corpus; leave --streaming out")
    sources = documents.find(args.corpus, format=args.corpus_format, columns=args.columns, sample_by=args.sample_by)
    return {"corpus": documents.hashes(sources, download=False)}
