"""TED's mathematics against loops in float64 and golden values; filters beside models, saved and read
back."""

import json
import math
from types import SimpleNamespace

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import ModelOutput

import models
from modules import losses
from modules.filters import Filters, FilterTraining, LayerwiseObjective, divergence, first_token, mean_token
from utils import filter_specs
from utils.batch import Batch
from utils.errors import CheckpointError
from utils.filter_specs import filtered_layers
from utils.frozen_outputs import FrozenOutputs

LAST_DIGIT = 5e-7  # the golden values were computed in float32


def draw(*shape, seed=776):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


class Says(torch.nn.Module):
    """A student that gives fixed answers."""

    def __init__(self, logits, states=()):
        super().__init__()
        self.output = ModelOutput(logits=logits, hidden_states=tuple(states))

    def forward(self, **inputs):
        return self.output


def batch_of(mask, labels, divisors=None):
    mask, size = torch.as_tensor(mask), len(mask)
    counts = {"examples": float(size), "tokens": float(mask.sum()), "labels": float(size)}
    return Batch({"input_ids": mask, "attention_mask": mask}, labels, range(size), divisors or counts)


# ---- Golden values


@pytest.mark.parametrize(
    "interval, layers", [(1, range(12)), (2, [1, 3, 5, 7, 9, 11]), (3, [2, 5, 8, 11]), (4, [3, 7, 11])]
)
def test_golden_layers(interval, layers):
    assert filtered_layers(12, interval) == [layer + 1 for layer in layers]


def test_golden_divergence():
    student, teacher = numbers([1, 2, 3], [0, 0, 0]), numbers([3, 2, 1], [1, 0, 0])
    first = divergence(student[:1], teacher[:1], kind="classification", temperature=2.0)
    assert float(first) == pytest.approx(1.2806269, abs=LAST_DIGIT)
    both = divergence(student, teacher, kind="classification", temperature=2.0)
    assert float(both) == pytest.approx(0.7006474, abs=LAST_DIGIT)


def test_golden_regression():
    """The published softmax over the batch, and the squared difference that takes its place."""
    student, teacher = numbers([1], [2], [3]), numbers([3], [2], [1])
    assert float(divergence(student, teacher, kind="regression")) == pytest.approx(8 / 3)
    listwise = divergence(student, teacher, kind="regression", temperature=2.0, listwise=True)
    assert float(listwise) == pytest.approx(0.4268756, abs=LAST_DIGIT)
    assert float(divergence(student, teacher, kind="classification")) == 0.0  # a softmax over one class


@pytest.mark.parametrize("pad_in_losses, expected", [(False, 0.3985690), (True, 4.3201098)])
def test_golden_span_divergence(pad_in_losses, expected):
    """Start and end alike, the fourth position is padding."""
    student, teacher = (numbers(z)[..., None].repeat(1, 1, 2) for z in ([1, 2, 0, 5], [2, 1, 0, -3]))
    objective = LayerwiseObjective("spans", kl_alpha=1.0, pad_in_losses=pad_in_losses)
    terms = objective(Says(student), batch_of([[1, 1, 1, 0]], torch.tensor([[0, 1]])), (teacher, []))
    assert float(terms["kl"]) == pytest.approx(expected, rel=LAST_DIGIT) and terms.keys() == {"task", "kl"}


@pytest.mark.parametrize("pad_in_losses, expected", [(False, 1.25), (True, 27.8333333)])
def test_golden_filter_distance(pad_in_losses, expected):
    student, teacher = numbers([[1, 2], [3, 4], [9, 9]]), numbers([[1, 1], [1, 4], [0, 0]])
    objective = LayerwiseObjective("regression", mse_alpha=1.0, pad_in_losses=pad_in_losses)
    terms = objective(Says(numbers([0]), [student]), batch_of([[1, 1, 0]], torch.zeros(1)), (None, [teacher]))
    assert float(terms["mse"]) == pytest.approx(expected, abs=LAST_DIGIT)


def test_golden_total():
    """Task .5, divergence .2, distance .001, weights 10 and 5000."""
    student, teacher = numbers([math.sqrt(0.5)]), numbers([math.sqrt(0.5) + math.sqrt(0.2)])
    objective = LayerwiseObjective("regression", 10.0, 5000.0)
    says = Says(student, [torch.zeros(1, 1, 1).double()])
    terms = objective(
        says,
        batch_of([[1]], torch.zeros(1).double()),
        (teacher, [torch.full((1, 1, 1), math.sqrt(0.001)).double()]),
    )
    assert [float(term) for term in terms.values()] == pytest.approx([0.5, 2.0, 5.0], rel=1e-6)


@pytest.mark.parametrize("hidden_size, number", [(768, 7_087_104), (384, 3_548_160)])
def test_golden_sizes(hidden_size, number):
    filters = Filters(filtered_layers(12, 1), hidden_size=hidden_size, output_dim=768)
    assert sum(p.numel() for p in filters.parameters()) == number
    stage = FilterTraining(filters, kind="spans", output_dim=768, num_labels=2, dropout=0.1)
    assert sum(p.numel() for p in stage.heads.parameters()) == 18_456


# ---- Plain references


def gelu(value):
    return 0.5 * value * (1 + math.erf(value / math.sqrt(2)))


def linear(vector, module):
    return [
        sum(w * x for w, x in zip(row, vector)) + b
        for row, b in zip(module.weight.tolist(), module.bias.tolist())
    ]


def random_weights(module, seed=1):
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=seed + number))
    return module.double().eval()


@pytest.mark.parametrize("kind", ["classification", "regression", "tagging", "spans"])
@pytest.mark.parametrize("nonlinear", [False, True])
def test_filters_and_heads_reference(kind, nonlinear):
    """Position by position, with loops; for first-token tasks only that token is looked at."""
    filters = Filters([2, 4], hidden_size=5, output_dim=4, nonlinear=nonlinear)
    stage = random_weights(FilterTraining(filters, kind=kind, output_dim=4, num_labels=3, dropout=0.5))
    states = [draw(2, 3, 5, seed=seed) for seed in (7, 8)]
    for layer, state, logits in zip("24", states, stage(states)):
        module, head = filters[layer], stage.heads[layer]
        for example in range(2):
            for position in range(3):
                vector = state[example, position].tolist()
                if nonlinear:
                    vector = [gelu(value) for value in linear(vector, module[0])]
                vector = linear(vector, module[2] if nonlinear else module)
                if kind in ("classification", "regression"):
                    hidden = [gelu(value) for value in linear(vector, head[0])]
                    if position == 0:
                        assert logits[example].tolist() == pytest.approx(linear(hidden, head[3]))
                else:
                    assert logits[example, position].tolist() == pytest.approx(linear(vector, head))
    if kind == "classification":
        assert all(
            torch.equal(a, b) for a, b in zip(stage(states), stage([state[:, :1] for state in states]))
        )


def test_initial_weights():
    filters = Filters(filtered_layers(4, 1), hidden_size=64, output_dim=64, nonlinear=True)
    stage = FilterTraining(filters, kind="classification", output_dim=64, num_labels=2, dropout=0.1)
    weights = torch.cat(
        [p.detach().flatten() for name, p in stage.named_parameters() if name.endswith("weight")]
    )
    assert float(weights.std()) == pytest.approx(0.02, rel=0.03) and abs(float(weights.mean())) < 1e-3
    assert all((p == 0).all() for name, p in stage.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("nonlinear", [False, True])
def test_heads_on_means_reference(nonlinear):
    """The mean over real tokens of what a filter makes, with loops; linear filters may be given the mean of
    the states."""
    filters = Filters([2, 4], hidden_size=5, output_dim=4, nonlinear=nonlinear)
    options = {"kind": "regression", "output_dim": 4, "num_labels": 1, "dropout": 0.5}
    stage = random_weights(FilterTraining(filters, **options, pooled=True))
    states, mask = (
        [draw(2, 4, 5, seed=seed) for seed in (7, 8)],
        torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool(),
    )
    for layer, state, logits in zip("24", states, stage(states, mask)):
        module, head = filters[layer], stage.heads[layer]
        for example, length in enumerate((3, 4)):
            made = []
            for position in range(length):
                vector = state[example, position].tolist()
                if nonlinear:
                    vector = [gelu(value) for value in linear(vector, module[0])]
                made.append(linear(vector, module[2] if nonlinear else module))
            mean = [sum(column) / length for column in zip(*made)]
            hidden = [gelu(value) for value in linear(mean, head[0])]
            assert logits[example].tolist() == pytest.approx(linear(hidden, head[3]), rel=1e-12)
    if nonlinear:
        with pytest.raises(AssertionError, match="not linear"):
            stage([mean_token(state, mask) for state in states])
    else:
        means = stage([mean_token(state, mask) for state in states])
        assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(means, stage(states, mask)))


LENGTHS = (5, 2, 4)


@pytest.fixture
def case():
    """Logits and states of both sides for 3 examples of up to 5 tokens, 3 classes, 2 layers, 4 numbers a
    state."""
    mask = torch.tensor([[1] * length + [0] * (5 - length) for length in LENGTHS])
    batch = batch_of(mask, torch.tensor([2, 0, 1]))
    sides = [(draw(3, 3, seed=s), [draw(3, 5, 4, seed=s + 10), draw(3, 5, 4, seed=s + 20)]) for s in (1, 2)]
    return SimpleNamespace(batch=batch, student=sides[0], teacher=sides[1])


def test_objective_reference(case):
    objective = LayerwiseObjective("classification", 3.0, 7.0, temperature=1.5)
    terms = objective(Says(*case.student), case.batch, case.teacher)
    kl = mse = task = 0.0
    for example, length in enumerate(LENGTHS):
        logs = []
        for (logits, _), temperature in ((case.student, 1.5), (case.teacher, 1.5), (case.student, 1.0)):
            values = [value / temperature for value in logits[example].tolist()]
            total = math.log(sum(math.exp(value) for value in values))
            logs.append([value - total for value in values])
        kl += 1.5**2 * sum(math.exp(t) * (t - s) for s, t in zip(*logs[:2])) / 3
        task -= logs[2][int(case.batch.labels[example])] / 3
        for ours, theirs in zip(case.student[1], case.teacher[1]):
            for position in range(length):
                pairs = zip(ours[example, position].tolist(), theirs[example, position].tolist())
                mse += sum((a - b) ** 2 for a, b in pairs) / (2 * sum(LENGTHS) * 4)
    assert [float(term) for term in terms.values()] == pytest.approx([task, 3 * kl, 7 * mse], rel=1e-12)
    assert list(terms) == ["task", "kl", "mse"]
    assert list(LayerwiseObjective("classification")(Says(*case.student), case.batch, None)) == ["task"]


@pytest.mark.parametrize("pad_in_losses", [False, True])
def test_parts_of_a_batch_add_up(case, pad_in_losses):
    """Examples cut into two micro-batches of equal padding give the terms of the whole."""
    objective = LayerwiseObjective("classification", 3.0, 7.0, pad_in_losses=pad_in_losses)
    whole = objective(Says(*case.student), case.batch, case.teacher)
    total = dict.fromkeys(whole, 0.0)
    for part in (slice(0, 1), slice(1, 3)):
        (student, teacher) = (
            (z[part], [state[part] for state in states]) for z, states in (case.student, case.teacher)
        )
        batch = batch_of(
            case.batch.inputs["attention_mask"][part], case.batch.labels[part], case.batch.divisors
        )
        for name, term in objective(Says(*student), batch, teacher).items():
            total[name] += float(term)
    assert total == pytest.approx({name: float(term) for name, term in whole.items()}, rel=1e-12)


def test_distance_of_means_reference(case):
    """Of states that are means, the mean over examples, layers and numbers; whatever padding there is, and
    however it is cut."""
    mask, sides = case.batch.mask, []
    for _, states in (case.student, case.teacher):
        sides.append(
            [torch.stack([state[e, :n].mean(0) for e, n in enumerate(LENGTHS)])[:, None] for state in states]
        )
        assert all(
            torch.allclose(mean_token(state, mask), mean, rtol=1e-12)
            for state, mean in zip(states, sides[-1])
        )
    expected = 7 * sum((ours - theirs).square().mean() for ours, theirs in zip(*sides)) / 2
    objective = LayerwiseObjective("classification", 0.0, 7.0, pooled=True)
    logits = case.student[0]
    terms = objective(Says(logits, sides[0]), case.batch, (None, sides[1]))
    assert float(terms["mse"]) == pytest.approx(float(expected), rel=1e-12)
    total = 0.0
    for part in (slice(0, 1), slice(1, 3)):
        ours, theirs = ([state[part] for state in states] for states in sides)
        batch = batch_of(
            case.batch.inputs["attention_mask"][part], case.batch.labels[part], case.batch.divisors
        )
        total += float(objective(Says(logits[part], ours), batch, (None, theirs))["mse"])
    assert total == pytest.approx(float(expected), rel=1e-12)


# ---- Beside models


@pytest.mark.parametrize("nonlinear", [False, True])
def test_pooled_filters_beside_a_model(nonlinear):
    """What is seen is the mean over real tokens of what would be seen otherwise; more padding changes
    nothing."""
    model, inputs = tiny_models.build(), tiny_models.inputs()
    filters = random_weights(models.new_filters(model, task="demo", nonlinear=nonlinear)[0])
    mask = inputs["attention_mask"].bool()
    plain = models.FilteredModel(model, filters)(**inputs, output_hidden_states=True).hidden_states
    seen = models.FilteredModel(model, filters, pooled=True)
    longer = {name: torch.nn.functional.pad(tensor, (0, 5)) for name, tensor in inputs.items()}
    for tensors in (inputs, longer):
        for found, states in zip(
            seen(**tensors, output_hidden_states=True).hidden_states, plain, strict=True
        ):
            wanted = torch.stack([state[real].mean(0) for state, real in zip(states, mask)])[:, None]
            assert found.shape == wanted.shape and torch.allclose(found, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", tiny_models.CASES)
def test_filters_beside_any_model(name):
    """Logits are the model's own, states its hidden states filtered; and a teacher like the student costs
    nothing."""
    model = tiny_models.build(name)
    filters, spec = models.new_filters(model, task="demo", interval=2, output_dim=6)
    seen, inputs = models.FilteredModel(model, random_weights(filters)), tiny_models.inputs()
    assert (spec.layers, spec.num_layers, spec.hidden_size, spec.output_dim) == (
        [2],
        tiny_models.LAYERS,
        16,
        6,
    )
    stock, ours = model(**inputs, output_hidden_states=True), seen(**inputs, output_hidden_states=True)
    assert torch.equal(ours.logits, stock.logits) and torch.equal(
        ours.logits, seen(**inputs, output_hidden_states=False).logits
    )
    assert torch.allclose(
        ours.hidden_states[0], stock.hidden_states[2] @ filters["2"].weight.T + filters["2"].bias
    )
    kind = "tagging" if stock.logits.dim() == 3 else "classification"
    labels = torch.zeros(stock.logits.shape[:-1], dtype=torch.int64)
    batch = Batch(
        inputs, labels, range(3), {"examples": 3.0, "tokens": 20.0, "labels": float(labels.numel())}
    )
    terms = LayerwiseObjective(kind, 1.0, 1.0)(
        seen, batch, FrozenOutputs(models.freeze(seen), layers=[0], precision="fp32")(batch)
    )
    assert float(terms["kl"]) == pytest.approx(0, abs=1e-6) and float(terms["mse"]) < 1e-12


def test_dropout_of_a_deberta_head_can_be_set():
    """Its config does not list the name that its head reads."""
    model = models.with_dropout(tiny_models.build("deberta-v2", dtype=torch.float32), cls_dropout=0.3)
    assert model.dropout.p == 0.3 and model.config.cls_dropout == 0.3


def test_more_padding_changes_no_loss():
    student, teacher = (tiny_models.build("deberta-v2", seed=seed) for seed in (0, 1))
    ours, theirs = (
        models.FilteredModel(model, random_weights(models.new_filters(model, task="demo")[0], seed=9))
        for model in (student, teacher)
    )
    inputs = tiny_models.inputs()
    longer = {name: torch.nn.functional.pad(tensor, (0, 5)) for name, tensor in inputs.items()}
    found = []
    for tensors in (inputs, longer):
        batch = Batch(
            tensors, torch.tensor([0, 1, 2]), range(3), {"examples": 3.0, "tokens": 20.0, "labels": 3.0}
        )
        output = batch.through(theirs, output_hidden_states=True)
        terms = LayerwiseObjective("classification", 1.0, 1.0)(
            ours, batch, (output.logits, output.hidden_states)
        )
        found.append([term.item() for term in terms.values()])
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_stage_one_trains_filters_and_heads_alone():
    """Each filter learns from its own head; the model gets no gradient, and no graph is made for it."""
    model = models.freeze(tiny_models.build())
    filters, spec = models.new_filters(model, task="demo")
    stage = FilterTraining(filters, kind="classification", output_dim=16, num_labels=3, dropout=0.0).double()
    states = FrozenOutputs(model, layers=spec.layers, precision="fp32", pool=first_token)(
        SimpleNamespace(
            mask=None,
            inputs=tiny_models.inputs(),
            through=lambda model, **options: model(**tiny_models.inputs(), **options),
        )
    )[1]
    logits = stage([state.double() for state in states])
    losses.task_loss(logits[1], torch.tensor([0, 1, 2]), kind="classification").backward()
    reached = {name for name, parameter in stage.named_parameters() if parameter.grad is not None}
    assert (
        reached == {name for name, _ in stage.named_parameters() if name.split(".")[1] == "2"}
        and len(reached) == 6
    )
    assert all(parameter.grad is None for parameter in model.parameters()) and not any(
        state.requires_grad for state in states
    )


# ---- Saved and read back


@pytest.fixture
def saved(tmp_path):
    model = tiny_models.build(dtype=torch.float32)
    filters, spec = models.new_filters(model, task="mrpc", output_dim=6, nonlinear=True)
    models.save_model(model, tmp_path / "m")
    models.save_filters(filters, spec, tmp_path / "m")
    return SimpleNamespace(model=model, filters=filters, spec=spec, folder=tmp_path / "m")


def test_saved_filters_are_bit_equal_and_the_model_is_stock(saved):
    found, spec = models.load_filters(
        saved.folder, saved.model, task="mrpc", interval=1, output_dim=6, nonlinear=True
    )
    assert spec == saved.spec and found.state_dict().keys() == saved.filters.state_dict().keys()
    assert all(
        torch.equal(tensor, found.state_dict()[name]) for name, tensor in saved.filters.state_dict().items()
    )
    plain = models.load_model(saved.folder, kind="classification")
    assert type(plain) is type(saved.model) and not hasattr(plain.config, "compression")
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), saved.model.parameters()))


@pytest.mark.parametrize(
    "case, options, message",
    [
        ("bert", {"task": "rte"}, r"--task_name: mrpc of the filters, rte here"),
        ("bert", {"interval": 2}, r"--filter_interval 2: the checkpoint's filters are on layers 1, 2, 3"),
        (
            "bert",
            {"token": "mean"},
            "--filter_token mean: the checkpoint's filters were trained with --filter_token first",
        ),
        (
            "bert",
            {"output_dim": 16},
            r"--filter_output_dim 16: outputs of the checkpoint's filters have the size 6",
        ),
        ({"num_hidden_layers": 2}, {}, r"number of layers: 3 of the filters, 2 here"),
        ({"hidden_size": 32}, {}, r"hidden size: 16 of the filters, 32 here"),
    ],
)
def test_filters_that_do_not_fit_are_refused(saved, case, options, message):
    model = saved.model if case == "bert" else tiny_models.build(**case)
    with pytest.raises(CheckpointError, match=message):
        models.load_filters(saved.folder, model, **{"task": "mrpc", **options})


def without(name):
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize("edit, message", [
    (without("2.0.bias"), "2.0.bias is missing"),
    (lambda tensors: tensors.update({"4.weight": torch.zeros(1)}), "4.weight is left over"),
    (lambda tensors: tensors.update({"3.2.weight": torch.zeros(5, 16)}),
    r"3.2.weight is \[5, 16\], not \[6, 16\]"),
    (lambda tensors: tensors["3.2.weight"][0].fill_(float("nan")),
    "3.2.weight has 16 of 96 values that are NaN"),
])  # fmt: skip
def test_damaged_weights_are_refused(saved, edit, message):
    tensors = load_file(saved.folder / filter_specs.WEIGHTS)
    edit(tensors)
    save_file(tensors, saved.folder / filter_specs.WEIGHTS)
    with pytest.raises(CheckpointError, match=message):
        models.load_filters(saved.folder, saved.model, task="mrpc")
    (saved.folder / filter_specs.WEIGHTS).write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match="cut off"):
        models.load_filters(saved.folder, saved.model, task="mrpc")


@pytest.mark.parametrize("text, message", [
    ("[" * 100_000, "expected a JSON object .*nested too deeply"),
    ("{", "expected a JSON object with task, num_layers"),
    ("[]", "expected a JSON object"),
    ('{"task": "mrpc"}', "expected a JSON object"),
    ({"layers": [2, 1]}, "no filters of a model with 3 layers"),
    ({"layers": [1, 4]}, "no filters"),
    ({"layers": "1"}, "no filters"),
    ({"output_dim": 0}, "no filters"),
    ({"pooled": 1}, "no filters"),
    ({"heads": [{"layer": 1, "above": True}]}, "no filters"),
    ({"heads": "good"}, "no filters"),
    (None, "no filters .* make them with run_ted.py --mode filters"),
])  # fmt: skip
def test_damaged_specifications_are_refused(saved, text, message):
    file = saved.folder / filter_specs.SPEC
    if text is None:
        file.unlink()
    else:
        file.write_text(
            text if isinstance(text, str) else json.dumps({**json.loads(file.read_text()), **text})
        )
    with pytest.raises(CheckpointError, match=message):
        filter_specs.read_spec(saved.folder)


def test_what_cannot_be_matched_is_shown():
    (numbers,) = filter_specs.unmatched([1, 2, 3], [2, 4])
    assert "student has 3, on layers 1, 2, 3" in numbers and "teacher 2, on layers 2, 4" in numbers
    (sizes,) = filter_specs.unmatched([1, 2], [2, 4], 384, 768)
    assert "384" in sizes and "768" in sizes and not [*filter_specs.unmatched([1, 2], [2, 4], None, 768)]
    with pytest.raises(CheckpointError, match="a filter every 4 layers wanted: this model has 3"):
        models.new_filters(tiny_models.build(), task="mrpc", interval=4)


def spec_of(layers, above):
    """A specification of filters, whose heads were above chance, or not, or are not known."""
    heads = above and [
        {"layer": layer, "metric": "acc", "score": 0.5 + layer / 100, "above": a}
        for layer, a in zip(layers, above)
    ]
    return filter_specs.FilterSpec("demo", layers[-1], 16, layers, 16, False, heads=heads)


def test_pairs_above_chance_on_both_sides():
    student, teacher = spec_of([1, 2, 3], [False, True, True]), spec_of([2, 4, 6], [True, False, True])
    numbers = filter_specs.above_chance(student, teacher)
    assert numbers == [2] and filter_specs.picked(teacher, numbers).layers == [6]
    assert [row["layer"] for row in filter_specs.picked(student, numbers).heads] == [3]
    with pytest.raises(
        CheckpointError,
        match=r"above_chance: found no pair(.|\n)*student +1 +acc +0.5100 +True(.|\n)*teacher +4",
    ):
        filter_specs.above_chance(spec_of([1, 2], [True, False]), spec_of([2, 4], [False, True]))
    with pytest.raises(CheckpointError, match="not known how the heads of the teacher's filters did"):
        filter_specs.above_chance(student, spec_of([2, 4, 6], None))


def test_filters_written_before_there_were_these_fields(saved):
    """They read the first token, and nothing is known of their heads."""
    file = saved.folder / filter_specs.SPEC
    values = json.loads(file.read_text())
    file.write_text(
        json.dumps({name: value for name, value in values.items() if name not in ("pooled", "heads")})
    )
    spec = filter_specs.read_spec(saved.folder)
    assert spec == saved.spec and filter_specs.token_of(spec) == "first" and spec.heads is None


def test_filters_of_different_tokens_are_not_matched():
    (problem,) = filter_specs.unmatched([1, 2], [2, 4], 6, 6, ("first", "mean"))
    assert "student's were trained with --filter_token first, the teacher's with mean" in problem
    assert not [*filter_specs.unmatched([1, 2], [2, 4], 6, 6, ("mean", "mean"))]
