"""A model's tokenizer: where it is found, whose ids mean the same, its special tokens.

    tokenizer = model_tokenizer.load_tokenizer("outputs/finetuning/mrpc")

Nothing here imports torch.
"""

import copy
import hashlib
import importlib
import json
from pathlib import Path

from data import deberta_tokenizer
from utils import checkpoints
from utils.errors import CheckpointError

_FILES = [
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
]
_SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def load_tokenizer(path, *, masks=False):
    """The fast tokenizer of a checkpoint.

    path: a hub name, a checkpoint folder, a finished run folder, or a folder with nothing but a tokenizer's
    files.  masks: some of its tokens will be masked.
    Raises CheckpointError where there is none, or none that pads and is fast, or that masks.
    """
    from transformers import AutoTokenizer

    folder = Path(path).expanduser()
    source = str(folder) if (folder / "tokenizer.json").is_file() else checkpoints.folder_of(path)
    if Path(source).is_dir() and not any((Path(source) / name).is_file() for name in _FILES):
        raise CheckpointError(
            f"{source}: found no tokenizer; expected tokenizer.json (or {', '.join(_FILES[1:])}); copy the "
            "tokenizer's files there from the model that this checkpoint was made of"
        )
    config = _config(source)
    try:
        tokenizer = deberta_tokenizer.restored(
            AutoTokenizer.from_pretrained(source, trust_remote_code=False), source
        )
    except Exception as error:  # the tokenizers library raises plain Exception for a damaged file
        reason = _reason(error)
        if Path(source).is_dir() and reason == _config_fault(source):
            raise CheckpointError(
                f"{Path(source) / 'config.json'}: not a config that transformers can read ({reason}); mend "
                "it, or copy it again"
            ) from error
        # Which transformers tries where it lacks these
        if "tiktoken" in reason and (missing := _missing_packages()):
            raise CheckpointError(
                f"{source}: its tokenizer is a sentencepiece model without a tokenizer.json; reading it "
                f"needs {' and '.join(missing)}: pip install -r requirements-sentencepiece.txt"
            ) from error
        where = (
            "its files are damaged or need a package"
            if Path(source).is_dir()
            else "the hub has no such model or is out of reach"
        )
        raise CheckpointError(
            f"{source}: the tokenizer cannot be loaded: {where} ({reason}); expected a folder with "
            "tokenizer.json or a name on the Hugging Face hub that can be reached or is in the cache"
        ) from error
    if not getattr(tokenizer, "is_fast", False) or tokenizer.pad_token_id is None or len(tokenizer) < 10:
        raise CheckpointError(
            f"{source}: found a {type(tokenizer).__name__} with {len(tokenizer)} tokens and pad token "
            f"{tokenizer.pad_token!r}; expected an encoder's fast tokenizer (tokenizer.json) with a "
            "vocabulary and a pad token"
        )
    if masks and tokenizer.mask_token_id is None:
        raise CheckpointError(
            f"{source}: its tokenizer has no mask token, which stands for what the loss of masked tokens "
            "(--mlm_weight; sorting on a corpus) asks for; take another encoder, or leave that loss out"
        )
    rows, pieces = config.get("vocab_size"), max(tokenizer.get_vocab().values()) + 1
    if rows is not None and pieces > rows:
        raise CheckpointError(
            f"{source}: its tokenizer has {pieces} pieces, its model {rows} rows for them (vocab_size); "
            "expected a row for each; take the tokenizer that the model was trained with"
        )
    if config.get("type_vocab_size") == 1 and any(tokenizer("a", "b").get("token_type_ids", ())):
        raise CheckpointError(
            f"{source}: its tokenizer numbers the segments of a pair 0 and 1, its model has one kind of them "
            "(type_vocab_size 1); take the tokenizer that the model was trained with"
        )
    return tokenizer


def _config(source) -> dict:
    """config.json beside a tokenizer's files; {} where there is none.  Raises CheckpointError for one that is
    damaged."""
    return (checkpoints.read_config(source) or {}) if (Path(source) / "config.json").is_file() else {}


def _config_fault(source) -> str | None:
    """What transformers says against the config.json beside a tokenizer's files, which it reads first, if
    anything."""
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        return _reason(error)
    return None


def _reason(error):
    return " ".join(str(error).split())[:300]


def _missing_packages():
    """What is not installed of that which reads a sentencepiece model."""
    missing = []
    for package, module in (("sentencepiece", "sentencepiece"), ("protobuf", "google.protobuf")):
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(package)
    return missing


def tokenizer_hash(tokenizer) -> str:
    """Hex SHA-256 of the vocabulary (added tokens included): equal where the same ids mean the same
    pieces."""
    vocabulary = sorted(tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()


def encoding_hash(tokenizer) -> str:
    """Hex SHA-256 of all that makes a text ids: equal where the same text becomes the same ones.

    Of the vocabulary, added tokens and merges, the normaliser, the pre-tokenizer, the special tokens and
    where they go; not of what a tokenizer keeps besides (lengths, padding, how ids become text again).
    """
    backend = plain_backend(tokenizer)
    # Sentencepiece's scores are not read back to their last bit; the copy has been read once, as a saved one
    facts = json.loads(backend.to_str())
    parts = {name: facts[name] for name in ("model", "added_tokens", "normalizer", "pre_tokenizer")}
    parts["around"] = [special_ids(backend), special_ids(backend, pair=True)]
    parts["special"] = {name: getattr(tokenizer, f"{name}_token_id") for name in _SPECIAL}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def plain_backend(tokenizer):
    """A copy of a tokenizer's own backend without the truncation and padding that its checkpoint may
    store."""
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_padding()
    backend.no_truncation()
    return backend


def word_prefix(backend):
    """A blank for tokenizers that tell a word after a blank from one at the start of a text (RoBERTa's), else
    nothing."""
    alone, twice = (backend.encode(text, add_special_tokens=False).ids for text in ("a", "a a"))
    return "" if alone * 2 == twice else " "


def special_ids(backend, *, pair: bool = False) -> list[list[int]]:
    """The ids of the special tokens before and after a single text; before, between and after the texts of a
    pair."""
    encoding = backend.encode(*(["a"] * (1 + pair)))
    groups, previous = [[]], None
    for token, sequence in zip(encoding.ids, encoding.sequence_ids):
        if sequence is None:
            groups[-1].append(token)
        elif sequence != previous:
            groups.append([])
            previous = sequence
    return groups
