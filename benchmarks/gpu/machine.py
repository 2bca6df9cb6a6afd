"""Section "machine": the card, and what large matrix products and a large copy reach on it."""

import functools

import torch

from benchmarks import timing
from benchmarks.gpu.settings import attempt


def rows(settings):
    """The card's facts, products in each precision, a copy."""
    device = settings.device
    yield attempt({"what": "card"}, lambda: {"facts": facts(device)}, settings)
    size = settings.pick(8192, 8192, 64)
    for dtype in (torch.float32, torch.bfloat16, torch.float16)[: settings.pick(3, 3, 2)]:
        what = {"what": f"product, {dtype}, {size} wide"}
        yield attempt(what, functools.partial(product, device, dtype, size), settings)
    size = settings.pick(2**30, 2**30, 2**16)
    yield attempt({"what": f"copy of {2 * size:,} bytes"}, lambda: copy(device, size), settings)


def facts(device) -> dict:
    """What torch says of the device and of itself."""
    if device == "cpu":
        return {"threads": torch.get_num_threads()}
    card = torch.cuda.get_device_properties(0)
    kernels = ("flash", "mem_efficient", "math", "cudnn")
    return {
        "name": card.name,
        "capability": f"{card.major}.{card.minor}",
        "GiB": round(card.total_memory / 2**30, 1),
        "multiprocessors": card.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "bf16": torch.cuda.is_bf16_supported(),
        "float32 products": torch.get_float32_matmul_precision(),
        "sdpa may take": [name for name in kernels if getattr(torch.backends.cuda, f"{name}_sdp_enabled")()],
    }


def product(device, dtype, size) -> dict:
    """Square matrices of random numbers."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    made = torch.empty_like(left)
    seconds = _fastest(lambda: torch.mm(left, right, out=made), device)
    return {"TFLOP/s": 2 * size**3 / seconds / 1e12}


def copy(device, size) -> dict:
    """Of so many numbers in bf16: bytes read plus bytes written."""
    source = torch.ones(size, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    return {"GB/s": 4 * size / _fastest(lambda: target.copy_(source), device) / 1e9}


def _fastest(call, device):
    rounds = timing.in_turns({"seconds": call}, number=3, device=device, calls=5)
    return max(1e-9, min(row["seconds"] for row in rounds))  # a clock of a CPU may stand still for so little
