"""Build a corpus: raw text to blocks of token ids, in memory-mapped Arrow, for run_minilmv2.py and
run_minimoe.py.

    python run_corpus.py --input wiki/AA --tokenizer_name_or_path bert-base-uncased \\
        --output_dir outputs/corpus/wiki
    python run_corpus.py --input 'text/*.jsonl.gz' https://example.org/more.txt --columns title,text ...
    python run_corpus.py --input corpus.json  # {"urls": ["a/*.txt", ..], "format": "text", "columns": "text"}
    python run_corpus.py --input wiki/AA --sentences_only --output_dir outputs/corpus/sentences

Packed blocks (MiniLMv2) are cut out of one stream of all documents with a separator in between: no padding,
nothing cut off but the last, short block. Pairs (MiniMoE, BERT) are made of sentences: [CLS] A [SEP] B [SEP],
B in half of them from elsewhere. Writes blocks-*.arrow, which the datasets library opens, and corpus.json:
tokenizer, settings, counts. The same command continues a build that was stopped; the result does not depend
on the number of workers.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils import environment, interruptions

    environment.require()
    interruptions.listen()

import glob
from pathlib import Path

from tqdm import tqdm

from data.corpus import build, documents, manifest
from data.corpus.downloads import is_url
from data.corpus.layout import layout_of
from data.model_tokenizer import encoding_hash, load_tokenizer, tokenizer_hash
from utils import cores, flags, logs, runs


def parse(argv=None):
    """The flags, checked."""
    parser = flags.parser(__doc__)
    group = parser.add_argument_group("corpus")
    add = group.add_argument
    add(
        "--input",
        "--input_dir",
        nargs="+",
        required=True,
        metavar="PATH",
        help="files, folders, globs, URLs, or one JSON file with urls, format and columns",
    )
    add("--input_regex", metavar="PATTERN", help="from input folders take only files with such names: wiki_*")
    flags.corpus.documents(add)
    add(
        "--refetch",
        action="store_true",
        help="download URLs again, and replace the copies that earlier downloads left",
    )
    flags.idle(parser, "the tokenizer knows it", "--do_lower_case")
    flags.idle(parser, "one pair in ten has a random length, packed blocks are full", "--short_seq_prob")
    add(
        "--tokenizer_name_or_path",
        metavar="PATH",
        help="the teacher's tokenizer: a hub name, a checkpoint folder or a run folder",
    )
    add(
        "--blocks",
        choices=("packed", "pairs"),
        default="packed",
        help="packed: one stream that is cut; pairs: of sentences",
    )
    add(
        "--max_seq_length",
        "--max_length",
        type=flags.positive_int,
        default=128,
        help="tokens of a block, special ones included",
    )
    add(
        "--no_cross_documents",
        action="store_true",
        help="no packed block crosses the end of a document; the last one of each is short",
    )
    add(
        "--sentences_only",
        action="store_true",
        help="write text, a sentence on each line and a blank line between documents",
    )
    add("--sentence_per_line", action="store_true", help="the lines of the input are sentences already")
    add(
        "--language",
        help="language of the text, which is cut into sentences: a two-letter code (default: en)",
    )
    add(
        "--num_workers",
        "--num_processors",
        type=flags.positive_int,
        default=cores.usable(),
        help="worker processes; all cores",
    )
    flags.folder(parser)

    def check(args):
        if args.input_regex is not None:
            pattern = str(Path("**", args.input_regex))
            args.input = [
                str(Path(word, pattern)) if Path(word).is_dir() else word for word in args.input or ()
            ]
        if not args.sentences_only and args.tokenizer_name_or_path is None:
            yield "--tokenizer_name_or_path: required, unless --sentences_only is given"
        if args.sentences_only and (
            args.blocks != "packed" or args.no_cross_documents or args.sentence_per_line
        ):
            yield (
                "--sentences_only: makes no blocks; leave out --blocks, --no_cross_documents and "
                "--sentence_per_line"
            )
        if args.blocks == "pairs" and args.no_cross_documents:
            yield "--no_cross_documents: pairs never cross documents; it goes with --blocks packed"
        if args.sentence_per_line and args.blocks == "packed":
            yield "--sentence_per_line: packed blocks are not made of sentences; it goes with --blocks pairs"
        if args.language is not None and args.blocks == "packed" and not args.sentences_only:
            yield (
                "--language: packed blocks are not made of sentences; it goes with --blocks pairs or "
                "--sentences_only"
            )
        if args.tokenizer_name_or_path is not None:
            yield from flags.check_config(args, "tokenizer_name_or_path")

    return flags.resolve(parser, argv, stage="corpus", name=_name, check=check)


def _name(args):
    """Of the first input: its last part that is no pattern.  The ? of a URL is none."""
    first = args.input[0]
    parts = Path(first.split("?")[0] if is_url(first) else first).parts
    named = [Path(part).stem for part in parts if not glob.has_magic(part) and part not in ("/", "..")]
    return named[-1] if named else "corpus"


def main(args):
    """Read, encode, put together; returns the folder of the corpus."""
    # ---- Inputs and run folder
    how = {"format": args.format, "columns": args.columns, "sample_by": args.sample_by}
    refetch = args.refetch and not args.dry_run
    sources = documents.find_sources(args.input, **how, refetch=refetch)
    tokenizer = None if args.sentences_only else load_tokenizer(args.tokenizer_name_or_path)
    layout = layout_of(
        tokenizer,
        kind="sentences" if args.sentences_only else args.blocks,
        max_length=args.max_seq_length,
        cross=not args.no_cross_documents,
        language=None if args.sentence_per_line else args.language or "en",
        seed=args.seed,
    )
    inputs = {"input": documents.hashes(sources)}
    if tokenizer is not None:
        inputs["tokenizer"] = {
            "vocabulary": tokenizer_hash(tokenizer),
            "text to ids": encoding_hash(tokenizer),
        }
    try:
        run = runs.start(args, inputs=inputs)
    except runs.Finished:
        return args.output_dir
    if args.refetch and args.dry_run:
        logs.logger.info("--refetch: a dry run replaces no copies of earlier downloads; it reads them")

    few = None
    if args.dry_run:
        few = build.few(documents.read_documents(sources), layout, flags.DRY_RUN_ROWS)

    def texts():
        return documents.read_documents(sources) if few is None else iter(few)

    # ---- 1. Read everything once: what is broken is found before anything is written
    num_documents = num_characters = 0
    for text in texts():
        num_documents, num_characters = num_documents + 1, num_characters + len(text)
    run.report(input={"files": len(sources), "documents": num_documents, "characters": num_characters})
    documents.require_text(sources, num_characters)
    build.require_a_block(texts(), layout)
    run.begin()

    # ---- 2. Encode chunks of documents, in worker processes; those of an earlier start are there already
    state = run.state("chunks")
    with tqdm(total=num_characters, unit="char", unit_scale=True, disable=None, leave=False) as bar:
        build.write_chunks(texts(), layout, folder=state, num_workers=args.num_workers, progress=bar.update)

    # ---- 3. Put them together, in the order of the documents
    result = build.assemble(state, run.folder, layout)
    if tokenizer is not None:
        settings = flags.settings(args)
        manifest.write_manifest(
            run.folder,
            tokenizer,
            layout,
            result,
            tokenizer_name=args.tokenizer_name_or_path,
            settings=settings,
        )
    run.report(counts=result["counts"])
    run.finish(None, metrics={})
    return run.folder


if __name__ == "__main__":
    runs.guard(main, parse)
