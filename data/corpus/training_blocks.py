"""What --corpus names, for training: blocks of a built corpus, or of text files as they are read; some of
them held out."""

from pathlib import Path

from data.corpus import documents, manifest, memory_mapped, streaming
from utils import distributed
from utils.errors import FlagError


def train_and_heldout(
    tokenizer,
    *,
    paths: list,
    num_heldout: int,
    batch_size: int,
    num_accumulated: int = 1,
    max_length: int | None = None,
    from_text: dict | None = None,
    num_updates: int | None = None,
    seed: int = 0,
    buffer: int | None = None,
):
    """(train, heldout): blocks to train on, which have require_positions and max_length, and to evaluate
    with; both have counts, epoch and collate.

    paths: the folder of a built corpus, or text files.  num_heldout: blocks that are never trained on.
    batch_size: blocks of a micro-batch of one process; num_accumulated: micro-batches of an update.
    max_length: tokens of a block.
    from_text: for text files, what documents.find_sources() takes besides paths; then num_updates is the
    length of the run, seed its seed, buffer the blocks to draw the next one from.
    Raises as memory_mapped.open_corpus(), documents.find_sources() and hold_out_blocks() do.
    """
    if from_text is None:
        corpus = memory_mapped.open_corpus(paths[0], tokenizer=tokenizer, max_length=max_length)
    else:
        corpus = streaming.StreamedCorpus(
            documents.find_sources(paths, **from_text),
            tokenizer,
            max_length=max_length or streaming.MAX_LENGTH,
            seed=seed,
            batch_size=batch_size,
            num_updates=num_updates,
            num_accumulated=num_accumulated,
            buffer=buffer or streaming.BUFFER,
        )
    return corpus.hold_out_blocks(num_heldout, at_least=batch_size * num_accumulated * distributed.world())


def recorded_inputs(paths: list, *, from_text: dict | None = None) -> dict:
    """What runs.start() records: the hash of a built corpus's manifest, or those of the text files
    (from_text: as above)."""
    if from_text is None:
        manifest.read_manifest(paths[0])
        return {"corpus": [Path(paths[0]).expanduser() / manifest.NAME]}
    for path in paths:
        if manifest.is_built(path):
            raise FlagError(f"--streaming: {path} is a built corpus; leave --streaming out")
    return {"corpus": documents.hashes(documents.find_sources(paths, **from_text), download=False)}
