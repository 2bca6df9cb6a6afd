"""MiniDisc's choice of a teacher assistant.  Source: MiniDisc (Zhang et al. 2024), the lambda-trade-off."""


def candidates(grid, *, own, target, smallest=0.0, include_target=False):
    """The sparsities that may be the assistant's, ascending: grid points strictly between teacher and target.

    grid, own, target, smallest: percent; own is the teacher's, smallest a lower bound (trunc_sparsity).  include_target: the
    target's own sparsity counts too, as in the published code.
    """
    return [s for s in sorted(grid) if own < s and s >= smallest and (s < target or (include_target and s == target))]


def tradeoff(metric, sparsity, *, lam):
    """t(A) = m(A) + lam * (1 - scale(A)).  metric: a fraction in [0, 1] (correlations from -1).  sparsity: percent."""
    return metric + lam * sparsity / 100


def choose(metrics, *, lam):
    """The best candidate and the table it was chosen from.

    metrics: {sparsity in percent: metric}.
    Returns (sparsity, rows): rows are {"sparsity", "metric", "t"}, ascending; among equal t the larger model wins.
    """
    rows = [{"sparsity": s, "metric": metrics[s], "t": tradeoff(metrics[s], s, lam=lam)} for s in sorted(metrics)]
    return max(rows, key=lambda row: (row["t"], -row["sparsity"]))["sparsity"], rows
