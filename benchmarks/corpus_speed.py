"""Building a corpus in tokens per second and core, beside plain builders that go line by line and token by
token.

    python benchmarks/corpus_speed.py --input ../shared/datasets/wiki/AA \\
        --tokenizer ../shared/models/all-MiniLM-L6-v2
All make the same packed blocks (checked); the plain ones are given fewer documents.  One plain builder
tokenises in Python, as BERT's published one does (WordPiece tokenizers only), the other calls the fast
tokenizer for each line.  CPU time of one process. Stages: reading, tokenising and packing, writing Arrow; and
splitting into sentences, which packed blocks don't need.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import timing
from data.corpus import blocks, build, documents, memory_mapped
from data.corpus.layout import layout_of
from data.model_tokenizer import load_tokenizer
from utils import logs


def plain(texts, ids_of, tokenizer, max_length):
    """Packed blocks as somebody would write them down: a line at a time, a token at a time."""
    found, block = [], []
    for number, text in enumerate(texts):
        ids = [tokenizer.sep_token_id] if number else []
        for line in text.split("\n"):
            ids += ids_of(line)
        for token in ids:
            block.append(token)
            if len(block) == max_length - 2:
                found.append([tokenizer.cls_token_id, *block, tokenizer.sep_token_id])
                block = []
    return found


def in_python(tokenizer, folder):
    """A function from a line to its ids that does everything in Python, or None where there is no such
    tokenizer."""
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    if settings["model"]["type"] != "WordPiece" or settings["normalizer"]["type"] != "BertNormalizer":
        return None
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    slow = BertTokenizerLegacy(str(folder / "vocab.txt"), do_lower_case=settings["normalizer"]["lowercase"])
    return lambda line: slow.convert_tokens_to_ids(slow.tokenize(line))


def ours(texts, layout, folder):
    """The blocks as run_corpus.py makes them, with one worker, and the seconds of its two stages."""
    encoding, _ = timing.timed(
        lambda: build.write_chunks(iter(texts), layout, folder=folder / "chunks", num_workers=1)
    )
    assembling, _ = timing.timed(lambda: build.assemble(folder / "chunks", folder, layout))
    return encoding, assembling


def main():
    """Print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", nargs="+", required=True, help="as of run_corpus.py")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--num_documents", type=int, help="all")
    parser.add_argument("--num_plain_documents", type=int, default=200, help="for the plain builder")
    parser.add_argument("--output", help="a JSON file for the rows")
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.tokenizer)
    tokenizer.model_max_length = sys.maxsize  # no warnings about long lines
    layout = layout_of(tokenizer, kind="packed", max_length=args.max_length)

    found = documents.find_sources(args.input)
    reading, texts = timing.timed(
        lambda: list(itertools.islice(documents.read_documents(found), args.num_documents))
    )
    few = texts[: args.num_plain_documents]
    plain_rows = []

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "few").mkdir()
        ours(few, layout, folder / "few")  # also imports the datasets library
        card = build.assemble(folder / "few" / "chunks", folder / "few", layout)
        made = memory_mapped._Blocks(folder / "few", {**card, "num_blocks": card["counts"]["blocks"]})
        expected = [made[i][0].tolist() for i in range(len(made.lengths))]
        for name, ids_of in (
            ("plain, in Python", in_python(tokenizer, folder)),
            ("plain, fast tokenizer", lambda line: tokenizer(line, add_special_tokens=False)["input_ids"]),
        ):
            if ids_of is not None:
                spent, found = timing.timed(
                    lambda ids_of=ids_of: plain(few, ids_of, tokenizer, args.max_length)
                )
                plain_rows.append((name, card["counts"]["tokens"], spent))
                assert found == expected, f"{name}: other blocks"
        encoding, assembling = ours(texts, layout, folder)
        counts = build.assemble(folder / "chunks", folder, layout)["counts"]
    sentences = layout_of(None, kind="sentences", max_length=0)
    splitting, _ = timing.timed(lambda: blocks.encode_chunk(texts, 0, layout=sentences, tokenizer=None))

    tokens = counts["tokens"]
    rows = [
        {"builder": name, "tokens": number, "cpu seconds": seconds, "tokens/s": number / seconds}
        for name, number, seconds in (
            *plain_rows,
            ("ours", tokens, reading + encoding + assembling),
            ("- reading", tokens, reading),
            ("- tokenising, packing", tokens, encoding),
            ("- writing Arrow", tokens, assembling),
            ("sentences", tokens, splitting),
        )
    ]
    speed = next(row["tokens/s"] for row in rows if row["builder"] == "ours")
    for row in rows:
        row["ours is faster by"] = speed / row["tokens/s"] if row["builder"].startswith("plain") else None
    print(logs.table(rows))
    if args.output:
        Path(args.output).write_text(
            json.dumps({"documents": len(texts), "counts": counts, "rows": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
