"""What units are sorted by, and what a sorted model is held against: the loss of a task, or that of masked
tokens of a corpus.

Both have: masks, what models.scoring_masks() takes for them; batches(), which yields the mean loss of a batch
and over how many it was taken; evaluate(), of the model as it is; metrics(), of the result; curve().
"""

from models.masked_tokens import batch_loss, heldout_loss, scored_batches
from models.sparsity_curve import masked_token_curve, task_curve
from modules.losses import task_loss
from utils import evaluation


class TaskLoss:
    """The loss of a task, weighted by what its mean is taken over.

    data: of the task.  scored: the split that units are scored on, in batches of batch_size.  metric: of what
    chooses (dev). per_example: absolute values are taken for each example.
    """

    def __init__(self, model, data, scored, *, batch_size, seed, metric, per_example, run):
        self.model, self.data, self.scored, self.run = model, data, scored, run
        self.batch_size, self.seed, self.metric = batch_size, seed, metric
        self.masks, self.tokenizer = {"per_example": per_example}, data.tokenizer

    def batches(self):
        """Yield (loss, examples, or of tagging scored words) of this process's batches."""
        kind = self.data.task.kind
        for indices, own in evaluation.share(self.scored.epoch(self.seed, 0, self.batch_size)):
            batch = self.scored.collate(indices).to(self.run.device)
            loss = task_loss(batch.through(self.model).logits, batch.labels, kind=kind, mask=batch.mask)
            yield loss, batch.per_label(kind) * own

    def evaluate(self) -> dict:
        """{split: metrics} of what chooses."""
        return evaluation.evaluate(self.model, self.data.selection, **self.run.inference)

    def metrics(self, found) -> dict:
        """What evaluate() has found, with dev's."""
        return evaluation.with_dev(found, lambda: self.model, self.data, **self.run.inference)

    def curve(self) -> list[dict]:
        """See models/sparsity_curve.py."""
        title = f"{self.data.task.name}, nested teacher"
        return task_curve(self.model, self.data, metric=self.metric, run=self.run, title=title)


class MaskedTokenLoss:
    """The loss of masked tokens, weighted by their number; hidden dimensions are scored too.

    scored, heldout: parts of a corpus.  number, batch_size: blocks that units are scored on, and those of a
    batch.
    """

    masks = {"hidden": True}

    def __init__(self, model, scored, heldout, tokenizer, *, number, batch_size, seed, run):
        self.model, self.scored, self.heldout, self.tokenizer, self.run = (
            model,
            scored,
            heldout,
            tokenizer,
            run,
        )
        self.number, self.batch_size, self.seed = number, batch_size, seed

    def batches(self):
        """Yield (loss, masked tokens) of this process's batches."""
        batches = scored_batches(self.scored, number=self.number, batch_size=self.batch_size, seed=self.seed)
        for (number, indices), own in evaluation.share(batches):
            batch = self.scored.collate(indices).to(self.run.device)
            loss, count = batch_loss(self.model, batch, self.tokenizer, seeds=(self.seed, number))
            yield loss, count * own

    def evaluate(self) -> dict:
        """The loss on blocks that are held out."""
        options = {"device": self.run.device, **self.run.inference}
        return {"masked loss": heldout_loss(self.model, self.heldout, self.tokenizer, **options)}

    def metrics(self, found) -> dict:
        """What evaluate() has found, by split."""
        return {"heldout": {"masked_loss": found["masked loss"]}}

    def curve(self) -> list[dict]:
        """See models/sparsity_curve.py."""
        title = "Nested encoder, before distillation"
        return masked_token_curve(self.model, self.heldout, self.tokenizer, run=self.run, title=title)
