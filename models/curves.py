"""The curve of a nested model: what it is worth and costs at each sparsity of its grid."""

from models.slicing import grid, set_sparsity
from models.students import describe
from utils import distributed, evaluation, plots


def curve(model, data, *, run, title) -> list[dict]:
    """Dev metrics and cost of a nested model at each point of its grid, from one pass over dev; draws them."""
    args, points = run.args, grid(model)
    split, dev = next(iter(data.dev.items()))
    outputs = evaluation.predict(model, dev, batch_size=args.per_device_eval_batch_size, precision=args.precision,
                                 variants=points, use=lambda sparsity: set_sparsity(model, sparsity))  # fmt: skip
    set_sparsity(model, None)
    rows = [{"sparsity": s, **dev.score(outputs[s]), **describe(model, s)} for s in points]
    if distributed.is_main():
        drawn = [{"sparsity": row["sparsity"], "metric": row[args.selection_metric]} for row in rows]
        plots.curve(run.folder / "curve.png", drawn, metric=f"{split} {args.selection_metric}", title=title)
    return rows
