"""Students whose hidden states are held against a teacher's, layer by layer: through filters of both (TED),
or through linear maps onto the teacher's bare states (LWD).

Source: Liang et al. 2023 (arXiv:2210.01351).
"""

from models.filtered_bert import FilteredModel
from models.loading import freeze
from models.saving import saver
from modules.filters import first_token
from utils import evaluation, filter_specs, training
from utils.errors import CheckpointError
from utils.frozen_outputs import FrozenOutputs


def through_filters(student, ours, teacher, theirs, *, only_above_chance, run, reads=None):
    """(the student seen through its filters, which is what is trained; FrozenOutputs of the teacher through
    its own).

    ours, theirs: (filters, their FilterSpec) of student and teacher.  only_above_chance: pairs of which a
    head was not above chance are left out.
    reads: see FrozenOutputs.
    Raises CheckpointError where the filters cannot be matched one to one, or none is left.
    """
    (filters, spec), (teacher_filters, teacher_spec) = ours, theirs
    tokens = [filter_specs.token_of(each) for each in (spec, teacher_spec)]
    _require_match(spec, teacher_spec.layers, teacher_spec.output_dim, tokens)
    known = {"teacher": teacher_spec.heads, "student": spec.heads}
    run.report(**{f"{side}_heads": heads for side, heads in known.items() if heads})
    if only_above_chance:
        numbers = filter_specs.above_chance(spec, teacher_spec)
        spec, teacher_spec = (filter_specs.picked(each, numbers) for each in (spec, teacher_spec))
        filters.keep(spec.layers)
        teacher_filters.keep(teacher_spec.layers)
    pooled = teacher_spec.pooled
    token = {"token": "mean"} if pooled else {}
    _report(spec, teacher_spec.layers, run, **token)
    seen = freeze(FilteredModel(teacher, teacher_filters, pooled=pooled))
    layers, pool = range(len(teacher_spec.layers)), first_token if pooled else None
    precision = run.inference["precision"]
    outputs = FrozenOutputs(seen, layers=layers, precision=precision, pool=pool, reads=reads)
    return FilteredModel(student, filters, pooled=pooled), outputs


def onto_states(student, ours, teacher, layers, *, run, reads=None):
    """(the student seen through linear maps, which is what is trained; FrozenOutputs of the teacher's
    layers).

    ours: (the maps, their FilterSpec).  reads: see FrozenOutputs.  Raises CheckpointError where they cannot
    be matched one to one.
    """
    maps, spec = ours
    _require_match(spec, layers, teacher.config.hidden_size)
    _report(spec, layers, run)
    outputs = FrozenOutputs(teacher, layers=layers, precision=run.inference["precision"], reads=reads)
    return FilteredModel(student, maps), outputs


def _require_match(spec, layers, output_dim, tokens=None):
    if problems := [*filter_specs.unmatched(spec.layers, layers, spec.output_dim, output_dim, tokens)]:
        raise CheckpointError("\n".join(problems))


def _report(spec, layers, run, **more):
    matched = {"student": spec.layers, "teacher": layers, "output_dim": spec.output_dim, **more}
    run.report(matched_layers=matched)


def train(learner, student, objective, outputs, data, *, metric, cached, run) -> training.Result:
    """Train a student, keep the epoch that was best on dev, or on the rows held out, without filters.

    learner: the student, or a FilteredModel of it.  objective: a LayerwiseObjective.  outputs: FrozenOutputs
    of the teacher, None where there is none.  data: of the task.  cached: None, or where the outputs for
    train are kept, computed once: frozen_outputs.MEMORY or a folder.
    """
    if (result := training.finished(run, "train")) is not None:
        return result
    if outputs is not None and cached:
        outputs.cache(data.train, batch_size=run.inference["batch_size"], where=cached)

    def terms(wrapped, batch):
        return objective(wrapped, batch, None if outputs is None else outputs(batch))

    return training.fit(
        learner,
        terms,
        data.train,
        settings=run.training,
        run=run,
        beside=[outputs],
        evaluate=evaluation.scorer(student, data.selection, metric=metric, **run.inference),
        save=saver(student, data.tokenizer),
    )
