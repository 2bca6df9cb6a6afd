"""What a model costs: parameters, multiply-accumulates, bytes, latency, memory; and on what it was measured.

A model is given as the module and its list of encoder layers (`models.layer_modules(model)`).
Counting works on the meta device too.
"""

import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils import allocator

MACS_TOKENS = 128  # sequence length of the published MAC counts


def parameters(module):
    """Number of parameters; one that is shared counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


def embedding_parameters(module):
    """Number of parameters in tables: of words, positions, segments."""
    tables = {id(table.weight): table.weight for table in module.modules() if isinstance(table, nn.Embedding)}
    return sum(weight.numel() for weight in tables.values())


def linear_macs(layers, tokens=MACS_TOKENS):
    """Multiply-accumulates of the layers' linear weights for one example of so many tokens.

    The convention of the published tables: no biases, no attention products, no embeddings, no head;
    BERT-base has 10.87e9 at 128 tokens. Weights count as they are stored: crop a model, slicing it in place
    changes nothing here.
    Of experts (modules.experts) a token meets one: a sublayer of them counts as one, and its router.
    Source: MiniDisc (Zhang et al. 2024).
    """
    per_token = [module.weight.numel() for module in layers.modules() if isinstance(module, nn.Linear)]
    per_token += [
        module.weights_per_token for module in layers.modules() if hasattr(module, "weights_per_token")
    ]
    return tokens * sum(per_token)


def model_size(model, layers):
    """Size of a model, for results.json.

    Returns {"parameters": all, "embedding_parameters": those of tables, "encoder_parameters": those of the
    layers, "macs": of the layers at 128 tokens, "bytes": of all parameters as they are stored now}.
    """
    return {
        "parameters": parameters(model),
        "embedding_parameters": embedding_parameters(model),
        "encoder_parameters": parameters(layers),
        "macs": linear_macs(layers),
        "bytes": sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()),
    }


def latency(model, inputs, *, repeats=20, warmup=3):
    """Time of one forward pass, in milliseconds per batch, and throughput.

    model: in eval mode.  inputs: tensors by name, on the model's device; or a list of such batches.
    Passes are timed one by one, on a GPU with CUDA events between the kernels: each batch `repeats` times, in
    turns; each goes `warmup` times before, unmeasured.
    Returns {"median_ms", "quartiles_ms": [lower, upper], "examples_per_second"}: median and quartiles of all
    passes; examples of all batches over the sum of the batches' median times.
    """
    assert not model.training, "latency is measured in eval mode"
    batches = [inputs] if isinstance(inputs, dict) else inputs
    device = next(iter(batches[0].values())).device
    timed = _cuda_times if device.type == "cuda" else _cpu_times
    with torch.inference_mode():
        for _ in range(warmup):
            for batch in batches:
                model(**batch)
        times_RB = np.array([timed(model, batches, device) for _ in range(repeats)])
    lower, median, upper = np.percentile(times_RB, [25, 50, 75]).tolist()
    examples = sum(len(next(iter(batch.values()))) for batch in batches)
    speed = 1000 * examples / float(np.median(times_RB, axis=0).sum())
    return {"median_ms": median, "quartiles_ms": [lower, upper], "examples_per_second": speed}


def flops(model, inputs):
    """Floating-point operations of one forward pass as torch counts them: two for a multiply-accumulate;
    products only.

    inputs: tensors by name.  Attention must be computed by plain products ("eager"): of a fused kernel torch
    counts none on CPUs.
    """
    from torch.utils.flop_counter import FlopCounterMode

    # Without gradients it stumbles over a bare parameter
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        model(**inputs)
    return counter.get_total_flops()


def peak_memory(device):
    """Highest memory use so far, in bytes.

    On a GPU: allocated for tensors. On a CPU: resident set of the process. Since it began, or since
    forget_peak().
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":  # not getrusage: there a process inherits the peak of the one that started it
        return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    import resource  # not on every platform

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def memory_now(device) -> int:
    """Memory in use, in bytes, of the kind that peak_memory() gives; on a CPU without what is free again."""
    if torch.device(device).type == "cuda":
        return torch.cuda.memory_allocated(device)
    allocator.give_back()
    if sys.platform != "linux":
        return peak_memory(device)
    return 1024 * int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])


def forget_peak(device) -> bool:
    """Let peak_memory() begin anew; False on systems where it cannot."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    allocator.give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is resident now
    except OSError:  # no Linux, or one that does not let us
        return False
    return True


def peak_of(run, *, weights, device):
    """Most memory that run(), which has run before, takes at a time, in bytes; the weights included.

    weights: their bytes.  On a GPU: what torch had allocated, all other tensors on the device included.  On
    Linux: the weights, and by how much the process's resident set grew.  None on systems where that peak
    cannot be reset.
    """
    if not forget_peak(device):
        return None
    before = 0 if torch.device(device).type == "cuda" else peak_memory(device) - weights
    run()
    return peak_memory(device) - before


def hardware(device) -> str:
    """What a device is, in words: the processor and torch's threads, or the GPU; torch's version."""
    if torch.device(device).type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        described = Path("/proc/cpuinfo")
        lines = described.read_text().splitlines() if described.exists() else []
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = (
            f"{models[0] if models else platform.processor() or platform.machine()}, "
            f"{torch.get_num_threads()} thread(s)"
        )
    return f"{name}, torch {torch.__version__}"


def _cpu_times(model, batches, device):
    times = []
    for batch in batches:
        start = time.perf_counter()
        model(**batch)
        times.append(1000 * (time.perf_counter() - start))
    return times


def _cuda_times(model, batches, device):
    with torch.cuda.device(device):
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in batches]
        torch.cuda.synchronize()
        for batch, (start, end) in zip(batches, events):
            start.record()
            model(**batch)
            end.record()
        torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in events]
