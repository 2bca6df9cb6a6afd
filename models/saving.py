"""Models to checkpoints."""

import contextlib

import torch

from models.sharding import gathered
from utils import distributed, files
from utils.errors import CheckpointError

_LARGEST_FILE = 2**28  # bytes, of a model that is shared out: one is held at a time


def save_model(model, folder, *, tokenizer=None):
    """Write config.json and model.safetensors, and the tokenizer's files; whether a slice is set does not
    matter.

    All processes must call it for a model that is shared out among them, of which the main one writes several
    files with an index; else one does.
    Raises CheckpointError for weights that are not finite.
    """
    check_finite(model, folder)
    with files.writing(folder):
        if distributed.is_shared_out(model):
            with gathered(model, folder) as tensors, quiet():
                if not distributed.is_main():
                    return
                model.save_pretrained(folder, state_dict=tensors, max_shard_size=_LARGEST_FILE)
        else:
            with quiet():
                model.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
    files.permit(folder)


def save_anew(model, folder, *, tokenizer):
    """Put a checkpoint in the place of a folder when it is whole: all processes call this, one writes."""
    if distributed.is_main():
        with files.new_folder(folder) as aside:
            save_model(model, aside, tokenizer=tokenizer)
    elif distributed.is_shared_out(model):
        save_model(model, folder, tokenizer=tokenizer)


def saver(model, tokenizer):
    """What training.fit() takes as `save`: a function (folder, score) that writes the model as it is then."""
    return lambda folder, _: save_model(model, folder, tokenizer=tokenizer)


def check_finite(model, path):
    """Raise CheckpointError where a weight or buffer of the model that is loaded from, or saved to, a path is
    NaN or infinite; in all processes where one is shared out among them."""
    problem = _not_finite(model, path)
    if distributed.is_shared_out(model):
        problem = next(filter(None, distributed.gather(problem)), None)
    if problem:
        raise CheckpointError(problem)


@torch.no_grad()
def _not_finite(model, path) -> str | None:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        values = distributed.local(tensor)
        if values.is_floating_point() and not (finite := torch.isfinite(values)).all():
            wrong = finite.numel() - int(finite.sum())
            return (
                f"{path}: {name} has {wrong} of {finite.numel()} values that are NaN or infinite; expected "
                "finite weights; take another checkpoint, or train this one again with a lower "
                "--learning_rate"
            )
    return None


@contextlib.contextmanager
def quiet():
    """Without transformers' progress bars and its report of missing and unexpected keys, which load_model
    replaces."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
