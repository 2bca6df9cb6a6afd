"""A pretrained model from the Hugging Face hub as a folder with safetensors, which is all that the scripts read.

    python deberta_scripts/get_model.py microsoft/deberta-v3-base outputs/deberta/pretrained/base
    python deberta_scripts/get_model.py microsoft/deberta-v3-xsmall outputs/deberta/pretrained/xsmall
Needs the network, or a folder that was downloaded instead of the name.  DeBERTaV3's weights are on the hub as a pickle alone: it
is read by torch's loader of tensors, which runs no code from it, and written as it is (fp16).  Tokenizer and config are copied.
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils import files

WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"
COPIED = ("*.json", "*.model", "*.txt", WEIGHTS)


def main():
    """Download, convert, write; prints the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a hub name, or a folder")
    parser.add_argument("folder", type=Path, help="where it goes; an older one is replaced")
    args = parser.parse_args()
    source = Path(args.model)
    if not source.is_dir():
        from huggingface_hub import snapshot_download

        source = Path(snapshot_download(args.model, allow_patterns=[*COPIED, PICKLE], ignore_patterns=["*/*"]))
    aside = args.folder.with_name(args.folder.name + ".tmp")
    files.remove(aside)
    aside.mkdir(parents=True)
    for file in sorted(file for pattern in COPIED for file in source.glob(pattern)):
        shutil.copy(file, aside)
    if not (aside / WEIGHTS).exists():
        import torch
        from safetensors.torch import save_file

        tensors = torch.load(source / PICKLE, map_location="cpu", weights_only=True)
        copies = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}  # shared ones are stored under each name
        save_file(copies, aside / WEIGHTS, metadata={"format": "pt"})
    files.replace_folder(aside, args.folder)
    print(args.folder)


if __name__ == "__main__":
    main()
