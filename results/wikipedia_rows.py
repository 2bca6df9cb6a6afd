"""Text without labels for the students of study U, from WikiExtractor's files.

Written are, the same bytes each time: sentences.jsonl, {"tokens": [...]} with punctuation apart, as
CoNLL-2003 has it; and pairs.tsv with MRPC's columns.  Every second pair is a
sentence and the one that follows it; the other is a sentence and itself without every fifth word or so, since
a teacher calls few neighbours a paraphrase.
"""

import argparse
import json
import random
import re
import sys
from pathlib import Path

NUMBER = 8000  # of sentences, and of pairs
WORDS = range(8, 41)  # in a sentence; MRPC's have 7 to 36
DROPPED = 0.2
_END = re.compile(r"(?<=[a-z0-9)\"][.!?]) (?=[A-Z\"])")  # not behind an initial
_TOKEN = re.compile(r"\w+(?:[-'.]\w+)*|[^\w\s]")


def paragraphs(folder):
    """Each paragraph of the articles as a list of its sentences, by the order of file names."""
    for path in sorted(path for path in folder.rglob("wiki_*") if path.is_file()):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.endswith(".") and not line.startswith("<"):
                yield _END.split(line)


def main():
    """Write both files; the folder is there when they are whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--wiki", type=Path, required=True, help="a folder of wiki_* files, a paragraph a line"
    )
    parser.add_argument("folder", type=Path, help="where both files are written")
    args = parser.parse_args()
    chance, sentences, neighbours = random.Random(776), [], []
    for found in paragraphs(args.wiki):
        fits = [len(sentence.split()) in WORDS for sentence in found]
        sentences += [sentence for sentence, is_fit in zip(found, fits, strict=True) if is_fit]
        pairs = zip(found, found[1:], fits, fits[1:], strict=False)
        neighbours += [(one, other) for one, other, *both in pairs if all(both)]
    if len(sentences) < 2 * NUMBER or len(neighbours) < NUMBER // 2:
        sys.exit(
            f"{args.wiki}: found {len(sentences)} sentences in wiki_* files; expected {2 * NUMBER} or more"
        )
    chosen = chance.sample(sentences, NUMBER + NUMBER // 2)
    rows = [
        json.dumps({"tokens": _TOKEN.findall(sentence)}, ensure_ascii=False) for sentence in chosen[:NUMBER]
    ]
    pairs = []
    for both, sentence in zip(chance.sample(neighbours, NUMBER // 2), chosen[NUMBER:], strict=True):
        kept = [word for word in sentence.split() if chance.random() >= DROPPED]
        pairs += ["\t".join(both), f"{sentence}\t{' '.join(kept)}"]
    aside = args.folder.with_name(args.folder.name + ".tmp")
    aside.mkdir(parents=True, exist_ok=True)
    (aside / "sentences.jsonl").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    text = "".join(f"{pair}\n" for pair in ["#1 String\t#2 String", *pairs])
    (aside / "pairs.tsv").write_text(text, encoding="utf-8")
    aside.rename(args.folder)


if __name__ == "__main__":
    main()
