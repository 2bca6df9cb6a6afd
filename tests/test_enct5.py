"""EncT5: T5's encoder, and a decoder of one layer that reads a learned prompt, against plain formulas."""

import math

import pytest
import tiny_models
import torch
import torch.nn.functional as F
import transformers
from tiny_models import build, inputs, nest, output

import models
from models import architectures, enct5
from utils import families
from utils.errors import CheckpointError

LABELS = ("no", "maybe", "yes")


def norm(states, weight, eps):
    return weight * states / (states.square().mean(-1, keepdim=True) + eps).sqrt()


def bucket(distance, *, buckets, longest):
    """The encoder's: half of the buckets for keys on the right; exact below a quarter of them, then
    logarithmic."""
    half, start = buckets // 2, buckets // 2 if distance > 0 else 0
    distance, exact = abs(distance), half // 2
    if distance < exact:
        return start + distance
    share = math.log(distance / exact) / math.log(longest / exact)
    return start + min(exact + int(share * (half - exact)), half - 1)


def attend(tensors, name, queries, keys, bias_AQK, heads):
    """Attention of one text: no biases, no scale."""
    q, k, v = (
        (x @ tensors[f"{name}.{leaf}.weight"].T).unflatten(-1, (heads, -1)).transpose(0, 1)
        for leaf, x in (("q", queries), ("k", keys), ("v", keys))
    )
    mixed = (q @ k.transpose(1, 2) + bias_AQK).softmax(-1) @ v
    return mixed.transpose(0, 1).flatten(1) @ tensors[f"{name}.o.weight"].T


def feed_forward(tensors, name, x):
    if f"{name}.wi.weight" in tensors:
        inside = F.relu(x @ tensors[f"{name}.wi.weight"].T)
    else:
        gate = F.gelu(x @ tensors[f"{name}.wi_0.weight"].T, approximate="tanh")
        inside = gate * (x @ tensors[f"{name}.wi_1.weight"].T)
    return inside @ tensors[f"{name}.wo.weight"].T


def plain_logits(model, ids, table_of):
    """Logits of one text without padding.  table_of: of a layer, its table of position biases.

    transformers takes the norms' variances in float32, so that more than six digits cannot agree."""
    tensors, config = dict(model.state_dict()), model.config
    eps, heads, length = config.layer_norm_epsilon, config.num_heads, len(ids)
    scale = {
        "buckets": config.relative_attention_num_buckets,
        "longest": config.relative_attention_max_distance,
    }
    places = torch.tensor([[bucket(k - q, **scale) for k in range(length)] for q in range(length)])
    x = tensors["transformer.shared.weight"][ids]
    for layer in range(config.num_layers):
        start = f"transformer.encoder.block.{layer}.layer"
        bias = tensors[table_of(layer)][places].permute(2, 0, 1)
        normed = norm(x, tensors[f"{start}.0.layer_norm.weight"], eps)
        x = x + attend(tensors, f"{start}.0.SelfAttention", normed, normed, bias, heads)
        normed = norm(x, tensors[f"{start}.1.layer_norm.weight"], eps)
        x = x + feed_forward(tensors, f"{start}.1.DenseReluDense", normed)
    states = norm(x, tensors["transformer.encoder.final_layer_norm.weight"], eps)
    start, x = "transformer.decoder.block.0.layer", tensors["prompt.weight"]
    normed = norm(x, tensors[f"{start}.0.layer_norm.weight"], eps)
    value = normed @ tensors[f"{start}.0.SelfAttention.v.weight"].T  # one token attends to itself
    x = x + value @ tensors[f"{start}.0.SelfAttention.o.weight"].T
    normed = norm(x, tensors[f"{start}.1.layer_norm.weight"], eps)
    x = x + attend(tensors, f"{start}.1.EncDecAttention", normed, states, 0.0, heads)
    normed = norm(x, tensors[f"{start}.2.layer_norm.weight"], eps)
    x = x + feed_forward(tensors, f"{start}.2.DenseReluDense", normed)
    x = norm(x, tensors["transformer.decoder.final_layer_norm.weight"], eps)
    head = {
        leaf: tensors[f"classification_head.{leaf}"]
        for leaf in ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")
    }
    x = torch.tanh(x @ head["dense.weight"].T + head["dense.bias"])
    return (x @ head["out_proj.weight"].T + head["out_proj.bias"])[0]


@torch.no_grad()
@pytest.mark.parametrize("case", ["t5", "t5 gated", "mt5", "umt5"])
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_the_logits_are_those_of_the_formulas(case, kernel):
    model, batch = build(case), inputs()
    model.set_attn_implementation(kernel)
    own = {0, 1, 2} if case == "umt5" else {0}

    def table(layer):
        layer = layer if layer in own else 0
        return f"transformer.encoder.block.{layer}.layer.0.SelfAttention.relative_attention_bias.weight"

    found = output(model, batch)
    for ids, mask, logits in zip(batch["input_ids"], batch["attention_mask"], found):
        assert torch.allclose(plain_logits(model, ids[mask.bool()], table), logits, rtol=0, atol=1e-5)


def test_the_decoder_is_the_checkpoints_first_layer(tmp_path):
    """What transformers' encoder-decoder has is taken; head and prompt are new, and said."""
    stock = transformers.T5ForConditionalGeneration(build("t5", kind=None, num_decoder_layers=3).config)
    stock.config.is_encoder_decoder = True
    models.save_model(stock, tmp_path)
    model = models.load_model(tmp_path, kind="classification", label_names=LABELS, new_head=True)
    made, old = model.transformer.decoder.state_dict(), stock.decoder.state_dict()
    assert all(torch.equal(tensor, old[name]) for name, tensor in made.items()) and len(made) < len(old)
    assert model.config.model_type == "enc-t5" and model.config.num_decoder_layers == 1
    spans = models.load_model(tmp_path, kind="spans", new_head=True)
    assert architectures.decoder(spans) is None
    states = spans(**inputs(), output_hidden_states=True)
    logits = states.hidden_states[-1] @ spans.classifier.weight.T + spans.classifier.bias
    assert torch.allclose(states.end_logits, logits[..., 1], atol=1e-5)


def test_an_encoder_alone_begins_a_decoder(tmp_path, caplog):
    models.save_model(build("t5", kind=None, dtype=torch.float32), tmp_path)
    caplog.set_level("INFO", logger="compression")
    model = models.load_model(tmp_path, kind="multilabel", label_names=LABELS, new_head=True)
    assert "transformer.decoder.block.0.layer.1.EncDecAttention.q.weight" in caplog.text
    assert "prompt.weight" in caplog.text and model.config.problem_type == "multi_label_classification"
    found = model(**inputs(), labels=torch.eye(3))
    wanted = F.binary_cross_entropy_with_logits(found.logits, torch.eye(3))
    assert torch.allclose(found.loss, wanted)


def test_transformers_own_head_is_refused(tmp_path):
    config = build("t5", kind=None).config
    models.save_model(transformers.T5ForSequenceClassification(config), tmp_path)
    with pytest.raises(CheckpointError, match="T5ForSequenceClassification reads a whole decoder"):
        models.load_model(tmp_path, kind="classification", label_names=("LABEL_0", "LABEL_1"))


@torch.no_grad()
@pytest.mark.parametrize("case", ["t5", "umt5"])
def test_a_crop_for_another_task(case, tmp_path):
    """The head is dropped: a tagger's crop gets a whole decoder, a classifier's loses its own; the encoder
    stays."""
    for before, after in (("tagging", "classification"), ("classification", "spans")):
        crop = models.crop(nest(build(case, kind=before, dtype=torch.float32)), 70)
        models.save_model(crop, tmp_path)
        names = None if after == "spans" else LABELS
        model = models.load_model(tmp_path, kind=after, label_names=names, new_head=True, drop_head=True)
        old, new = (each(**inputs(), output_hidden_states=True).hidden_states for each in (crop, model))
        assert all(torch.equal(a, b) for a, b in zip(old, new, strict=True))
        kept = models.kept(model)
        behind = (
            {"heads": [4, 4], "neurons": [10]} if after == "classification" else {"heads": [], "neurons": []}
        )
        assert {unit: counts[3:] for unit, counts in kept.items()} == behind
        assert models.grid(model) == [70]


def test_the_text_arrives_at_every_sparsity_but_the_last():
    """The best head onto the encoder's states goes last of all, however small its score."""
    model = build("t5")
    heads = torch.rand(5, 4) + 10 * torch.eye(5, 4)
    heads[4] = 1.0  # equal scores are small ones
    models.sort_units(model, heads, torch.rand(4, 10), grid=[60, 90, 95, 100])
    assert [models.kept(model, s)["heads"][4] for s in (95, 100)] == [1, 0]
    assert sum(models.kept(model, 90)["heads"]) == 2 and len(models.kept(model)["neurons"]) == 4


def test_sizes_of_t5_3b():
    """24 layers, 1,024 wide, 32 heads of 128, 16,384 neurons, and one decoder layer: 1.3 billion
    parameters, 26 rows of heads and 25 of neurons."""
    settings = {"d_model": 1024, "d_kv": 128, "num_heads": 32, "d_ff": 16384, "num_layers": 24}
    with torch.device("meta"):
        model = enct5.model_class("t5", "classification")(enct5.config_class("t5")(**settings))
    layer = 4 * 1024 * 4096 + 2 * 1024 * 16384 + 2 * 1024
    cross = 4 * 1024 * 4096 + 1024
    size = models.describe(model)
    assert size["encoder_parameters"] == 24 * layer + 32 * 32
    others = layer + cross + 32 * 32 + 2 * 1024 + 32128 * 1024 + 1024
    head = 1024 * 1024 + 1024 + 2 * 1024 + 2
    assert size["parameters"] == 24 * layer + 32 * 32 + others + head
    assert round(size["parameters"] / 1e9, 1) == 1.3
    assert {unit: len(row) for unit, row in models.kept(model).items()} == {"heads": 26, "neurons": 25}


def test_families_of_enct5():
    assert {name for name, row in families.FAMILIES.items() if row.decoder} == {"t5", "mt5", "umt5"}
    assert families.stock_type("sparse-enc-umt5") == "umt5"
    assert tiny_models.CASES["t5"][0] == "t5"
