"""A small made-up SQuAD 2.0 data folder (who lives where), and a BERT of random weights with a tokenizer of
its words."""

import json
import random

PEOPLE = "alice bob carol dave erin frank grace henry".split()
TOWNS = "paris rome oslo cairo lima delhi tokyo quito".split()
SENTENCE = "{} lives in {} ."
QUESTION = "where does {} live ?"
ROWS = {"train": 12, "dev": 6, "test": 3}  # paragraphs, of four questions each
LENGTHS = ("--max_length", 40, "--doc_stride", 8, "--max_query_length", 8)  # most contexts become two windows


def content(paragraphs, seed, *, answered=True) -> dict:
    """The JSON of a file: of each context's five people three are asked for, and one who is not in it."""
    draw, made = random.Random(seed), []
    for number in range(paragraphs):
        people, towns = draw.sample(PEOPLE, 5), draw.sample(TOWNS, 5)
        sentences = [SENTENCE.format(person, town) for person, town in zip(people, towns)]
        context, entries = " ".join(sentences), []
        for asked in range(4):
            person = people[asked] if asked < 3 else next(name for name in PEOPLE if name not in people)
            entry = {"id": f"{seed}-{number}-{asked}", "question": QUESTION.format(person)}
            if answered:
                start = context.find(towns[asked])
                answers = [{"text": towns[asked], "answer_start": start}] if asked < 3 else []
                entry |= {"answers": answers, "is_impossible": not answers}
            entries.append(entry)
        made.append({"context": context, "qas": entries})
    return {"version": "v2.0", "data": [{"title": "made up", "paragraphs": made}]}


def write(parent):
    """Make squad2/ in a folder; returns the folder."""
    (parent / "squad2").mkdir(parents=True)
    for seed, (split, paragraphs) in enumerate(ROWS.items()):
        text = json.dumps(content(paragraphs, seed, answered=split != "test"))
        (parent / "squad2" / f"{split}-v2.0.json").write_text(text, encoding="utf-8")
    return parent


def encoder(folder, *, layers=2):
    """Write a bare encoder and its tokenizer; returns the folder."""
    import transformers

    words = sorted({*PEOPLE, *TOWNS, *SENTENCE.split(), *QUESTION.split()} - {"{}"})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokenizer = transformers.BertTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=64
    )
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=64,
        initializer_range=0.2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    transformers.set_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return folder
