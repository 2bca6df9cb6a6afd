"""What a model costs: parameters, multiply-accumulates, bytes, latency, memory.

A model is given as the module and its list of encoder layers (`models.layers(model)`). Counting works on the meta device too.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

MACS_TOKENS = 128  # sequence length of the published MAC counts


def parameters(module):
    """Number of parameters; one that is shared counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


def linear_macs(layers, tokens=MACS_TOKENS):
    """Multiply-accumulates of the layers' linear weights for one example of so many tokens.

    The convention of the published tables: no biases, no attention products, no embeddings, no head; BERT-base has 10.87e9
    at 128 tokens. Weights count as they are stored: crop a model, slicing it in place changes nothing here.
    Of experts (modules.experts) a token meets one: a block of them counts as one, and its router.
    Source: MiniDisc (Zhang et al. 2024).
    """
    per_token = [module.weight.numel() for module in layers.modules() if isinstance(module, nn.Linear)]
    per_token += [module.weights_per_token for module in layers.modules() if hasattr(module, "weights_per_token")]
    return tokens * sum(per_token)


def measure(model, layers):
    """Size of a model, for results.json.

    Returns {"parameters": all, "encoder_parameters": those of the layers, "macs": of the layers at 128 tokens, "bytes": of all
    parameters as they are stored now}.
    """
    return {
        "parameters": parameters(model),
        "encoder_parameters": parameters(layers),
        "macs": linear_macs(layers),
        "bytes": sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()),
    }


def latency(model, inputs, *, repeats=20, warmup=3):
    """Time of one forward pass, in milliseconds per batch.

    model: in eval mode.  inputs: tensors by name, on the model's device.
    Passes are timed one by one, on a GPU with CUDA events between the kernels; `warmup` passes go before, unmeasured.
    Returns {"median_ms", "quartiles_ms": [lower, upper]}.
    """
    assert not model.training, "latency is measured in eval mode"
    device = next(iter(inputs.values())).device
    with torch.inference_mode():
        for _ in range(warmup):
            model(**inputs)
        if device.type == "cuda":
            times = _cuda_times(lambda: model(**inputs), repeats, device)
        else:
            times = _cpu_times(lambda: model(**inputs), repeats)
    lower, median, upper = np.percentile(times, [25, 50, 75]).tolist()
    return {"median_ms": median, "quartiles_ms": [lower, upper]}


def peak_memory(device):
    """Highest memory use so far, in bytes.

    On a GPU: allocated for tensors since `torch.cuda.reset_peak_memory_stats`. On a CPU: resident set of the process since
    it began, which cannot be reset: to compare variants, run each in a process of its own.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":  # not getrusage: there a process inherits the peak of the one that started it
        return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    import resource  # not on every platform

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _cpu_times(run, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return times


def _cuda_times(run, repeats, device):
    with torch.cuda.device(device):
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
        torch.cuda.synchronize()
        for start, end in events:
            start.record()
            run()
            end.record()
        torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in events]
