"""Tokenizers, texts and plain references of the corpus tests."""

import random
import shutil

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertTokenizer, PreTrainedTokenizerFast

from data.corpus import build, documents, manifest, memory_mapped, sentences
from data.corpus.layout import layout_of
from data.model_tokenizer import load_tokenizer

WORDS = "the cat sat on a mat un ##able ##s dog , . ! ( ) 1 2 3 ##5 e \u4e16 [ ]".split()
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]


def bert_like():
    """A WordPiece tokenizer."""
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(PIECES)}, model_max_length=64)


def roberta_like(merges=3):
    """A byte-level BPE tokenizer, in which a word after a blank is another one than at the start of a
    text.  merges: how many of its merges it has."""
    pieces = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        "\u0120c",
        "\u0120ca",
        "\u0120cat",
    ]
    pairs = [("\u0120", "c"), ("\u0120c", "a"), ("\u0120ca", "t")][:merges]
    backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
        **names,
    )


def xlmr_like(split=True):
    """A Unigram tokenizer whose pieces begin with a mark for the blank; split=False: one that does not cut at
    blanks."""
    pieces = [
        ("<s>", 0.0),
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("\u2581", -2.0),
        ("\u2581cat", -1.0),
        ("\u2581c", -2.0),
    ]
    pieces += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz.,!()12345"] + [("t\u2581sat", -0.1)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=3))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(split=split)
    special = [("<s>", 0), ("</s>", 2)]
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=special
    )
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=64, model_input_names=["input_ids"], **names
    )


def save_normalised(source, folder):
    """The tokenizer in source with another normaliser: of the same vocabulary, and other ids of some
    texts."""
    tokenizer = load_tokenizer(source)
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.NFC()
    PreTrainedTokenizerFast(tokenizer_object=backend, **tokenizer.special_tokens_map).save_pretrained(folder)
    shutil.copy(source / "config.json", folder)
    return folder


def text(number=60, seed=0, longest=12):
    """Documents of sentences, some of them empty."""
    draw = random.Random(seed)
    words = ["the", "cat", "sat", "on", "a", "mat", "unables", "dog", "zebra"]

    def sentence():
        return " ".join(draw.choices(words, k=draw.randrange(1, longest))).capitalize() + draw.choice(".!")

    return [
        "\n".join(
            " ".join(sentence() for _ in range(draw.randrange(1, 4))) for _ in range(draw.randrange(0, 5))
        )
        for _ in range(number)
    ]


def plain_ids(tokenizer, line):
    """The ids of a line, each word as after one blank."""
    blank = " " if isinstance(tokenizer.backend_tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel) else ""
    return tokenizer(blank + " ".join(line.split()), add_special_tokens=False, verbose=False)["input_ids"]


def rows(corpus):
    """The blocks of a corpus without padding, one at a time."""
    return [corpus.collate([i]).inputs["input_ids"][0].tolist() for i in range(len(corpus))]


def built(
    texts,
    tokenizer,
    folder,
    *,
    kind="packed",
    max_length=16,
    size=400,
    num_workers=1,
    cross=True,
    language="en",
):
    """Build a corpus as the script does; returns it opened."""
    layout = layout_of(tokenizer, kind=kind, max_length=max_length, cross=cross, language=language, seed=5)
    folder.mkdir(parents=True, exist_ok=True)
    build.write_chunks(iter(texts), layout, folder=folder / "state", num_workers=num_workers, size=size)
    result = build.assemble(folder / "state", folder, layout)
    manifest.write_manifest(folder, tokenizer, layout, result, tokenizer_name="tiny", settings={"seed": 5})
    return memory_mapped.open_corpus(folder, tokenizer=tokenizer)


def read(*inputs, **options):
    return list(documents.read_documents(documents.find_sources([str(word) for word in inputs], **options)))


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def plain_blocks(texts, tokenizer, max_length, *, cross=True):
    """One token at a time."""
    found, block = [], []
    before, after = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    room = max_length - 2

    def close():
        found.append([*before, *block, *after])
        block.clear()

    started = False
    for document in texts:
        ids = [token for line in document.split("\n") if line for token in plain_ids(tokenizer, line)]
        if not ids:
            continue
        for token in ([tokenizer.sep_token_id] if started and cross else []) + ids:
            block.append(token)
            if len(block) == room:
                close()
        started = True
        if not cross and block:
            close()
    return found, len(block)


def plain_pairs(chunks, tokenizer, room, seed):
    """Devlin et al.'s create_instances_from_document on lists of tokens, with the draws that
    data/corpus/blocks.py documents."""
    found, random_pairs, unpaired, number = [], 0, 0, 0
    for chunk in chunks:
        documents = [
            [plain_ids(tokenizer, sentence) for sentence in sentences.split_document(t)] for t in chunk
        ]
        numbered = [(number + i, document) for i, document in enumerate(documents) if any(document)]
        number += len(chunk)
        for place, (index, document) in enumerate(numbered):
            draw = random.Random(f"{seed} {index}")
            i = 0
            while i < len(document):
                target = room
                if draw.random() < 0.1:
                    target = 2 + int(draw.random() * (room - 1))
                held = []
                while i + len(held) < len(document) and (not held or sum(map(len, held)) < target):
                    held.append(document[i + len(held)])
                num_a = 1 if len(held) == 1 else 1 + int(draw.random() * (len(held) - 1))
                a = [token for sentence in held[:num_a] for token in sentence]
                b = [token for sentence in held[num_a:] for token in sentence]
                step = len(held)
                if (len(held) == 1 or draw.random() < 0.5) and len(numbered) > 1:
                    others = [other for j, (_, other) in enumerate(numbered) if j != place]
                    other = others[int(draw.random() * len(others))]
                    start, b = int(draw.random() * len(other)), []
                    for sentence in other[start:]:
                        b += sentence
                        if len(b) >= target - len(a):
                            break
                    step, random_pairs = num_a, random_pairs + 1
                elif len(held) == 1:
                    for sentence in document[i + 1 :]:
                        b += sentence
                        step += 1
                        if len(b) >= target - len(a):
                            break
                i += step
                if not b:
                    unpaired += len(a)
                    continue
                cuts = {"a": 0, "b": 0}
                sizes = {"a": len(a), "b": len(b)}
                while sizes["a"] + sizes["b"] > room:
                    longer = "a" if sizes["a"] > sizes["b"] else "b"
                    sizes[longer] -= 1
                    cuts[longer] += 1
                for name, tokens in (("a", a), ("b", b)):
                    front = bin(draw.getrandbits(cuts[name])).count("1")
                    del tokens[:front]
                    del tokens[sizes[name] :]
                found.append((a, b))
    return found, random_pairs, unpaired
