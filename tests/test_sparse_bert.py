"""Slices, masks, crops and dense exports of a nested model are one function, for every family."""

import copy

import pytest
import torch
import transformers
from tiny_models import CASES, GRID, HEADS, LAYERS, NEURONS, build, inputs, nest, output, sliced

import models
from models import architectures
from modules import importance
from utils import families
from utils.errors import CheckpointError


@pytest.fixture(params=CASES, scope="module")
def case(request):
    return request.param


@pytest.fixture(scope="module")
def nested(case):
    """A nested model; a test that changes it takes a copy."""
    return nest(build(case))


@torch.no_grad()
def masked_output(model, s):
    """The plainest meaning of a sparsity: inputs of the output projections multiplied by zeros."""
    with models.scoring_masks(model) as masks:
        for unit, counts in models.kept(model, s).items():
            for mask_U, count in zip(getattr(masks, unit), counts):
                mask_U[count:] = 0
        return output(model)


@torch.no_grad()
def test_sorting_leaves_the_function_alone(case):
    model = build(case)
    before = output(model)
    nest(model)
    assert torch.allclose(output(model), before, rtol=0, atol=1e-10)
    orders = [tuple(row) for row in (model.config.compression.get("position_heads") or [])]
    assert not orders or len(set(orders)) == len(orders), (
        "the layers must be in different orders for this to prove anything"
    )
    nest(model, seed=1)  # sorting again, from another order
    assert torch.allclose(output(model), before, rtol=0, atol=1e-10)


@torch.no_grad()
def test_one_function(nested):
    seen, whole = set(), output(nested)
    for s in models.grid(nested):
        expected = masked_output(nested, s)
        with sliced(nested, s):
            of_slice = output(nested)
        cropped = models.crop(nested, s)
        assert models.kept(cropped) == models.kept(nested, s)
        seen |= {(unit, count == 0) for unit, counts in models.kept(cropped).items() for count in counts}
        results = {
            "sliced": of_slice,
            "cropped": output(cropped),
            "dense": output(models.export_dense(cropped)),
        }
        for name, result in results.items():
            assert torch.allclose(result, expected, rtol=0, atol=1e-10), (name, s)
        assert s == 0 or (expected - whole).abs().max() > 1e-3, f"at {s} nothing was removed"
    assert models.grid(nested) == sorted(GRID) and len(seen) == 4, (
        "the grid must have emptied and other layers"
    )
    assert torch.equal(output(nested), whole), "slicing left something behind"


@torch.no_grad()
@pytest.mark.parametrize("s", [0, 60, 90, 100])
def test_reloads_bit_equal(case, s, tmp_path):
    stock = build(case, dtype=torch.float32)
    kind = architectures.of(stock).tasks[0]
    models.save_model(stock, tmp_path / "stock")
    model = models.crop(nest(models.load_model(tmp_path / "stock", kind=kind)), s)
    models.save_model(model, tmp_path)
    auto = getattr(transformers, f"AutoModelFor{families.HEADS[kind]}")
    for again in (auto.from_pretrained(tmp_path), models.load_model(tmp_path, kind=kind)):
        assert type(again) is type(model) and not again.training
        mine, other = dict(model.named_parameters()), dict(again.named_parameters())
        assert mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)
        assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]
        # Transformers leaves the weights unaligned
        assert torch.allclose(output(again), output(model), rtol=0, atol=1e-5)
        assert models.grid(again) == models.grid(model) and models.kept(again) == models.kept(model)
        assert models.sparsity(again) == s
        assert torch.equal(output(models.crop(again, 100)), output(models.crop(model, 100)))
    assert torch.equal(output(models.load_model(tmp_path, kind=kind)), output(model))


@torch.no_grad()
def test_nested_is_stock(case, tmp_path):
    """A nested model and a dense export load with stock classes; T5's and MPNet's nested ones cannot, and say
    so."""
    model = nest(build(case, dtype=torch.float32))
    model_type = CASES[case][0]
    family = families.of(model_type)
    stock = architectures.stock_class(model_type, family.tasks[0])
    models.save_model(model, tmp_path / "nested")
    models.save_model(models.export_dense(models.crop(model, 90)), tmp_path / "dense")
    assert (model.config.model_type == model_type) == (not family.head_bias)
    if not family.head_bias:
        loaded = stock.from_pretrained(tmp_path / "nested")
        assert type(model) is stock and torch.allclose(output(loaded), output(model), rtol=0, atol=1e-5)
    dense, report = stock.from_pretrained(tmp_path / "dense", output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert "compression" not in dense.config.to_dict()
    assert torch.allclose(output(dense), output(models.crop(model, 90)), rtol=0, atol=2e-5)


def test_crop_of_a_crop(nested):
    once, twice = models.crop(nested, 90), models.crop(models.crop(nested, 70), 90)
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), twice.parameters(), strict=True))
    assert once.config.to_dict() == twice.config.to_dict()
    assert models.grid(models.crop(nested, 70)) == [70, 80, 85, 90, 95, 100]
    with pytest.raises(CheckpointError, match="does not come back"):
        models.crop(once, 70)


@pytest.mark.parametrize("s", [0, 50, 70, 90, 100])
def test_every_parameter_gets_a_gradient(nested, s):
    """DDP would wait for a parameter without one; those that nothing reads any more are frozen, and only
    they."""
    model = models.crop(models.freeze(copy.deepcopy(nested)), s).train()
    models.set_sparsity(model, models.grid(model)[0])
    output(model).square().sum().backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert not without
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    row = architectures.of(nested)
    may = [*row.norms, "SelfAttention.relative_attention_bias", *(row.decoder.norms if row.decoder else ())]
    assert s == 100 or all(any(f".{path}." in name for path in may) for name in frozen)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.1).step()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters()))


@pytest.mark.parametrize("s", [30, 70, 95, 100])
def test_gradients_of_a_slice(nested, s):
    """Those of the crop on the kept units, zero or absent on the others; the gradients of two slices add
    up."""
    model = copy.deepcopy(nested)
    names = {name: id(parameter) for name, parameter in model.named_parameters()}
    cropped = models.crop(model, s)
    output(cropped).square().sum().backward()
    with sliced(model, s):
        assert {name: id(parameter) for name, parameter in model.named_parameters()} == names
        output(model).square().sum().backward()
        once = {
            name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
        }
        once = {name: gradient.clone() for name, gradient in once.items()}
        output(model).square().sum().backward()
    grown = {name: parameter.grad for name, parameter in cropped.named_parameters()}
    parts = {part.name: part for each in architectures.sublayers(model) for part in each.projections}
    for name, parameter in model.named_parameters():
        part = parts.get(name.rpartition(".")[0])
        gradient = torch.zeros_like(parameter) if name not in once else once[name]
        if part is not None:
            index = torch.arange(models.kept(model, s)[part.unit][part.row])
            kept = part.select(gradient, index)
            assert gradient.count_nonzero() == kept.count_nonzero(), f"{name}: a removed unit has a gradient"
            gradient = kept
        if grown.get(name) is not None:
            assert torch.allclose(gradient, grown[name], rtol=1e-9, atol=1e-10), name
            assert torch.allclose(parameter.grad, 2 * once[name], rtol=1e-9, atol=1e-10), name
        else:
            assert gradient.abs().sum() == 0, name


@torch.no_grad()
def test_a_zero_mask_acts(case):
    """On each unit of each layer; transformers 5 ignores head_mask= without a word."""
    model = build(case)
    before = output(model)
    with models.scoring_masks(model) as masks:
        assert torch.equal(output(model), before)
        for mask in (masks.heads, masks.neurons):
            for layer in range(LAYERS):
                mask[layer, -1] = 0
                assert (output(model) - before).abs().max() > 1e-6
                mask[layer, -1] = 1
    assert torch.equal(output(model), before), "the masks outlived their context"


def test_nothing_is_drawn(nested):
    before = torch.get_rng_state()
    cropped = models.crop(nested, 80)
    for make in (
        lambda: models.export_dense(cropped),
        lambda: models.keep_layers(nested, 2),
        lambda: models.crop(cropped, 90),
    ):
        first, second = make(), make()
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    addresses = {parameter.data_ptr() for parameter in nested.parameters()}
    assert not addresses & {parameter.data_ptr() for parameter in models.crop(nested, 0).parameters()}, (
        "weights must be copies"
    )


@torch.no_grad()
@pytest.mark.parametrize("which, chosen", [("first", [0, 1]), ("even", [0, 2])])
def test_keep_layers(case, which, chosen, tmp_path):
    """The shorter model computes what the full one does when the other layers are passed over."""
    model = build(case, dtype=torch.float32)
    shorter = models.keep_layers(model, 2, which=which)
    assert len(models.layers(shorter)) == 2 and shorter.config.num_hidden_layers == 2
    for new, old in enumerate(chosen):
        ours, theirs = (
            models.layer_modules(shorter)[new].parameters(),
            models.layer_modules(model)[old].parameters(),
        )
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    states = model(**inputs(), output_hidden_states=True).hidden_states
    if which == "first" and not families.of(CASES[case][0]).norms:  # these end with a norm, too
        assert torch.equal(shorter(**inputs(), output_hidden_states=True).hidden_states[-1], states[2])
    models.save_model(shorter, tmp_path)
    kind = architectures.of(model).tasks[0]
    assert torch.equal(output(models.load_model(tmp_path, kind=kind)), output(shorter))
    with pytest.raises(CheckpointError, match="this model has 3"):
        models.keep_layers(model, 4)


@torch.no_grad()
def test_keep_layers_of_sparse_models(nested, case):
    shorter = models.keep_layers(nested, 2, which="even")
    assert models.grid(shorter) == [] and models.sparsity(shorter) == 0
    cropped = models.crop(nested, 60)
    counts = models.kept(cropped)
    shorter = models.keep_layers(cropped, 2, which="even")
    assert models.kept(shorter) == {unit: [counts[unit][0], *counts[unit][2:]] for unit in counts}
    plain = models.keep_layers(models.export_dense(cropped), 2, which="even")
    assert torch.allclose(output(shorter), output(plain), rtol=0, atol=1e-10)
    assert models.grid(models.keep_layers(nested, 3)) == models.grid(nested)


@pytest.mark.parametrize("s", [0, 70])
def test_bare_encoder(case, s, tmp_path):
    """Without a head: hidden states are recorded, and the Auto class loads it."""
    model = nest(build(case, kind=None, dtype=torch.float32))
    model = models.crop(model, s)
    states = model(**inputs(), output_hidden_states=True).hidden_states
    assert len(states) == LAYERS + 1
    models.save_model(model, tmp_path)
    loaded = [models.load_model(tmp_path)]
    if model.config.model_type not in ("t5", "umt5"):  # AutoModel takes them for encoders with a decoder
        loaded.append(transformers.AutoModel.from_pretrained(tmp_path))
    for again in loaded:
        assert torch.allclose(output(again), output(model), rtol=0, atol=1e-5)
    assert torch.equal(output(loaded[0]), output(model))


def test_a_family_that_is_not_in_the_table():
    model = transformers.AlbertModel(
        transformers.AlbertConfig(
            vocab_size=9, embedding_size=4, hidden_size=4, num_attention_heads=2, intermediate_size=4
        )
    )
    with pytest.raises(CheckpointError, match=r"'albert' is not supported.*bert, roberta"):
        models.layer_modules(model)


def test_errors_of_sparsities():
    with pytest.raises(CheckpointError, match="sort it by importance first"):
        models.set_sparsity(build(), 50)
    model = nest(build())
    with pytest.raises(CheckpointError, match="this model offers 0, 10, 20"):
        models.set_sparsity(model, 55)
    cropped = models.crop(model, 50)
    for again in (models.scoring_masks, lambda model: nest(model)):
        with pytest.raises(CheckpointError, match="cropped to 50% sparsity"):
            with again(cropped):
                pass
    assert models.grid(build()) == [] and models.sparsity(build()) == 0


def test_counts_that_do_not_fit_their_config(tmp_path):
    model = models.crop(nest(build(dtype=torch.float32)), 50)
    model.config.compression = {**model.config.compression, "heads": [1, 2]}
    models.save_model(model, tmp_path)
    with pytest.raises(
        CheckpointError, match=r"compression.heads is \[1, 2\]; expected 3 numbers from 0 to 4"
    ):
        models.load_model(tmp_path, kind="classification")


def test_budgets_of_bert_base():
    """MiniDisc's budget table for BERT-base, counted on the meta device."""
    golden = {  # heads kept, neurons kept, encoder parameters, GMAC
        0: (144, 36864, 85_054_464, 10.872),
        50: (72, 18432, 42_554_880, 5.436),
        60: (58, 14746, 34_134_298, 4.359),
        70: (43, 11059, 25_515_379, 3.256),
        80: (29, 7373, 17_094_797, 2.179),
        85: (22, 5530, 12_884_506, 1.641),
        90: (14, 3686, 8_475_878, 1.077),
        95: (7, 1843, 4_265_587, 0.539),
    }
    with torch.device("meta"):
        model = transformers.BertModel(transformers.BertConfig())
    generator = torch.Generator().manual_seed(0)
    models.sort_units(
        model, torch.rand(12, 12, generator=generator), torch.rand(12, 3072, generator=generator), grid=golden
    )
    for s, (heads, neurons, parameters, gmac) in golden.items():
        size, counts = models.describe(model, s), models.kept(model, s)
        assert (sum(counts["heads"]), sum(counts["neurons"])) == (heads, neurons)
        assert size["encoder_parameters"] == parameters
        assert round(size["macs"] / 1e9, 3) == gmac
    assert models.describe(model)["parameters"] == 109_482_240
    assert models.kept(model, 95)["heads"].count(0) >= 5


def test_the_grid_is_the_ranking():
    """Counts in the config are those of the plain definition: sort all units, strike out the first."""
    model = build()
    generator = torch.Generator().manual_seed(3)
    scores = {
        "heads": torch.rand(LAYERS, HEADS, generator=generator),
        "neurons": torch.rand(LAYERS, NEURONS, generator=generator),
    }
    models.sort_units(model, scores["heads"], scores["neurons"], grid=[35, 90])
    assert list(model.config.compression["grid"]) == ["0", "35", "90"]
    for unit, raw in scores.items():
        ranked = sorted((float(value / row.norm()), layer) for layer, row in enumerate(raw) for value in row)
        for s in (35, 90):
            gone = [layer for _, layer in ranked[: round(s * len(ranked) / 100)]]
            assert models.kept(model, s)[unit] == [
                raw.shape[1] - gone.count(layer) for layer in range(LAYERS)
            ]
    assert importance.removed_counts(scores["heads"], [0, 100]) == {0: [0] * LAYERS, 100: [HEADS] * LAYERS}
