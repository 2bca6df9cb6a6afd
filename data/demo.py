"""The demo task: generated sentence pairs in GLUE's format, for the quick start and the tests.  Same bytes on
every machine.

A review rates one to three of four topics; a statement says what somebody thought of one of them:

    the soup was superb , the waiter was not pleasant and the hall was dull .
        the guest liked the food .          entailment
    the bill was poor .
        a critic praised the price .        not_entailment

The label says whether the statement follows.  The difficulty is graded, so that a model learns in steps and a
small one stops at an earlier step (shares of the rows in brackets):

- one topic (1/6): the tone of the review's only adjective and of the statement's verb;
- several topics (5/6): the right adjective must be found, by what the statement is about.  Topics mostly come
  in the order food, staff, room, price; in the other rows (1 in 10) only the noun beside an adjective tells
  its topic;
- a negated adjective (12% of them) turns the tone, and so does a statement of dislike (20%).

Counting words alone gives about 0.75.  It is a toy: scores on it mean nothing for other tasks.
"""

import random
from pathlib import Path

from utils import files
from utils.logs import logger

ROWS = {"train": 4000, "dev": 600, "test": 600}
MAX_LENGTH = 128

_TOPICS = {
    "food": ("soup", "steak", "pasta", "salad"),
    "staff": ("waiter", "cook", "host", "barman"),
    "room": ("table", "window", "hall", "lamp"),
    "price": ("bill", "menu", "tip", "deal"),
}
_GOOD = ("superb", "fine", "great", "lovely", "good", "perfect", "splendid", "pleasant")
_BAD = ("awful", "poor", "bad", "dull", "terrible", "nasty", "dreadful", "dismal")
_LIKED = ("liked", "praised", "enjoyed")
_DISLIKED = ("hated", "blamed", "disliked")
_PEOPLE = ("guest", "critic", "tourist", "couple")
_LINKS = (",", "and", "but")
_OTHERS = ("the", "was", "not", ".")
_NUM_TOPICS = (1, 2, 3, 3, 3, 3)
_SHUFFLED, _NEGATED, _DISLIKE = 0.1, 0.12, 0.2


def rows(number: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """So many different (review, statement, label) triples.  Only random() is drawn, which no Python version
    changes."""
    draw, found = random.Random(seed).random, {}
    while len(found) < number:
        first, second, label = _row(draw)
        found.setdefault((first, second), label)
    return [(first, second, label) for (first, second), label in found.items()]


def _row(draw):
    def pick(options):
        return options[int(draw() * len(options))]

    topics = sorted(_TOPICS, key=lambda _: draw())[: pick(_NUM_TOPICS)]
    if draw() >= _SHUFFLED:
        topics.sort(key=list(_TOPICS).index)
    clauses, liked = [], {}
    for topic in topics:
        liked[topic], negated = draw() < 0.5, draw() < _NEGATED
        adjective = pick(_GOOD if liked[topic] != negated else _BAD)
        clauses.append(f"the {pick(_TOPICS[topic])} was {'not ' if negated else ''}{adjective}")
    review = clauses[0] + "".join(f" {pick(_LINKS)} {clause}" for clause in clauses[1:])
    topic, dislike = pick(topics), draw() < _DISLIKE
    statement = f"the {pick(_PEOPLE)} {pick(_DISLIKED if dislike else _LIKED)} the {topic}"
    return f"{review} .", f"{statement} .", "entailment" if liked[topic] != dislike else "not_entailment"


def write_files(folder) -> Path:
    """Make train.tsv, dev.tsv and test.tsv (labelled) of GLUE's form in a new folder, all at once; no row is
    in two of them.

    Returns the folder.  Where another process was faster, its folder stays.
    """
    folder = Path(folder)
    triples = rows(sum(ROWS.values()))
    start, texts = 0, {}
    for split, number in ROWS.items():
        lines = ["\t".join((str(i), *triple)) for i, triple in enumerate(triples[start : start + number])]
        texts[f"{split}.tsv"] = "\n".join(["index\tsentence1\tsentence2\tlabel", *lines]) + "\n"
        start += number

    with files.new_folder(folder, replace=False) as aside:
        for name, text in texts.items():
            (aside / name).write_text(text, encoding="utf-8", newline="\n")
    logger.info(
        "demo task: made %s in %s", ", ".join(f"{number} {split}" for split, number in ROWS.items()), folder
    )
    return folder


def build_tokenizer(folder) -> Path:
    """The demo task's WordPiece tokenizer, saved as a Hugging Face folder: every word of the task is a piece.

    folder: the task's folder; the tokenizer goes into tokenizer/ inside it, unless it is there.  Returns that
    path.
    """
    target = Path(folder) / "tokenizer"
    if target.is_dir():
        return target
    from transformers import BertTokenizer

    words = sorted(
        {
            *sum(_TOPICS.values(), ()),
            *_TOPICS,
            *_GOOD,
            *_BAD,
            *_LIKED,
            *_DISLIKED,
            *_PEOPLE,
            *_LINKS,
            *_OTHERS,
        }
    )
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=MAX_LENGTH)
    with files.new_folder(target, replace=False) as aside:
        tokenizer.save_pretrained(aside)
    return target
