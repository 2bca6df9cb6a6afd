"""Once-for-all: one student and its parts, of fewer layers and less width, all trained in one run, each a stock model by itself.

A part has the student's first layers, and of every tensor the first rows and columns: the first hidden dimensions, heads and
neurons. Nothing is copied in training: a part is a stock model without values of its own that is called with views of the
student's tensors, in which the gradients of all parts meet.
Source: MiniMoE (Zhang et al. 2023), its published code; an experiment outside the paper.
"""

import functools

from torch import nn
from torch.func import functional_call

from models import architectures
from models.derived_classes import stock_parent
from models.from_tensors import empty, fill, tensors_of
from models.loading import load_model
from models.relation_distillation import NO_VOCABULARY, heldout_terms, sides
from models.relation_encoder import RelationEncoder
from models.resized import first, resized_config
from models.saving import save_model
from models.students import describe
from utils import distributed, logs, plots, training
from utils.evaluation import Score


class OnceForAll(nn.Module):
    """A student and its parts.

    student: RelationEncoder of the whole student.  parts: [utils.flags.parts.Part], the last one is the student itself.
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

    def forward(self, part, **inputs):
        """What a part answers, as RelationEncoder does.  part: its name."""
        skeleton = self.parts[part].train(self.training)
        # Each module once: of two names of one, functional_call would forget what was there before
        return functional_call(skeleton, first_of(self.student, skeleton), kwargs=inputs, tie_weights=False)


def empty_part(model, part):
    """A stock model of a part's size, on the meta device."""
    sizes = {"layers": part.layers, "hidden": part.hidden, "heads": part.heads, "intermediate": part.intermediate}
    return empty(stock_parent(model), resized_config(model.config, **sizes), like=model)


def first_of(whole, part) -> dict:
    """{name: the part's piece of the whole's tensor} for parameters and buffers of a smaller module of the same structure.

    By one name for each module, so that shared tensors of different modules are all there.
    """
    model = getattr(whole, "model", whole)
    groups = {each.name: each.groups for block in architectures.blocks(model) for each in block.parts if each.dim == 0}
    start = "" if model is whole else "model."
    tensors = tensors_of(whole)
    pieces = {}
    for path, module in part.named_modules():
        for leaf, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            name = f"{path}.{leaf}".lstrip(".")
            pieces[name] = first(tensors[name], tensor.shape, groups=groups.get(path.removeprefix(start), 1))
    return pieces


def export(model, part):
    """A part of a trained student as a stock model of its own."""
    made = empty_part(model, part)
    pieces, own = first_of(model, made), tensors_of(made)
    by_tensor = {id(own[name]): piece for name, piece in pieces.items()}
    return fill(made, {name: by_tensor[id(tensor)] for name, tensor in own.items()}, like=model)  # with second names


def distil_parts(hop, parts, teacher, student, train, heldout, *, tokenizer, run):
    """Distil a student with all its parts; finishes the run and returns its checkpoint, the whole student.

    Each part is a checkpoint beside it, student_4L_512H: those of the update after which the parts' mean held-out loss was least.
    hop: utils.hops.Hop of the whole.  parts: [utils.flags.parts.Part], the whole one last.
    """
    args = run.args
    student, objective = sides(student, teacher, hop, tokenizer=tokenizer, run=run)
    module, names = OnceForAll(student, parts), [part.name for part in parts]

    def passes(module, batch):
        prepared = objective.prepared(batch)
        return [functools.partial(one, functools.partial(module, name), batch, prepared) for name in names]

    def one(part, batch, prepared):
        return {name: term / len(parts) for name, term in objective.terms(part, batch, prepared).items()}

    def score():
        answers = {name: functools.partial(module, name) for name in names}
        terms = heldout_terms(module, answers, objective, heldout, args=args)
        losses = {name: sum(values.values()) for name, values in terms.items()}
        mean = sum(losses.values()) / len(losses)
        return Score(-mean, {"heldout": {**losses, "loss": mean}})

    # ---- Train: every update is made of all parts, one after the other
    before = score().metrics["heldout"]
    run.report(train={"parts": len(parts), "held-out loss before": before["loss"]})
    result = training.fit(module, passes, train, evaluate=score, settings=run.training, run=run,
                          save=lambda folder, _: save_model(student.model, folder, tokenizer=tokenizer))  # fmt: skip

    # ---- Each part, the picture, the whole student
    whole, found = load_model(result.checkpoint), []
    for part in parts:
        made, loss = export(whole, part), result.metrics["heldout"][part.name]
        results = {"metrics": {"heldout": {"loss": loss}}, "model": describe(made), "num_steps": result.num_steps}
        found.append({**vars(part), "heldout_before": before[part.name], "heldout": loss, **results["model"]})
        if distributed.is_main():
            aside = run.state(f"part_{part.name}")
            save_model(made, aside, tokenizer=tokenizer)
            run.keep(aside, f"student_{part.name}", {**results, "notes": [NO_VOCABULARY]})
    if distributed.is_main():
        rows = [{"step": 0, **before}, *logs.evaluations(run.folder, "train", split="heldout")]
        shown = ["step", names[0], names[-1], "loss"]
        plots.history(
            run.folder / "heldout.png", [{name: row[name] for name in shown} for row in rows], value="held-out loss (nats)",
            title=f"{len(parts)} students: the smallest, the largest, the mean of all",
        )  # fmt: skip
    run.report(students=found)
    run.finish(result.checkpoint, metrics=result.metrics, last_metrics=result.last_metrics, best_step=result.best_step,
               num_steps=result.num_steps, notes=[NO_VOCABULARY], model=describe(whole))  # fmt: skip
    return run.checkpoint
