"""Models to checkpoints."""

import contextlib

import torch

from utils import files
from utils.errors import CheckpointError


def save_model(model, folder, *, tokenizer=None):
    """Write config.json and model.safetensors, and the tokenizer's files; whether a slice is set does not
    matter.

    Raises CheckpointError for weights that are not finite.
    """
    check_finite(model, folder)
    with files.writing(folder):
        with quiet():
            model.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
    files.permit(folder)


def saver(model, tokenizer):
    """What training.fit() takes as `save`: a function (folder, score) that writes the model as it is then."""
    return lambda folder, _: save_model(model, folder, tokenizer=tokenizer)


def check_finite(model, path):
    """Raise CheckpointError where a weight or buffer of the model that is loaded from, or saved to, a path is
    NaN or infinite."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not (finite := torch.isfinite(tensor)).all():
            wrong = finite.numel() - int(finite.sum())
            raise CheckpointError(
                f"{path}: {name} has {wrong} of {finite.numel()} values that are NaN or infinite; expected "
                "finite weights; take "
                "another checkpoint, or train this one again with a lower --learning_rate"
            )


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
