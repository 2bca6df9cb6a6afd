"""How blocks of token ids are laid out: around the text, between texts, how long; found from a tokenizer."""

from dataclasses import dataclass

from data.model_tokenizer import plain_backend, special_ids, word_prefix
from utils.errors import CheckpointError, FlagError

_BLANKS = " \u2581\u0120"  # as pre-tokenizers write a blank


@dataclass(frozen=True)
class Layout:
    """How blocks are made, in plain values.

    kind: "packed", "pairs" or "sentences" (no blocks).  max_length: tokens of a block, specials included.
    before, between, after: ids of the special tokens around one text (packed) or two (pairs).  separator: the
    id between the documents of a stream.  cross: whether a packed block may hold parts of several documents.
    backend: the tokenizer as JSON; prefix: what goes before a word; by_word: whether words are tokenised one
    by one.
    language: of the sentences; None where every line is a sentence.  seed: of the pairs.
    """

    kind: str
    max_length: int = 0
    before: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    separator: int = 0
    cross: bool = True
    unknown: int | None = None
    backend: str = ""
    prefix: str = ""
    by_word: bool = True
    language: str | None = "en"
    seed: int = 0

    @property
    def room(self) -> int:
        """Tokens of text in a full block."""
        return self.max_length - len(self.before) - len(self.between) - len(self.after)


def layout_of(
    tokenizer, *, kind: str, max_length: int, cross: bool = True, language: str | None = "en", seed: int = 0
):
    """The Layout of a tokenizer; None for the tokenizer only where kind is "sentences".

    Raises FlagError for a max_length that leaves no room for text, CheckpointError for a tokenizer without a
    separator.
    """
    if kind == "sentences":
        return Layout("sentences", language=language)
    backend = plain_backend(tokenizer)
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if separator is None:
        raise CheckpointError(
            "the tokenizer has neither a sep_token nor an eos_token to put between documents; set one in its "
            "files"
        )
    before, *between, after = special_ids(backend, pair=kind == "pairs")
    result = Layout(
        kind,
        max_length,
        tuple(before),
        tuple(*between),
        tuple(after),
        separator,
        cross,
        tokenizer.unk_token_id,
        backend.to_str(),
        word_prefix(backend),
        _cuts_at_blanks(backend),
        language,
        seed,
    )
    if not result.room >= 2 or max_length > tokenizer.model_max_length:
        raise FlagError(
            f"--max_seq_length: found {max_length}; expected {max_length - result.room + 2} (specials and "
            f"two tokens) to {tokenizer.model_max_length} (what the tokenizer of this model allows)"
        )
    return result


def _cuts_at_blanks(backend) -> bool:
    """Whether the tokenizer cuts a text at every blank before it makes pieces, so that words do not influence
    each other."""
    text = "a b, c d" if backend.normalizer is None else backend.normalizer.normalize_str("a b, c d")
    if backend.pre_tokenizer is None:
        return False
    return all(
        not set(_BLANKS) & set(part.strip(_BLANKS))
        for part, _ in backend.pre_tokenizer.pre_tokenize_str(text)
    )
