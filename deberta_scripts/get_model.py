"""A pretrained model from the Hugging Face hub as a folder with safetensors, which is all that the scripts
read.

    python deberta_scripts/get_model.py microsoft/deberta-v3-base outputs/deberta/pretrained/base
    python deberta_scripts/get_model.py microsoft/deberta-v3-xsmall outputs/deberta/pretrained/xsmall
Needs the network, or a folder that was downloaded instead of the name.  DeBERTaV3's weights are on the hub as
a pickle alone: it is read by torch's loader of tensors, which runs no code from it, and written as it is
(fp16).  Tokenizer and config are copied.
"""

import argparse
import pickle
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils import files, runs
from utils.errors import CheckpointError

WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"
COPIED = ("*.json", "*.model", "*.txt", WEIGHTS)


def parse(argv=None):
    """What from, where to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a hub name, or a folder")
    parser.add_argument("folder", type=Path, help="where it goes; an older one is replaced")
    return parser.parse_args(argv)


def main(args):
    """Download, convert, write; returns the folder."""
    source = Path(args.model)
    if not source.is_dir():
        from huggingface_hub import snapshot_download

        try:
            source = Path(
                snapshot_download(args.model, allow_patterns=[*COPIED, PICKLE], ignore_patterns=["*/*"])
            )
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{args.model}: cannot be downloaded ({' '.join(str(error).split())}); expected the name of "
                "a model on the hub"
            ) from error
    copied = sorted(file for pattern in COPIED for file in source.glob(pattern))
    names = {file.name for file in copied} | {WEIGHTS}
    there = {entry.name for entry in args.folder.iterdir()} if args.folder.is_dir() else set()
    if others := sorted(there - names):
        raise CheckpointError(
            f"{args.folder}: has {', '.join(others[:8])} in it, which would be lost; name another folder"
        )
    with files.new_folder(args.folder) as aside:
        for file in copied:
            shutil.copyfile(file, aside / file.name)
        if not (aside / WEIGHTS).exists():
            convert(source / PICKLE, aside / WEIGHTS)
    return args.folder


def convert(pickled, path):
    """Write the tensors of a pickle as safetensors; shared ones are stored under each name."""
    import torch
    from safetensors.torch import save_file

    try:
        tensors = torch.load(pickled, map_location="cpu", weights_only=True)
        copies = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, AttributeError, RuntimeError, EOFError) as error:
        said = " ".join(str(error).split()) or repr(error)
        raise CheckpointError(
            f"{pickled}: no pickle of tensors alone, nothing of it was run ({said[:400]})"
        ) from error
    save_file(copies, path, metadata={"format": "pt"})


if __name__ == "__main__":
    runs.guard(main, parse)
