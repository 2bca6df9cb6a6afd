"""Models from checkpoints.  Nothing is re-initialised in silence: every weight that is missing or left over
is named.

What a checkpoint folder may hold is checked before transformers sees it; the rest of its complaints become
CheckpointErrors.
"""

import contextlib
import inspect
import re

import torch

from models import architectures, enct5, heads, moe_bert, slicing
from models.checkpoint_files import local_folder, stored_dtype, weight_names
from models.from_tensors import share_out
from models.saving import check_finite, quiet
from utils import checkpoints, config_values, families
from utils.errors import CheckpointError
from utils.logs import logger

_POOLER = re.compile(r"(^|\.)pooler\.")


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
    attn_implementation=None,
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
    attn_implementation: one of the family's row in utils/families.py; models made of this one have it too.
    Raises CheckpointError where the checkpoint is missing, damaged or not safetensors; where its head is
        missing or another task's; where labels differ or have no names; where a weight is missing or left
        over (pretraining heads may be left over); where the model has fewer positions than max_length.
    """
    folder = local_folder(path)
    config, names = checkpoints.read_config(folder), weight_names(folder)
    expected, order = list(label_names) if label_names else None, None
    if kind == "masked":
        heads.require_vocabulary_head(path, config, names)
        has_head = True
    else:
        has_head = not drop_head and heads.has_task_head(path, config, names, kind, new_head)
    if has_head:
        order = heads.order_of_labels(path, config, kind, expected, unnamed_labels)
    try:
        loader = _loader(config["model_type"], kind)
        options = _encoder_options(loader, names) if kind is None else _head_options(kind, expected, has_head)
        if (family := families.of(config["model_type"])).decoder is not None:
            options = {"config": _config_of(loader, config, options, has_decoder=kind in family.prompted)}
        options["dtype"] = stored_dtype(folder) if shard else torch.float32
        options["attn_implementation"] = attn_implementation
        model, report = _from_pretrained(folder, loader, options)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    _check_keys(path, model, report, kind, new_head=new_head and not has_head, drop_head=drop_head)
    if drop_head:
        heads.renew(path, model)
    elif order is not None:
        heads.permute(path, model, order)
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
    known = config.get(config_values.LENGTH)
    if not has_head and None not in (max_length, positions, known) and known < max_length:
        logger.warning(
            "%s: distilled on blocks of %d tokens; the positions behind them, which --max_length %d uses, "
            "have learnt nothing there",
            path,
            known,
            max_length,
        )
    vars(model.config).pop("auto_map", None)  # of code beside the checkpoint, which is neither run nor copied
    for tensor in [*model.buffers(), *(() if shard else model.parameters())]:
        # Out of the mapped file: it may be replaced, and rounding in matrix products depends on how a weight
        # is aligned
        tensor.data = tensor.data.clone()
    return model.eval()


def load_config(folder):
    """The config of a checkpoint in a local folder, of the class that its model_type says.

    Raises CheckpointError where transformers cannot make it.
    """
    from transformers import AutoConfig

    try:
        with _explained():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    vars(config).pop("auto_map", None)  # of code beside the checkpoint, which is neither run nor copied
    return config


def freeze(model):
    """The same model in eval mode, without gradients."""
    return model.eval().requires_grad_(False)


def loader(task, *, device, **options):
    """A function (path, new_head=False, drop_head=False) -> a model for a task, on a device.

    task: has kind and label_names.  options, and what the function raises: load_model()'s.
    """
    options = {"kind": task.kind, "label_names": task.label_names, **options}

    def load(path, *, new_head=False, drop_head=False):
        return load_model(path, new_head=new_head, drop_head=drop_head, **options).to(device)

    return load


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
    task_heads, others = row.task_heads, families.pretraining_heads()
    if kind is None or drop_head:
        others += [*task_heads, rf"\w+\.({'|'.join(row.other_heads)})"]
    allowed = re.compile(f"{heads.within(others)}|{_POOLER.pattern}")
    left = [name for name in unexpected if not allowed.search(name)]
    sizes = [
        f"{name} {[*found]}, not {[*wanted]}"
        for name, found, wanted in sorted(report["mismatched_keys"])
        if not (drop_head and re.match(heads.within(task_heads), name))
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
    with _explained(), quiet():
        return loader.from_pretrained(
            folder,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # _check_keys() refuses them, by name
            **options,
        )


@contextlib.contextmanager
def _explained():
    """A context in which whatever transformers raises becomes a CheckpointError."""
    try:
        yield
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


def _some(names):
    return ", ".join(names[:6]) + (f", ... ({len(names)} in all)" if len(names) > 6 else "")
