"""corpus.json, the manifest of a built corpus: what its blocks are, with which tokenizer they were made, how
many.

A folder is a corpus once it holds one.  Nothing here imports torch.
"""

import re
from pathlib import Path

from data.model_tokenizer import encoding_hash, tokenizer_hash
from utils import files
from utils.errors import CheckpointError, DataError

NAME = "corpus.json"
_FACTS = {"tokenizer": dict, "blocks": str, "max_length": int, "num_blocks": int, "shards": list}
_TOKENIZER = {
    "name": str,
    "size": int,
    "hash": str,
    "encoding": (str, type(None)),
}  # older ones lack the last
_SHARD = {"file": str, "blocks": int, "sha256": str}
_SHARD_NAME = re.compile(r"blocks-\d+\.arrow")
_ADVICE = "expected what run_corpus.py wrote; build the corpus again"


def is_built(path) -> bool:
    """Whether a path is the folder of a finished corpus."""
    return (Path(path).expanduser() / NAME).is_file() and (Path(path).expanduser() / "args.json").is_file()


def read_manifest(path) -> dict:
    """corpus.json of a corpus folder.  Raises DataError where there is none, or another file of that name."""
    folder = Path(path).expanduser()
    if not (folder / NAME).is_file():
        if (folder / "sentences").is_dir():
            raise DataError(
                f"{path}: holds sentences, no blocks (--sentences_only); expected a corpus built with a "
                f"tokenizer: give {folder / 'sentences'} to run_corpus.py as its --input"
            )
        if (folder / "args.json").is_file():
            raise DataError(
                f"{path}: this corpus has not been built to its end; give its command again, it continues"
            )
        raise DataError(
            f"{path}: found no {NAME}; expected a corpus folder made by run_corpus.py, or --streaming for "
            "raw text"
        )
    facts = _read(folder / NAME)
    if facts["blocks"] not in ("packed", "pairs") or not facts["shards"]:
        raise DataError(
            f"{folder / NAME}: damaged (blocks: found {facts['blocks'][:80]!r} in {len(facts['shards'])} "
            f"files, expected packed or pairs in one or more); {_ADVICE}"
        )
    return facts


def _read(file) -> dict:
    checks = {"error": DataError, "advice": _ADVICE}
    facts = files.read_object(file, _FACTS, **checks)
    files.check_object(facts["tokenizer"], _TOKENIZER, path=f"{file}: tokenizer", **checks)
    for number, shard in enumerate(facts["shards"]):
        where = f"{file}: shards {number}"
        files.check_object(shard if isinstance(shard, dict) else {}, _SHARD, path=where, **checks)
        if not _SHARD_NAME.fullmatch(shard["file"]):
            raise DataError(
                f"{where}: damaged (file: found {shard['file'][:80]!r}, expected a file beside it); {_ADVICE}"
            )
    return facts


def write_manifest(folder, tokenizer, layout, result: dict, *, tokenizer_name, settings: dict):
    """Write corpus.json, which makes a folder a corpus: the result of build.assemble(), the tokenizer, all
    settings."""
    facts = {
        "blocks": layout.kind,
        "max_length": layout.max_length,
        "num_blocks": result["counts"]["blocks"],
        "tokenizer": {
            "name": tokenizer_name,
            "size": len(tokenizer),
            "hash": tokenizer_hash(tokenizer),
            "encoding": encoding_hash(tokenizer),
        },
        **result,
        "settings": settings,
    }
    files.write_json(Path(folder) / NAME, facts)


def require_tokenizer(facts, tokenizer, path):
    """Raise CheckpointError where a corpus was made with a tokenizer of another vocabulary, or with one that
    makes other ids of a text (a manifest of an earlier version does not tell that)."""
    made, ours = facts["tokenizer"], tokenizer_hash(tokenizer)
    if made["hash"] != ours:
        raise CheckpointError(
            f"{path}: made with the tokenizer of {made['name']} ({made['size']} pieces, hash "
            f"{made['hash'][:12]}); the model's has {len(tokenizer)} pieces, hash {ours[:12]}; the same ids "
            "mean other pieces: build the corpus with --tokenizer_name_or_path of this model"
        )
    if made.get("encoding") not in (None, encoding_hash(tokenizer)):
        raise CheckpointError(
            f"{path}: made with the tokenizer of {made['name']} as it was then; the model's has the same "
            "pieces, but makes other ids of a text (its normaliser, merges or special tokens differ); build "
            "the corpus with --tokenizer_name_or_path of this model"
        )
