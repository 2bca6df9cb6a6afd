"""Once-for-all: one student and its parts, of fewer layers and less width, all trained in one run, each a
stock model by itself.

A part has the student's first layers, and of every tensor the first rows and columns: the first hidden
dimensions, heads and neurons. Nothing is copied in training: a part is a stock model without values of its
own that is called with views of the student's tensors, in which the gradients of all parts meet.
Source: MiniMoE (Zhang et al. 2023), its published code; an experiment outside the paper.
"""

import functools

from torch import nn
from torch.func import functional_call

from models import architectures
from models.derived_classes import stock_parent
from models.from_tensors import empty, fill, tensors_of
from models.relation_distillation import NO_VOCABULARY
from models.relation_encoder import RelationEncoder
from models.resized import first, resized_config
from models.saving import save_model
from models.students import describe
from utils import distributed, logs, plots
from utils.evaluation import Score


class OnceForAll(nn.Module):
    """A student and its parts.

    student: RelationEncoder of the whole student.  parts: [utils.student_sizes.Part], the last one is the
    student itself.
    """

    def __init__(self, student, parts):
        super().__init__()
        self.student = student
        made = {}
        for part in parts:
            model, source = empty_part(student.model, part), "last" if student.extra is None else "extra"
            options = {"kinds": student.kinds, "source": source, "vocabulary": student.vocabulary is not None}
            made[part.name] = RelationEncoder(model, layer=part.layers, **options)
        vars(self)["parts"] = made  # past nn.Module's own way: they own nothing
        self.train(student.training)

    @property
    def model(self):
        """The whole student, a stock model."""
        return self.student.model

    def forward(self, part, **inputs):
        """What a part answers, as RelationEncoder does.  part: its name."""
        skeleton = self.parts[part].train(self.training)
        # Each module once: of two names of one, functional_call would forget what was there before
        return functional_call(skeleton, first_of(self.student, skeleton), kwargs=inputs, tie_weights=False)


def empty_part(model, part):
    """A stock model of a part's size, on the meta device."""
    sizes = {
        "layers": part.layers,
        "hidden": part.hidden,
        "heads": part.heads,
        "intermediate": part.intermediate,
    }
    return empty(stock_parent(model), resized_config(model.config, **sizes), like=model)


def first_of(whole, part) -> dict:
    """{name: the part's piece of the whole's tensor} for parameters and buffers of a smaller module of the
    same structure.

    By one name for each module, so that shared tensors of different modules are all there.
    """
    model = getattr(whole, "model", whole)
    groups = architectures.row_groups(model)
    start = "" if model is whole else "model."
    tensors = tensors_of(whole)
    pieces = {}
    for path, module in part.named_modules():
        for leaf, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            name = f"{path}.{leaf}".lstrip(".")
            pieces[name] = first(tensors[name], tensor.shape, groups=groups.get(path.removeprefix(start), 1))
    return pieces


def cut_out(model, part):
    """A part of a trained student as a stock model of its own."""
    made = empty_part(model, part)
    pieces, own = first_of(model, made), tensors_of(made)
    by_tensor = {id(own[name]): piece for name, piece in pieces.items()}
    # With second names
    return fill(made, {name: by_tensor[id(tensor)] for name, tensor in own.items()}, like=model)


class PartsObjective:
    """The terms of every part, divided by their number: one function for each part, to be run one after the
    other.

    objective: a RelationObjective.  parts: as of OnceForAll, which is the student that this is called with.
    """

    def __init__(self, objective, parts):
        self.objective, self.names = objective, [part.name for part in parts]
        self.teacher = objective.teacher

    def __call__(self, student, batch) -> list:
        """student: maybe wrapped.  batch: utils.batch.Batch."""
        prepared = self.objective.prepared(batch)
        return [
            functools.partial(self._terms, functools.partial(student, name), batch, prepared)
            for name in self.names
        ]

    def _terms(self, part, batch, prepared):
        return {
            name: term / len(self.names) for name, term in self.objective.terms(part, batch, prepared).items()
        }

    def facts(self, student, before) -> dict:
        """What is told before training.  before: held-out losses as it begins."""
        return {"parts": len(self.names), "held-out loss before": before["loss"]}

    def score(self, student, heldout, **options) -> Score:
        """The held-out losses of the parts and their mean; the score is minus that.  options:
        RelationObjective.score()'s."""
        answers = {name: functools.partial(student, name) for name in self.names}
        terms = self.objective.heldout_terms(student, answers, heldout, **options)
        losses = {name: sum(values.values()) for name, values in terms.items()}
        mean = sum(losses.values()) / len(losses)
        return Score(-mean, {"heldout": {**losses, "loss": mean}})


def finish(run, parts, distilled, student, *, tokenizer):
    """Keep each part as a checkpoint of its own, student_4L_512H, draw them, finish the run with the whole
    student.

    All are those of the update after which the parts' mean held-out loss was least.  distilled: the one hop
    of the run, as models.relation_distillation.train() returns it.  student: the trained one.
    """
    before, result, found = distilled.before, distilled.result, []
    for part in parts:
        made, loss = cut_out(student, part), result.metrics["heldout"][part.name]
        results = {
            "metrics": {"heldout": {"loss": loss}},
            "model": describe(made),
            "num_steps": result.num_steps,
        }
        found.append({**vars(part), "heldout_before": before[part.name], "heldout": loss, **results["model"]})
        if distributed.is_main():
            aside = run.state(f"part_{part.name}")
            save_model(made, aside, tokenizer=tokenizer)
            run.keep(aside, f"student_{part.name}", {**results, "notes": [NO_VOCABULARY]})
    if distributed.is_main():
        _draw(run.folder, parts, before)
    run.report(students=found)
    run.finish(result.checkpoint, **result.outcome, notes=[NO_VOCABULARY], model=describe(student))


def _draw(folder, parts, before):
    """The held-out loss over the updates: of the smallest part, of the largest, the mean of all."""
    rows = [{"step": 0, **before}, *logs.evaluations(folder, "train", split="heldout")]
    shown = ["step", parts[0].name, parts[-1].name, "loss"]
    rows = [{name: row[name] for name in shown} for row in rows]
    title = f"{len(parts)} students: the smallest, the largest, the mean of all"
    plots.history(folder / "heldout.png", rows, value="held-out loss (nats)", title=title)
