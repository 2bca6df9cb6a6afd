"""MiniDisc's choice of a teacher assistant.  Source: MiniDisc (Zhang et al. 2024), the lambda-trade-off."""


def candidates(grid, *, own, target, smallest=0.0, wanted="tens", include_target=False):
    """The sparsities that may be the assistant's, ascending: grid points strictly between teacher and target.

    grid, own, target, smallest: percent; own is the teacher's.  smallest (trunc_sparsity): lower bound for
    "tens" and "grid"; a list may go below it.  wanted: "tens", the multiples of ten; "grid", all points, as
    in the published code; or a list of sparsities.
    include_target: the target's own sparsity counts too, as in the published code.
    """
    between = [s for s in sorted(grid) if own < s < target]
    if wanted == "tens":
        chosen = [s for s in between if s >= smallest and s % 10 == 0]
    elif wanted == "grid":
        chosen = [s for s in between if s >= smallest]
    else:
        chosen = [s for s in between if s in wanted]
    return chosen + ([target] if include_target else [])


def trained_together(grid, eligible, *, own, smallest):
    """The sparsities that a hop trains, ascending: all grid points from the smaller one of `smallest` and the
    least eligible sparsity on, but none below the teacher's.

    Before the last hop the student's own sparsity is among them, so that the next hop starts from a student
    that has learnt.
    eligible: what candidates() returned; not empty.  grid, own, smallest: as it takes them.
    Source: MiniDisc (Zhang et al. 2024), its released code.
    """
    return [s for s in sorted(grid) if s >= max(own, min(smallest, *eligible))]


def tradeoff(metric, sparsity, *, lam):
    """t = metric + lambda x sparsity / 100; the paper's 1 - scale is the sparsity as a fraction.

    metric: a fraction in [0, 1] (correlations from -1).  sparsity: percent.
    """
    return metric + lam * sparsity / 100


def choose(metrics, *, lam):
    """The best candidate and the table it was chosen from.

    metrics: {sparsity in percent: metric}.
    Returns (sparsity, rows): rows are {"sparsity", "metric", "t"}, ascending; among equal t the larger model
    wins.
    """
    rows = [
        {"sparsity": s, "metric": metrics[s], "t": tradeoff(metrics[s], s, lam=lam)} for s in sorted(metrics)
    ]
    return max(rows, key=lambda row: (row["t"], -row["sparsity"]))["sparsity"], rows
