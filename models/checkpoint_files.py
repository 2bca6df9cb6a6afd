"""The files of a checkpoint: where they are, which weights they hold, what may not be read.

Nothing is unpickled; sizes are checked against the files' headers before anything is read.
"""

from pathlib import Path

import torch

from utils import checkpoints
from utils.errors import CheckpointError
from utils.files import read_object

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def local_folder(path) -> Path:
    """The folder of a checkpoint; a hub name is looked up in the cache, and downloaded where that is
    possible.

    Raises CheckpointError where there is none.
    """
    resolved = checkpoints.folder_of(path)
    if Path(resolved).is_dir():
        return Path(resolved)
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(
            huggingface_hub.snapshot_download(resolved, allow_patterns=_HUB_FILES, ignore_patterns=["*/*"])
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"{path}: neither a folder here nor a model that can be had from the Hugging Face hub "
            f"({reason}); check the name, or copy the checkpoint here and give its folder"
        ) from error
    if not [*folder.glob("*.safetensors")]:
        raise CheckpointError(
            f"{path}: the hub has no safetensors of this model; its pickled weights can run code when read: "
            f"convert them (python deberta_scripts/get_model.py {path} FOLDER does it without running any) "
            "and give the folder"
        )
    return folder


def weight_names(folder) -> set[str]:
    """Names of the weights in a checkpoint folder, from the headers of its safetensors files, whose sizes are
    checked.

    Raises CheckpointError for other formats, missing shards, and truncated or damaged files.
    """
    from safetensors import SafetensorError, safe_open

    names = set()
    for file in _weight_files(folder):
        if not file.exists():
            pickles = sorted(found.name for pattern in _PICKLES for found in folder.glob(pattern))
            if pickles:
                raise CheckpointError(
                    f"{folder}: only pickled weights ({', '.join(pickles)}), which can run code when they "
                    "are read; expected model.safetensors: convert them where you trust them "
                    "(AutoModel.from_pretrained(folder).save_pretrained(other_folder))"
                )
            raise CheckpointError(f"{file}: not found; the checkpoint is incomplete, copy or write it again")
        try:
            with safe_open(file, framework="pt") as opened:
                names |= {*opened.keys()}
        except SafetensorError as error:
            raise CheckpointError(f"{file}: damaged or cut off ({error}); copy or write it again") from error
    return names


def stored_dtype(folder) -> torch.dtype:
    """That of the weights in a checkpoint folder, in which reading them maps the files; float32 where they
    differ."""
    from safetensors import safe_open

    found = set()
    for file in _weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            found |= {opened.get_slice(name).get_dtype() for name in opened.keys()}
    return {("BF16",): torch.bfloat16, ("F16",): torch.float16}.get((*found,), torch.float32)


def read_weights(folder) -> dict:
    """{name: tensor} of all weights in a checkpoint folder, as they are stored.  Raises as weight_names()
    does."""
    from safetensors.torch import load_file

    weight_names(folder)
    return {name: tensor for file in _weight_files(folder) for name, tensor in load_file(file).items()}


def _weight_files(folder) -> list[Path]:
    """The safetensors files of a checkpoint folder."""
    file, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    return _shards(index) if not file.exists() and index.exists() else [file]


def _shards(index) -> list[Path]:
    """The files that an index names, which lie beside it.  Raises CheckpointError."""
    advice = "copy or write the checkpoint again"
    names = read_object(index, {"weight_map": dict}, error=CheckpointError, advice=advice)[
        "weight_map"
    ].values()
    for name in names:
        if (
            not isinstance(name, str)
            or Path(name).name != name
            or "\0" in name
            or not name.endswith(".safetensors")
        ):
            raise CheckpointError(
                f"{index}: damaged (weight_map names {name!r}, expected a file beside it); {advice}"
            )
    return [index.parent / name for name in sorted({*names})]
