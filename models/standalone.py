"""The code file of a compact export: a subclass of the stock class, written out for one structure; it needs
torch and transformers and nothing of this repository.

    modeling_sparse_bert.py     SparseBertConfig, SparseBertForSequenceClassification: auto_map of config.json

It does what models/slicing.py and models/moe_bert.py do when they build such a model.  This program's own
loader goes by config.compression and never reads the file.
"""

import importlib.util
import inspect
import re

from models import architectures, attention, hidden_dimensions, standalone_parts
from models.derived_classes import stock_parent
from models.moe_bert import MIXTURES, expert_entry
from models.saving import quiet
from models.slicing import sparse_entry
from modules import plain_experts, sliceable_linear
from utils import files
from utils.families import HEADS

_LICENCE = "# Copyright The bert-compression authors.  SPDX-License-Identifier: Apache-2.0"


def write(model, folder):
    """Put its code file beside a checkpoint that is there, and its name into config.json.

    model: whose checkpoint it is.  Returns the file; None for a stock model, which needs none.
    """
    stock = stock_parent(model)
    if type(model) is stock:
        return None
    name = f"modeling_{model.config.model_type.replace('-', '_')}"
    files.write_text(folder / f"{name}.py", text(model))
    made = {"AutoConfig": model.config, _auto_class(stock): model}
    config = files.read_json(folder / "config.json")
    config["auto_map"] = {auto: f"{name}.{type(each).__name__}" for auto, each in made.items()}
    files.write_json(folder / "config.json", config)
    return folder / f"{name}.py"


def load(file):
    """The model of a checkpoint by the code file that write() has just put beside it; in eval mode."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    architecture = files.read_json(file.parent / "config.json")["architectures"][0]
    with quiet():
        return getattr(module, architecture).from_pretrained(file.parent, local_files_only=True).eval()


def text(model) -> str:
    """The code file of a model of which something was removed, or that has experts."""
    stock, config, entry = stock_parent(model), type(model.config), sparse_entry(model)
    stock_config = stock.config_class.__name__
    body, parts, tables, what = _cut(model, entry) if entry else _experts(model)
    return "\n".join(
        [
            f'"""{stock.__name__} {what}.',
            "",
            "It needs torch and transformers, and nothing else:",
            "",
            f"    {_auto_class(stock)}.from_pretrained(folder, trust_remote_code=True)",
            '"""',
            "",
            _LICENCE,
            "",
            *_imports(parts),
            f"from transformers import {stock_config}, {stock.__name__}",
            *tables,
            "",
            "",
            f"class {config.__name__}({stock_config}):",
            f'    """{stock_config} whose `compression` says how the model differs from the stock one."""',
            "",
            f'    model_type = "{config.model_type}"',
            "",
            "",
            f"class {type(model).__name__}({stock.__name__}):",
            '    """The stock model, changed before its weights are loaded."""',
            "",
            f"    config_class = {config.__name__}",
            "",
            "    def __init__(self, config):",
            "        super().__init__(config)",
            "        kept = config.compression",
            *(f"        {line}" for line in body),
            *(f"\n\n{inspect.getsource(part).rstrip()}" for part in parts),
            "",
        ]
    )


def _cut(model, entry):
    """(lines of __init__, functions and classes that they use, tables, in words) of a model without some
    units."""
    row, layers, start = architectures.of(model), architectures.layers(model), _layers(model)
    paths = [
        [each.name.removeprefix(f"{start}.{layer.number}.") for each in layer.projections] for layer in layers
    ]
    assert all(found == paths[0] for found in paths), "layers differ in their projections"
    lines = [
        f"for number, layer in enumerate(self.{start}):",
        '    heads, neurons = kept["heads"][number], kept["neurons"][number]',
    ]
    parts, tables, what = [standalone_parts.resize], [], "with fewer heads and neurons"
    core = _attribute("layer", row.attention)
    for name, factor in ((row.num_heads, 1), (row.heads_width, layers[0].head_dim)):
        lines += [f"    {core}.{name} = {_times(factor, 'heads')}"] if name else []
    if row.head_bias or 0 in entry["heads"]:
        kind = attention.GATES[row.head_bias]
        settings = ["num_kept=heads"]
        if "position_heads" in entry:
            lines.append('    columns = kept["position_heads"][number]')
            settings.append("position_heads=columns")
        if row.attention_out.startswith(f"{row.attention}."):
            settings.append(f'inner_out="{row.attention_out.rpartition(".")[2]}"')
        lines.append(f"    gate({core}, {kind.__name__}, {', '.join(settings)})")
        parts += [standalone_parts.gate, *dict.fromkeys((attention.Gate, kind)), sliceable_linear.no_features]
    for path, each in zip(paths[0], layers[0].projections):
        side = "columns" if each.dim else "rows"
        lines.append(f'    resize(layer, "{path}", {side}={_times(each.groups * each.size, each.unit)})')
    if 0 in entry["heads"] + entry["neurons"]:
        lines.append("empty(self)")
        parts += [
            standalone_parts.empty,
            sliceable_linear.EmptyLinear,
            sliceable_linear.no_features,
            sliceable_linear.bias_only,
        ]
    if "hidden" in entry:
        lines.append('narrow(self, STATES, kept["hidden"])')
        parts.append(standalone_parts.narrow)
        tables = ["", "STATES = {  # parameters with hidden dimensions: which of theirs; *: in each layer"]
        tables += [f'    "{name}": {dims},' for name, dims in _states(model).items()] + ["}"]
        what = "with fewer heads, neurons and hidden dimensions"
    return lines, [*dict.fromkeys(parts)], tables, what


def _experts(model):
    """As _cut(), of a model with experts."""
    entry, start, layer = expert_entry(model), _layers(model), architectures.layers(model)[0]
    lines, units = [f"for layer in self.{start}:"], {"attention": "heads", "ffn": "neurons"}
    for mixture in MIXTURES:
        if entry[f"{mixture}_experts"] == 1:
            continue
        found = [each for each in layer.projections if each.unit == units[mixture]]
        router, width = f"layer.{mixture}_router", found[0].linear.in_features
        scaled = "" if entry.get("output_scale", "probability") == "probability" else ", scaled=False"
        lines.append(f'    {router} = PlainRouter({width}, kept["{mixture}_experts"]{scaled})')
        for each in found:
            path = each.name.removeprefix(f"{start}.0.")
            lines.append(f'    share_out(layer, "{path}", {router}, enters={each.dim == 0})')
    parts = [standalone_parts.share_out, plain_experts.PlainRouter, plain_experts.PlainExperts]
    if not entry["route_padding"]:
        base = start.removesuffix(f".{architectures.of(model).layers}")
        lines.append(f"self.{base}.register_forward_pre_hook(tell_padding, with_kwargs=True)")
        parts.append(standalone_parts.tell_padding)
    return lines, parts, [], "with experts, of which every token uses one"


def _states(model) -> dict:
    """{name of a parameter, * for the number of its layer: its dimensions that are hidden dimensions}."""
    found = {}
    for name, dim in hidden_dimensions.axes(model):
        found.setdefault(name, []).append(dim)
    made = {}
    for name, dims in found.items():
        known = made.setdefault(re.sub(r"\.\d+\.", ".*.", name), tuple(dims))
        assert known == tuple(dims), f"layers differ in {name}"
    return made


def _imports(parts):
    """The import lines that some functions and classes need."""
    sources = "".join(map(inspect.getsource, parts))
    lines = ["import re", ""] if "re." in re.findall(r"\bre\.", sources) else []
    lines += ["import torch"] if re.search(r"\btorch\.", sources) else []
    lines += ["import torch.nn.functional as F"] if re.search(r"\bF\.", sources) else []
    return [*lines, "from torch import nn"]


def _auto_class(stock):
    """The Auto class that loads a stock class."""
    head = next((head for head in HEADS.values() if stock.__name__.endswith(f"For{head}")), None)
    return "AutoModel" if head is None else f"AutoModelFor{head}"


def _layers(model):
    """What the names of all layers begin with."""
    return f"{architectures.prefix(model)}{architectures.of(model).layers}"


def _attribute(name, path):
    """How Python spells a submodule; a number in its path is an index."""
    return name + "".join(f"[{each}]" if each.isdigit() else f".{each}" for each in path.split("."))


def _times(factor, name):
    return name if factor == 1 else f"{factor} * {name}"
