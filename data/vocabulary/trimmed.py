"""The tokenizer of the pieces that stay: in memory to count with, and as files for AutoTokenizer."""

import itertools
import json
from pathlib import Path

from data.model_tokenizer import load_tokenizer, plain_backend
from utils import files
from utils.errors import CheckpointError

_SENTENCEPIECE = ("spm.model", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
_NUM_COMPARED, _BATCH = 64, 8  # texts of which old and new outputs are compared, and of a batch of them


def trimmed_state(tokenizer, pieces, kept, *, max_length=None) -> dict:
    """tokenizer.json with the pieces that stay.

    pieces: Pieces of the tokenizer.  kept: as pieces.chosen() gives it.  max_length: tokens that the model
    has positions for; what the file says of cutting texts is lowered to it.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    of_piece = _new_ids(pieces, kept)
    state["model"] = pieces.trimmed_model(kept)
    state["added_tokens"] = [{**token, "id": of_piece[token["content"]]} for token in state["added_tokens"]]
    for processor in _processors(state["post_processor"]):
        for special in processor.get("special_tokens", {}).values():
            special["ids"] = [of_piece[piece] for piece in special["tokens"]]
        for name in ("sep", "cls"):
            if name in processor:
                processor[name][1] = of_piece[processor[name][0]]
    if state["padding"]:
        state["padding"]["pad_id"] = of_piece[state["padding"]["pad_token"]]
        fixed = state["padding"]["strategy"]
        if max_length and isinstance(fixed, dict):
            fixed["Fixed"] = min(fixed["Fixed"], max_length)
    if state["truncation"] and max_length:
        state["truncation"]["max_length"] = min(state["truncation"]["max_length"], max_length)
    return state


def trimmed_backend(tokenizer, pieces, kept):
    """The tokenizers library's Tokenizer of the pieces that stay, without truncation and padding."""
    from tokenizers import Tokenizer

    state = trimmed_state(tokenizer, pieces, kept)
    return Tokenizer.from_str(json.dumps({**state, "truncation": None, "padding": None}))


def whole_texts(tokenizer, made, texts, kept, *, max_length):
    """Yield (inputs, inputs), the same texts in old and in new ids, in batches: texts all of whose pieces are
    kept, and of others the longest part between blanks that is such a text, where there is one.

    made: the trimmed tokenizer.  max_length: tokens that texts are cut to.
    """
    backend, known = plain_backend(tokenizer), {*kept.tolist()}
    parts = (_kept_part(text, backend, known) for text in texts)
    found = [*itertools.islice(filter(None, parts), _NUM_COMPARED)]
    options = {"padding": True, "truncation": True, "max_length": max_length, "return_tensors": "pt"}
    for start in range(0, len(found), _BATCH):
        batch = found[start : start + _BATCH]
        yield tokenizer(batch, **options), made(batch, **options)


def _kept_part(text, backend, known) -> str:
    """The text, or the longest part of it between blanks, all of whose pieces are known; "" without one."""
    encoded = backend.encode(text)
    lost = [span for number, span in zip(encoded.ids, encoded.offsets) if number not in known]
    if not lost:
        return text
    edges = [(0, 0), *lost, (len(text), len(text))]
    between = [(end, start) for (_, end), (start, _) in itertools.pairwise(edges)]
    for start, end in sorted(between, key=lambda span: span[0] - span[1]):
        part, before, after = text[start:end], text[:start] or " ", text[end:] or " "
        part = part if before[-1] == " " else part.partition(" ")[2]  # whole words
        part = (part if after[0] == " " else part.rpartition(" ")[0]).strip()
        if part and known.issuperset(backend.encode(part).ids):
            return part
    return ""


def write_trimmed(tokenizer, pieces, kept, folder, *, source, max_length=None):
    """Write the tokenizer of the pieces that stay into a folder, and return it as it is loaded from there.

    source: the folder of the old one; of vocab.txt, vocab.json and merges.txt, and sentencepiece's model,
    what lies there is written too, and says the same as tokenizer.json.  The rest: see trimmed_state().
    Raises CheckpointError where what transformers loads is not what was written.
    """
    folder, source = Path(folder), Path(source)
    tokenizer.save_pretrained(folder)
    state = trimmed_state(tokenizer, pieces, kept, max_length=max_length)
    (folder / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False, indent=2), encoding="utf-8")
    _lower_lengths(folder / "tokenizer_config.json", max_length)
    _write_slow_files(state["model"], folder, source)
    made = load_tokenizer(folder)
    if made.get_vocab() != _new_ids(pieces, kept):
        raise CheckpointError(
            f"{source}: transformers' {type(tokenizer).__name__} gives other ids to the {len(kept)} pieces "
            "that stay than its tokenizer.json; take another model, or leave this vocabulary whole"
        )
    return made


def _new_ids(pieces, kept):
    places = {number: place for place, number in enumerate(kept.tolist())}
    return {piece: places[number] for piece, number in pieces.ids.items() if number in places}


def _processors(processor):
    """A post-processor and those inside it."""
    if processor is not None:
        yield processor
        for inner in processor.get("processors", ()):
            yield from _processors(inner)


def _lower_lengths(path, max_length):
    """Lower what tokenizer_config.json says of the longest text to the positions that the model has."""
    config = files.read_json(path)
    for name in ("model_max_length", "max_length") if max_length else ():
        if config.get(name):
            config[name] = min(config[name], max_length)
    files.write_json(path, config)


def _write_slow_files(model, folder, source):
    """Write the files by which tokenizers without tokenizer.json are made, as far as the old one has them."""
    vocabulary = model["vocab"]
    if model["type"] != "Unigram":
        ordered = sorted(vocabulary, key=vocabulary.get)
        if (source / "vocab.txt").exists():
            (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in ordered), encoding="utf-8")
        if (source / "vocab.json").exists():
            (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
        if (source / "merges.txt").exists():
            lines = ["#version: 0.2", *map(" ".join, model["merges"])]
            (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    kept = {*vocabulary} if model["type"] != "Unigram" else {piece for piece, _ in vocabulary}
    for name in _SENTENCEPIECE:
        if (source / name).exists():
            _write_sentencepiece(source / name, folder / name, kept)


def _write_sentencepiece(source, target, kept):
    """Write a sentencepiece model with the normal pieces that stay, and all others, in their order."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(source.read_bytes())
    normal = sentencepiece_model_pb2.ModelProto.SentencePiece.NORMAL
    stay = [piece for piece in model.pieces if piece.type != normal or piece.piece in kept]
    stay = [
        sentencepiece_model_pb2.ModelProto.SentencePiece.FromString(piece.SerializeToString())
        for piece in stay
    ]
    del model.pieces[:]
    model.pieces.extend(stay)
    model.trainer_spec.vocab_size = len(stay)
    target.write_bytes(model.SerializeToString())
