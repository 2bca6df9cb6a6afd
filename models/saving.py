"""Models to checkpoints."""


def save_model(model, folder, *, tokenizer=None):
    """Write config.json and model.safetensors, and the tokenizer's files; whether a slice is set does not matter."""
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
