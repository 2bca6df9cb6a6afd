"""Models to checkpoints."""

import contextlib

from utils import files


def save_model(model, folder, *, tokenizer=None):
    """Write config.json and model.safetensors, and the tokenizer's files; whether a slice is set does not matter."""
    with files.writing(folder):
        with quiet():
            model.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
    files.permit(folder)


def saver(model, tokenizer):
    """What training.fit() takes as `save`: a function (folder, score) that writes the model as it is then."""
    return lambda folder, _: save_model(model, folder, tokenizer=tokenizer)


@contextlib.contextmanager
def quiet():
    """Without transformers' progress bars and its report of missing and unexpected keys, which load_model replaces."""
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
