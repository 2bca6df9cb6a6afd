"""What one of several processes checks of models that are shared out; test_sharding.py starts them."""

import tiny_models
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import models
from models import saving
from models.relation_encoder import RelationEncoder
from utils import distributed, files

CASES = ("bert", "deberta-v2", "modernbert", "mpnet", "t5 gated")


def main(folder):
    """Run all checks."""
    for case in CASES:
        check(case, folder / case)
        check_relations(folder / case / "whole")
    check_filters(folder / "bert" / "whole")


def check(case, folder):
    """A nested model, whole and shared out: logits, gathers, crops, checkpoints."""
    model = tiny_models.nest(tiny_models.build(case, dtype=torch.float32))
    kind = {"SequenceClassification": "classification", "TokenClassification": "tagging"}[
        type(model).__name__.partition("For")[2]
    ]
    if distributed.is_main():
        models.save_model(model, folder / "whole")
        models.save_model(model.bfloat16(), folder / "bf16")
    distributed.barrier()
    options = {"kind": kind, "label_names": ("LABEL_0", "LABEL_1", "LABEL_2")}
    options["unnamed_labels"] = options["label_names"]
    whole = models.load_model(folder / "whole", **options)
    shared = models.load_model(folder / "whole", shard=True, **options)
    assert type(shared) is type(whole)
    _rows_are_half_of(shared)
    _parameters_are_gathered_in_their_layers_only(whole, shared)
    # ---- Layers that are computed once more in the backward gather no more often
    as_trained = [
        models.for_training(model, gradient_checkpointing=model is shared, hidn_dropout=0.2).train()
        for model in (whole, shared)
    ]
    _parameters_are_gathered_in_their_layers_only(*as_trained)
    # ---- A teacher in 16 bits
    expected = logits(models.frozen_in(models.crop(whole, 0), "bf16"))
    given = models.crop(shared, 0)
    logits(given)  # as teachers are scored first
    teacher = models.frozen_in(given, "bf16")
    rows = [distributed.local(parameter) for parameter in given.parameters()]
    assert not any(each.untyped_storage().nbytes() for each in rows)  # given up
    assert [each.shape for each in rows] == [
        distributed.local(parameter).shape for parameter in teacher.parameters()
    ]
    assert torch.equal(logits(teacher), expected) and teacher.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    # ---- A crop of either; several files with an index
    ours, theirs = models.crop(shared, 60), models.crop(whole, 60)
    _rows_are_half_of(ours)
    assert torch.equal(logits(ours), logits(theirs))
    saving._LARGEST_FILE = 1000
    models.save_model(ours, folder / "files")
    distributed.barrier()
    assert (folder / "files" / "model.safetensors.index.json").exists()
    assert len([*(folder / "files").glob("model-*.safetensors")]) > 1
    assert not [entry for entry in (folder / "files").iterdir() if entry.is_dir()]
    assert torch.equal(logits(models.load_model(folder / "files", **options)), logits(theirs))
    if distributed.is_main():
        models.save_model(theirs, folder / "file")
    distributed.barrier()
    assert files.read_json(folder / "files/config.json") == files.read_json(folder / "file/config.json")
    # ---- Weights that are stored in 16 bits
    stored = [models.load_model(folder / "bf16", shard=shard, **options) for shard in (False, True)]
    assert stored[1].dtype == torch.float32 and torch.equal(*map(logits, stored))


def check_relations(checkpoint):
    """Encoders that answer with queries, keys and values: what they answer, train and gather."""
    ways = [{}, {"vocabulary": True}, {"source": "extra", "vocabulary": True}]
    for layer, options in ((2, {}), *((3, way) for way in ways)):
        loaded = [models.load_model(checkpoint, shard=shard) for shard in (False, True)]
        teaches = layer < len(models.layers(loaded[0]))
        if teaches:
            loaded = [models.freeze(model) for model in loaded]
        whole, shared = (RelationEncoder(model, layer=layer, seed=1, **options) for model in loaded)
        batch = tiny_models.inputs()
        chosen = {"chosen_BL": batch["attention_mask"].bool()} if "vocabulary" in options else {}
        groups = layer + 1 + ("source" in options) + ("vocabulary" in options)
        for _ in range(2):
            with Collectives() as called:
                answer = shared(**batch, **chosen)
                if not teaches:
                    sum(each.square().sum() for each in answer.values()).backward()
            gathers = [name for name in called.names if "gather" in name]
            assert gathers == (1 if teaches else 2) * groups * ["c10d._allgather_base_"], called.names
            expected = whole(**batch, **chosen)
            assert answer.keys() == expected.keys()
            assert all(torch.equal(answer[name], expected[name]) for name in answer)
            if not teaches:
                sum(each.square().sum() for each in expected.values()).backward()
        _gradients_are_those_of(whole, shared)


def check_filters(checkpoint):
    """A student seen through filters: they are one more group."""
    learners, losses = [], []
    for shard in (False, True):
        names = ("LABEL_0", "LABEL_1", "LABEL_2")
        options = {"kind": "classification", "label_names": names, "unnamed_labels": names}
        model = models.load_model(checkpoint, shard=shard, **options)
        torch.manual_seed(0)
        filters, _ = models.new_filters(model, task="demo", nonlinear=True, pooled=True)
        learners.append(models.FilteredModel(model, filters, pooled=True))
        with Collectives() as called:
            output = learners[-1](**tiny_models.inputs(), output_hidden_states=True)
            losses.append(output.logits.square().sum() + sum(s.square().sum() for s in output.hidden_states))
            losses[-1].backward()
    assert torch.equal(*losses)
    gathers = [name for name in called.names if "gather" in name]
    assert len(gathers) == 2 * (len(models.layers(model)) + 2), called.names
    _rows_are_half_of(learners[1])
    _gradients_are_those_of(*learners)


class Collectives(TorchDispatchMode):
    """A context that notes the collective operations in it.  names: in order."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "c10d" in function.namespace:
            self.names.append(str(function).removesuffix(".default"))
        return function(*args, **(kwargs or {}))


def logits(model):
    with torch.no_grad():
        return tiny_models.output(model)


def _rows_are_half_of(model):
    """Each process holds its rows, and at least one of two holds less than the whole."""
    held = sum(distributed.local(parameter).numel() for parameter in model.parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    assert sum(distributed.gather(held)) == total and held < 0.6 * total, (held, total)


def _parameters_are_gathered_in_their_layers_only(whole, shared):
    """Two passes at two sparsities, forward and backward: each group of parameters, those of a layer or those
    outside all, is gathered once for each, and nothing else is; gradients are the mean of the processes'."""
    groups = len(models.layers(shared)) + 1
    for s in (0, 50):
        models.set_sparsity(whole, s)
        models.set_sparsity(shared, s)
        torch.manual_seed(s)
        with Collectives() as called:
            answer = tiny_models.output(shared)
            answer.square().sum().backward()
        gathers = [name for name in called.names if "gather" in name]
        assert len(gathers) == 2 * groups and {*gathers} == {"c10d._allgather_base_"}, called.names
        torch.manual_seed(s)
        expected = tiny_models.output(whole)
        assert torch.equal(answer, expected)
        expected.square().sum().backward()
    _gradients_are_those_of(whole, shared)
    for model in (whole, shared):
        models.set_sparsity(model, None)


def _gradients_are_those_of(whole, shared):
    wanted = dict(whole.named_parameters())
    for name, parameter in shared.named_parameters():
        gradient = wanted[name].grad
        assert parameter.requires_grad == wanted[name].requires_grad, name
        assert (parameter.grad is None) == (gradient is None), name
        if gradient is not None:
            scale = max(1.0, float(gradient.abs().max()))
            assert (distributed.whole(parameter.grad) - gradient).abs().max() < 1e-5 * scale, name
