"""Sparse MiniLM: heads, neurons and hidden dimensions sorted on a corpus by the loss of masked tokens,
cropped, distilled."""

import json
import math

import pytest
import tiny_models
import torch
import torch.nn.functional as F
import transformers
from commands import run
from corpus_runs import SHORT
from run_folders import weights
from torch import nn

import models
import run_minilmv2
import run_sparsification
from models import architectures, hidden_dimensions, masked_tokens, slicing
from models.relation_encoder import RelationEncoder
from modules import importance
from modules.masking import mask_tokens
from utils import families
from utils.batch import Batch
from utils.errors import CheckpointError, FlagError
from utils.files import read_json, sha256

GRID = (0, 50, 75, 90, 99)
CASES = [case for case, (name, _) in tiny_models.CASES.items() if families.refusal(name, "hidden") is None]


def masked_model(case, dtype=torch.float64):
    """A tiny model with its head for masked tokens, all parameters random."""
    return tiny_models.build(case, kind="masked", dtype=dtype)


def nested(model, seed=0):
    """Sorted by random scores; returns them."""
    generator = torch.Generator().manual_seed(seed)
    scores = [
        torch.rand(*shape, generator=generator, dtype=torch.float64) for shape in ((3, 4), (3, 10), (1, 16))
    ]
    models.sort_units(model, *scores, grid=GRID)
    return scores


@pytest.fixture(params=CASES)
def case(request):
    return request.param


# ---- Golden values of the method


def test_sparsity_of_an_axis():
    wanted = {
        10: 5,
        20: 11,
        30: 16,
        40: 23,
        50: 29,
        60: 37,
        70: 45,
        80: 55,
        85: 61,
        90: 68,
        95: 78,
        98: 86,
        99: 90,
    }
    assert {s: importance.axis_sparsity(s) for s in wanted} == wanted and importance.axis_sparsity(0) == 0
    assert run_sparsification.parse(
        ["--task_name", "corpus", "--corpus", "c", "--model_path", "m/m"]
    ).grid == [0, *wanted]


@pytest.mark.parametrize("s, heads, neurons, hidden", [
    (90, 46, 11796, 246), (95, 32, 8110, 169), (98, 20, 5161, 108), (99, 14, 3686, 77),
])  # fmt: skip
def test_sizes_of_crops_of_bert_base(s, heads, neurons, hidden):
    axis = importance.axis_sparsity(s)
    kept = []
    for layers, units in ((12, 12), (12, 3072), (1, 768)):
        scores_LU = torch.rand(layers, units, generator=torch.Generator().manual_seed(0))
        kept.append(layers * units - sum(importance.removed_counts(scores_LU, [axis])[axis]))
    assert kept == [heads, neurons, hidden]


# ---- Sorted and cropped models


@torch.no_grad()
def test_sorting_leaves_the_logits_of_masked_tokens_alone(case):
    model = masked_model(case)
    before = tiny_models.output(model)
    scores = nested(model)
    after = tiny_models.output(model)
    assert torch.allclose(after, before, rtol=0, atol=tolerance(model))
    order_D = scores[2][0].argsort(descending=True)
    found, stock = (dict(each.named_parameters()) for each in (model, masked_model(case)))
    name = [
        f"{path}.weight" for path, norm in tiny_models.norms(model).items() if norm.weight.shape == (16,)
    ][-1]
    assert torch.equal(found[name], stock[name][order_D]) and not torch.equal(found[name], stock[name])


@torch.no_grad()
@pytest.mark.parametrize("s", GRID[1:])
def test_a_crop_is_the_masked_model_with_norms_over_what_is_kept(case, s):
    """Plainly: zeros for what is removed, everywhere, and norms that count only what is left; the
    highest-scored are left."""
    model = masked_model(case)
    scores = nested(model)
    cropped = models.crop(model, s)
    axis = importance.axis_sparsity(s) / 100
    number = 16 - round(axis * 16)
    assert hidden_dimensions.width(cropped) == slicing.kept_hidden(model, s) == number
    kept_D = torch.zeros(16, dtype=torch.bool)
    kept_D[scores[2][0].argsort(descending=True)[:number]] = True

    plain = masked_model(case)
    head_scores, neuron_scores = (importance.normalise(each) for each in scores[:2])
    removed = [
        each.flatten().argsort()[: round(axis * each.numel())] for each in (head_scores, neuron_scores)
    ]
    for unit, index in zip(("heads", "neurons"), removed):
        gone = torch.zeros_like(scores[unit == "neurons"]).flatten()
        gone[index] = 1
        for each, row in zip(architectures.layers(plain), gone.view(3, -1)):
            sublayer = getattr(each, unit)
            sublayer.out.weight[:, row.repeat_interleave(sublayer.size).bool()] = 0
    with_dimensions(plain, kept_D)
    assert torch.allclose(
        tiny_models.output(cropped), tiny_models.output(plain), rtol=0, atol=tolerance(model)
    )


def tolerance(model):
    """Norms of another class than torch's compute in float32, whatever the model's precision."""
    return (
        1e-10 if all(isinstance(norm, nn.LayerNorm) for norm in tiny_models.norms(model).values()) else 1e-5
    )


def with_dimensions(plain, kept_D):
    """Make a model forget dimensions: whatever is put out as a state is zero there, and norms look at the
    others only."""

    def norm(self, states):
        if self.weight.shape != (16,):
            return F.layer_norm(states, self.normalized_shape, self.weight, self.bias, self.eps)
        left = states[..., kept_D]
        if not isinstance(self, nn.LayerNorm):  # root mean square
            return (
                states
                / (left.square().mean(-1, keepdim=True) + self.variance_epsilon).sqrt()
                * self.weight
                * kept_D
            )
        mean, variance = left.mean(-1, keepdim=True), left.var(-1, correction=0, keepdim=True)
        bias = 0 if self.bias is None else self.bias
        return ((states - mean) / (variance + self.eps).sqrt() * self.weight + bias) * kept_D

    for module in tiny_models.norms(plain).values():
        module.forward = norm.__get__(module)
    for module in plain.modules():
        if plain.config.model_type == "electra" and module is getattr(
            plain.base_model, "embeddings_project", None
        ):
            module.register_forward_hook(lambda module, args, out: out * kept_D)


@torch.no_grad()
@pytest.mark.parametrize("s", [0, 50, 99])
def test_crops_are_saved_and_loaded_bit_equal(case, s, tmp_path):
    model = masked_model(case, torch.float32)
    nested(model)
    models.save_model(model, tmp_path / "nested")
    whole = models.load_model(tmp_path / "nested")
    cropped = models.crop(whole, s)
    models.save_model(cropped, tmp_path / "crop")
    again = models.load_model(tmp_path / "crop")
    assert type(again) is type(cropped) and torch.equal(
        tiny_models.output(again), tiny_models.output(cropped)
    )
    auto = transformers.AutoModel.from_pretrained(tmp_path / "crop")
    assert all(torch.equal(tensor, auto.state_dict()[name]) for name, tensor in cropped.state_dict().items())
    assert models.grid(again) == [point for point in GRID if point >= s]
    further = models.crop(again, 99)
    assert torch.equal(tiny_models.output(further), tiny_models.output(models.crop(whole, 99)))
    described = models.describe(again)
    assert (
        described["hidden"]
        == hidden_dimensions.width(again)
        == 16 - round(importance.axis_sparsity(s) / 100 * 16)
    )
    # with a head of a task on top, whose inputs are the dimensions that are left
    tuned = models.load_model(
        tmp_path / "crop", kind="classification", label_names=["a", "b", "c"], new_head=True
    )
    assert tiny_models.output(tuned).shape == (3, 3)
    models.save_model(tuned, tmp_path / "tuned")
    loaded = models.load_model(tmp_path / "tuned", kind="classification", label_names=["a", "b", "c"])
    assert torch.equal(tiny_models.output(loaded), tiny_models.output(tuned))
    fewer = models.keep_layers(again, 2)
    assert len(architectures.layers(fewer)) == 2 and tiny_models.output(fewer).shape[
        -1
    ] == hidden_dimensions.width(again)


def test_what_cannot_be_done_with_fewer_dimensions():
    model = masked_model("bert")
    nested(model)
    with pytest.raises(CheckpointError, match="removes hidden dimensions too; such a part is cropped"):
        models.set_sparsity(model, 90)
    with pytest.raises(CheckpointError, match="has 5 of 16 hidden dimensions"):
        models.export_dense(models.crop(model, 90))
    assert models.export_dense(model).config.model_type == "bert"
    with pytest.raises(CheckpointError, match="cropped to 90% sparsity"):
        nested(models.crop(model, 90))
    with pytest.raises(
        CheckpointError, match=r"hidden dimensions cannot be sorted and removed, as .*; expected one of"
    ):
        with models.scoring_masks(tiny_models.build("t5"), hidden=True):
            pass


def test_counts_that_do_not_fit(tmp_path):
    model = masked_model("bert", torch.float32)
    nested(model)
    models.save_model(models.crop(model, 50), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for wrong, message in (
        (17, "compression.hidden is 17; expected a number from 1 to 16"),
        (7, "of another size"),
    ):
        config["compression"]["hidden"] = wrong
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=message):
            models.load_model(tmp_path)


# ---- Scores


def test_scores_of_hidden_dimensions(case):
    """|d loss / d m| of one factor per dimension, wherever states are put out; by finite differences of the
    loss in float64.

    With large steps, as some families compute parts in float32 whatever the model's precision.
    """
    model = models.freeze(masked_model(case))
    batch = tiny_models.inputs()
    weights_V = torch.linspace(-1, 1, 40, dtype=torch.float64)

    def loss():
        return (tiny_models.output(model, batch) * weights_V).sum()

    with models.scoring_masks(model, hidden=True) as masks:
        assert masks.hidden.shape == (1, 16)
        scores = importance.Accumulator(masks)
        scores.add(loss(), weight=1)
        for dimension in (0, 7, 15):
            values = []
            for step in (1e-3, -1e-3):
                with torch.no_grad():
                    masks.hidden[0, dimension] = 1 + step
                    values.append(loss().item())
                    masks.hidden[0, dimension] = 1
            assert scores.hidden[0, dimension].item() == pytest.approx(
                abs(values[0] - values[1]) / 2e-3, rel=1e-3, abs=5e-3
            )
        read = []
        for layer in models.layers(model):
            for module in (layer.query, layer.neurons.projections[0].linear):
                module.register_forward_pre_hook(
                    lambda _, inputs: read.append(inputs[0][..., 3].abs().max().item())
                )
        with torch.no_grad():  # a zero acts on what every matrix reads
            masks.hidden[0, 3] = 0
            with_zero = loss()
        assert len(read) >= 6 and not any(read)
    assert abs(with_zero.item() - loss().item()) > 1e-3


def test_masked_tokens_of_a_sequence():
    """15%, at most 20 of each, never padding; and the limit leaves those alone that are below it."""
    torch.manual_seed(0)
    ids, real = torch.full((200, 300), 9), torch.ones(200, 300, dtype=torch.bool)
    real[100:, 40:] = False
    options = {"probability": 0.15, "mask_id": 4, "vocabulary_size": 30}
    for limit, most in ((None, 70), (20, 20), (500, 70)):
        torch.manual_seed(1)
        _, chosen = mask_tokens(ids, real, **options, at_most=limit)
        assert not chosen[~real].any()
        counts = chosen.sum(1)
        assert counts[:100].max() <= most and counts[:100].min() >= min(most, 20)
        assert 0.12 < counts[100:].sum() / 4000 < 0.18
        if limit is None:
            unlimited = chosen
    assert torch.equal(chosen, unlimited)


@torch.no_grad()
def test_logits_of_chosen_tokens_alone(case):
    model = masked_model(case)
    inputs = tiny_models.inputs()
    chosen = torch.rand(3, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    expected = model(**inputs).logits[chosen]
    assert torch.allclose(masked_tokens.masked_logits(model, inputs, chosen), expected, rtol=0, atol=1e-12)


def test_projections_are_as_wide_as_before():
    """As if states were put back into place: relation heads divide the width that the model had."""
    model = masked_model("bert")
    nested(model)
    encoder = RelationEncoder(models.crop(model, 90).base_model, layer=3, source="extra")
    answer = encoder(**tiny_models.inputs())
    assert {kind: tensor.shape[-1] for kind, tensor in answer.items()} == dict.fromkeys("qkv", 16)
    assert encoder.extra["q"].in_features == 5


# ---- The scripts


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, demo_tokenizer):
    """A random model with a head for masked tokens, and some contrast in what it says."""
    folder = tmp_path_factory.mktemp("pretrained") / "model"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(demo_tokenizer),
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=24,
        initializer_range=0.2,
    )
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    demo_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scoring(demo_corpus, pretrained):
    return [
        *f"--task_name corpus --corpus {demo_corpus} --model_path {pretrained}".split(),
        *"--num_heldout_blocks 40 --use_cpu --num_scoring_samples 64".split(),
        *"--scoring_batch_size 16 --grid 0,50,90,99".split(),
    ]


@pytest.fixture(scope="module")
def sparsified(tmp_path_factory, scoring):
    folder = tmp_path_factory.mktemp("sparsified") / "run"
    run("run_sparsification.py", *scoring, "--output_dir", folder)
    return folder


def test_sparsification_on_a_corpus(sparsified, pretrained, scoring, tmp_path):
    results = read_json(sparsified / "results.json")
    assert results["after"]["masked loss"] == pytest.approx(results["before"]["masked loss"], rel=1e-5)
    assert results["metrics"]["heldout"]["masked_loss"] == results["after"]["masked loss"] > math.log(10)
    curve = results["curve"]
    assert [row["sparsity"] for row in curve] == [0, 50, 90, 99]
    assert [row["hidden"] for row in curve] == [48, 34, 15, 5] and [row["heads"] for row in curve] == [
        12,
        9,
        4,
        1,
    ]
    shares = [row["macs"] / curve[0]["macs"] for row in curve]
    assert shares == pytest.approx([1, 0.5, 0.1, 0.01], abs=0.03)
    assert (sparsified / "curve.png").read_bytes().startswith(b"\x89PNG")
    config = read_json(sparsified / "ckpt" / "config.json")
    assert config["model_type"] == "bert" and config["compression"]["grid"]["90"]["hidden"] == 15
    model, report = transformers.AutoModelForMaskedLM.from_pretrained(
        sparsified / "ckpt", output_loading_info=True
    )
    assert (
        type(model) is transformers.BertForMaskedLM
        and not report["missing_keys"]
        and not report["unexpected_keys"]
    )
    assert "64 blocks" in (sparsified / "ckpt" / "README.md").read_text()
    # the same command, in two processes, finds the same scores: which tokens are masked depends on the batch
    # alone
    run("run_sparsification.py", *scoring, "--output_dir", tmp_path / "two", processes=2)
    again = read_json(tmp_path / "two" / "results.json")
    assert again["after"]["masked loss"] == pytest.approx(results["after"]["masked loss"], rel=1e-6)
    assert read_json(tmp_path / "two" / "ckpt" / "config.json")["compression"] == config["compression"]


def test_a_crop_is_distilled_and_fine_tuned(sparsified, demo_corpus, small_demo, tmp_path):
    base = ["--corpus", demo_corpus, "--teacher_model_path", sparsified, *SHORT, "--sparsity", 90]
    folder = tmp_path / "run"
    run("run_minilmv2.py", *base, "--output_dir", folder)
    results, config = read_json(folder / "results.json"), read_json(folder / "ckpt" / "config.json")
    assert results["metrics"]["heldout"]["loss"] < 0.9 * results["hops"][0]["heldout_before"]["loss"]
    assert config["model_type"] == "sparse-bert" and config["compression"]["hidden"] == 15
    assert results["model"]["sparsity"] == 90 and results["model"]["hidden"] == 15
    assert "fine-tuning trains them" not in (folder / "ckpt" / "README.md").read_text().lower()
    crop = models.crop(models.load_model(sparsified), 90)
    trained = weights(folder / "ckpt")
    assert {name: tuple(tensor.shape) for name, tensor in trained.items()} == {
        name: tuple(tensor.shape) for name, tensor in crop.named_parameters()
    }
    run(
        "run_finetuning.py",
        *f"--task_name demo --data_dir {small_demo} --model_path {folder} --use_cpu".split(),
        *f"--max_steps 2 --max_length 24 --output_dir {tmp_path / 'tuned'}".split(),
    )
    assert read_json(tmp_path / "tuned" / "ckpt" / "config.json")["compression"]["hidden"] == 15
    # by name, as a student beside another teacher: the same student
    run("run_minilmv2.py", *base, "--student_model_path", sparsified, "--output_dir", tmp_path / "named")
    assert sha256(tmp_path / "named" / "ckpt" / "model.safetensors") == sha256(
        folder / "ckpt" / "model.safetensors"
    )


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--sparsity", "80"], "--sparsity 80S: not in the grid of the student: 0, 50, 90, 99"),
        (
            [*"--sparsity 90 --layer 2".split()],
            "--student_layer: --sparsity says what the student is; leave this out",
        ),
        (
            [*"--sparsity 90 --relation_source last".split()],
            "--relation_source last: --sparsity needs extra projections",
        ),
        (
            [*"--sparsity 90 --ofa_layer 2".split()],
            "--sparsity and --ofa_layer, --ofa_hidden: each says what the student is",
        ),
        (
            [*"--sparsity 90 --teacher_model_path {pretrained}".split()],
            "the student is not nested (no grid in its config)",
        ),
    ],
)
def test_flags_that_do_not_fit(flags, message, sparsified, pretrained):
    words = [
        "--corpus",
        "c",
        "--teacher_model_path",
        str(sparsified),
        *(flag.format(pretrained=pretrained) for flag in flags),
    ]
    with pytest.raises(FlagError) as caught:
        run_minilmv2.parse(words)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "flags, messages",
    [
        (
            [*"--task_name corpus --data_dir datasets --do_test --corpus c".split()],
            [
                "--data_dir: has no meaning with --task_name corpus",
                "--do_test: has no meaning with --task_name corpus",
            ],
        ),
        (
            [*"--task_name corpus --student_model_path m/m --model_type sparsebert_cls".split()],
            [
                "--corpus/--record_path_or_regex: required",
                "--student_model_path: has no meaning",
                "expected sparsebert_mlm",
            ],
        ),
        (
            [*"--task_name mrpc --corpus c --num_heldout_blocks 4".split()],
            [
                "--corpus: has no meaning with --task_name mrpc",
                "--num_heldout_blocks: has no meaning with --task_name mrpc",
            ],
        ),
    ],
)
def test_flags_of_the_other_use(flags, messages):
    """Also where their value is the default: a setting without effect is an error."""
    with pytest.raises(FlagError) as caught:
        run_sparsification.parse([*flags, "--model_path", "m/m"])
    assert all(message in str(caught.value) for message in messages)
    assert len(str(caught.value).splitlines()) == len(messages) + 1


def test_models_that_cannot_be_scored(scoring, small_teacher, demo_tokenizer, tmp_path):
    flags = [*scoring, "--output_dir", tmp_path / "run"]
    done = run("run_sparsification.py", *flags, "--model_path", small_teacher, code=2)
    assert "no head for masked tokens, whose loss is needed" in done.stderr
    config = transformers.T5Config(
        vocab_size=len(demo_tokenizer), d_model=48, num_layers=1, num_heads=4, d_kv=12, d_ff=96
    )
    transformers.T5EncoderModel(config).save_pretrained(tmp_path / "t5")
    done = run("run_sparsification.py", *flags, "--model_path", tmp_path / "t5", code=2)
    assert (
        "--model_path: model_type t5: its hidden dimensions cannot be sorted and removed, as" in done.stderr
    )
    assert not (tmp_path / "run").exists()


@torch.no_grad()
def test_which_tokens_are_masked_depends_on_the_seeds_alone(pretrained, demo_tokenizer):
    """Whatever was drawn before; and a batch in which none is has no loss, and no weight."""
    model = models.load_model(pretrained, kind="masked")
    ids = torch.tensor(
        [
            [demo_tokenizer.cls_token_id, 9, 10, 11, demo_tokenizer.sep_token_id],
            [demo_tokenizer.cls_token_id, 9, 12, 0, 0],
        ]
    )
    batch = Batch({"input_ids": ids, "attention_mask": (ids > 0).long()}, None, None, {})
    found = [
        masked_tokens.batch_loss(model, batch, demo_tokenizer, seeds=(3, number % 20)) for number in range(40)
    ]
    assert all(torch.equal(a, b) and n == m for (a, n), (b, m) in zip(found[:20], found[20:]))
    assert {number for _, number in found} >= {0, 1, 2} and max(number for _, number in found) <= 5
    assert all(float(loss) == 0 for loss, number in found if number == 0)
