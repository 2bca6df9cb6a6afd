"""Costs against MiniDisc's budget table for BERT-base and against counting by hand."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from utils import cost

ROOT = Path(__file__).parents[1]
# sparsity: heads kept, neurons kept, encoder parameters, share of the encoder, share of all, GMAC at 128
# tokens
BUDGETS = {
    0: (144, 36864, 85_054_464, 1.0, 1.0, 10.872),
    50: (72, 18432, 42_554_880, 0.5003, 0.6118, 5.436),
    60: (58, 14746, 34_134_298, 0.4013, 0.5349, 4.359),
    70: (43, 11059, 25_515_379, 0.3000, 0.4562, 3.256),
    80: (29, 7373, 17_094_797, 0.2010, 0.3793, 2.179),
    85: (22, 5530, 12_884_506, 0.1515, 0.3408, 1.641),
    90: (14, 3686, 8_475_878, 0.0997, 0.3005, 1.077),
    95: (7, 1843, 4_265_587, 0.0502, 0.2621, 0.539),
}
BERT_BASE_PARAMETERS = 109_482_240


@pytest.fixture(scope="module")
def bert_base():
    """BERT-base with its pooler, on the meta device."""
    from transformers import BertConfig, BertModel

    with torch.device("meta"):
        return BertModel(BertConfig())


def test_golden_bert_base(bert_base):
    measured = cost.model_size(bert_base, bert_base.encoder.layer)
    assert measured == {
        "parameters": BERT_BASE_PARAMETERS,
        "embedding_parameters": 768 * (30_522 + 512 + 2),
        "encoder_parameters": 85_054_464,
        "macs": 10_871_635_968,  # 128 * 12 * (4 * 768 * 768 + 2 * 768 * 3072)
        "bytes": 4 * BERT_BASE_PARAMETERS,
    }
    assert cost.linear_macs(bert_base.encoder.layer, tokens=1) * 128 == measured["macs"]


def pruned_layer(heads, neurons):
    """The parameters of a BERT-base layer with so many heads and neurons left, as plain modules."""
    return nn.ModuleList(
        [nn.Linear(768, 64 * heads) for _ in range(3)]
        + [nn.Linear(64 * heads, 768), nn.LayerNorm(768)]
        + [nn.Linear(768, neurons), nn.Linear(neurons, 768), nn.LayerNorm(768)]
    )


def spread(total, num_layers):
    """A total over the layers, as evenly as it goes."""
    return [total // num_layers + (layer < total % num_layers) for layer in range(num_layers)]


@pytest.mark.filterwarnings("ignore:Initializing zero-element")  # layers that kept no head
@pytest.mark.parametrize("sparsity", BUDGETS)
def test_golden_budgets(sparsity):
    """The whole table; how the units are spread over the layers does not matter for the sums."""
    heads, neurons, encoder, of_encoder, of_all, gmac = BUDGETS[sparsity]
    assert (heads, neurons) == (144 - round(144 * sparsity / 100), 36864 - round(36864 * sparsity / 100))
    with torch.device("meta"):
        layers = nn.ModuleList(pruned_layer(h, n) for h, n in zip(spread(heads, 12), spread(neurons, 12)))
    assert cost.parameters(layers) == encoder
    removed = 85_054_464 - encoder
    assert round(encoder / 85_054_464, 4) == pytest.approx(of_encoder, abs=1e-9)
    assert round((BERT_BASE_PARAMETERS - removed) / BERT_BASE_PARAMETERS, 4) == pytest.approx(
        of_all, abs=1e-9
    )
    assert round(cost.linear_macs(layers) / 1e9, 3) == pytest.approx(gmac, abs=1e-9)


def test_only_linear_weights_are_counted():
    """No biases, norms or embeddings (T5 has one in its layers); subclasses of Linear count, shared
    parameters once."""

    class Special(nn.Linear):
        pass

    shared = nn.Linear(7, 11, bias=False)
    layers = nn.ModuleList(
        [nn.Embedding(32, 12), nn.LayerNorm(5), nn.Linear(3, 5), Special(5, 7), shared, nn.Sequential(shared)]
    )
    assert cost.linear_macs(layers, tokens=10) == 10 * (3 * 5 + 5 * 7 + 7 * 11)
    assert cost.parameters(layers) == 32 * 12 + 2 * 5 + (3 * 5 + 5) + (5 * 7 + 7) + 7 * 11


def test_bytes_follow_the_dtype():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).to(torch.bfloat16))
    assert cost.model_size(model, model)["bytes"] == 20 * 4 + 20 * 2


class Sleeper(nn.Module):
    """Takes the given times, in ms, one after the other; remembers what it was called with."""

    def __init__(self, times):
        super().__init__()
        self.times, self.calls = list(times), []

    def forward(self, *, input_ids):
        self.calls.append((input_ids.shape, torch.is_inference_mode_enabled()))
        time.sleep(self.times.pop(0) / 1000)


def test_latency():
    """The slow first calls are warm-up; median and quartiles are those of the others."""
    model = Sleeper([400] * 4 + [5, 10, 20, 30, 60]).eval()  # with them: quartiles of 20 and 400, median 60
    found = cost.latency(model, {"input_ids": torch.zeros(2, 3)}, repeats=5, warmup=4)
    low, high = found["quartiles_ms"]
    assert 10 <= low and 20 <= found["median_ms"] < 60 and 30 <= high < 400
    assert model.calls == [((2, 3), True)] * 9
    assert all(type(number) is float for number in (found["median_ms"], *found["quartiles_ms"]))  # for JSON


def test_latency_wants_eval_mode():
    with pytest.raises(AssertionError, match="eval"):
        cost.latency(Sleeper([]), {"input_ids": torch.zeros(1)})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_latency_and_memory_on_a_gpu():
    """Events see the kernels' time: a matrix product 64 times as large takes longer, though both are launched
    at once."""
    torch.cuda.reset_peak_memory_stats()
    medians = []
    for size in (1024, 4096):
        model = nn.Linear(size, size, device="cuda").eval()
        medians.append(cost.latency(model, {"input": torch.zeros(size, size, device="cuda")})["median_ms"])
    assert 5 * medians[0] < medians[1]
    assert cost.peak_memory("cuda") >= 3 * 4096 * 4096 * 4


def test_peak_memory_is_the_process_own():
    """Sees 256 MiB come, remembers them when they are gone, and does not inherit them from the process that
    starts it."""
    program = (
        "import subprocess, sys\n"
        "import torch\n"
        "from utils.cost import peak_memory\n"
        "before = peak_memory('cpu')\n"
        "ones = torch.ones(64, 2**20)\n"
        "during = peak_memory('cpu')\n"
        "child = 'from utils.cost import peak_memory; print(peak_memory(\"cpu\"))'\n"
        "child = int(subprocess.run([sys.executable, '-c', child], capture_output=True, text=True).stdout)\n"
        "del ones\n"
        "print(before, during, peak_memory('cpu'), child)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    before, during, after, child = map(int, done.stdout.split())
    assert 0.9 * 2**28 < during - before < 1.2 * 2**28
    assert after > before + 0.9 * 2**28  # the kernel counts pages in lots: equal up to a few hundred KiB
    assert abs(child - before) < 2**26
