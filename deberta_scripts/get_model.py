"""A pretrained model from the Hugging Face hub as a folder with safetensors, which is all that the scripts
read.

    python deberta_scripts/get_model.py microsoft/deberta-v3-base outputs/deberta/pretrained/base
    python deberta_scripts/get_model.py microsoft/deberta-v3-xsmall outputs/deberta/pretrained/xsmall
Needs the network, or a folder that was downloaded instead of the name.  DeBERTaV3's weights are on the hub as
a pickle alone: it is read by torch's loader of tensors, which runs no code from it, and written as it is
(fp16).  Tokenizer and config are copied.
"""

import argparse
import os
import pickle
import shutil
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils import files, runs
from utils.errors import CheckpointError, FlagError
from utils.flags import paths

WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"
COPIED = ("*.json", "*.model", "*.txt", WEIGHTS, "model-*-of-*.safetensors")
# What reading a damaged pickle, or one of something else, ends with
DAMAGED = (
    pickle.UnpicklingError,
    AttributeError,
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    struct.error,
    AssertionError,
)


def parse(argv=None):
    """What from, where to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=os.path.expanduser, help="a hub name, or a folder")
    parser.add_argument("folder", type=os.path.expanduser, help="where it goes; an older one is replaced")
    args = parser.parse_args(argv)
    for path in (args.model, args.folder):
        if problem := paths.unusable(path) or (path.startswith("~") and "no such user"):
            raise FlagError(f"{path}: {problem}; expected a folder")
    args.folder = Path(args.folder)
    if args.folder.exists() and not args.folder.is_dir():
        raise FlagError(f"{args.folder}: a file; expected a folder, which is made")
    return args


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
    weights = [file for file in copied if file.suffix == ".safetensors"]
    if not (source / "config.json").is_file() or not (weights or (source / PICKLE).is_file()):
        found = ", ".join(sorted(entry.name for entry in source.iterdir())[:8])
        raise CheckpointError(
            f"{args.model}: found {found or 'nothing'}; expected config.json, and {WEIGHTS} or {PICKLE}"
        )
    names = {file.name for file in copied} | {WEIGHTS}
    there = {entry.name for entry in args.folder.iterdir()} if args.folder.is_dir() else set()
    if others := sorted(there - names):
        raise CheckpointError(
            f"{args.folder}: has {', '.join(others[:8])} in it, which would be lost; name another folder"
        )
    with files.new_folder(args.folder) as aside:
        for file in copied:
            shutil.copyfile(file, aside / file.name)
        if not weights:
            convert(source / PICKLE, aside / WEIGHTS)
    return args.folder


def convert(pickled, path):
    """Write the tensors of a pickle as safetensors; shared ones are stored under each name."""
    import torch
    from safetensors.torch import save_file

    try:
        tensors = torch.load(pickled, map_location="cpu", weights_only=True)
        copies = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    except DAMAGED as error:
        # Before it comes torch's advice to run the code after all
        said = str(error).partition("WeightsUnpickler error:")[2].strip().split("\n")[0].partition(". ")[0]
        said = said or type(error).__name__
        raise CheckpointError(
            f"{pickled}: no pickle of tensors alone, nothing of it was run ({said[:200]}); take another copy "
            "of the model"
        ) from error
    save_file(copies, path, metadata={"format": "pt"})


if __name__ == "__main__":
    runs.guard(main, parse)
