"""Encoders with experts: feed-forward sublayers, and attention if asked for, of which every token uses one of
several.

The classes are made from the table in utils/families.py: subclasses of the stock ones with model_type
"moe-<stock>", whose linear maps are stacked (modules/experts.py). All sizes in the config are those of one
expert; config.compression:

    {"kind": "experts", "attention_experts": x, "ffn_experts": y, "gate_noise": "multiplicative",
    "route_padding": false}

and "output_scale": "one" where experts began as equal copies (--expert_init equal); where it is absent, the
routing probability. What a sublayer adds to its input goes through the stock LayerNorm, which its experts
share. One expert: the stock Linear stays.
Source: MiniMoE (Zhang et al. 2023).  E experts, D hidden size, O outputs, I inputs.
"""

import copy

import torch
from torch import nn

from models import architectures
from models.derived_classes import DerivedClasses, become
from models.from_tensors import empty, fill, tensors_of
from modules.experts import NOISES, SCALES, ExpertLinear, Router, expert_units
from modules.plain_experts import PlainExperts, PlainRouter
from utils import families
from utils.errors import CheckpointError
from utils.families import EXPERTS

MIXTURES = ("attention", "ffn")


class MoeModel:
    """Mixed into a stock model class: the stock model, then the experts that config.compression asks for, all
    alike."""

    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        _install(self)


CLASSES = DerivedClasses(EXPERTS, MoeModel, families.fit_for("ffn experts"))


def expert_entry(model) -> dict | None:
    """config.compression of a model with experts; None for others."""
    entry = getattr(model.config, "compression", None)
    return entry if entry and families.is_of_experts(model.config.model_type) else None


def routers(module) -> dict:
    """{"attention/0": Router, "ffn/0": Router, ...} of a model with experts, or of what wraps one; {} for
    others."""
    found = next((vars(each)["routers"] for each in module.modules() if "routers" in vars(each)), ())
    return {router.name: router for router in found}


# ---- Making one


def with_experts(
    model, *, attention, ffn, shared_fraction, noise, route_padding=False, seed, scale="probability"
):
    """A new model whose sublayers are experts made from a dense model's; the dense model itself where
    both numbers are 1.

    attention, ffn: experts of each sublayer.  Each is as wide as the sublayer, and begins with its first
    shared_fraction (a fractions.Fraction); the rest is one expert's own: the sublayer's other units and as
    many as are missing, drawn from N(0, initializer_range), dealt out in turn (modules.experts.expert_units).
    Output biases are copied from the sublayer; routers are initialised as nn.Linear.
    noise, scale: see modules.experts.Router.  route_padding: padding is treated as tokens, as published.
    Raises CheckpointError for a family whose sublayers cannot be experts, and for a cropped or nested model.
    """
    if attention == ffn == 1:
        return model
    if getattr(model.config, "compression", None):
        raise CheckpointError(
            f"this model is a {model.config.model_type} with a {model.config.compression['kind']} structure "
            "already; experts are made from a dense checkpoint"
        )
    config = copy.deepcopy(model.config)
    config.compression = {
        "kind": "experts",
        "attention_experts": attention,
        "ffn_experts": ffn,
        "gate_noise": noise,
        "route_padding": route_padding,
    }
    if scale != "probability":
        config.compression["output_scale"] = scale
    _check_family(config)
    made_class = CLASSES.model_class(type(model))
    become(config, made_class.config_class)
    made, tensors = empty(made_class, config, like=model), tensors_of(model)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for layer in architectures.layers(model):
            for mixture, number, projections in mixtures(layer, config.compression):
                units = _units(number, projections[0], shared_fraction)
                for projection in projections:
                    _expand(tensors, projection, units, std=getattr(model.config, "initializer_range", 0.02))
                router = Router(number, widths=_widths(projections)).to(model.device, model.dtype)
                start = f"{architectures.layers_path(model)}.{layer.number}.{mixture}_router"
                tensors.update({f"{start}.{name}": tensor for name, tensor in router.named_parameters()})
    return fill(made, tensors, like=model)


def with_equal_experts(model, *, attention, ffn, noise, route_padding=False, seed):
    """A new model that computes what a dense model does, token by token: all experts begin as copies of its
    sublayers.

    Their outputs are scaled by 1 instead of the routing probability, whatever the router (scale "one" of
    modules.experts.Router, which says what the router then learns from); config.compression says so, and the
    model computes the same when it is loaded.  Routers begin as nn.Linear, so that tokens are shared out as
    if experts were random.  Each expert begins with the dense sublayer's gradient, summed over its own
    tokens.
    From a trained checkpoint: sparse upcycling (Komatsuzaki et al. 2023).  Arguments, errors: as
    with_experts().
    """
    return with_experts(
        model,
        attention=attention,
        ffn=ffn,
        shared_fraction=1,
        noise=noise,
        route_padding=route_padding,
        seed=seed,
        scale="one",
    )


def with_plain_experts(model):
    """A copy of a model with experts that any exporter can follow: plain operations, each expert with weights
    of its own (modules.plain_experts); the model itself where it has none."""
    if expert_entry(model) is None:
        return model
    for router in routers(model).values():
        router.reset(None)  # forget the last batch, which has a graph
    made, plain = copy.deepcopy(model), {}
    modules = dict(made.named_modules())
    for path, router in modules.items():
        if isinstance(router, Router):
            plain[router] = PlainRouter(*router.weight.shape[::-1], scaled=router.scale == "probability")
            plain[router].load_state_dict(router.state_dict())
            made.set_submodule(path, plain[router])
    for path, experts in modules.items():
        if isinstance(experts, ExpertLinear):
            weight, bias = (
                None if tensor is None else nn.ParameterList(tensor.detach().unbind())
                for tensor in (experts.weight, experts.bias)
            )
            made.set_submodule(path, PlainExperts(weight, bias, plain[experts.router], enters=experts.enters))
    vars(architectures.encoder(made))["routers"] = tuple(plain.values())
    return made.train(model.training)


def _units(number, projection, shared_fraction):
    """[E, U]: which units of the widened sublayer each expert gets."""
    size = projection.linear.weight.shape[projection.dim] // (projection.groups * projection.size)
    num_shared = size * shared_fraction
    # The flags have been checked
    assert num_shared == int(num_shared), f"{shared_fraction} of {size} {projection.unit}"
    return expert_units(number, size, int(num_shared))


def _expand(tensors, projection, units_EU, *, std):
    """Replace one projection's tensors by its experts', stacked."""
    missing = (int(units_EU.max()) + 1 - units_EU.shape[1]) * projection.size
    for leaf, _ in projection.linear.named_parameters():
        tensor = tensors[f"{projection.name}.{leaf}"]
        if leaf == "weight" or projection.dim == 0:
            shape = list(tensor.shape)
            shape[projection.dim] = projection.groups * missing
            drawn = torch.randn(shape) * std if leaf == "weight" else torch.zeros(shape)
            grouped = [
                each.unflatten(projection.dim, (projection.groups, -1)) for each in (tensor, drawn.to(tensor))
            ]
            tensor = torch.cat(grouped, dim=projection.dim + 1).flatten(projection.dim, projection.dim + 1)
        experts = [projection.select(tensor, units_U.to(tensor.device)) for units_U in units_EU]
        tensors[f"{projection.name}.{leaf}"] = torch.stack(experts)


# ---- The structure


def _install(model):
    """Replace linear maps of a just built stock model by stacked ones, each expert a copy.  Works on the meta
    device.

    Raises CheckpointError where config.compression does not say how.
    """
    entry, base = expert_entry(model), architectures.encoder(model)
    _check_entry(entry, model.config.model_type)
    _check_family(model.config)
    made = []
    for layer in architectures.layers(model):
        for mixture, number, projections in mixtures(layer, entry):
            router = Router(
                number, widths=_widths(projections), noise=entry["gate_noise"], scale=output_scale(entry)
            )
            router.name = f"{mixture}/{layer.number}"
            setattr(layer.module, f"{mixture}_router", router)
            for projection in projections:
                path = projection.name.removeprefix(f"{architectures.layers_path(model)}.{layer.number}.")
                stacked = ExpertLinear(
                    *(
                        _repeat(tensor, number)
                        for tensor in (projection.linear.weight, projection.linear.bias)
                    ),
                    router,
                    enters=projection.dim == 0,
                    sorted_inside=mixture == "ffn",
                )
                parent, _, leaf = path.rpartition(".")
                setattr(layer.module.get_submodule(parent), leaf, stacked)
            made.append(router)
    vars(base)["routers"] = tuple(made)  # past nn.Module's own way: they belong to the layers
    base.register_forward_pre_hook(_tell_padding, with_kwargs=True)


def _tell_padding(base, inputs, others):
    """A forward pre-hook of the encoder: tells the routers which tokens are real."""
    mask_BL = others.get("attention_mask", inputs[1] if len(inputs) > 1 else None)
    assert mask_BL is None or mask_BL.dim() == 2, "experts need to know which tokens are real"
    route_all = mask_BL is None or base.config.compression["route_padding"]
    for router in base.routers:
        router.reset(None if route_all else mask_BL.bool())


def mixtures(layer, entry):
    """[(which, experts, the projections that become experts)] of a layer."""
    units = {"attention": "heads", "ffn": "neurons"}
    numbers = {mixture: entry[f"{mixture}_experts"] for mixture in MIXTURES}
    return [
        (
            mixture,
            numbers[mixture],
            [
                projection
                for projection in layer.projections
                if projection.unit == units[mixture] and not isinstance(projection.linear, nn.Embedding)
            ],
        )
        for mixture in MIXTURES
        if numbers[mixture] > 1
    ]


def output_scale(entry):
    """What scales an expert's output."""
    return entry.get("output_scale", "probability")


def _widths(projections):
    """The sublayer's input, and what lies inside."""
    return projections[0].linear.weight.shape[1], projections[0].linear.weight.shape[0]


def _repeat(tensor, number):
    return None if tensor is None else nn.Parameter(tensor.detach().expand(number, *tensor.shape).clone())


def _check_family(config):
    for mixture in MIXTURES:
        refusal = families.refusal(config.model_type, f"{mixture} experts")
        if refusal and config.compression[f"{mixture}_experts"] > 1:
            raise CheckpointError(refusal)


def _check_entry(entry, model_type):
    """Raise CheckpointError where an entry is not of this kind."""
    if entry is None:
        raise CheckpointError(
            f"config.json: model_type {model_type} needs a compression entry of the kind experts, found none"
        )
    wrong = [
        f"{mixture}_experts {entry.get(f'{mixture}_experts')!r}, expected a whole number of at least 1"
        for mixture in MIXTURES
        if not (isinstance(entry.get(f"{mixture}_experts"), int) and entry[f"{mixture}_experts"] >= 1)
    ]
    if entry.get("gate_noise") not in NOISES:
        wrong.append(f"gate_noise {entry.get('gate_noise')!r}, expected one of {', '.join(NOISES)}")
    if output_scale(entry) not in SCALES:
        wrong.append(f"output_scale {output_scale(entry)!r}, expected one of {', '.join(SCALES)}")
    if not isinstance(entry.get("route_padding"), bool):
        wrong.append(f"route_padding {entry.get('route_padding')!r}, expected true or false")
    if wrong:
        raise CheckpointError(f"config.json: compression: {'; '.join(wrong)}")
