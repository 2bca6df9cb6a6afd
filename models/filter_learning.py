"""Stage I of TED: filters with a task head each learn on the hidden states of a frozen model.

Source: Liang et al. 2023 (arXiv:2210.01351).
"""

from dataclasses import replace

from models.filtered_bert import FrozenStates, head_metrics, save_filters
from modules.filters import FilterTraining
from modules.losses import task_loss
from utils import chance, evaluation, training


def learn_filters(model, filters, spec, data, *, metric, dropout, cached, run) -> training.Result:
    """Train filters by the mean of their heads' task losses.  Each process has all of them, also where the
    model is shared out.

    filters, spec: of models.new_filters().  data: of the task.  metric: of the heads' scores, which choose
    nothing here: the last state is kept.  dropout: before each head.  cached: None, or where
    the states are kept, computed once: frozen_outputs.MEMORY or a folder.
    The checkpoint of the result holds the filters alone, the heads are dropped; choice["heads"] says how
    these did beside a constant answer (FilterSpec.heads).
    """
    if (result := training.finished(run, "filters")) is not None:
        return result
    kind = data.task.kind
    stage = FilterTraining(
        filters,
        kind=kind,
        output_dim=spec.output_dim,
        num_labels=data.task.num_labels,
        dropout=dropout,
        pooled=spec.pooled,
    ).to(run.device)
    splits = [data.train, *data.selection.values()]
    states = FrozenStates(model, splits, spec=spec, kind=kind, cached=cached, **run.inference)
    first = next(iter(data.selection))
    constants = {first: chance.constant(data.selection[first], metric)}

    def objective(module, batch):
        logits = module(*states(data.train, batch))
        options = {"kind": kind, "mask": batch.mask, "divisor": batch.per_label(kind)}
        options["class_weights"] = batch.class_weights
        terms = [task_loss(each, batch.labels, **options) / len(logits) for each in logits]
        return {f"task/{layer}": term for layer, term in zip(spec.layers, terms)}

    def evaluate():
        options = {"layers": spec.layers, "metric": metric, "constants": constants, "device": run.device}
        metrics, tables = head_metrics(stage, states, data.selection, **options, **run.inference)
        return evaluation.Score(None, metrics, {"heads": tables[first]})  # later is better, as published

    def save(folder, score):
        save_filters(filters, replace(spec, heads=score.choice["heads"]), folder)

    return training.fit(
        stage,
        objective,
        data.train,
        evaluate=evaluate,
        settings=run.training,
        run=run,
        stage="filters",
        beside=[model, *states.answers.values()],
        save=save,
    )
