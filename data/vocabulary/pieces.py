"""A tokenizer's pieces: which must stay so that whatever could be spelled still can, and which others are
worth a row.

    pieces = Pieces(tokenizer)
    kept = pieces.chosen(counts_P, size=12000)      # ids, ascending; a piece's new id is its place among them

A text all of whose pieces are kept is cut as before: WordPiece takes the longest piece that fits, Unigram the
best of all ways to cut, and what they took is still there.  BPE joins pieces step by step: whatever is joined
on the way to a kept piece (its ancestors) stays too.  P pieces.
"""

import itertools
import json

import numpy as np

from utils.errors import CheckpointError, FlagError

KINDS = ("WordPiece", "BPE", "Unigram")


class Pieces:
    """kind: one of KINDS.  ids: {piece: id}, added tokens among them.  required: the ids that must stay.

    Required are special and added tokens; single characters, or bytes; pieces with a character that is no
    piece of its own; of Unigram also the ids up to that of the unknown piece, which transformers' classes
    know by its number, and the piece with the lowest score, by which unknown characters are scored.
    """

    def __init__(self, tokenizer, *, named=()):
        """named: further ids that must stay, as a model's config names them.

        Raises CheckpointError for a tokenizer of another kind.
        """
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        self._model = state["model"]
        self.kind = self._model["type"]
        if self.kind not in KINDS:
            raise CheckpointError(
                f"its tokenizer is a {self.kind}; expected one of {', '.join(KINDS)}, which spell a word "
                "without a piece of its own in smaller ones; take another model, or leave its vocabulary"
            )
        self._prefix = self._model.get("continuing_subword_prefix") or ""
        self._suffix = self._model.get("end_of_word_suffix") or ""
        vocabulary = self._model["vocab"]
        self._model_ids = (
            {piece: number for number, (piece, _) in enumerate(vocabulary)}
            if self.kind == "Unigram"
            else vocabulary
        )
        self._merges = {
            tuple(pair): (rank, self._joined(*pair))
            for rank, pair in enumerate(self._model.get("merges", ()))
        }
        self.ids = tokenizer.get_vocab()
        added = {token["id"] for token in state["added_tokens"]} | {*tokenizer.all_special_ids}
        known = {*self.ids.values()}
        self.required = (added | {*named} | self._needed()) & known

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self.ids.values()) + 1

    @property
    def unknown(self) -> int | None:
        """The id of what cannot be spelled; None where there is none."""
        if self.kind == "Unigram":
            return self._model["unk_id"]
        return self.ids.get(self._model["unk_token"])

    def require_size(self, size: int):
        """Raise FlagError for a size that is too small for what is required, or larger than the
        vocabulary."""
        total = len({*self.ids.values()})
        if size > total:
            raise FlagError(f"--vocabulary_size {size}: the vocabulary has {total} pieces; expected no more")
        if size < len(self.required):
            raise FlagError(
                f"--vocabulary_size {size}: {len(self.required)} of {total} pieces must stay (special and "
                "added tokens, and what every text can be spelled with); expected as many or more"
            )

    def chosen(self, counts_P, *, size=None, min_count=None) -> np.ndarray:
        """The ids that stay, ascending: all that are required and, the most frequent first, others.

        counts_P: how often each piece occurs, whole numbers or weighted.  size: how many pieces stay, as
        require_size() allows it; a piece that does not fit together with its ancestors is passed over.
        min_count: instead of it, those that occur at least so often, with their ancestors.
        """
        pieces, kept = {number: piece for piece, number in self.ids.items()}, {*self.required}
        numbers = np.array(sorted(pieces))
        order = numbers[np.argsort(-counts_P[numbers], kind="stable")]
        for number in order.tolist():
            if len(kept) == size or (size is None and counts_P[number] < min_count):
                break
            wanted = {number, *self.ancestors(pieces[number])} - kept if number not in kept else ()
            if size is None or len(kept) + len(wanted) <= size:
                kept.update(wanted)
        return np.array(sorted(kept), np.int64)

    def ancestors(self, piece: str) -> set[int]:
        """The ids of what BPE joins on the way to a piece; nothing of the other kinds."""
        if self.kind != "BPE":
            return set()
        parts, met = self._symbols(piece), set()
        while len(parts) > 1:
            pairs = [
                (self._merges[pair][0], place)
                for place, pair in enumerate(itertools.pairwise(parts))
                if pair in self._merges
            ]
            if not pairs:
                return set()  # nothing joins to this piece
            _, place = min(pairs)
            parts[place : place + 2] = [self._merges[tuple(parts[place : place + 2])][1]]
            met.add(self._model_ids[parts[place]])
        return met

    def trimmed_model(self, kept) -> dict:
        """The `model` of tokenizer.json with the pieces that stay, by their new ids.  kept: of chosen()."""
        places = {number: place for place, number in enumerate(kept.tolist())}
        model = {**self._model}
        if self.kind == "Unigram":
            rows = self._model["vocab"]
            model["vocab"] = [rows[number] for number in places if number < len(rows)]
            model["unk_id"] = None if self.unknown is None else places[self.unknown]
            return model
        model["vocab"] = {
            piece: places[number] for piece, number in self._model_ids.items() if number in places
        }
        if self.kind == "BPE":
            model["merges"] = [
                list(pair)
                for pair, (_, joined) in self._merges.items()
                if {*pair, joined} <= model["vocab"].keys()
            ]
        return model

    def _needed(self) -> set[int]:
        """The ids of the model's own pieces that must stay."""
        found = set()
        for piece, number in self._model_ids.items():
            symbols = self._symbols(piece)
            if len(symbols) == 1 or any(symbol not in self._model_ids for symbol in symbols):
                found.add(number)
        if self._model.get("byte_fallback"):
            names = map("<0x{:02X}>".format, range(256))
            found |= {self._model_ids[name] for name in names if name in self._model_ids}
        if self.kind == "Unigram":
            scores = [score for _, score in self._model["vocab"]]
            found |= {int(np.argmin(scores)), *range((self.unknown or 0) + 1)}
        return found

    def _symbols(self, piece) -> list[str]:
        """The single pieces that spell a piece."""
        if self.kind == "Unigram":
            return [*piece]
        prefix, suffix = self._prefix, self._suffix
        inside = bool(prefix) and piece.startswith(prefix) and len(piece) > len(prefix)
        ends = bool(suffix) and piece.endswith(suffix) and len(piece) > len(suffix)
        symbols = [*piece[len(prefix) * inside : len(piece) - len(suffix) * ends]]
        symbols = [
            symbol if place == 0 and not inside else prefix + symbol for place, symbol in enumerate(symbols)
        ]
        return [*symbols[:-1], symbols[-1] + suffix] if ends and symbols else symbols

    def _joined(self, left, right):
        return left + right.removeprefix(self._prefix)
