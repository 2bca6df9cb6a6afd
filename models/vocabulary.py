"""Checkpoints with fewer pieces and fewer positions: the same weights, with the rows that stay.

Whatever the checkpoint holds stays: pretraining heads, pooler, task head, what was cropped or nested.  Its
tables of pieces shrink (those of the input, and of heads for masked tokens with their biases), and what
shares a table shares it afterwards, as it is stored once.  P pieces.
"""

import shutil

import torch
from safetensors.torch import save_file

from models import architectures
from models.checkpoint_files import read_weights
from models.loading import load_config
from models.saving import quiet
from utils import families, files, filter_specs
from utils.errors import CheckpointError, RunError

_POSITIONS = "position_embeddings.weight"
_NUMBERS = ("position_ids", "token_type_ids")  # buffers [1, positions] that old checkpoints hold


def named_ids(config) -> list[int]:
    """The ids of pieces that a config names."""
    values = [value for name, value in config.to_dict().items() if name.endswith("_token_id")]
    return [
        number
        for value in values
        for number in (value if isinstance(value, list) else [value])
        if isinstance(number, int)
    ]


def write_trimmed(model, source, folder, *, kept, max_length=None):
    """Write config.json and model.safetensors of a checkpoint with the pieces `kept`, for so many positions.

    model: its encoder, or with a head; it tells where positions begin.  source: the checkpoint's folder, a
    Path.  kept: [P] ids, ascending; a piece's place is its new id.  max_length: tokens of the longest text,
    at most as many as the model has positions for; None: as many as before.
    Raises CheckpointError where its config names a padding piece that its tokenizer does not have.
    """
    config = load_config(source)
    before, places = config.vocab_size, {number: place for place, number in enumerate(kept.tolist())}
    padding = config.pad_token_id
    for name, value in config.to_dict().items():
        if name.endswith("_token_id") and isinstance(value, list):
            setattr(config, name, [places[number] for number in value if number in places])
        elif name.endswith("_token_id") and value is not None:
            setattr(config, name, places.get(value))
    if padding is not None and config.pad_token_id is None:
        raise CheckpointError(
            f"{source}: its config.json names the padding piece {padding}, which its tokenizer does not "
            "have; correct one of them"
        )
    config.vocab_size = len(places)
    positions = _kept_positions(model, config, max_length, moved=(padding or 0) - (config.pad_token_id or 0))
    rows = torch.from_numpy(kept)
    inside = f"{families.of(config.model_type).layers}."

    def cut(name, tensor):
        if positions is not None and name.endswith(_POSITIONS):
            return tensor[positions]
        if positions is not None and name.endswith(_NUMBERS):
            return tensor[:, : positions.stop - positions.start]
        is_table = inside not in name and not name.endswith(_POSITIONS) and tensor.shape[:1] == (before,)
        return tensor[rows] if is_table else tensor

    tensors = {name: cut(name, tensor).contiguous() for name, tensor in read_weights(source).items()}
    with files.writing(folder), quiet():
        config.save_pretrained(folder)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        for name in (filter_specs.SPEC, filter_specs.WEIGHTS):  # TED's, which see no pieces
            if (source / name).exists():
                shutil.copy2(source / name, folder / name)
    files.permit(folder)


def _kept_positions(model, config, max_length, *, moved):
    """The rows of the table of positions that stay, as a slice; None where there is no such table.  Writes
    their number into the config.  moved: by how much the padding piece's id is smaller now."""
    table, first = architectures.position_table(model)
    if table is None:
        return None
    there = table.num_embeddings - first
    moved = moved if first else 0  # elsewhere positions count from 0
    if getattr(config, "max_relative_positions", 0) < 0:
        config.max_relative_positions = config.max_position_embeddings  # DeBERTa's -1: the same number
    kept = slice(moved, first + (max_length or there))
    config.max_position_embeddings = kept.stop - kept.start
    return kept


@torch.no_grad()
def check_trimmed(before, after, pairs, *, kept):
    """How many texts were compared: a model and its trimmed one must say the same, bit by bit.

    pairs: [(inputs, inputs)] of batches of texts all of whose pieces are kept, in old and in new ids.
    kept: [P] ids.  Raises RunError where encoder states, or logits of a task head, differ.
    """
    number = 0
    for old, new in pairs:
        sides = ((before, old), (after, new))
        states = [model(**inputs, output_hidden_states=True).hidden_states[-1] for model, inputs in sides]
        same = torch.equal(torch.from_numpy(kept)[new["input_ids"]], old["input_ids"]) and torch.equal(
            *states
        )
        if same and architectures.encoder(before) is not before:
            outputs = before(**old), after(**new)
            same = all(torch.equal(output, outputs[1][name]) for name, output in outputs[0].items())
        if not same:
            raise RunError(
                "the trimmed model's outputs differ from the original's on texts whose pieces all stay; "
                "nothing was saved; please report this with the model's name"
            )
        number += len(old["input_ids"])
    return number
