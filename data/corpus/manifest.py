"""corpus.json, the manifest of a built corpus: what its blocks are, with which tokenizer they were made, how
many.

A folder is a corpus once it holds one.  Nothing here imports torch.
"""

import json
from pathlib import Path

from data.model_tokenizer import tokenizer_hash
from utils import files
from utils.errors import CheckpointError, DataError

NAME = "corpus.json"


def is_built(path) -> bool:
    """Whether a path is the folder of a finished corpus."""
    return (Path(path).expanduser() / NAME).is_file() and (Path(path).expanduser() / "args.json").is_file()


def read_manifest(path) -> dict:
    """corpus.json of a corpus folder.  Raises DataError where there is none, or another file of that name."""
    folder = Path(path).expanduser()
    if not (folder / NAME).is_file():
        if (folder / "args.json").is_file():
            raise DataError(
                f"{path}: this corpus has not been built to its end; give its command again, it continues"
            )
        raise DataError(
            f"{path}: found no {NAME}; expected a corpus folder made by run_corpus.py, or --streaming for "
            "raw text"
        )
    try:
        facts = files.read_json(folder / NAME)
        return {
            **facts,
            **{key: facts[key] for key in ("tokenizer", "blocks", "max_length", "num_blocks", "shards")},
        }
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder / NAME}:1: damaged ({error!r}); expected what run_corpus.py wrote; build it again"
        ) from error


def write_manifest(folder, tokenizer, layout, result: dict, *, tokenizer_name, settings: dict):
    """Write corpus.json, which makes a folder a corpus: the result of build.assemble(), the tokenizer, all
    settings."""
    facts = {
        "blocks": layout.kind,
        "max_length": layout.max_length,
        "num_blocks": result["counts"]["blocks"],
        "tokenizer": {"name": tokenizer_name, "size": len(tokenizer), "hash": tokenizer_hash(tokenizer)},
        **result,
        "settings": settings,
    }
    files.write_json(Path(folder) / NAME, facts)


def require_tokenizer(facts, tokenizer, path):
    """Raise CheckpointError where a corpus was made with a tokenizer of another vocabulary."""
    made, ours = facts["tokenizer"], tokenizer_hash(tokenizer)
    if made["hash"] != ours:
        raise CheckpointError(
            f"{path}: made with the tokenizer of {made['name']} ({made['size']} pieces, hash "
            f"{made['hash'][:12]}); the model's "
            f"has {len(tokenizer)} pieces, hash {ours[:12]}; the same ids mean other pieces: build the "
            "corpus with "
            f"--tokenizer_name_or_path of this model"
        )
