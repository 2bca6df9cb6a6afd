"""Layers that are computed once more in the backward: the same losses and gradients, to the last bit, with
dropout; less memory; what hooks inside layers see."""

import shutil

import pytest
import tiny_models
import torch
from commands import run
from copied_runs import command
from run_folders import history
from torch.autograd.graph import saved_tensors_hooks

import models
from models import moe_bert
from models.balance import Balance
from models.relation_encoder import RelationEncoder
from utils import families
from utils.batch import Batch
from utils.files import sha256

DROPOUTS = ("hidn_dropout", "att_dropout", "cls_dropout")


def trained(model, *, recomputed):
    """The model in training mode, with much dropout."""
    family = families.of(model.config.model_type)
    dropouts = {name: 0.2 for name in DROPOUTS if getattr(family, name)}
    return models.for_training(model, gradient_checkpointing=recomputed, **dropouts).train()


# ---- Students: each is a function (recomputed) -> (a module, a list of functions that return a loss)


def plain(case):
    def made(recomputed):
        model = trained(tiny_models.build(case, dtype=torch.float32), recomputed=recomputed)
        return model, [lambda: of_states(model(**tiny_models.inputs(), output_hidden_states=True))]

    return made


def nested(case):
    """MiniDisc's first hop: one pass after the other, each at a sparsity of its own."""

    def made(recomputed):
        model = tiny_models.nest(tiny_models.build(case, dtype=torch.float32))
        model = trained(model, recomputed=recomputed)

        def at(s):
            models.set_sparsity(model, s)
            return of_states(model(**tiny_models.inputs(), output_hidden_states=True))

        return model, [lambda: at(60), lambda: at(100), lambda: at(0)]

    return made


def experts(recomputed):
    """Experts in both sublayers, with noise, and the loss that shares tokens out among them."""
    options = {"attention": 2, "ffn": 3, "noise": "multiplicative", "seed": 0}
    model = moe_bert.with_equal_experts(tiny_models.build(dtype=torch.float32), **options)
    model = trained(model, recomputed=recomputed)
    balance, inputs = Balance(model, 1.0), tiny_models.inputs()

    def loss():
        batch = Batch(inputs, None, None, {"tokens": 30})
        return of_states(model(**inputs, output_hidden_states=True)) + balance(batch)["balance"]

    return model, [loss, loss]


def filtered(recomputed):
    """TED's second stage."""
    model = trained(tiny_models.build("deberta-v2", dtype=torch.float32), recomputed=recomputed)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        filters, _ = models.new_filters(model, task="demo", nonlinear=True)
    learner = models.FilteredModel(model, filters)
    return learner, [lambda: of_states(learner(**tiny_models.inputs(), output_hidden_states=True))]


def relations(case, **options):
    """MiniLMv2's, MiniMoE's students."""

    def made(recomputed):
        model = trained(tiny_models.build(case, kind=None, dtype=torch.float32), recomputed=recomputed)
        encoder = RelationEncoder(model, layer=3, seed=2, **options).train()
        chosen = {"chosen_BL": tiny_models.inputs()["attention_mask"].bool()} if options else {}
        answers = []

        def loss():
            answers.append(encoder(**tiny_models.inputs(), **chosen))
            return sum(tensor.square().sum() for tensor in answers[-1].values())

        return encoder, [loss, loss]

    return made


def of_states(output):
    """A loss of the logits and of the states of every layer."""
    states = output.hidden_states
    logits = output.logits if "logits" in output else output.start_logits
    return logits.square().mean() + sum(state.square().mean() for state in states)


STUDENTS = {case: plain(case) for case in tiny_models.CASES}
STUDENTS |= {f"nested {case}": nested(case) for case in ("bert", "t5", "mpnet", "modernbert")}
STUDENTS |= {"experts": experts, "filters": filtered}
STUDENTS |= {f"relations {case}": relations(case) for case in ("bert", "deberta-v2", "modernbert")}
STUDENTS["relations of extra projections"] = relations("bert", source="extra", vocabulary=True)


def backward(made, recomputed):
    """(losses, gradients, bytes that are kept from each forward for its backward)."""
    module, passes = made(recomputed)
    torch.manual_seed(3)
    losses, sizes = [], []
    for loss_of in passes:
        kept = {}

        def note(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with saved_tensors_hooks(note, lambda tensor: tensor):
            loss = loss_of()
        for parameter in module.parameters():
            kept.pop(parameter.untyped_storage().data_ptr(), None)
        sizes.append(sum(kept.values()))
        routers = moe_bert.routers(module).values()
        routings = [router.routing for router in routers]
        loss.backward()
        # What the second pass has made is gone with its graph
        assert all(router.routing is routing for router, routing in zip(routers, routings))
        assert all(router.entered is None for router in routers) and getattr(module, "captured", {}) == {}
        losses.append(loss.detach())
    return losses, {name: each.grad for name, each in module.named_parameters()}, sizes


@pytest.mark.parametrize("name", STUDENTS)
def test_exact_and_smaller(name):
    (losses, gradients, sizes), ours = (backward(STUDENTS[name], recomputed) for recomputed in (False, True))
    assert ours[0] == losses
    for parameter, gradient in gradients.items():
        found = ours[1][parameter]
        assert (found is None) == (gradient is None), parameter
        assert gradient is None or torch.equal(found, gradient), parameter
    assert any(gradient is not None and gradient.any() for gradient in gradients.values())
    assert all(small < large for small, large in zip(ours[2], sizes))


def test_kept_is_what_a_layer_is_given():
    """With every layer more, what is kept grows by its input, however much it computes inside."""

    def kept(layers, recomputed):
        settings = tiny_models.sized("bert", layers=layers, intermediate=160)

        def made(recomputed):
            model = tiny_models.build(dtype=torch.float32, **settings)
            model = trained(model, recomputed=recomputed)
            return model, [lambda: model(**tiny_models.inputs()).logits.square().mean()]

        (size,) = backward(made, recomputed)[-1]
        return size

    states = 3 * 9 * tiny_models.HIDDEN * 4
    assert kept(4, True) - kept(3, True) == states
    assert kept(4, False) - kept(3, False) > 20 * states


def test_run_goes_on_with_it(unfinished, tmp_path):
    """One that has begun without it, to the same bytes."""
    shutil.copytree(unfinished, tmp_path / "other")
    run("run_finetuning.py", *command(unfinished))
    run("run_finetuning.py", *command(tmp_path / "other"), "--gradient_checkpointing")
    assert history(unfinished) == history(tmp_path / "other")
    assert sha256(unfinished / "ckpt/model.safetensors") == sha256(tmp_path / "other/ckpt/model.safetensors")


@pytest.mark.parametrize(
    "script, flags, said",
    [
        (
            "run_finetuning.py",
            "--task_name demo --compile",
            "--gradient_checkpointing and --compile: not tried",
        ),
        (
            "run_minilmv2.py",
            "--teacher_model_path {tuned} --corpus x --ofa_layer 2",
            "--gradient_checkpointing: once-for-all",
        ),
        (
            "run_ted.py",
            "--task_name demo --mode filters --model_path {tuned}",
            "--gradient_checkpointing: has no meaning with --mode filters",
        ),
    ],
)
def test_refused(script, flags, said, tuned_demo):
    done = run(script, *flags.format(tuned=tuned_demo).split(), "--gradient_checkpointing", code=2)
    assert said in done.stderr and "Traceback" not in done.stderr
