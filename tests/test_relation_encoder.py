"""Queries, keys and values of every row of the architecture table; which parameters train; students of other
sizes; masking."""

import pytest
import tiny_models
import torch
import torch.nn.functional as F
import transformers
from torch import nn

import models
from models import architectures
from models.relation_encoder import RelationEncoder
from models.relation_objective import RelationObjective
from models.resized import resized, resized_config
from modules.masking import mask_tokens, masked_loss
from modules.relation_losses import relation_losses
from utils import families
from utils.batch import Batch
from utils.student_sizes import Hop

QKV = {"qq": 1.0, "kk": 1.0, "vv": 1.0}


def direct(model, layer, batch):
    """Q, K, V of a layer computed from what goes into its attention in an ordinary pass through the whole
    model."""
    wanted, seen = architectures.layers(model)[layer - 1], []

    def note(module, args, kwargs):
        seen.append(args[0] if args else kwargs["hidden_states"])

    handle = wanted.heads.attention.register_forward_pre_hook(note, with_kwargs=True)
    model(**batch)
    handle.remove()
    if wanted.fused_qkv:
        weights, biases = (
            wanted.query.weight.chunk(3),
            [None] * 3 if wanted.query.bias is None else wanted.query.bias.chunk(3),
        )
    else:
        weights, biases = zip(
            *[(each.weight, each.bias) for each in (wanted.query, wanted.key, wanted.value)]
        )
    return {kind: F.linear(seen[0], weight, bias) for kind, weight, bias in zip("qkv", weights, biases)}


@pytest.mark.parametrize("case", tiny_models.CASES)
@pytest.mark.parametrize("layer", [1, 2, 3])
def test_captures_are_the_projections_and_nothing_runs_behind_them(case, layer):
    model, batch = tiny_models.build(case, kind=None), tiny_models.inputs()
    expected = direct(model, layer, batch)
    used = []
    for number, each in enumerate(architectures.layers(model)):
        for name, module in (("attention", each.heads.attention), ("ffn", each.ffn_out)):
            module.register_forward_hook(lambda *_, name=name, number=number: used.append((name, number)))
    if getattr(architectures.encoder(model), "pooler", None) is not None:
        architectures.encoder(model).pooler.register_forward_hook(lambda *_: used.append("pooler"))
    encoder = RelationEncoder(model, layer=layer)
    used.clear()
    found = encoder(**batch)
    assert used == [(name, number) for number in range(layer - 1) for name in ("attention", "ffn")]
    assert found.keys() == {"q", "k", "v"}
    assert all((found[kind] - expected[kind]).abs().max() < 1e-12 for kind in "qkv")
    assert encoder.captured == {}
    assert encoder.view(**batch).last_hidden_state.shape == (3, 9, 16), (
        "the last layer returns what its stock class does"
    )
    again = model(**batch).last_hidden_state  # the stock model has stayed what it was
    assert (again - tiny_models.build(case, kind=None)(**batch).last_hidden_state).abs().max() < 1e-12


@pytest.mark.parametrize(
    "options",
    [{}, {"kinds": "q"}, {"source": "extra"}, {"vocabulary": True}, {"source": "extra", "vocabulary": True}],
    ids=str,
)
@pytest.mark.parametrize("case", tiny_models.CASES)
def test_what_trains_is_what_gets_a_gradient(case, options):
    """DDP waits for every parameter that asks for a gradient, so each must get one; a frozen one must not
    have mattered."""
    model, batch = tiny_models.build(case, kind=None), tiny_models.inputs()
    encoder = RelationEncoder(model, layer=3, **options)
    chosen = {"chosen_BL": batch["attention_mask"].bool()} if "vocabulary" in options else {}
    sum(tensor.square().sum() for tensor in encoder(**batch, **chosen).values()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    dead = [name for name, parameter in encoder.named_parameters() if not parameter.requires_grad]
    assert all("pooler" in name for name in dead) == ("source" in options or "vocabulary" in options)


@pytest.mark.parametrize(
    "case, trained, tensors",
    [
        ("bert", 91, 103),
        ("roberta", 91, 103),
        ("mpnet", 91, 103),
        ("electra", 93, 103),
        ("deberta-v2", 93, 103),
        ("distilbert", 90, 100),
        ("modernbert", 33, 38),
    ],
)
def test_numbers_of_tensors_of_six_layers(case, trained, tensors):
    settings = {"n_layers" if case == "distilbert" else "num_hidden_layers": 6}
    if case == "deberta-v2":
        settings["position_biased_input"] = True
    model = tiny_models.build(case, kind=None, **settings)
    found = [parameter.requires_grad for parameter in RelationEncoder(model, layer=6).parameters()]
    assert (sum(found), len(found)) == (trained, tensors)
    extra = RelationEncoder(
        tiny_models.build("bert", kind=None, num_hidden_layers=6), layer=6, source="extra"
    )
    assert sum(parameter.requires_grad for parameter in extra.parameters()) == 107


def test_a_frozen_teacher_stays_frozen_and_in_eval_mode():
    teacher = RelationEncoder(models.freeze(tiny_models.build("bert", kind=None)), layer=2)
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())


def test_compiles_without_a_break():
    for case in ("bert", "modernbert"):
        encoder, batch = RelationEncoder(tiny_models.build(case, kind=None), layer=2), tiny_models.inputs()
        expected = encoder(**batch)
        found = torch.compile(encoder, fullgraph=True, backend="eager")(**batch)
        assert all(torch.allclose(found[kind], expected[kind]) for kind in "qkv")


# ---- Golden values: a whole step on weights by a formula


def formula(model, phase, named=None):
    """Parameters by a formula of their number in sorted name order and their flat index."""
    named = sorted((named or dict(model.named_parameters())).items())
    with torch.no_grad():
        for number, (name, parameter) in enumerate(named):
            index = torch.arange(parameter.numel(), dtype=torch.float64)
            values = ((37 * index**2 + 11 * index + 101 * number + phase) % 1009) / 504.5 - 1
            if parameter.dim() > 1:
                values = 0.3 * values
            else:
                values = 0.1 * values + ("LayerNorm.weight" in name)
            parameter.copy_(values.view(parameter.shape))


def golden_pair(layer, source="last"):
    sides = []
    for depth, width, phase in ((3, 48, 0), (2, 24, 7)):
        config = transformers.BertConfig(
            vocab_size=97,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=4,
            intermediate_size=4 * width,
            max_position_embeddings=32,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        model = transformers.BertModel(config).double()
        formula(model, phase)
        sides.append(model)
    teacher, student = (
        RelationEncoder(models.freeze(sides[0]), layer=layer),
        RelationEncoder(sides[1], layer=2, source=source),
    )
    if source == "extra":
        named = {
            f"{name}.{part}": getattr(student.extra[name[0]], part)
            for name in ("key", "query", "value")
            for part in ("bias", "weight")
        }
        formula(student, 13, named)
    return teacher, student.train()


def golden_batch(left=0, right=0):
    lengths = torch.tensor([8, 5])
    ids = (7 * torch.arange(2)[:, None] + 13 * torch.arange(8) + 5) % 97
    mask = (torch.arange(8) < lengths[:, None]).long()
    positions = torch.arange(8).repeat(2, 1)
    ids, mask, positions = (F.pad(each, (left, right)) for each in (ids * mask, mask, positions))
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": positions,
        "token_type_ids": torch.zeros_like(ids),
    }
    return Batch(inputs, None, None, {"examples": 2.0, "tokens": 13.0})


def step(layer, *, batch=None, weighting="sequence", source="last"):
    teacher, student = golden_pair(layer, source)
    objective = RelationObjective(teacher, relations=QKV, num_heads=6, weighting=weighting)
    return student, objective(student, batch or golden_batch())


def norm(*parameters):
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt().item()


@pytest.mark.parametrize(
    "layer, parts, token, gradients",
    [
        (
            3,
            (0.411316025357, 0.453097323925, 0.377746615714),
            0.427871461473,
            (0.822496856706, 0.273483391504, 0.265108490716, 0.050722804197, 0.203231685349),
        ),
        (
            2,
            (0.419520447920, 0.431147744248, 0.423552610046),
            0.452613021297,
            (0.775033927520, 0.246959719368, 0.277565781329, 0.036493841501, 0.253282219291),
        ),
    ],
)
def test_golden_step(layer, parts, token, gradients):
    student, terms = step(layer)
    assert [term.item() for term in terms.values()] == pytest.approx(parts, abs=1e-11)
    sum(terms.values()).backward()
    attention = student.model.encoder.layer[1].attention.self
    watched = [
        [student.model.embeddings.word_embeddings.weight],
        [attention.query.weight],
        [attention.key.bias],
        [attention.value.weight],
    ]
    assert [norm(*student.parameters()), *(norm(*each) for each in watched)] == pytest.approx(
        gradients, abs=1e-11
    )
    assert sum(parameter.requires_grad for parameter in student.parameters()) == 27
    assert student.model.encoder.layer[0].attention.self.key.bias.grad.abs().max() < 1e-15
    assert sum(step(layer, weighting="token")[1].values()).item() == pytest.approx(token, abs=1e-11)
    for left, right in ((4, 0), (0, 4)):
        padded = step(layer, batch=golden_batch(left, right))[1]
        assert [term.item() for term in padded.values()] == pytest.approx(parts, abs=1e-11)


def test_golden_step_on_extra_projections():
    student, terms = step(3, source="extra")
    assert sum(terms.values()).item() == pytest.approx(1.268045615193, abs=1e-11)
    assert terms["relation/qq"].item() == pytest.approx(0.383599180105, abs=1e-11)
    sum(terms.values()).backward()
    assert norm(*student.parameters()) == pytest.approx(1.329125786254, abs=1e-11)
    assert sum(parameter.requires_grad for parameter in student.parameters()) == 43
    assert sum(step(3, source="extra", weighting="token")[1].values()).item() == pytest.approx(
        0.429290897534, abs=1e-11
    )


def test_ten_golden_updates_move_the_student_only():
    teacher, student = golden_pair(3)
    before = [
        {name: parameter.clone() for name, parameter in side.named_parameters()}
        for side in (teacher, student)
    ]
    optimizer = torch.optim.AdamW(
        [parameter for parameter in student.parameters() if parameter.requires_grad],
        lr=1e-3,
        eps=1e-6,
        weight_decay=0.01,
    )
    objective, losses = RelationObjective(teacher, relations=QKV, num_heads=6, weighting="sequence"), []
    for _ in range(10):
        loss = sum(objective(student, golden_batch()).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == pytest.approx(
        [
            1.242159965,
            1.193423035,
            1.148446403,
            1.106683422,
            1.067773456,
            1.031439077,
            0.997417404,
            0.965454267,
            0.935332401,
            0.906882238,
        ],
        abs=2e-9,
    )
    assert all(torch.equal(parameter, before[0][name]) for name, parameter in teacher.named_parameters())
    same = [name for name, parameter in student.named_parameters() if torch.equal(parameter, before[1][name])]
    assert (
        same == [name for name, parameter in student.named_parameters() if not parameter.requires_grad]
        and len(same) == 12
    )


# ---- Students


def hop(layers=2, hidden=8, heads=2, intermediate=6):
    return Hop(
        teacher_layer=3,
        relation_heads=4,
        layers=layers,
        hidden=hidden,
        heads=heads,
        intermediate=intermediate,
    )


@pytest.mark.parametrize("case", tiny_models.CASES)
@pytest.mark.parametrize("init", ["random", "slice"])
def test_students_of_every_family(case, init, tmp_path):
    """Built, run, saved as stock models and loaded as such, to the same output."""
    teacher = tiny_models.build(case, kind=None, dtype=torch.float32)
    student = resized(teacher, hop(), init=init, seed=1)
    assert (
        len(architectures.layers(student)) == 2
        and type(student) is type(teacher)
        and student.config.hidden_size == 8
    )
    shared = families.heads_per_key(teacher.config.to_dict())
    assert (
        architectures.layers(student)[0].heads.count == 2 / shared
        and architectures.layers(student)[0].neurons.count == 6
    )
    answer = RelationEncoder(student, layer=2)(**tiny_models.inputs())
    assert {kind: tensor.shape[2] for kind, tensor in answer.items()} == {
        "q": 8,
        "k": 8 / shared,
        "v": 8 / shared,
    }
    assert families.projection_widths(student.config.to_dict(), 2) == {
        kind: each.shape[2] for kind, each in answer.items()
    }
    expected = tiny_models.output(student)
    models.save_model(student, tmp_path)
    auto = type(student) if architectures.of(student).decoder else transformers.AutoModel
    stock, report = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert (
        not report["missing_keys"]
        and not report["unexpected_keys"]
        and torch.allclose(tiny_models.output(stock.eval()), expected, rtol=0, atol=1e-6)
    )
    same = resized(teacher, hop(), init=init, seed=1).state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in student.state_dict().items())


@pytest.mark.parametrize("case", tiny_models.CASES)
def test_a_student_of_the_teachers_own_size_is_the_teacher(case):
    teacher = tiny_models.build(case, kind=None, dtype=torch.float32)
    student = resized(teacher, hop(*families.sizes(teacher.config.to_dict()).values()), init="layers", seed=1)
    if architectures.of(
        student
    ).decoder:  # T5, whose heads are not as wide as the hidden size over their number
        assert RelationEncoder(student, layer=3)(**tiny_models.inputs())["q"].shape[2] == 16
        return
    target = RelationEncoder(models.freeze(teacher), layer=3)(**tiny_models.inputs())
    answer = RelationEncoder(student, layer=3)(**tiny_models.inputs())
    losses = relation_losses(
        answer, target, tiny_models.inputs()["attention_mask"].bool(), relations=QKV, num_heads=4
    )
    assert max(loss.item() for loss in losses.values()) < 1e-9


def test_slices_are_first_rows_and_columns_of_every_kth_layer():
    teacher = tiny_models.build("bert", kind=None, num_hidden_layers=6)
    student = resized(teacher, hop(), init="slice", seed=1).double()
    ours, theirs = (side.state_dict() for side in (student, teacher))
    for layer, source in ((0, 0), (1, 3)):
        found = ours[f"encoder.layer.{layer}.intermediate.dense.weight"]
        assert torch.allclose(
            found, theirs[f"encoder.layer.{source}.intermediate.dense.weight"][:6, :8], atol=1e-7
        )
    assert torch.allclose(
        ours["embeddings.word_embeddings.weight"],
        theirs["embeddings.word_embeddings.weight"][:, :8],
        atol=1e-7,
    )
    fused = tiny_models.build("modernbert", kind=None)
    sliced = resized(fused, hop(), init="slice", seed=1).double()
    whole, part = fused.layers[0].attn.Wqkv.weight, sliced.layers[0].attn.Wqkv.weight
    for kind in range(3):
        assert torch.allclose(part[8 * kind : 8 * kind + 8], whole[16 * kind : 16 * kind + 8, :8], atol=1e-7)
    copied = resized(teacher, hop(2, 16, 4, 6), init="embeddings", seed=1).double().state_dict()
    name = "embeddings.position_embeddings.weight"
    assert torch.allclose(copied[name], theirs[name], atol=1e-7)
    name = "encoder.layer.0.attention.self.query.weight"
    assert not torch.allclose(copied[name], theirs[name], atol=1e-2)


@pytest.mark.parametrize(
    "config, layers, hidden, intermediate, parameters",
    [
        (transformers.BertConfig(), 6, 384, 1536, 22_713_216),
        (transformers.BertConfig(), 12, 384, 1536, 33_360_000),
        (transformers.BertConfig(), 6, 768, 3072, 66_955_008),
        (transformers.BertConfig(), 6, 384, 3072, 29_800_320),
        (
            transformers.RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1),
            6,
            384,
            1536,
            30_294_912,
        ),
        (
            transformers.XLMRobertaConfig(vocab_size=250002, max_position_embeddings=514, type_vocab_size=1),
            6,
            384,
            1536,
            106_993_920,
        ),
    ],
)
def test_published_parameter_counts(config, layers, hidden, intermediate, parameters):
    made = resized_config(config, layers=layers, hidden=hidden, heads=12, intermediate=intermediate)
    with torch.device("meta"):
        student = transformers.AutoModel.from_config(made)
    assert sum(parameter.numel() for parameter in student.parameters()) == parameters


def test_positions():
    found = {
        case: architectures.max_positions(tiny_models.build(case, kind=None))
        for case in ("bert", "roberta", "mpnet", "modernbert", "t5")
    }
    assert found == {"bert": 40, "roberta": 38, "mpnet": 38, "modernbert": None, "t5": None}


# ---- Masked tokens


def test_masking():
    torch.manual_seed(0)
    ids = torch.randint(5, 100, (200, 100))
    candidates = torch.rand(200, 100) < 0.5
    masked, chosen = mask_tokens(ids, candidates, probability=0.15, mask_id=4, vocabulary_size=100)
    assert not (chosen & ~candidates).any() and torch.equal(masked[~chosen], ids[~chosen])
    assert chosen.sum().item() / candidates.sum().item() == pytest.approx(0.15, abs=0.01)
    shares = [(masked == 4)[chosen].float().mean().item(), (masked == ids)[chosen].float().mean().item()]
    assert shares == pytest.approx([0.8, 0.1], abs=0.03)


def test_masked_loss():
    logits, ids = torch.randn(3, 7), torch.tensor([1, 5, 2])
    expected = -sum(nn.functional.log_softmax(row, 0)[i] for row, i in zip(logits, ids)) / 2.5
    assert masked_loss(logits, ids, divisor=2.5).item() == pytest.approx(expected.item(), rel=1e-6)
