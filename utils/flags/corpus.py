"""Flags of text corpora: which one a stage learns from, and what text files are like.  Nothing here imports
torch."""

from utils.flags.groups import DRY_RUN_ROWS
from utils.flags.parser import positive_int


def corpus(parser):
    """The flag group of stages that learn from a text corpus.  check_corpus() checks it."""
    add = parser.add_argument_group("corpus").add_argument
    add(
        "--corpus",
        "--train_config",
        "--record_path_or_regex",
        nargs="+",
        required=True,
        metavar="PATH",
        help="a folder that run_corpus.py built; with --streaming, what run_corpus.py takes as --input",
    )
    add(
        "--max_length",
        "--max_seq_length",
        "--max_seq_len",
        type=positive_int,
        help="tokens of a block, special ones included (default: the corpus's; of a stream 128)",
    )
    add(
        "--num_heldout_blocks",
        type=positive_int,
        default=512,
        help="blocks that are never trained on, to evaluate with",
    )
    add(
        "--streaming",
        action="store_true",
        help="train straight from text files or URLs, in packed blocks; needs --max_steps",
    )
    add(
        "--shuffle_buffer",
        type=positive_int,
        help="blocks of a stream that the next one is drawn from, per process (default: 10000)",
    )
    documents(add, prefix="corpus_")


def documents(add, *, prefix=""):
    """The flags that say what text files are like; data.corpus.documents reads them.  add: of a group."""
    add(
        f"--{prefix}format",
        choices=("text", "wiki", "json", "csv", "parquet"),
        help="format of the files (default: from their names and first lines)",
    )
    add(
        "--columns",
        help="columns of json, csv and parquet that hold text, separated by commas (default: text)",
    )
    add(
        "--sample_by",
        choices=("line", "paragraph", "document"),
        help="one document of a text file: a line, what lies between blank lines, or the file (default: "
        "paragraph)",
    )


def check_corpus(args):
    """Yield what is wrong with the flags of corpus()."""
    if args.streaming:
        if args.max_steps is None and not args.dry_run:
            yield "--max_steps: required with --streaming, whose length is not known"
        return
    if len(args.corpus or ()) > 1:
        yield f"--corpus: found {len(args.corpus)} paths; expected one built corpus, or --streaming"
    for flag in ("shuffle_buffer", "corpus_format", "columns", "sample_by"):
        if getattr(args, flag) is not None:
            yield f"--{flag}: has no effect on a built corpus; it goes with --streaming"


def text_format(args) -> dict | None:
    """With --streaming, what data.corpus.documents.find_sources() takes besides paths."""
    if not args.streaming:
        return None
    return {"format": args.corpus_format, "columns": args.columns, "sample_by": args.sample_by}


def data_options(args) -> dict:
    """What the flags say, by the names that data.corpus.training_blocks.train_and_heldout() takes it
    under."""
    return {
        "paths": args.corpus,
        "num_heldout": DRY_RUN_ROWS if args.dry_run else args.num_heldout_blocks,
        "batch_size": args.per_device_train_batch_size,
        "num_accumulated": args.num_grad_accum_steps,
        "max_length": args.max_length,
        "from_text": text_format(args),
        "num_updates": args.max_steps,
        "seed": args.seed,
        "buffer": args.shuffle_buffer,
    }
