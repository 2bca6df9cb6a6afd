"""Section "machine": the card, and what it makes of a large matrix product and a large copy.  It also shows that processes can use it."""

import torch

from benchmarks import timing
from benchmarks.gpu.settings import attempt


def rows(settings):
    """The card's facts, products in each precision, a copy."""
    yield attempt({"what": "card"}, lambda: facts(settings.device), settings)
    size = settings.pick(8192, 8192, 64)
    for dtype in (torch.float32, *([torch.bfloat16, torch.float16] if settings.device == "cuda" else [torch.bfloat16])):
        yield attempt(
            {"what": f"product, {dtype}, {size} wide"}, lambda dtype=dtype: product(settings.device, dtype, size), settings
        )
    size = settings.pick(2**30, 2**30, 2**16)
    yield attempt({"what": f"copy of {size / 2**30:g} Gi bf16"}, lambda: copy(settings.device, size), settings)


def facts(device) -> dict:
    """What torch says of the device and of itself."""
    if device == "cpu":
        return {"threads": torch.get_num_threads()}
    card = torch.cuda.get_device_properties(0)
    return {
        "name": card.name, "capability": f"{card.major}.{card.minor}", "GiB": round(card.total_memory / 2**30, 1),
        "multiprocessors": card.multi_processor_count, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
        "bf16": torch.cuda.is_bf16_supported(), "tf32 products": torch.backends.cuda.matmul.allow_tf32,
        "sdpa": ", ".join(name for name in ("flash", "mem_efficient", "math", "cudnn")
                          if getattr(torch.backends.cuda, f"{name}_sdp_enabled")()),
    }  # fmt: skip


def product(device, dtype, size) -> dict:
    """Square matrices of random numbers."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    made = torch.empty_like(left)
    seconds = min(
        row[""] for row in timing.in_turns({"": lambda: torch.mm(left, right, out=made)}, number=3, device=device, calls=5)
    )
    return {"TFLOP/s": 2 * size**3 / max(seconds, 1e-9) / 1e12}


def copy(device, size) -> dict:
    """Bytes read plus bytes written."""
    source = torch.ones(size, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    seconds = min(row[""] for row in timing.in_turns({"": lambda: target.copy_(source)}, number=3, device=device, calls=5))
    return {"GB/s": 4 * size / max(seconds, 1e-9) / 1e9}
