"""What the sections train on and from: made-up texts, tokenizers of their words, checkpoints with random
weights.

All of it is made where it is first asked for, in the work folder.  Speed does not depend on what weights and
words are.
"""

import random
import types

import torch
import transformers

from benchmarks.training_cases import prepare
from data import demo, tasks

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
TINY = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 12, "intermediate_size": 64}
VOCABULARY = 30522  # of BERT-base
REAL = "mrpc"
LENGTHS = (23, 6)  # words of a sentence, mean and deviation: a pair has 53 tokens, as MRPC's


def sizes(settings) -> dict:
    """Those of the model that is timed."""
    return settings.pick(BASE, BASE, TINY)


def bert_base(settings):
    """The folder of a random BERT-base and its tokenizer: a real one's, where there is one, or one of the
    made-up words."""
    folder = settings.work / "bert_base"
    if not folder.exists():
        if is_real(settings):
            tokenizer = transformers.AutoTokenizer.from_pretrained(settings.encoder)
        else:
            pieces = [*SPECIALS, *_words(settings)]
            tokenizer = transformers.BertTokenizer(
                vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=512
            )
        torch.manual_seed(0)
        model = transformers.BertModel(transformers.BertConfig(vocab_size=len(tokenizer), **sizes(settings)))
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return folder


def is_real(settings) -> bool:
    """Whether a real task and a real tokenizer are there."""
    return (settings.data_dir / REAL / "train.tsv").is_file() and (
        settings.encoder / "tokenizer.json"
    ).is_file()


def case(settings, *, batch_size, num_batches):
    """benchmarks.training_cases.prepare() of BERT-base for the device: a real task's rows, or made-up ones of
    such lengths."""
    name, data_dir = (REAL, settings.data_dir) if is_real(settings) else ("demo", _pairs(settings))
    args = types.SimpleNamespace(
        data_dir=str(data_dir), encoder=str(bert_base(settings)), batch_size=batch_size
    )
    folder = settings.work / "bert_base_nested"
    return prepare(
        name, args, folder, num_batches=num_batches, device=settings.device, precision=settings.precision
    )


def _words(settings):
    return [f"w{number}" for number in range(settings.pick(VOCABULARY, VOCABULARY, 200) - len(SPECIALS))]


def _pairs(settings):
    """The parent of a demo/ folder with pairs of random sentences."""
    parent = settings.work / "pairs"
    if not parent.exists():
        draw, words, labels = random.Random(0), _words(settings), tasks.get("demo").label_names
        scale = settings.pick(1, 1, 5)

        def sentence():
            number = max(2, round(draw.gauss(*LENGTHS) / scale))
            return " ".join(draw.choices(words, k=number))

        (parent / "demo").mkdir(parents=True)
        for split, number in (("train", settings.pick(12_000, 12_000, 60)), ("dev", 64)):
            lines = ["index\tsentence1\tsentence2\tlabel"]
            lines += [f"{i}\t{sentence()}\t{sentence()}\t{draw.choice(labels)}" for i in range(number)]
            (parent / "demo" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return parent


def demo_data(settings):
    """The parent of a demo/ folder with a few rows of the demo task, for runs that are to be short."""
    parent = settings.work / "demo_data"
    if not parent.exists():
        demo.write_files(settings.work / "whole_demo")
        (parent / "demo").mkdir(parents=True)
        for split, number in (
            ("train", settings.pick(320, 320, 96)),
            ("dev", settings.pick(128, 128, 48)),
            ("test", 32),
        ):
            lines = (
                (settings.work / "whole_demo" / f"{split}.tsv")
                .read_text(encoding="utf-8")
                .splitlines(keepends=True)
            )
            (parent / "demo" / f"{split}.tsv").write_text("".join(lines[: 1 + number]), encoding="utf-8")
    return parent


def demo_corpus(settings):
    """A text file of the demo task's sentences, documents of ten."""
    path = settings.work / "demo.txt"
    if not path.exists():
        sentences = [
            sentence for row in demo.rows(settings.pick(3000, 3000, 400), seed=1) for sentence in row[:2]
        ]
        documents = ["\n".join(sentences[start : start + 10]) for start in range(0, len(sentences), 10)]
        path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return path


def pretrained_demo(settings):
    """The folder of a small random BERT with its head for masked tokens, and the demo task's tokenizer."""
    folder = settings.work / "pretrained_demo"
    if not folder.exists():
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            demo.build_tokenizer(demo_data(settings) / "demo")
        )
        size = settings.pick(128, 128, 48)
        config = transformers.BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=size,
            num_hidden_layers=settings.pick(4, 4, 2),
            num_attention_heads=4,
            intermediate_size=2 * size,
            max_position_embeddings=128,
            pad_token_id=tokenizer.pad_token_id,
        )
        torch.manual_seed(0)
        model = transformers.BertForMaskedLM(config)
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return folder


def student_of_text(settings) -> list:
    """Flags of run_minilmv2.py and run_minimoe.py: that teacher, that text, a small student."""
    student = ["--layer", 2, "--hidden", 48, "--heads", 4, "--num_relation_heads", 4]
    text = ["--corpus", demo_corpus(settings), "--streaming", "--max_length", 32]
    return ["--teacher_model_path", pretrained_demo(settings), *text, *student]


def here(settings) -> list:
    """The flag that keeps a script off a GPU, where it is to be."""
    return ["--use_cpu"] if settings.device == "cpu" else []
