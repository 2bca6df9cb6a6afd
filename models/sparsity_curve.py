"""The curve of a nested model: what it is worth and costs at each sparsity of its grid, before any
distillation."""

from models.masked_tokens import heldout_loss
from models.slicing import grid, set_sparsity
from models.sparse_bert import crop
from models.students import describe
from utils import distributed, evaluation, plots
from utils.metrics import label as metric_label

WEIGHTS = "Sparsity (% of the layers' weights removed)"


def task_curve(model, data, *, metric, run, title) -> list[dict]:
    """[{"sparsity", metrics, cost}] from one pass over what chooses (dev); draws the metric.  data: of the
    task."""
    points, (split, rows_of) = grid(model), next(iter(data.selection.items()))
    outputs = evaluation.predict(
        model, rows_of, **run.inference, variants=points, use=lambda s: set_sparsity(model, s)
    )
    set_sparsity(model, None)
    rows = [{"sparsity": s, **rows_of.score(outputs[s]), **describe(model, s)} for s in points]
    _draw(rows, metric, run=run, title=title, label=metric_label(split, metric))
    return rows


def masked_token_curve(model, heldout, tokenizer, *, run, title) -> list[dict]:
    """[{"sparsity", "masked_loss", cost}] of the crops on blocks that are held out; draws the loss."""
    rows = []
    for s in grid(model):
        cropped = crop(model, s)
        loss = heldout_loss(cropped, heldout, tokenizer, device=run.device, **run.inference)
        rows.append({"sparsity": s, "masked_loss": loss, **describe(cropped)})
    labels = {"label": "held-out loss of masked tokens (nats)", "x_label": WEIGHTS}
    _draw(rows, "masked_loss", run=run, title=title, **labels)
    return rows


def _draw(rows, value, *, run, title, label, **options):
    if distributed.is_main():
        drawn = [{"sparsity": row["sparsity"], "metric": row[value]} for row in rows]
        plots.over_sparsity(run.folder / "curve.png", drawn, metric=label, title=title, **options)
