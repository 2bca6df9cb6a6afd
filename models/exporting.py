"""Models for others: a zero-filled stock model, one as small as it is with its code beside it, graphs for
onnxruntime; each checked before it is kept.

B examples, L tokens.
"""

import contextlib
import copy
import logging
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models import architectures, standalone
from models.derived_classes import become, stock_parent
from models.loading import load_model
from models.moe_bert import with_plain_experts
from models.saving import save_model
from models.sparse_bert import export_dense
from utils import cards, files, provenance
from utils.batch import Batch
from utils.errors import CheckpointError, FlagError, RunError
from utils.logs import logger
from utils.timing import filled

TOLERANCE = 1e-4  # between the logits of an export and the model's
NUM_CHECKED = 1024  # examples
# Where optimum and transformers.js look for them
GRAPH, QUANTISED = "onnx/model.onnx", "onnx/model_quantized.onnx"
# A graph is held against torch on every pair of these, and on the longest input that the model takes
BATCHES, LENGTHS, LONGEST = (1, 3, 32), (1, 17), 512
GRAPHS = {"onnx": GRAPH, "onnx int8": QUANTISED}
# onnxruntime 1.31's kernel for this fusion takes seven times as long on CPUs as the two operators that it
# replaces
NOT_FUSED = ["SkipLayerNormFusion"]
NOTES = {
    "dense": [
        "What was removed is filled in with zeros: a stock model of full size, with the same logits and no "
        "speed-up."
    ],
    "compact": ["As small as the model is: only what it keeps is stored and computed."],
    "onnx": [
        f"`{GRAPH}`: float32; `{QUANTISED}`: weights in 8 bits, activations as they come. Batch and length "
        "are free.",
        f"onnxruntime's {NOT_FUSED[0]} was off when these graphs were checked and timed, as it is below: its "
        "kernel for CPUs takes longer than what it replaces.",
    ],
}
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def require_new(folders: dict, *, run):
    """Raise FlagError where an export's folder is there already, unless a start of this run that was killed
    has made it.

    folders: {kind: folder}.
    """
    for kind, folder in folders.items():
        if folder.exists() and not (run.folder / "state" / "exports" / kind).exists():
            raise FlagError(f"--export_dir: {folder} exists; remove it, or name another folder")


def note_begun(kind, *, run):
    """Keep in the run's state that an export's folder was not there when it was begun."""
    begun = run.state("exports")
    begun.mkdir(parents=True, exist_ok=True)
    (begun / kind).touch()


def write_card(kind, folder, rows, *, splits, run):
    """Write the model card of an export, README.md of its folder.

    rows: of the table of run_evaluation.py, of the model or of its graphs.  splits: those that were scored.
    """

    def metrics(row):
        named = [(key.partition("/"), value) for key, value in row.items()]
        return {split: {name: value for (at, _, name), value in named if at == split} for split in splits}

    results = {
        "stage": f"{kind} export",
        "task": run.args.task_name,
        "metrics": metrics(rows[0]),
        "model": rows[0],
        "notes": NOTES[kind],
    }
    graph = {}
    if kind == "onnx":
        results["metrics_of"] = {GRAPHS[row["runtime"]]: metrics(row) for row in rows}
        graph = {"graph": GRAPH, "disabled": NOT_FUSED}
    record, config = files.read_json(run.folder / "args.json"), files.read_json(folder / "config.json")
    card = cards.card(record, results, config, read=provenance.names_read(), **graph)
    files.write_text(folder / "README.md", card)


def export(model, kind, folder, split, *, tokenizer, task_kind, batch_size) -> dict:
    """Write a model into a new folder and read it back; it is kept if it answers real examples as the model
    does.

    model: in eval mode; for a graph it is moved to the CPU.  kind: "dense", "compact" or "onnx".  split: of
    the task, labelled or not; NUM_CHECKED of its examples are compared.  task_kind: load_model()'s kind.
    Returns {"folder", "largest_difference" of logits, "examples" compared}; of a model that is no
    stock model (compact, EncT5) also the name of its "code" file; of a graph the version of "onnxruntime",
    the "disabled_optimizers" that it was run without, and "shapes", see _check_shapes().
    Raises CheckpointError for a model that cannot be exported so, RunError where the logits differ by more
    than TOLERANCE, and where onnxruntime cannot run a graph.
    """
    with files.new_folder(folder) as aside:
        more = {}
        if kind == "onnx":
            rows = np.resize(split.in_order(2)[0], 2)  # two: a dimension of one would become a constant
            outputs = ("start_logits", "end_logits") if task_kind == "spans" else ("logits",)
            _write_graphs(model, aside, split.collate(rows).inputs, outputs=outputs)
            _stock_config(model).save_pretrained(aside)
            tokenizer.save_pretrained(aside)
            exported, model = OnnxModel(aside / GRAPH), model.cpu()
            more = {
                "onnxruntime": metadata.version("onnxruntime"),
                "disabled_optimizers": NOT_FUSED,
                "shapes": _check_shapes(model, exported, OnnxModel(aside / QUANTISED), split, folder),
            }
        else:
            written = export_dense(model) if kind == "dense" else model
            save_model(written, aside, tokenizer=tokenizer)
            exported = load_model(aside, kind=task_kind)
            if (code := standalone.write(written, aside)) is not None:
                exported, ours = standalone.load(code), exported
                _check_equal(exported, ours, folder)
                more = {"code": code.name}
            exported = exported.to(model.device)
        difference, number = largest_difference(model, exported, split, batch_size=batch_size)
        _check_difference(difference, f"{folder}: the {kind} export's logits")
    return {"folder": str(folder), "largest_difference": difference, "examples": number, **more}


def _check_difference(difference, what):
    if not difference <= TOLERANCE:
        raise RunError(
            f"{what} differ from the model's by up to {difference:.2g}; expected at most {TOLERANCE:g}; "
            "nothing was kept"
        )


def _check_equal(model, other, folder):
    """Raise RunError unless two models have the same parameters."""
    ours, theirs = (dict(each.named_parameters()) for each in (model, other))
    wrong = sorted(
        name
        for name in {**ours, **theirs}
        if name not in ours or name not in theirs or not torch.equal(ours[name], theirs[name])
    )
    if wrong:
        raise RunError(f"{folder}: the code file's model differs in {', '.join(wrong[:6])}; nothing was kept")


@torch.no_grad()
def largest_difference(model, other, split, *, batch_size) -> tuple[float, int]:
    """(the largest difference of the two models' logits at real tokens, of how many examples), from the
    longest to the shortest.

    Both are in eval mode, on the model's device, and called with a batch's inputs.
    """
    batches = split.in_order(batch_size)
    number = min(len(batches), max(1, NUM_CHECKED // batch_size))
    largest, examples = 0.0, 0
    for index in np.unique(np.linspace(0, len(batches) - 1, number).round().astype(int)):
        batch = split.collate(batches[index]).to(model.device)
        largest = max(largest, _difference(batch, model, other))
        examples += len(batches[index])
    return largest, examples


def _difference(batch, model, other):
    """The largest difference of two models' logits at a batch's real tokens; NaN where one is."""
    gap = (batch.through(model).logits - batch.through(other).logits).abs()
    return float((gap if gap.dim() == 2 else gap[batch.mask]).max())


# ---- ONNX


class OnnxModel:
    """A graph on the CPU, called with a batch's inputs, as a model in eval mode is; as many threads as torch
    uses."""

    training = False

    def __init__(self, path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 3
        self._path = path
        with self._onnx_errors():
            self._session = onnxruntime.InferenceSession(path, options, disabled_optimizers=NOT_FUSED)
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, **inputs):
        """Tensors by name to an output with logits, or with start_logits and end_logits.  Raises RunError."""
        with self._onnx_errors(*inputs.values()):
            found = self._session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return _Output(zip(self._names, map(torch.from_numpy, found)))

    @contextlib.contextmanager
    def _onnx_errors(self, *inputs):
        try:
            yield
        except Exception as error:  # onnxruntime's have no class in common
            shape = f" for a batch of {list(inputs[0].shape)}" if inputs else ""
            raise RunError(f"{self._path}: onnxruntime cannot run this graph{shape}: {error}") from error


class _Output(dict):
    __getattr__ = dict.__getitem__


class _Positional(nn.Module):
    """A model called with inputs in order, that returns some of its outputs in order."""

    def __init__(self, model, names, outputs):
        super().__init__()
        self.model, self.names, self.outputs = model, names, outputs

    def forward(self, *inputs):
        output = self.model(**dict(zip(self.names, inputs)))
        return tuple(output[name] for name in self.outputs)


def graphs(folder) -> dict:
    """{"onnx": (OnnxModel, size of its file in bytes), "onnx int8": ...} of a folder that export() made."""
    return {
        name: (OnnxModel(Path(folder) / file), (Path(folder) / file).stat().st_size)
        for name, file in GRAPHS.items()
    }


def _stock_config(model):
    """The config that other software knows: labels and sizes, without what was changed."""
    config = copy.deepcopy(model.config)
    stock = stock_parent(model)
    become(config, stock.config_class)
    config.architectures = [stock.__name__]
    vars(config).pop("compression", None)
    return config


def graph_bytes(encoder, folder, inputs) -> dict:
    """{"onnx": size of a bare encoder's graph in bytes, "onnx int8": ...}, or {}, and a warning, where torch
    can make none.

    folder: for the graphs, which are not kept.  inputs: of two texts.
    """
    files.remove(folder)
    folder.mkdir(parents=True)
    try:
        _write_graphs(encoder, folder, inputs, outputs=("last_hidden_state",))
        return {name: (folder / file).stat().st_size for name, file in GRAPHS.items()}
    except CheckpointError as error:
        logger.warning("no sizes as ONNX graphs: %s", error)
        return {}
    finally:
        files.remove(folder)


def _write_graphs(model, folder, inputs, *, outputs):
    """Write the graph, with batch and length left open, and the same with weights of 8 bits (activations as
    they come).

    inputs: of two texts.  outputs: their names.
    """
    names = [name for name in _INPUTS if name in inputs]
    open_dimensions = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    with _quietly():
        try:
            program = torch.onnx.export(
                _Positional(with_plain_experts(model.cpu()), names, outputs).eval(),
                tuple(inputs[name] for name in names),
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=list(outputs),
                dynamic_shapes=(tuple(open_dimensions for _ in names),),
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise CheckpointError(
                f"torch cannot make an ONNX graph of this {model.config.model_type} "
                f"({str(error).strip().splitlines()[0]}); export it as dense or compact"
            ) from error
        (folder / GRAPH).parent.mkdir()
        program.save(str(folder / GRAPH))
        _quantise(folder)


@torch.no_grad()
def _check_shapes(model, graph, quantised, split, folder) -> dict:
    """Raise RunError unless a graph answers as the model does for every batch and length, rows padded and
    not, and the quantised one at all.  Rows are a split's, their tokens over and over.

    Returns {"batches", "lengths", "largest_difference"}.
    """
    longest = min(architectures.max_positions(model) or LONGEST, LONGEST)
    lengths = [length for length in LENGTHS if length < longest] + [longest]
    largest, padding = 0.0, getattr(model.config, "pad_token_id", None) or 0
    for size in BATCHES:
        rows = split.collate(np.resize(split.in_order(size)[0], size))
        for length in lengths:
            batch = _padded(filled(rows, length), padding)
            shape = f"{folder}: a batch of {size} with {length} tokens: the"
            difference = _difference(batch, model, graph)
            _check_difference(difference, f"{shape} graph's logits")
            largest = max(largest, difference)
            if not torch.isfinite(batch.through(quantised).logits).all():
                raise RunError(f"{shape} int8 graph's logits are not finite; nothing was kept")
    return {"batches": list(BATCHES), "lengths": lengths, "largest_difference": largest}


def _padded(batch, padding):
    """A batch whose first row stays as it is, the next ones shorter and shorter.  padding: a token."""
    mask_BL = batch.inputs["attention_mask"]
    size, length = mask_BL.shape
    real_B = length - torch.arange(size) * (length - 1) // max(size - 1, 1)
    real_BL = torch.arange(length) < real_B[:, None]
    inputs = {name: tensor * real_BL for name, tensor in batch.inputs.items()}
    inputs["input_ids"] = inputs["input_ids"] + padding * ~real_BL
    return Batch(inputs, None, batch.indices)


def _quantise(folder):
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(folder / GRAPH)
    del graph.graph.value_info[:]  # torch's shapes of what is inside contradict those after quantisation
    onnx.save(graph, folder / QUANTISED)
    # Scales for each output, not for each matrix: MRPC at 90% sparsity 0.8040 instead of 0.7991 (float32:
    # 0.8125)
    quantize_dynamic(folder / QUANTISED, folder / QUANTISED, weight_type=QuantType.QInt8, per_channel=True)


@contextlib.contextmanager
def _quietly():
    """Without the exporter's warnings, which tell nothing about this model."""
    names = ("torch.onnx", "torch.export", "onnxscript", "")
    levels = [logging.getLogger(name).level for name in names]
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in zip(names, levels):
            logging.getLogger(name).setLevel(level)
