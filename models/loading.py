"""Models from checkpoints.  Nothing is re-initialised in silence: every weight that is missing or left over
is named.

What a checkpoint folder may hold is checked before transformers sees it; the rest of its complaints become
CheckpointErrors.
"""

import inspect
import logging
import re
from pathlib import Path

import torch
from torch import nn

from models import architectures, enct5, moe_bert, slicing
from models.from_tensors import share_out
from models.saving import check_finite, quiet
from utils import checkpoints, families
from utils.errors import CheckpointError
from utils.files import read_object

logger = logging.getLogger("compression")

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_POOLER = re.compile(r"(^|\.)pooler\.")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def load_model(
    path,
    *,
    kind=None,
    label_names=None,
    unnamed_labels=None,
    new_head=False,
    drop_head=False,
    max_length=None,
    shard=False,
):
    """A model from a checkpoint, float32, in eval mode.

    path: a hub name, a checkpoint folder or a finished run folder.
    kind: None, the encoder alone; or "classification", "multilabel", "regression", "tagging", "spans",
        with the stock task head; or "masked", with the head that it was pretrained with.
    label_names: of the task, in the order of their ids; () or None for regression and spans.  A head that
        has them in another order gets its rows in this one, which is logged.
    unnamed_labels: the names of a checkpoint's labels that are called LABEL_0, LABEL_1 ...
    new_head: make a task head where the checkpoint has none: its weights, and those of a pooler that it
        needs, are initialised as transformers does, and their names are logged.
    drop_head: make a new one also where it has one, of this task or of another.
    max_length: tokens of the longest input that it will get.
    shard: each process reads and keeps its rows only, on its device (models/sharding.py).
    Raises CheckpointError where the checkpoint is missing, damaged or not safetensors; where its head is
        missing or another task's; where labels differ or have no names; where a weight is missing or left
        over (pretraining heads may be left over); where the model has fewer positions than max_length.
    """
    folder = local_folder(path)
    config, names = checkpoints.read_config(folder), weight_names(folder)
    expected, order = list(label_names) if label_names else None, None
    if kind == "masked":
        has_head = _check_masked(path, config, names)
    else:
        has_head = not drop_head and _check_head(path, config, names, kind, new_head)
    if has_head:
        order = _order_of_labels(path, config, kind, expected, unnamed_labels)
    try:
        loader = _loader(config["model_type"], kind)
        options = _encoder_options(loader, names) if kind is None else _head_options(kind, expected, has_head)
        if (family := families.of(config["model_type"])).decoder is not None:
            options = {"config": _config_of(loader, config, options, has_decoder=kind in family.prompted)}
        dtype = _stored_dtype(folder) if shard else torch.float32
        model, report = _from_pretrained(folder, loader, {**options, "dtype": dtype})
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    _check_keys(path, model, report, kind, new_head=new_head and not has_head, drop_head=drop_head)
    if drop_head:
        _renew_head(path, model)
    elif order is not None:
        _permute_head(path, model, order)
    if not any(weight.any() for weight in model.parameters() if weight.ndim > 1):
        raise CheckpointError(
            f"{path}: all weights are 0, as in a file of which only the size was written; copy or write it "
            "again"
        )
    if shard:
        share_out(model)
    check_finite(model, path)
    positions = architectures.max_positions(model)
    if None not in (max_length, positions) and positions < max_length:
        raise CheckpointError(
            f"{path}: found {positions} positions; --max_length {max_length} needs as many; lower it"
        )
    vars(model.config).pop("auto_map", None)  # of code beside the checkpoint, which is neither run nor copied
    for tensor in [*model.buffers(), *(() if shard else model.parameters())]:
        # Out of the mapped file: it may be replaced, and rounding in matrix products depends on how a weight
        # is aligned
        tensor.data = tensor.data.clone()
    return model.eval()


def freeze(model):
    """The same model in eval mode, without gradients."""
    return model.eval().requires_grad_(False)


def loader(task, *, device, max_length=None, unnamed_labels=None, shard=False):
    """A function (path, new_head=False, drop_head=False) -> a model for a task, on a device.

    task: has kind and label_names.  The rest, and what the function raises: as load_model().
    """
    options = {"kind": task.kind, "label_names": task.label_names, "unnamed_labels": unnamed_labels}

    def load(path, *, new_head=False, drop_head=False):
        heads = {"new_head": new_head, "drop_head": drop_head}
        return load_model(path, max_length=max_length, shard=shard, **heads, **options).to(device)

    return load


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
            f"({reason}); "
            "check the name, or copy the checkpoint here and give its folder"
        ) from error
    if not [*folder.glob("*.safetensors")]:
        raise CheckpointError(
            f"{path}: the hub has no safetensors of this model; its pickled weights can run code when read: "
            "convert them "
            f"(python deberta_scripts/get_model.py {path} FOLDER does it without running any) and give the "
            "folder"
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
                    "are read; "
                    "expected model.safetensors: convert them where you trust them "
                    "(AutoModel.from_pretrained(folder).save_pretrained(other_folder))"
                )
            raise CheckpointError(f"{file}: not found; the checkpoint is incomplete, copy or write it again")
        try:
            with safe_open(file, framework="pt") as opened:
                names |= {*opened.keys()}
        except SafetensorError as error:
            raise CheckpointError(f"{file}: damaged or cut off ({error}); copy or write it again") from error
    return names


def _stored_dtype(folder) -> torch.dtype:
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


def has_vocabulary_head(config: dict, names) -> bool:
    """Whether a checkpoint has a head for masked tokens that load_model(kind="masked") takes; all its weights
    may be the embeddings'.

    config: its config.json.  names: of its weights.
    """
    family = families.of(config["model_type"])
    whole = (config.get("architectures") or [""])[0].endswith(family.class_name("masked"))
    found = any(re.match(_named(family.vocabulary), name) for name in names)
    return bool(family.vocabulary) and (whole or found)


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


# ---- Checks, in the order in which they are made


def _check_head(path, config, names, kind, new_head) -> bool:
    """Whether the checkpoint has the task's head."""
    family = families.of(config["model_type"])
    weight = next((name for name in sorted(names) if re.match(_named(family.task_heads), name)), None)
    if kind is not None and not config.get("architectures") and weight is not None:
        raise CheckpointError(
            f"{path}: has {weight}, of a task head, but its config.json does not say of which kind; add "
            f'"architectures": ["{family.class_name(kind)}"] to it, if that is '
            "what it is"
        )
    made_of = (config.get("architectures") or [""])[0]
    found = made_of.partition("For")[2]
    if kind is not None and family.own_class(kind) and made_of == family.class_name(kind):
        raise CheckpointError(
            f"{path}: a {made_of} reads a whole decoder, of which one layer is supported here, with a prompt "
            "(EncT5); fine-tune its encoder: run_finetuning.py --new_head"
        )
    if kind is None or found == families.HEADS[kind]:
        return kind is not None
    if found in families.HEADS.values():
        raise CheckpointError(
            f"{path}: this checkpoint has a head for {_in_words(found)}, the task is {kind}; "
            "take a checkpoint of this task, or the encoder that it was fine-tuned from; "
            "run_finetuning.py --new_head drops this head"
        )
    if not new_head:
        raise CheckpointError(
            f"{path}: this checkpoint has no task head "
            f"({(config.get('architectures') or ['unknown class'])[0]}); "
            f"expected one fine-tuned for {kind}: run run_finetuning.py on it first"
        )
    return False


def _check_masked(path, config, names) -> bool:
    """True.  Raises CheckpointError where none of the weights is of a head for masked tokens (all may be the
    embeddings')."""
    if not has_vocabulary_head(config, names):
        raise CheckpointError(
            f"{path}: this checkpoint has no head for masked tokens, whose loss is needed; expected a model "
            "as it was pretrained "
            "(bert-base-uncased), with its head"
        )
    return True


def _order_of_labels(path, config, kind, expected, unnamed_labels) -> list[int] | None:
    """A head's labels against the task's: None where they are the same, else the number that each of the
    task's has in the checkpoint.  Raises CheckpointError where there are others."""
    if kind == "spans" or (expected is None and kind != "regression"):
        return None
    if config.get("id2label"):
        ids = {int(number): str(name) for number, name in config["id2label"].items()}
    elif config.get("label2id"):
        ids = {int(number): str(name) for name, number in config["label2id"].items()}
    else:
        ids = {number: f"LABEL_{number}" for number in range(config.get("num_labels") or 2)}
    found, given = [ids[number] for number in sorted(ids)], config.get("label2id")
    if sorted(ids) != [*range(len(ids))]:
        raise CheckpointError(
            f"{path}: id2label has the ids {sorted(ids)}; expected 0 to {len(ids) - 1}, each once; mend "
            "config.json"
        )
    if config.get("id2label") and given and {int(number): str(name) for name, number in given.items()} != ids:
        raise CheckpointError(f"{path}: label2id {given} contradicts id2label {ids}; mend config.json")
    if kind == "regression":
        if len(found) != 1:
            raise CheckpointError(
                f"{path}: a regression head has one output, this checkpoint's has {len(found)} labels: "
                f"{found}"
            )
        return None
    if found == [f"LABEL_{number}" for number in range(len(found))] != expected:
        if unnamed_labels is None or len(unnamed_labels) != len(found):
            given = "none" if unnamed_labels is None else ",".join(unnamed_labels)
            raise CheckpointError(
                f"{path}: the checkpoint does not name its {len(found)} labels ({_numbered(found)}); say in "
                f"their order what they mean: --label_names {','.join(expected)}, if that is their order "
                f"(found --label_names: {given})"
            )
        found = list(unnamed_labels)
    known, wanted = ([name.casefold() for name in names] for names in (found, expected))
    if sorted(known) != sorted(wanted) or (known != wanted and len({*known}) != len(known)):
        raise CheckpointError(
            f"{path}: the checkpoint's labels contradict the task's\n  checkpoint: {_numbered(found)}\n"
            f"  task:       {_numbered(expected)}\nTake a checkpoint of this task, or fine-tune its encoder "
            "again (run_finetuning.py --new_head drops this head)"
        )
    return None if known == wanted else [known.index(name) for name in wanted]


def _permute_head(path, model, order):
    """Put the rows of a head, whose labels stand in another order, into the task's, in place."""
    out = [module for head in _heads(model) for module in head.modules() if isinstance(module, nn.Linear)][-1]
    for parameter in out.parameters():
        parameter.data = parameter.data[order]
    names = [model.config.id2label[number] for number in range(len(order))]
    logger.info(
        "%s: its labels stand in another order; the rows of its head are put into the task's: %s",
        path,
        ", ".join(f"{before} -> {number} {names[number]}" for number, before in enumerate(order)),
    )


def _renew_head(path, model):
    """Initialise a task head as transformers does, in place."""
    for head in _heads(model):
        for parameter in head.parameters():
            parameter._is_hf_initialized = False
        for module in head.modules():
            module._is_hf_initialized = False
            model._init_weights(module)
    logger.info("%s: its head is dropped, the task's is new and randomly initialised", path)


def _heads(model) -> list:
    """The modules of a model's task head."""
    return [getattr(model, name) for name in architectures.of(model).task_heads if hasattr(model, name)]


def _check_keys(path, model, report, kind, *, new_head, drop_head):
    """Weights that are missing or left over; those of a head that is dropped may be."""
    prefix = architectures.prefix(model)
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    renewed, row = new_head or drop_head, architectures.of(model)
    decoder = f"{prefix}{row.decoder.layers.partition('.')[0]}." if row.decoder else None
    made = [
        name
        for name in missing
        if renewed
        and (not name.startswith(prefix) or _POOLER.search(name) or (decoder and name.startswith(decoder)))
    ]
    lost = [name for name in missing if name not in made]
    task_heads, heads = row.task_heads, families.pretraining_heads()
    if kind is None or drop_head:
        heads += [*task_heads, rf"\w+\.({'|'.join(row.other_heads)})"]
    allowed = re.compile(f"{_named(heads)}|{_POOLER.pattern}")
    left = [name for name in unexpected if not allowed.search(name)]
    sizes = [
        f"{name} {[*found]}, not {[*wanted]}"
        for name, found, wanted in sorted(report["mismatched_keys"])
        if not (drop_head and re.match(_named(task_heads), name))
    ]
    if lost or left or sizes:
        faults = ((lost, "missing"), (left, "unexpected"), (sizes, "of another size"))
        text = [f"{len(names)} {what}: {_some(names)}" for names, what in faults if names]
        raise CheckpointError(
            f"{path}: the weights do not fit a {type(model).__name__}: {'; '.join(text)}. "
            "The checkpoint is of another structure, or its config.json is"
        )
    if made:
        logger.info("%s: new, randomly initialised: %s", path, ", ".join(made))


# ---- transformers


def _head_options(kind, expected, has_head) -> dict:
    """Config settings for a task head."""
    if kind == "regression":
        return {"num_labels": 1, "problem_type": "regression"}
    if kind == "spans":
        return {} if has_head else {"num_labels": 2}  # whatever the encoder's config says
    assert expected or has_head, "a new head needs label_names"
    if not expected:
        return {}
    options = {
        "id2label": dict(enumerate(expected)),
        "label2id": {name: number for number, name in enumerate(expected)},
    }
    problems = {"classification": "single_label", "multilabel": "multi_label"}
    return options | ({"problem_type": f"{problems[kind]}_classification"} if kind in problems else {})


def _config_of(loader, config, options, *, has_decoder):
    """The config, of the loader's class, for a checkpoint whose model_type may be that of another head."""
    settings = {**enct5.fitted(config, has_decoder=has_decoder)}
    del settings["model_type"]
    return loader.config_class.from_dict(settings, **options)


def _encoder_options(loader, names) -> dict:
    """Options for a bare encoder: without a pooler where the checkpoint has none and the class would make
    one."""
    stock = getattr(loader, "stock", loader)
    makes_one = "add_pooling_layer" in inspect.signature(stock.__init__).parameters
    return (
        {"add_pooling_layer": False} if makes_one and not any(_POOLER.search(name) for name in names) else {}
    )


def _loader(model_type, kind):
    """The class that loads a checkpoint.  Raises CheckpointError where its family has no head of this
    kind."""
    stock = architectures.stock_class(model_type, kind)
    derived = next(
        (known for known in (slicing.CLASSES, moe_bert.CLASSES) if model_type.startswith(known.prefix)), None
    )
    return derived.model_class(stock) if derived else stock


def _from_pretrained(folder, loader, options):
    """(model, loading report) from a local folder."""
    try:
        with quiet():
            return loader.from_pretrained(
                folder,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,  # _check_keys() refuses them, by name
            )
    except CheckpointError:
        raise
    except (
        OSError,
        RuntimeError,
        ArithmeticError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ImportError,
        AssertionError,
    ) as error:
        lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
        raise CheckpointError(
            f"cannot be loaded ({type(error).__name__}: {' '.join(lines[:4])}); its config.json and weights "
            "must be of one model and whole"
        ) from error


def _named(modules):
    """A pattern of the names of what belongs to one of these modules."""
    return rf"^({'|'.join(modules)})\."


def _in_words(head):
    *kinds, last = [kind for kind, name in families.HEADS.items() if name == head]
    return f"{', '.join(kinds)} or {last}" if kinds else last


def _numbered(names):
    return ", ".join(f"{number} {name}" for number, name in enumerate(names))


def _some(names, limit=6):
    return ", ".join(names[:limit]) + (f", ... ({len(names)} in all)" if len(names) > limit else "")
