"""The code file of a compact export: a subclass of the stock class, written out for one structure; it needs
torch and transformers and nothing of this repository.

    modeling_sparse_bert.py     SparseBertConfig, SparseBertForSequenceClassification: auto_map of config.json

It does what models/slicing.py and models/moe_bert.py do when they build such a model.  This program's own
loader goes by config.compression and never reads the file.
"""

import inspect
import re
import types

from models import architectures, attention, enct5, hidden_dimensions, standalone_parts
from models.derived_classes import stock_parent
from models.moe_bert import expert_entry, mixtures, output_scale
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
    if type(model) is stock and not enct5.is_own(stock):
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
    module = types.ModuleType(file.stem)
    # Python's own import would leave a __pycache__ in the folder
    exec(compile(file.read_text(encoding="utf-8"), file, "exec"), vars(module))
    architecture = files.read_json(file.parent / "config.json")["architectures"][0]
    with quiet():
        return getattr(module, architecture).from_pretrained(file.parent, local_files_only=True).eval()


def text(model) -> str:
    """The code file of a model of which something was removed, that has experts, or that is an EncT5."""
    stock, config, entry = stock_parent(model), type(model.config), sparse_entry(model)
    body, parts, tables, what = [], [], [], ""
    if type(model) is not stock:
        body, parts, tables, what = _cut(model, entry) if entry else _experts(model)
    bases, configured = [stock.__name__], []
    if enct5.is_own(stock):
        mixin, begun_as = stock.__mro__[1:3]
        bases, what = [mixin.__name__, begun_as.__name__], f"{what}; see Liu et al. 2021".removeprefix("; ")
        parts = [*([enct5.Prompt] if mixin is enct5.Prompted else []), mixin, *parts]
        configured = ["", *inspect.getsource(enct5.EncoderConfig.__post_init__).rstrip().splitlines()]
    stock_config = next(
        each for each in stock.config_class.__mro__ if each.__module__.startswith("transformers")
    )
    # Classes that others are made of come first
    first = [each for each in parts if each in stock.__mro__ or each is enct5.Prompt]
    rest = [each for each in parts if each not in first]
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
            f"from transformers import {stock_config.__name__}, {bases[-1]}",
            *tables,
            *(f"\n\n{inspect.getsource(part).rstrip()}" for part in first),
            "",
            "",
            f"class {config.__name__}({stock_config.__name__}):",
            *_docstring(entry, stock_config.__name__),
            "",
            f'    model_type = "{config.model_type}"',
            *configured,
            "",
            "",
            f"class {type(model).__name__}({', '.join(bases)}):",
            '    """The stock model, changed before its weights are loaded."""',
            "",
            f"    config_class = {config.__name__}",
            *(
                [
                    "",
                    "    def __init__(self, config):",
                    "        super().__init__(config)",
                    "        kept = config.compression",
                    *(f"        {line}" for line in body),
                ]
                if body
                else []
            ),
            *(f"\n\n{inspect.getsource(part).rstrip()}" for part in rest),
            "",
        ]
    )


def _docstring(entry, stock_config):
    if entry is None:
        return [f'    """{stock_config} of this model."""']
    return [f'    """{stock_config} whose `compression` says how the model differs from the stock one."""']


def _cut(model, entry):
    """(lines of __init__, functions and classes that they use, tables, in words) of a model without some
    units."""
    layers, base = architectures.layers(model), architectures.prefix(model)
    start = architectures.layers_path(model)
    paths = [
        [each.name.removeprefix(f"{start}.{layer.number}.") for each in layer.projections] for layer in layers
    ]
    assert all(found == paths[0] for found in paths), "layers differ in their projections"
    parts, tables, what = [standalone_parts.resize], [], "with fewer heads and neurons"
    lines = [f"for number, layer in enumerate(self.{start}):"]
    for sublayer in (layers[0].heads, layers[0].neurons):
        found = _cut_sublayer(model, entry, sublayer, f"{start}.0.", "number", parts)
        lines += [f"    {line}" for line in found]
    behind = architectures.sublayers(model)[2 * len(layers) :]
    if behind:
        decoder = f"{base}{architectures.of(model).decoder.layers}"
        lines.append(f"layer = self.{decoder}[0]")
        for sublayer in behind:
            lines += _cut_sublayer(model, entry, sublayer, f"{decoder}.0.", sublayer.row, parts)
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
        parts += [standalone_parts.narrow, hidden_dimensions.tell_sizes]
        tables = ["", "STATES = {  # parameters with hidden dimensions: which of theirs; *: in each layer"]
        tables += [f'    "{name}": {dims},' for name, dims in _states(model).items()] + ["}"]
        what = "with fewer heads, neurons and hidden dimensions"
    return lines, [*dict.fromkeys(parts)], tables, what


def _cut_sublayer(model, entry, sublayer, start, row, parts):
    """Lines for a `layer`'s attention or feed-forward; what they use is added to parts.

    start: of its projections' names.  row: of its counts, as the code says it.
    """
    family, unit = architectures.of(model), sublayer.unit
    lines = [f'{unit} = kept["{unit}"][{row}]']
    if sublayer.attention is not None:
        named = {id(module): path for path, module in model.named_modules()}
        core = _attribute("layer", named[id(sublayer.attention)].removeprefix(start))
        for name, factor in ((family.num_heads, 1), (family.heads_width, sublayer.size)):
            lines += [f"{core}.{name} = {_times(factor, unit)}"] if name else []
        shared = family.shared_bias and sublayer.head_bias != "crossed"
        if shared or 0 in entry["heads"]:
            # A table of its own has lost what its heads have lost
            kind = attention.GATES["" if sublayer.head_bias == "own" else sublayer.head_bias]
            settings = ["num_kept=heads"]
            if shared and "position_heads" in entry:
                lines.append(f'columns = kept["position_heads"][{row}]')
                settings.append("position_heads=columns")
            if family.attention_out.startswith(f"{family.attention}."):
                settings.append(f'inner_out="{family.attention_out.rpartition(".")[2]}"')
            lines.append(f"gate({core}, {kind.__name__}, {', '.join(settings)})")
            parts += [
                standalone_parts.gate,
                *dict.fromkeys((attention.Gate, kind)),
                sliceable_linear.no_features,
            ]
    for each in sublayer.projections:
        side, path = "columns" if each.dim else "rows", each.name.removeprefix(start)
        lines.append(f'resize(layer, "{path}", {side}={_times(each.groups * each.size, each.unit)})')
    return lines


def _experts(model):
    """As _cut(), of a model with experts."""
    entry, start = expert_entry(model), architectures.layers_path(model)
    layer = architectures.layers(model)[0]
    lines = [f"for layer in self.{start}:"]
    scaled = "" if output_scale(entry) == "probability" else ", scaled=False"
    for mixture, _, projections in mixtures(layer, entry):
        router, width = f"layer.{mixture}_router", projections[0].linear.in_features
        lines.append(f'    {router} = PlainRouter({width}, kept["{mixture}_experts"]{scaled})')
        for each in projections:
            path = each.name.removeprefix(f"{start}.0.")
            lines.append(f'    replace_by_experts(layer, "{path}", {router}, enters={each.dim == 0})')
    parts = [standalone_parts.replace_by_experts, plain_experts.PlainRouter, plain_experts.PlainExperts]
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


def _attribute(name, path):
    """How Python spells a submodule; a number in its path is an index."""
    return name + "".join(f"[{each}]" if each.isdigit() else f".{each}" for each in path.split("."))


def _times(factor, name):
    return name if factor == 1 else f"{factor} * {name}"
