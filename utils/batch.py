"""One mini-batch, as the data pipelines make it and the training loop and the objectives take it."""

from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass
class Batch:
    """B examples, padded to the longest of them (L tokens).

    inputs: what the model is called with: input_ids_BL, attention_mask_BL (1 for real tokens),
        token_type_ids_BL where the tokenizer makes them; int64.
    labels: [B] int64 class ids, [B] float32 scores, [B, L] int64 label ids with -100 where nothing is scored,
        or for spans [B, 2] int64 positions of the first and last token; None for unlabelled data.
    indices: [B] positions of the examples in their split, so that cached teacher outputs can be found.
    divisors: what a loss term's sum is divided by, by the name of what it averages over: "examples", "tokens"
        (real tokens), "labels" (scored labels). The pipeline sets the batch's own counts. The training loop
        replaces them by those of the whole update (all micro-batches) per process, so that a term summed over
        micro-batches and averaged over processes is the mean over the update, however it was cut.
    real: False where a process runs along without examples of its own: what it counts must not count.
    class_weights: [C] float32, how much a label of each class counts in the loss against the gold labels;
        None: all count 1.
    update: the number of the update that the batch belongs to, for what a method draws once per update.
    """

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor | None
    indices: np.ndarray
    divisors: dict[str, float] = field(default_factory=dict)
    update: int = 0
    real: bool = True
    class_weights: torch.Tensor | None = None

    @property
    def mask(self) -> torch.Tensor:
        """[B, L] bool, True for real tokens."""
        return self.inputs["attention_mask"].bool()

    def per_label(self, kind: str) -> float:
        """Over how many the mean of a loss for each label is taken, for a kind of task: scored words of
        tagging, else examples; see divisors."""
        return self.divisors["labels" if kind == "tagging" else "examples"]

    def through(self, model, **options):
        """What a model says about this batch: its output, with logits also where its head answers with start
        and end.

        Those of spans are [B, L, 2], start and end side by side, as if each token were tagged with two
        numbers.
        options: output_hidden_states and the like, for the model.
        """
        output = model(**self.inputs, **options)
        if "start_logits" in output:
            output["logits"] = torch.stack([output.start_logits, output.end_logits], -1)
        return output

    def to(self, device) -> "Batch":
        """The same batch with its tensors on a device."""
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in self.inputs.items()}
        labels = None if self.labels is None else self.labels.to(device, non_blocking=True)
        weights = None if self.class_weights is None else self.class_weights.to(device)
        return Batch(inputs, labels, self.indices, self.divisors, self.update, self.real, weights)
