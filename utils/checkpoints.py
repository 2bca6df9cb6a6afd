"""Where a checkpoint is and what its config says, found without importing torch: the flags are checked with
it."""

import hashlib
from pathlib import Path

from utils import config_values, families, files
from utils.errors import CheckpointError

_HASHED = ("*.json", "*.safetensors", "*.txt", "*.model")  # configuration, weights, tokenizer
_out_of_reach = []  # why the hub could not be reached, once that is known: it is not tried again
EMPTY = "is empty (an unset variable?)"  # of a path, behind the name of its flag


def folder_of(path) -> str:
    """The folder or hub name that a path flag means.

    path: a checkpoint folder (has config.json), a run folder (has args.json; its ckpt/ is taken once the run
        has finished), or the name of a model on the Hugging Face hub (returned as it is).
    Raises CheckpointError where it is none of them.
    """
    folder = Path(path).expanduser()
    if path == "":
        raise CheckpointError(EMPTY)
    if not folder.exists():
        parts = str(path).split("/")
        if len(parts) > 2 or Path(parts[0]).exists() or parts[0] in (".", "..", "~", "", "outputs"):
            raise CheckpointError(
                f"{path}: no such folder; expected a checkpoint folder, a run folder or a hub name"
            )
        return str(path)
    if not folder.is_dir():
        raise CheckpointError(
            f"{path}: a file; expected the folder that holds config.json and model.safetensors"
        )
    if (folder / "config.json").exists():
        return str(folder)
    if (folder / "args.json").exists():
        if (folder / "results.json").exists() and (folder / "ckpt" / "config.json").exists():
            return str(folder / "ckpt")
        if (folder / "results.json").exists():
            raise CheckpointError(
                f"{path}: a finished run without a model (no ckpt/config.json); expected one that trained"
            )
        raise CheckpointError(
            f"{path}: this run has not finished; give its command again, it continues where it stopped"
        )
    found = sorted(entry.name for entry in folder.iterdir())[:8]
    raise CheckpointError(
        f"{path}: neither a checkpoint (config.json) nor a run folder (args.json); found "
        f"{', '.join(found) or 'nothing'}"
    )


def read_config(path) -> dict | None:
    """config.json of a local checkpoint or finished run, or of a model on the hub; None for one that cannot
    be had now.

    Raises CheckpointError where folder_of() does, where config.json is not a JSON object, and for a family
    that is not supported.
    """
    resolved = folder_of(path)
    file = Path(resolved) / "config.json" if Path(resolved).exists() else _hub_file(resolved, "config.json")
    if file is None or not file.exists():
        return None
    try:
        config = files.read_json(file)
    except ValueError as error:
        raise CheckpointError(
            f"{file}: not valid JSON ({error}); the checkpoint is damaged, write it again"
        ) from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise CheckpointError(f"{file}: expected a Hugging Face config with a model_type")
    try:
        families.of(config["model_type"])
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    config_values.require_kinds(config, file)
    return config


def _hub_file(name, file) -> Path | None:
    """A file of a model on the hub, in the cache where it is there; None where it cannot be had now.

    Raises CheckpointError where the hub has no such model or cannot be reached, which is tried once.
    """
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return Path(huggingface_hub.hf_hub_download(name, file, local_files_only=bool(_out_of_reach)))
    except errors.LocalEntryNotFoundError as error:
        if huggingface_hub.is_offline_mode():
            return None
        if not _out_of_reach:
            _out_of_reach.append(" ".join(str(error.__cause__ or error).split())[:200])
        raise CheckpointError(
            f"{name}: no such folder, no such model in the hub's cache, and the hub cannot be reached "
            f"({_out_of_reach[0]}); check the name, or copy the checkpoint here and give its folder; "
            "HF_HUB_OFFLINE=1 does not try"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{name}: no such folder, and no such model on the hub (or it is private)"
        ) from error
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError):
        return None  # loading says what is the matter


def hold_out(config: dict | None, task_name: str) -> float | None:
    """The share of a task's training rows that a checkpoint's training left out; None where its config does
    not say."""
    return ((config or {}).get(config_values.HOLD_OUT) or {}).get(task_name)


def own_task(path) -> dict | None:
    """The description of the user's own task that a checkpoint was trained on; None where there is none.

    Its files are those that the run folder around the checkpoint knows; a checkpoint alone knows of none.
    """
    try:
        folder = folder_of(path)
        config = read_config(path) or {}
    except CheckpointError:  # who reads the checkpoint says so
        return None
    found = config.get(config_values.OWN_TASK)
    if not isinstance(found, dict) or not {"name", "kind", "labels"} <= {*found}:
        return None
    described = settings_of(folder).get(config_values.OWN_TASK)
    known = isinstance(described, dict) and described.get("name") == found["name"]
    return {**found, "files": described.get("files", {}) if known else {}}


def trained_on(path, task_name: str) -> bool:
    """Whether a checkpoint with the head of a task says that it was trained on this one: its config, or the
    run folder around it.  Raises CheckpointError as read_config() does."""
    config = read_config(path)
    if config is None or families.head_of(config) not in families.HEADS.values():
        return False
    own = config.get(config_values.OWN_TASK)
    if isinstance(own, dict) and own.get("name") == task_name:
        return True
    return settings_of(path).get("task_name") == task_name


def settings_of(path) -> dict:
    """The settings of the run that a checkpoint comes from: those of the run folder around it; empty where
    there is none."""
    try:
        settings = files.read_json(Path(folder_of(path)).parent / "args.json")["settings"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return settings if isinstance(settings, dict) else {}


def fingerprint(path) -> str:
    """SHA-256 over names and bytes of a local checkpoint's configuration, weights and tokenizer; of a model
    on the hub its name and, where it can be had, its revision: name@commit."""
    resolved = folder_of(path)
    folder = Path(resolved)
    if not folder.exists():
        file = _hub_file(resolved, "config.json")
        return resolved if file is None else f"{resolved}@{file.parent.name}"
    digest = hashlib.sha256()
    for file in sorted({file for pattern in _HASHED for file in folder.glob(pattern)}):
        digest.update(f"{file.name} {files.sha256(file)}\n".encode())
    return digest.hexdigest()


def weight_bytes(path) -> int | None:
    """Size of a local checkpoint's weights on the disk; None for a hub name."""
    folder = Path(folder_of(path))
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.exists() else None
