"""Experts beside a plain loop over tokens in float64: outputs, gradients and balance loss, in every way
tokens are dispatched."""

import copy
import math
from fractions import Fraction

import pytest
import tiny_models
import torch
import torch.nn.functional as F
import transformers
from torch import nn

import models
from models import moe_bert
from models.balance import Balance
from models.relation_encoder import RelationEncoder
from modules import expert_products, experts
from utils import cost, families, updates
from utils.batch import Batch
from utils.errors import CheckpointError

WAYS = {
    "looped": lambda expert_T, real_T, counts_E, **_: expert_products.Looped(expert_T, real_T, counts_E),
    "tiled": lambda expert_T, _, counts_E, **__: expert_products.Tiled(expert_T, len(counts_E)),
    "grouped": lambda expert_T, _, counts_E, **__: expert_products.Grouped(expert_T, len(counts_E)),
}
NUMBERS = {
    "looped": (torch.float64, 1e-10),
    "tiled": (torch.float64, 1e-10),
    "grouped": (torch.float32, 1e-4),
}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """One of the ways, whatever the device would have chosen; torch's grouped product knows no float64."""
    monkeypatch.setattr(experts, "way_for", WAYS[request.param])
    return request.param


# ---- The plain reference: one token after the other


def told(states_TI, router):
    """(probabilities [T, E], the chosen expert of each token); without a router there is one."""
    if router is None:
        return states_TI.new_ones(len(states_TI), 1), [0] * len(states_TI)
    probabilities = (states_TI @ router.weight.T + router.bias).softmax(-1)
    return probabilities, [max(range(len(row)), key=row.tolist().__getitem__) for row in probabilities]


def one(linear, state, chosen):
    """A token through a linear map: the chosen one, where there are several."""
    stacked = linear.weight.dim() == 3
    weight, bias = (
        each[chosen] if stacked and each is not None else each for each in (linear.weight, linear.bias)
    )
    return weight @ state if bias is None else weight @ state + bias


def plain_block(states_TI, real, router, first, last):
    """What a feed-forward block adds to each token."""
    probabilities, chosen = told(states_TI, router)
    return torch.stack(
        [
            probabilities[t, chosen[t]] * one(last, F.gelu(one(first, state, chosen[t])), chosen[t])
            if real[t]
            else torch.zeros_like(state)
            for t, state in enumerate(states_TI)
        ]
    )


def plain_balance(probabilities, chosen, real):
    """E sum_i P_i f_i over the real tokens."""
    number, size = sum(real), probabilities.shape[1]
    mean = [sum(probabilities[t, e] for t in range(len(real)) if real[t]) / number for e in range(size)]
    share = [sum(1 for t in range(len(real)) if real[t] and chosen[t] == e) / number for e in range(size)]
    return size * sum(p * f for p, f in zip(mean, share))


def plain_encoder(model, batch):
    """(final states [B, L, D], {"attention": [balance of each layer], "ffn": [...]}): every example, layer
    and token apart."""
    states = model.embeddings(batch["input_ids"])
    states = model.embeddings_project(states) if hasattr(model, "embeddings_project") else states
    mask, shape = batch["attention_mask"].bool(), states.shape[:2]
    real, states_TD = mask.flatten().tolist(), states.flatten(0, 1)
    heads, balances = model.config.num_attention_heads, {"attention": [], "ffn": []}
    for layer in model.encoder.layer:
        core, block = layer.attention.self, layer.attention.output
        routers = {mixture: getattr(layer, f"{mixture}_router", None) for mixture in balances}
        probabilities, chosen = told(states_TD, routers["attention"])
        q, k, v = (
            torch.stack([one(linear, state, e) for state, e in zip(states_TD, chosen)]).view(
                *shape, heads, -1
            )
            for linear in (core.query, core.key, core.value)
        )
        context = torch.zeros_like(q)
        for b in range(shape[0]):
            for head in range(heads):
                scores = q[b, :, head] @ k[b, mask[b], head].T / math.sqrt(q.shape[-1])
                context[b, :, head] = scores.softmax(-1) @ v[b, mask[b], head]
        out = torch.stack(
            [
                probability[e] * one(block.dense, row, e)
                for probability, row, e in zip(probabilities, context.flatten(2).flatten(0, 1), chosen)
            ]
        )
        states_TD = block.LayerNorm(states_TD + out)
        balances["attention"].append(plain_balance(probabilities, chosen, real))
        balances["ffn"].append(plain_balance(*told(states_TD, routers["ffn"]), real))
        added = plain_block(states_TD, real, routers["ffn"], layer.intermediate.dense, layer.output.dense)
        states_TD = layer.output.LayerNorm(states_TD + added)
    return states_TD.unflatten(0, shape), balances


# ---- Models and batches


def dense_model(case="bert", **settings):
    """A small stock encoder, 4 heads, 12 neurons; its norms leave tokens different enough for routers to tell
    them apart."""
    model = tiny_models.build(case, kind=None, **{**tiny_models.sized(case, intermediate=12), **settings})
    with torch.no_grad():
        for norm in tiny_models.norms(model).values():
            for name, parameter in norm.named_parameters():
                parameter.copy_(0.1 * parameter + (name == "weight"))
    return model


def expert_model(case="bert", *, attention=1, ffn=4, noise="none", seed=0, **settings):
    """Experts made from it; the half of each is common to all."""
    dense = dense_model(case, **settings)
    return moe_bert.with_experts(
        dense, attention=attention, ffn=ffn, shared_fraction=Fraction(1, 2), noise=noise, seed=seed
    )


def batch_of(inputs):
    """As the data pipelines make it."""
    mask = inputs["attention_mask"]
    return Batch(inputs, None, None, {"examples": float(len(mask)), "tokens": float(mask.sum())})


def gradients(model, loss):
    """{name: gradient} of all parameters that have one."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, named.values(), allow_unused=True)
    return {name: gradient for name, gradient in zip(named, found) if gradient is not None}


def loss_of(states, mask):
    """A number that depends on every real state."""
    factors = torch.linspace(-1, 1, states.shape[-1], dtype=states.dtype)
    return (states[mask.bool()] * factors).sum()


# ---- A mixture is a loop over tokens


@pytest.mark.parametrize(
    "tokens", ["mixed", "one expert gets all", "one token", "all are real", "no token is real"]
)
def test_a_block_is_a_loop_over_tokens(way, tokens):
    dtype, tolerance = NUMBERS[way]
    torch.manual_seed(0)
    shape = (1, 1) if tokens == "one token" else (3, 7)
    states = torch.randn(*shape, 16, dtype=torch.float64, requires_grad=True)
    real = torch.ones(shape, dtype=torch.bool)
    if tokens not in ("one token", "all are real"):
        real[1, 3:], real[2, :2] = False, False
    if tokens == "no token is real":
        real[:] = False
    router = experts.Router(5, widths=(16, 24)).double()
    if tokens == "one expert gets all":
        nn.init.constant_(router.bias[3], 100.0)
    first, last = (
        experts.ExpertLinear(
            torch.randn(5, *size, dtype=torch.float64),
            torch.randn(5, size[0], dtype=torch.float64),
            router,
            enters=size[0] == 24,
            sorted_inside=True,
        )
        for size in ((24, 16), (16, 24))
    )
    parameters = [states, *first.parameters(), *last.parameters(), *router.parameters()]
    expected = plain_block(states.flatten(0, 1), real.flatten().tolist(), router, first, last)
    weights = torch.randn_like(expected)
    if tokens == "no token is real":
        wanted = [torch.zeros_like(parameter) for parameter in parameters]
    else:
        wanted = torch.autograd.grad((expected * weights).sum(), parameters)
    for module in (router, first, last):
        module.to(dtype)
    router.reset(None if tokens == "all are real" else real)
    block = last(F.gelu(first(states.to(dtype))))
    assert block.shape == (*shape, 16)
    assert torch.allclose(block.flatten(0, 1).double(), expected, rtol=0, atol=tolerance * 10)
    found = torch.autograd.grad((block.flatten(0, 1) * weights.to(dtype)).sum(), [states, *parameters[1:]])
    for ours, theirs in zip(found, wanted):
        assert torch.allclose(
            ours.double(), theirs, rtol=0, atol=tolerance * max(1.0, float(theirs.abs().max()))
        )
    assert router.routing.counts_E.sum() == real.sum()


@pytest.mark.parametrize("numbers", [(1, 4), (3, 1), (2, 4)])
def test_an_encoder_is_a_loop_over_tokens(way, numbers):
    check_encoder("bert", numbers, *NUMBERS[way])


@pytest.mark.parametrize("case", ["roberta", "xlm-roberta", "electra"])
def test_families_like_bert(case):
    check_encoder(case, (2, 4), torch.float64, 1e-10)


def check_encoder(case, numbers, dtype, tolerance):
    """Outputs, all gradients and the balance loss, on a batch with padding."""
    model, batch = expert_model(case, attention=numbers[0], ffn=numbers[1]), tiny_models.inputs()
    mask = batch["attention_mask"]
    expected, balances = plain_encoder(model, batch)
    means = [sum(values) / len(values) for values, number in zip(balances.values(), numbers) if number > 1]
    expected_balance = 3.0 * sum(means) / len(means)
    wanted = gradients(model, loss_of(expected, mask) + expected_balance)
    model.to(dtype)
    states = model(**batch).last_hidden_state
    balance = Balance(model, 3.0)(batch_of(batch))["balance"]
    assert torch.allclose(states[mask.bool()].double(), expected[mask.bool()], rtol=0, atol=tolerance)
    assert balance.item() == pytest.approx(expected_balance.item(), rel=tolerance)
    found = gradients(model, loss_of(states, mask) + balance)
    assert found.keys() == wanted.keys() and sum("router" in name for name in found) == 2 * 3 * sum(
        n > 1 for n in numbers
    )
    for name, gradient in wanted.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert torch.allclose(found[name].double(), gradient, rtol=0, atol=tolerance * scale), name
    used = [int((router.routing.counts_E > 0).sum()) for router in moe_bert.routers(model).values()]
    assert max(used) > 1 and sum(used) > 1.5 * len(used), "one expert alone would prove little"


class OneByOne(nn.Module):
    """A stacked map applied to one token after the other: what ExpertLinear must compute, in the middle of
    any stock layer."""

    def __init__(self, stacked, mask):
        super().__init__()
        self.stacked, self.weight, self.real_T = stacked, stacked.weight, mask.flatten().tolist()
        vars(self)["router"] = stacked.router  # shared by the maps of a block

    def forward(self, states_BLI):
        states_TI = states_BLI.flatten(0, 1)
        if self.stacked.enters:
            self.router.told = told(states_TI, self.router)
        rows = []
        for t, (state, (probabilities, chosen)) in enumerate(zip(states_TI, zip(*self.router.told))):
            row = one(self.stacked, state, chosen) * (1 if self.stacked.enters else probabilities[chosen])
            rows.append(row if self.real_T[t] else torch.zeros_like(row))
        return torch.stack(rows).unflatten(0, states_BLI.shape[:2])


EXPERT_CASES = [
    (case, numbers)
    for case, (name, _) in tiny_models.CASES.items()
    for use, numbers in (("ffn experts", (1, 4)), ("attention experts", (3, 1)))
    if families.refusal(name, use) is None
]


@pytest.mark.parametrize("case, numbers", EXPERT_CASES)
def test_every_family(case, numbers):
    """The stock model, in which each stacked map is a loop over tokens: same states, same gradients; and all
    of them are used."""
    model, batch = expert_model(case, attention=numbers[0], ffn=numbers[1]), tiny_models.inputs()
    mask, plain = batch["attention_mask"], copy.deepcopy(model)
    for path, module in [*plain.named_modules()]:
        if isinstance(module, experts.ExpertLinear):
            parent, _, leaf = path.rpartition(".")
            setattr(plain.get_submodule(parent), leaf, OneByOne(module, mask))
    found, expected = (each(**batch).last_hidden_state for each in (model, plain))
    assert torch.allclose(found[mask.bool()], expected[mask.bool()], rtol=0, atol=1e-10)
    ours, theirs = (
        gradients(each, loss_of(states, mask)) for each, states in ((model, found), (plain, expected))
    )
    theirs = {name.replace(".stacked.", "."): gradient for name, gradient in theirs.items()}
    assert ours.keys() == theirs.keys() and sum("router" in name for name in ours) == 2 * tiny_models.LAYERS
    for name, gradient in theirs.items():
        assert torch.allclose(
            ours[name], gradient, rtol=0, atol=1e-10 * max(1.0, float(gradient.abs().max()))
        ), name
    used = [int((router.routing.counts_E > 0).sum()) for router in moe_bert.routers(model).values()]
    assert sum(used) > len(used), "one expert alone would prove little"


@pytest.mark.parametrize("case, numbers", EXPERT_CASES)
def test_students_of_every_family_learn(case, numbers):
    """MiniMoE's student: what asks for a gradient of its relations gets one, all experts and routers among
    it."""
    encoder = RelationEncoder(
        expert_model(case, attention=numbers[0], ffn=numbers[1]), layer=3, source="extra"
    )
    sum(tensor.square().sum() for tensor in encoder(**tiny_models.inputs()).values()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    dead = [name for name, parameter in encoder.named_parameters() if not parameter.requires_grad]
    assert all("pooler" in name for name in dead)


def test_relative_positions_have_no_expert():
    with pytest.raises(
        CheckpointError, match="deberta-v2: its attention cannot be experts, as relative positions"
    ):
        expert_model("deberta-v2", attention=2)


def test_the_way_is_the_device_s(monkeypatch):
    """No GPU is needed to see which way it would go: only the device's name and the precision are looked
    at."""
    chosen = {}
    for name in ("Looped", "Grouped", "Tiled"):
        monkeypatch.setattr(expert_products, name, lambda *_, name=name: name)
    for device, dtype, width in (
        ("cpu", torch.bfloat16, 384),
        ("meta", torch.bfloat16, 384),
        ("meta", torch.bfloat16, 12),
        ("meta", torch.float32, 384),
    ):
        expert_T = torch.zeros(8, dtype=torch.int64, device=device)
        chosen[device, dtype, width] = expert_products.way_for(
            expert_T, None, expert_T[:4], dtype=dtype, widths=(384, width)
        )
    assert [*chosen.values()] == ["Looped", "Grouped", "Tiled", "Tiled"]


@pytest.mark.parametrize("name", ["Tiled", "Grouped"])
def test_nothing_is_read_on_the_host(name, monkeypatch):
    """Fake tensors have no values: whoever asks for one, as a wait for the device would, gets an error;
    Looped does."""
    from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

    def step(way):
        monkeypatch.setattr(experts, "way_for", WAYS[way.lower()])
        with FakeTensorMode():
            router = experts.Router(4, widths=(16, 24))
            first = experts.ExpertLinear(
                torch.randn(4, 24, 16), torch.randn(4, 24), router, enters=True, sorted_inside=True
            )
            last = experts.ExpertLinear(
                torch.randn(4, 16, 24), torch.randn(4, 16), router, enters=False, sorted_inside=True
            )
            router.reset(torch.ones(2, 9, dtype=torch.bool))
            with torch.autocast("cpu", torch.bfloat16):
                out = last(F.gelu(first(torch.randn(2, 9, 16, requires_grad=True))))
            (out.sum() + router.routing.sums_E.sum()).backward()
            return first.weight.grad.shape

    assert step(name) == (4, 24, 16)
    with pytest.raises(DynamicOutputShapeException):
        step("Looped")


# ---- Golden values of the method


def test_balance_of_given_shares():
    probabilities, shares = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.tensor([50, 25, 25, 0])
    assert experts.balance_loss(100 * probabilities, shares, num_tokens=100).item() == pytest.approx(1.3)
    assert experts.balance_loss(torch.ones(4), torch.full((4,), 3), num_tokens=4).item() == pytest.approx(1)
    assert experts.balance_loss(
        torch.tensor([0.0, 5.0]), torch.tensor([0, 5]), num_tokens=5
    ).item() == pytest.approx(2)


def test_winning_probabilities_and_balance_of_given_logits():
    logits = torch.tensor([[2.0, 0, 0, 0], [0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 1, 0]], dtype=torch.float64)
    router = experts.Router(4, widths=(4, 4)).double()
    with torch.no_grad():
        router.weight.copy_(torch.eye(4))
        router.bias.zero_()
    for real, expected in ((None, 1.3074896), (torch.tensor([[True, True, True, False]]), 1.7516414)):
        router.reset(real)
        routing = router(logits[None])
        number = 4 if real is None else 3
        assert experts.balance_loss(
            routing.sums_E, routing.counts_E, num_tokens=number
        ).item() == pytest.approx(expected, abs=1e-6)
        assert routing.counts_E.tolist() == [2, 1, 0 if real is not None else 1, 0]
        winning = [0.7112, 0.7112, 0.7112, 0.4754 if real is None else 0]
        assert routing.factor_T1[:, 0].tolist() == pytest.approx(winning, abs=5e-5)


def test_units_of_the_experts():
    units = experts.expert_units(4, 1536, 1024)
    assert units.shape == (4, 1536) and units[:, :1024].tolist() == [list(range(1024))] * 4
    for expert in range(4):
        assert units[expert, 1024:].tolist() == list(range(1024 + expert, 3069 + expert, 4))
    assert units[0, -1] == 3068


@pytest.mark.parametrize("layers, published, lean, dense", [
    (3, 28_473_231, 28_028_556, 17_389_824), (4, 33_794_324, 33_349_264, 19_164_288), (6, 44_436_510,
    43_990_680, 22_713_216),
])  # fmt: skip
def test_parameters_and_macs(layers, published, lean, dense):
    """The published files hold three projections and an unused router of attention besides."""
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": 384,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    }
    with torch.device("meta"):
        stock = transformers.BertModel(transformers.BertConfig(**sizes))
        made_class = moe_bert.CLASSES.model_class(transformers.BertModel)
        entry = {
            "kind": "experts",
            "attention_experts": 1,
            "ffn_experts": 4,
            "gate_noise": "none",
            "route_padding": False,
        }
        model = made_class(made_class.config_class(**sizes, compression=entry))
    assert cost.parameters(stock) == dense and cost.parameters(model) == lean
    assert lean + 3 * (384 * 384 + 384) + layers * 385 == published
    macs = [cost.linear_macs(models.layer_modules(each)) for each in (stock, model)]
    assert macs == [layers * 12 * 384**2 * 128, layers * 384 * (12 * 384 + 4) * 128]
    layer = model.encoder.layer[0]
    assert cost.parameters(layer.attention) == 592_128 and cost.parameters(layer.ffn_router) == 1_540
    assert cost.parameters(layer.intermediate) + cost.parameters(layer.output) == 4_727_040
    # sizes in the config are those of one expert
    assert (model.config.intermediate_size, model.config.num_attention_heads) == (1536, 12)


# ---- One expert is the dense layer


def test_one_expert_is_the_dense_layer_bit_for_bit():
    dense, batch = dense_model(dtype=torch.float32), tiny_models.inputs()
    assert moe_bert.with_experts(dense, attention=1, ffn=1, shared_fraction=1, noise="none", seed=0) is dense
    config = copy.deepcopy(dense.config)
    config.compression = {
        "kind": "experts",
        "attention_experts": 1,
        "ffn_experts": 1,
        "gate_noise": "none",
        "route_padding": False,
    }
    made_class = moe_bert.CLASSES.model_class(type(dense))
    config.__class__ = made_class.config_class
    model = made_class(config).eval()
    model.load_state_dict(dense.state_dict())
    assert torch.equal(
        tiny_models.output(model, batch), tiny_models.output(dense, batch)
    ) and not moe_bert.routers(model)


def test_a_mixture_of_one_is_a_linear_map_bit_for_bit():
    """Even with the machinery of experts around it: the probability is 1, nothing changes its place."""
    torch.manual_seed(0)
    states = torch.randn(3, 40, 48, requires_grad=True)
    first, last = nn.Linear(48, 96), nn.Linear(96, 48)
    router = experts.Router(1, widths=(48, 96), noise="none")
    router.reset(torch.ones(3, 40, dtype=torch.bool))
    stacked = [
        experts.ExpertLinear(
            linear.weight.detach()[None].clone(),
            linear.bias.detach()[None].clone(),
            router,
            enters=linear is first,
            sorted_inside=True,
        )
        for linear in (first, last)
    ]
    ours, theirs = (b(F.gelu(a(states))) for a, b in (stacked, (first, last)))
    assert torch.equal(ours, theirs)
    (expected,) = torch.autograd.grad(theirs.sum(), states)
    theirs = last(F.gelu(first(states)))
    theirs.sum().backward()
    states.grad = None
    ours.sum().backward()
    assert torch.equal(states.grad, expected)
    for made, linear in zip(stacked, (first, last)):
        assert torch.equal(made.weight.grad[0], linear.weight.grad) and torch.equal(
            made.bias.grad[0], linear.bias.grad
        )


# ---- How experts begin


@pytest.mark.parametrize("case", ["bert", "electra"])
def test_experts_begin_with_a_part_in_common(case):
    """The dense block's first half for all; its second half is dealt out in turn, beside as much as is
    missing."""
    dense, model = dense_model(case), expert_model(case, attention=2, ffn=3)
    for number, layer in enumerate(model.encoder.layer):
        old = dense.encoder.layer[number]
        found, stock = layer.intermediate.dense, old.intermediate.dense
        assert torch.equal(found.weight[:, :6], stock.weight[:6].expand(3, 6, 16))
        for expert in range(3):  # own neurons: 6 + expert, 9 + expert of the dense 12; the rest is new
            assert torch.equal(found.weight[expert, 6:8], stock.weight[[6 + expert, 9 + expert]])
            assert torch.equal(found.bias[expert, 6:8], stock.bias[[6 + expert, 9 + expert]])
            assert not found.bias[expert, 8:].any() and found.weight[expert, 8:].abs().max() < 6 * 0.02
            assert torch.equal(layer.output.dense.weight[expert][:, :6], old.output.dense.weight[:, :6])
            assert torch.equal(layer.output.dense.bias[expert], old.output.dense.bias)
        assert not torch.equal(found.weight[0, 8:], found.weight[1, 8:])
        # Heads of 4: the first two in common, then one each of the other two
        for name in ("query", "key", "value"):
            made, stock = getattr(layer.attention.self, name), getattr(old.attention.self, name)
            assert torch.equal(made.weight[:, :8], stock.weight[:8].expand(2, 8, 16))
            assert torch.equal(made.weight[:, 8:12], torch.stack([stock.weight[8:12], stock.weight[12:16]]))
    assert {*dict(expert_model(case).named_parameters())} > {*dict(dense.named_parameters())}
    again, other = (
        dict(expert_model(case, attention=2, ffn=3, seed=seed).named_parameters()) for seed in (0, 1)
    )
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.named_parameters())
    assert not torch.equal(
        again["encoder.layer.0.ffn_router.weight"], other["encoder.layer.0.ffn_router.weight"]
    )


@pytest.mark.parametrize(
    "case, numbers", [("bert", (1, 2)), ("bert", (1, 4)), ("roberta", (2, 3)), ("electra", (3, 4))]
)
@pytest.mark.parametrize("noise, seed", [("none", 0), ("multiplicative", 1), ("additive", 2)])
@torch.no_grad()
def test_equal_experts_compute_what_the_dense_model_does(case, numbers, noise, seed, tmp_path):
    """Each token's state to 1e-6 in float32, wherever routers send it; once saved and loaded, bit for bit
    what it was."""
    dense, batch = dense_model(case, dtype=torch.float32), tiny_models.inputs()
    real = batch["attention_mask"].bool()
    model = moe_bert.with_equal_experts(dense, attention=numbers[0], ffn=numbers[1], noise=noise, seed=seed)
    before, after = (each(**batch).last_hidden_state[real] for each in (dense, model))
    assert (after - before).abs().max() < 1e-6 * max(1.0, before.abs().max() / 2) and before.std() > 0.1
    used = [int((router.routing.counts_E > 0).sum()) for router in moe_bert.routers(model).values()]
    assert sum(used) > len(used), "one expert alone would prove little"
    models.save_model(model, tmp_path)
    assert torch.equal(models.load_model(tmp_path)(**batch).last_hidden_state[real], after)


@pytest.mark.parametrize("case, numbers", EXPERT_CASES)
@torch.no_grad()
def test_equal_experts_of_every_family(case, numbers):
    dense, batch = dense_model(case), tiny_models.inputs()
    model = moe_bert.with_equal_experts(dense, attention=numbers[0], ffn=numbers[1], noise="none", seed=0)
    before, after = (tiny_models.output(each, batch) for each in (dense, model))
    assert torch.allclose(after, before, rtol=0, atol=1e-10)


def test_equal_experts_begin_with_the_dense_gradients():
    """Summed over the experts, the dense block's; a router gets d log p times output times the output's
    gradient."""
    dense, batch = dense_model(), tiny_models.inputs()
    model = moe_bert.with_equal_experts(dense, attention=1, ffn=4, noise="none", seed=0)
    states = [each(**batch).last_hidden_state for each in (dense, model)]
    wanted, found = (
        gradients(each, loss_of(made, batch["attention_mask"])) for each, made in zip((dense, model), states)
    )
    for name, gradient in wanted.items():
        summed = found[name].sum(0) if found[name].dim() > gradient.dim() else found[name]
        assert torch.allclose(summed, gradient, rtol=0, atol=1e-10 * max(1.0, float(gradient.abs().max()))), (
            name
        )
    assert all(found[f"encoder.layer.{number}.ffn_router.weight"].any() for number in range(3))


def test_gradient_of_a_router_whose_factor_is_one():
    """By hand, for one block of different experts: output as it is, logits' gradient (delta_ij - p_j) out .
    its gradient."""
    torch.manual_seed(0)
    router = experts.Router(3, widths=(16, 24), scale="one").double()
    first, last = (
        experts.ExpertLinear(
            torch.randn(3, *size, dtype=torch.float64),
            torch.randn(3, size[0], dtype=torch.float64),
            router,
            enters=size[0] == 24,
            sorted_inside=True,
        )
        for size in ((24, 16), (16, 24))
    )
    states, weights, real = (
        torch.randn(2, 9, 16).double(),
        torch.randn(2, 9, 16).double(),
        torch.ones(2, 9, dtype=torch.bool),
    )
    real[1, 5:] = False
    router.reset(real)
    out = last(F.gelu(first(states)))
    (out * weights).sum().backward()
    wanted = torch.zeros_like(router.weight)
    probabilities, chosen = told(states.flatten(0, 1), router)
    for t, (state, weight, counts) in enumerate(
        zip(states.flatten(0, 1), weights.flatten(0, 1), real.flatten())
    ):
        expected = (
            one(last, F.gelu(one(first, state, chosen[t])), chosen[t]) if counts else torch.zeros(16).double()
        )
        assert torch.allclose(out.flatten(0, 1)[t], expected, rtol=0, atol=1e-10)
        for expert in range(3):
            wanted[expert] += (
                (int(expert == chosen[t]) - probabilities[t, expert]) * (expected @ weight) * state
            )
    assert len({*chosen}) == 3 and torch.allclose(router.weight.grad, wanted, rtol=0, atol=1e-9)


def test_experts_are_made_of_dense_models_alone():
    made = moe_bert.with_equal_experts(dense_model(), attention=2, ffn=4, noise="none", seed=0)
    with pytest.raises(CheckpointError, match="experts structure already"):
        moe_bert.with_equal_experts(made, attention=1, ffn=4, noise="none", seed=0)


# ---- Padding


def test_padding_changes_nothing():
    """More of it, on either side of the batch: same states, gradients, shares and loss; unless it is routed
    as published."""
    model, batch = expert_model(attention=2, ffn=4), tiny_models.inputs()
    wider = {name: F.pad(tensor, (0, 5)) for name, tensor in batch.items()}
    found = {}
    for name, inputs in (("narrow", batch), ("wide", wider)):
        states = model(**inputs).last_hidden_state
        balance, mask = Balance(model), inputs["attention_mask"].bool()
        term = balance(batch_of(inputs))["balance"]
        grads = gradients(model, loss_of(states, mask) + term)
        found[name] = (states[mask], term, grads, balance.values())
    (narrow, narrow_term, narrow_grads, shares), (wide, term, grads, wide_shares) = (
        found["narrow"],
        found["wide"],
    )
    assert torch.allclose(narrow, wide, rtol=0, atol=1e-12) and term.item() == pytest.approx(
        narrow_term.item(), rel=1e-12
    )
    assert shares == wide_shares and all(
        sum(values) == pytest.approx(1, abs=1e-5) for values in shares.values()
    )
    assert all(torch.allclose(narrow_grads[name], grads[name], rtol=0, atol=1e-10) for name in grads)
    # padding's own states are LayerNorm(h), so the block that they go through last adds nothing
    layer = model.encoder.layer[-1]
    model(**wider)
    assert layer.ffn_router.routing.counts_E.sum() == batch["attention_mask"].sum()
    model.config.compression["route_padding"] = True
    model(**wider)
    assert layer.ffn_router.routing.counts_E.sum() == wider["attention_mask"].numel()


# ---- Experts that get no token


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_an_expert_without_tokens_keeps_its_weights(decay):
    """Its gradient is zero, not missing; weight decay shrinks it as it does every weight, and nothing else
    changes it."""
    torch.manual_seed(0)  # of the dropout
    model, batch = expert_model(dtype=torch.float32).train(), tiny_models.inputs()
    optimizer = updates.optimizer(model, updates.Settings(learning_rate=0.1, weight_decay=decay))
    for layer in model.encoder.layer:
        nn.init.constant_(layer.ffn_router.bias[1], -1e4)
    before = copy.deepcopy(dict(model.named_parameters()))
    for _ in range(3):
        states = model(**batch).last_hidden_state
        (loss_of(states, batch["attention_mask"]) + Balance(model)(batch_of(batch))["balance"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    for number in range(3):
        for path in ("intermediate.dense", "output.dense"):
            for leaf, left in (("weight", (1 - 0.1 * decay) ** 3), ("bias", 1.0)):
                name = f"encoder.layer.{number}.{path}.{leaf}"
                after = model.get_parameter(name)
                assert torch.allclose(after[1], left * before[name][1], rtol=1e-6, atol=0), name
                assert left != 1.0 or torch.equal(after[1], before[name][1]), name
                assert (
                    all((after[expert] - before[name][expert]).abs().max() > 0.05 for expert in (0, 2, 3))
                    or number < 2
                )


# ---- The router's noise


def test_noise_is_in_training_only_and_a_function_of_the_seed():
    states = torch.randn(1, 2000, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = {}
    for noise in experts.NOISES:
        torch.manual_seed(0)
        router = experts.Router(4, widths=(16, 24), noise=noise).double()
        quiet = router.eval()(states).sums_E
        router.train()
        sums = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            sums.append(router(states).sums_E)
        assert torch.equal(sums[0], sums[1])
        assert torch.equal(sums[0], quiet) == (noise == "none") and torch.equal(sums[0], sums[2]) == (
            noise == "none"
        )
        found[noise] = sums[0]
    assert not torch.equal(found["additive"], found["multiplicative"])


@pytest.mark.parametrize("noise, bound", [("multiplicative", 5.0), ("additive", 0.1)])
def test_size_of_the_noise(noise, bound):
    """Logits of 50 and 0: a factor moves the first by up to 5, a summand both by 0.1; seen in the log of the
    odds."""
    router = experts.Router(2, widths=(1, 1), noise=noise).double().train()
    with torch.no_grad():
        router.weight.copy_(torch.tensor([[50.0], [0.0]]))
        router.bias.zero_()
    losing = []
    for _ in range(200):
        routing = router(torch.ones(1, 1, 1, dtype=torch.float64))
        losing.append(-math.log(routing.sums_E[1].item()) - 50)
    widest = bound if noise == "multiplicative" else 2 * bound
    assert 0.6 * widest < max(map(abs, losing)) <= widest + 1e-9


# ---- Whole models: saved, compiled, with a head


@pytest.mark.parametrize("case, kind", [
    *((case, kind) for case in tiny_models.CASES for kind in (None, "tagging")),
    *((case, "classification") for case in ("bert", "roberta", "electra")),
])  # fmt: skip
def test_saved_and_loaded_again(case, kind, tmp_path):
    stock = tiny_models.build(
        case, kind=kind, dtype=torch.float32, **tiny_models.sized(case, intermediate=12)
    )
    models.save_model(stock, tmp_path / "stock")
    dense = models.load_model(tmp_path / "stock", kind=kind)
    attention = 1 if case.startswith("deberta") else 2
    model = moe_bert.with_experts(
        dense, attention=attention, ffn=4, shared_fraction=Fraction(1, 2), noise="multiplicative", seed=0
    )
    models.save_model(model, tmp_path)
    expected = tiny_models.output(model)
    assert not torch.equal(expected, tiny_models.output(dense))
    ours = models.load_model(tmp_path, kind=kind)
    auto = getattr(transformers, "AutoModel" if kind is None else f"AutoModelFor{families.HEADS[kind]}")
    theirs, report = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for tensor in [*theirs.parameters(), *theirs.buffers()]:
        tensor.data = tensor.data.clone()  # rounding depends on where in a file a mapped tensor begins
    for loaded in (ours, theirs):
        assert type(loaded) is type(model) and loaded.config.model_type == f"moe-{tiny_models.CASES[case][0]}"
        assert torch.equal(tiny_models.output(loaded), expected)
        assert len(moe_bert.routers(loaded)) == 3 * (1 + (attention > 1))
        assert moe_bert.expert_entry(loaded) == moe_bert.expert_entry(model)
    assert models.describe(ours)["experts"] == f"{attention},4"


def test_compiled():
    """As one graph, with the balance loss of what it leaves behind, and in training mode too."""
    model = expert_model(
        attention=2, ffn=4, num_hidden_layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    batch = tiny_models.inputs()
    results = []
    for run in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        states = run(**batch).last_hidden_state
        term = Balance(model, 1.0)(batch_of(batch))["balance"]
        results.append((states, term, gradients(model, loss_of(states, batch["attention_mask"]) + term)))
    (states, term, wanted), (compiled, compiled_term, found) = results
    mask = batch["attention_mask"].bool()
    assert torch.allclose(states[mask], compiled[mask], rtol=0, atol=1e-10) and term.item() == pytest.approx(
        compiled_term.item()
    )
    assert all(torch.allclose(found[name], wanted[name], rtol=0, atol=1e-9) for name in wanted)
    assert not any(found[name].any() for name in found.keys() - wanted.keys())  # the pooler's
