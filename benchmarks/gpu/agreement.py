"""Section "gradients": losses and gradients of every method in float32 on the device, beside the CPU's in
float64.

B examples, L tokens.  Nothing is drawn on a device: models and batches are made on the CPU, without dropout
or noise.
"""

from fractions import Fraction

import numpy as np
import torch
import transformers

import models
from benchmarks.gpu.settings import attempt
from models import architectures, masked_tokens, moe_bert
from models.once_for_all import OnceForAll
from models.relation_encoder import RelationEncoder
from models.relation_objective import RelationObjective
from modules import importance, knowledge, losses
from modules.filters import FilterTraining, LayerwiseObjective
from modules.masking import masked_loss
from modules.objectives import Objective, Targets
from utils.batch import Batch
from utils.flags.relations import RELATIONS
from utils.frozen_outputs import FrozenOutputs
from utils.student_sizes import Part

TOLERANCE = 1e-5
VOCABULARY, LAYERS, WIDTH, HEADS, NEURONS = 300, 4, 96, 4, 160
SMALL = 1e-2  # of the largest tensor's gradient: below, a difference is measured against that
KINDS = {"classification": 3, "regression": 1, "tagging": 5, "spans": 2}  # outputs of a task head


def rows(settings):
    """One for each method."""
    shape = settings.pick((32, 96), (32, 96), (3, 10))
    for method, case in CASES.items():
        yield attempt({"method": method}, lambda case=case: compare(case, shape, settings.device), settings)


def compare(case, shape, device) -> dict:
    """How far the device is from the CPU in float64, and how far the CPU is in float32: relative differences.

    Of the loss: the worst term, relative to the sum of all (TED's is a difference of two).  Of the gradient:
    the worst tensor, by norms.
    """
    exact = case(Place(torch.device("cpu"), torch.float64), shape)
    whole, found = sum(abs(float(term)) for term in exact[0].values()), {}
    for side in dict.fromkeys((device, "cpu")):
        terms, gradients = case(Place(torch.device(side), torch.float32), shape)
        found[f"loss, {side}"] = (
            max(abs(float(terms[name] - term)) for name, term in exact[0].items()) / whole
        )
        found[f"gradient, {side}"] = distance(gradients, exact[1])
    found["passed"] = max(found[f"loss, {device}"], found[f"gradient, {device}"]) <= TOLERANCE
    return found


def distance(gradients, exact) -> float:
    """The largest relative difference of a tensor, by norms; both have the same tensors."""
    assert gradients.keys() == exact.keys() and exact
    floor = SMALL * max(tensor.norm() for tensor in exact.values())
    return max(
        float((gradients[name] - tensor).norm() / max(tensor.norm(), floor)) for name, tensor in exact.items()
    )


class Place:
    """A device and a precision, and what is made for them."""

    def __init__(self, device, dtype):
        self.device, self.dtype = device, dtype

    def put(self, module):
        """A module there."""
        return module.to(self.device, self.dtype)

    def bert(self, seed, *, kind=None, layers=LAYERS, width=WIDTH, family="bert", **settings):
        """A random model in eval mode; kind: of its head, or None."""
        config = transformers.AutoConfig.for_model(
            family,
            vocab_size=VOCABULARY,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=HEADS,
            intermediate_size=NEURONS,
            max_position_embeddings=128,
            initializer_range=0.05,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            num_labels=KINDS.get(kind, 2),
            **settings,
        )
        torch.manual_seed(seed)
        return self.put(architectures.stock_class(family, kind)(config).eval())

    def batch(self, shape, kind="classification"):
        """Random tokens with padding and random labels."""
        generator = torch.Generator().manual_seed(1)
        size, length = shape
        ids_BL = torch.randint(5, VOCABULARY, shape, generator=generator)
        lengths_B = torch.randint(length // 2, length + 1, (size,), generator=generator)
        mask_BL = torch.arange(length) < lengths_B[:, None]
        labels = {
            "classification": torch.randint(0, KINDS["classification"], (size,), generator=generator),
            "regression": torch.rand(size, generator=generator) * 5,
            "tagging": torch.randint(0, KINDS["tagging"], shape, generator=generator).masked_fill(
                ~mask_BL, losses.IGNORED
            ),
            "spans": torch.stack([lengths_B // 3, lengths_B // 2], -1),
        }[kind]
        divisors = {"examples": float(size), "tokens": float(mask_BL.sum()), "labels": float(mask_BL.sum())}
        inputs = {"input_ids": ids_BL * mask_BL, "attention_mask": mask_BL.long()}
        return Batch(inputs, labels, np.arange(size), divisors).to(self.device)


START = Place(torch.device("cpu"), torch.float32)


def answer(terms, *modules):
    """({name: term}, {name: gradient}) on the CPU in float64, after a backward pass through the sum of the
    terms."""
    sum(terms.values()).backward()
    named = [
        (f"{number}/{name}", p.grad)
        for number, module in enumerate(modules)
        for name, p in module.named_parameters()
    ]
    return _here(terms), _here({name: gradient for name, gradient in named if gradient is not None})


def _here(tensors):
    return {name: tensor.detach().double().cpu() for name, tensor in tensors.items()}


# ---- The methods


def finetuning(place, shape, *, kind):
    model = place.bert(0, kind=kind)
    return answer(Objective("ft", kind, layers=[])(model, place.batch(shape, kind), None), model)


def distillation(place, shape, *, name, kind="classification"):
    teacher = models.freeze(place.bert(0, kind=kind))
    student, batch = place.bert(1, kind=kind, layers=2), place.batch(shape, kind)
    objective = Objective(name, kind, losses.matched_layers(2, LAYERS), temperature=2.0)
    targets = Targets(*FrozenOutputs(teacher, layers=objective.teacher_layers, precision="fp32")(batch))
    return answer(objective(student, batch, targets), student)


def minidisc(place, shape):
    """All candidates' gradients meet in one student's weights."""
    teacher, batch = models.freeze(nested(place)), place.batch(shape)
    student, terms = nested(place), {}
    objective = Objective("sparse", "classification", losses.matched_layers(LAYERS, LAYERS))
    targets = Targets(*FrozenOutputs(teacher, layers=objective.teacher_layers, precision="fp32")(batch))
    for s in (80, 50):
        models.set_sparsity(student, s)
        terms |= {f"{s}/{name}": term for name, term in objective(student, batch, targets).items()}
    return answer(terms, student)


def nested(place):
    """A model sorted by made-up scores."""
    model = place.bert(0, kind="classification")
    generator = torch.Generator().manual_seed(2)
    heads, neurons = (
        torch.rand(LAYERS, size, generator=generator, dtype=torch.float64) for size in (HEADS, NEURONS)
    )
    models.sort_units(model, heads, neurons, grid=(0, 50, 80))
    return model


def sparsification(place, shape):
    model, batch = place.bert(0, kind="classification"), place.batch(shape)
    with models.scoring_masks(model) as masks:
        scores = importance.Accumulator(masks)
        loss = losses.task_loss(batch.through(model).logits, batch.labels, kind="classification")
        scores.add(loss, weight=len(batch.labels))
    return _here({"task": loss}), _here({"heads": scores.heads, "neurons": scores.neurons})


def stark(place, shape):
    """Expressiveness and friendliness: two gradients of one forward pass."""
    teacher, batch = place.bert(0, kind="classification"), place.batch(shape)
    with torch.no_grad():
        student_logits = batch.through(place.bert(1, kind="classification", layers=2)).logits
    with models.scoring_masks(teacher) as masks:
        express, friendly = importance.Accumulator(masks), importance.Accumulator(masks)
        logits = batch.through(teacher).logits
        task = losses.task_loss(logits, batch.labels, kind="classification")
        soft = knowledge.friendliness_loss(
            student_logits, logits, kind="classification", loss="soft_ce", temperature=2.0
        )
        express.add(task, weight=1, retain_graph=True)
        friendly.add(soft, weight=1)
    sides = {"express": express, "friendly": friendly}
    scores = {
        f"{side}/{unit}": getattr(found, unit)
        for side, found in sides.items()
        for unit in ("heads", "neurons")
    }
    return _here({"task": task, "soft": soft}), _here(scores)


def masked(place, shape):
    """Masked tokens, with masks on hidden dimensions too: the importance of Sparse MiniLM."""
    model, batch = place.bert(0, kind="masked"), place.batch(shape)
    chosen_BL = batch.mask & (torch.arange(shape[1], device=place.device) % 3 == 1)
    with models.scoring_masks(model, hidden=True) as masks:
        scores = importance.Accumulator(masks)
        logits_MV = masked_tokens.masked_logits(model, batch.inputs, chosen_BL)
        loss = masked_loss(logits_MV, batch.inputs["input_ids"][chosen_BL], divisor=int(chosen_BL.sum()))
        scores.add(loss, weight=1)
    return _here({"mlm": loss}), _here(
        {unit: getattr(scores, unit) for unit in ("heads", "neurons", "hidden")}
    )


def minilmv2(place, shape):
    """All nine relations."""
    student, objective = relation_sides(
        place, START.bert(1, layers=2, width=WIDTH // 2), weighting="sequence"
    )
    return answer(objective(student, place.batch(shape)), student)


def minimoe(place, shape):
    """Four experts, from extra projections, with the balance loss."""
    dense, options = START.bert(1, layers=2, width=WIDTH // 2), {"noise": "none", "seed": 3}
    made = moe_bert.with_experts(dense, attention=1, ffn=4, shared_fraction=Fraction(1, 2), **options)
    student, objective = relation_sides(place, made, weighting="token", source="extra")
    batch, balance = place.batch(shape), models.Balance(student, 0.01)
    return answer({**objective(student, batch), **balance(batch)}, student)


def once_for_all(place, shape):
    """The whole student and a part of it."""
    student, objective = relation_sides(place, START.bert(1, layers=2), weighting="token", source="extra")
    parts = [Part(1, WIDTH // 2, HEADS // 2, NEURONS // 2), Part(2, WIDTH, HEADS, NEURONS)]
    module, batch = OnceForAll(student, parts), place.batch(shape)
    prepared, terms = objective.prepared(batch), {}
    for part in parts:
        found = objective.terms(lambda name=part.name, **inputs: module(name, **inputs), batch, prepared)
        terms |= {f"{part.name}/{name}": term for name, term in found.items()}
    return answer(terms, student)


def relation_sides(place, student, *, weighting, source="last"):
    """(RelationEncoder of a student, its objective).  student: where START is, as new projections are drawn
    where it is."""
    teacher = RelationEncoder(models.freeze(place.bert(0)), layer=LAYERS)
    torch.manual_seed(4)
    student = place.put(RelationEncoder(student, layer=len(models.layers(student)), source=source))
    relations = dict.fromkeys(RELATIONS if weighting == "sequence" else ("qq", "kk", "vv"), 1.0)
    return student, RelationObjective(teacher, relations=relations, num_heads=HEADS, weighting=weighting)


def ted_filters(place, shape):
    """Stage I on the states of a frozen DeBERTa."""
    model, batch = models.freeze(deberta(place, 0, LAYERS)), place.batch(shape)
    filters, spec = filters_of(model, 2)
    torch.manual_seed(5)
    heads = {"output_dim": spec.output_dim, "num_labels": KINDS["classification"], "dropout": 0.0}
    stage = place.put(FilterTraining(filters, kind="classification", **heads))
    _, states = FrozenOutputs(model, layers=spec.layers, precision="fp32")(batch)
    logits = stage([state.to(place.dtype) for state in states])
    terms = {
        str(i): losses.task_loss(z, batch.labels, kind="classification") for i, z in zip(spec.layers, logits)
    }
    return answer(terms, stage)


def ted(place, shape):
    """Stage II: both sides seen through filters."""
    sides = [(deberta(place, 1, 2), 1), (deberta(place, 0, LAYERS), 2)]
    student, teacher = (
        place.put(models.FilteredModel(model, filters_of(model, step)[0])) for model, step in sides
    )
    batch = place.batch(shape)
    targets = FrozenOutputs(models.freeze(teacher), layers=range(2), precision="fp32")(batch)
    return answer(LayerwiseObjective("classification", 20.0, 100.0)(student, batch, targets), student)


def deberta(place, seed, layers):
    """DeBERTaV3's sort of model, small."""
    options = {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_buckets": 16,
        "type_vocab_size": 0,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    }
    return place.bert(
        seed, kind="classification", layers=layers, family="deberta-v2", pooler_hidden_size=WIDTH, **options
    )


def filters_of(model, interval):
    """(filters, their specification), the same wherever the model is."""
    torch.manual_seed(6)
    filters, spec = models.new_filters(model, task="made-up", interval=interval)
    return filters.to(model.dtype), spec


CASES = {
    **{f"fine-tuning, {kind}": lambda *place, kind=kind: finetuning(*place, kind=kind) for kind in KINDS},
    **{
        f"distillation, {name}": lambda *place, name=name: distillation(*place, name=name)
        for name in ("kd", "pkd", "sparse")
    },
    "distillation, tags": lambda *place: distillation(*place, name="sparse", kind="tagging"),
    "MiniDisc, two candidates": minidisc,
    "sparsification": sparsification,
    "sparsification, masked tokens": masked,
    "StarK, both scores": stark,
    "MiniLMv2": minilmv2,
    "MiniMoE": minimoe,
    "once for all": once_for_all,
    "TED, stage I": ted_filters,
    "TED, stage II": ted,
}
