"""The curve of a nested model: what it is worth and costs at each sparsity of its grid."""

from models.slicing import grid, set_sparsity
from models.students import describe
from utils import distributed, evaluation, plots


def curve(model, data, *, run, title) -> list[dict]:
    """Metrics and cost of a nested model at each point of its grid, from one pass over what chooses (dev); draws them."""
    args, points = run.args, grid(model)
    split, rows_of = next(iter(data.selection.items()))
    outputs = evaluation.predict(model, rows_of, batch_size=args.per_device_eval_batch_size, precision=args.precision,
                                 variants=points, use=lambda sparsity: set_sparsity(model, sparsity))  # fmt: skip
    set_sparsity(model, None)
    rows = [{"sparsity": s, **rows_of.score(outputs[s]), **describe(model, s)} for s in points]
    if distributed.is_main():
        drawn = [{"sparsity": row["sparsity"], "metric": row[args.selection_metric]} for row in rows]
        plots.curve(run.folder / "curve.png", drawn, metric=f"{split} {args.selection_metric}", title=title)
    return rows
