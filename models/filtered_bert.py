"""TED's filters beside an unmodified stock model: made, saved with what they belong to, read back, scored.

A checkpoint with filters is the plain model's folder with two more files, filters.json and
filters.safetensors.
B examples, L tokens, P filter output dimension.
"""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from models import architectures, sharding
from models.checkpoint_files import local_folder
from models.saving import check_finite
from modules.filters import Filters, first_token, mean_token
from modules.losses import PER_TOKEN
from utils import chance, distributed, evaluation, files, filter_specs
from utils.errors import CheckpointError
from utils.filter_specs import FilterSpec
from utils.frozen_outputs import FrozenOutputs


class FilteredModel(nn.Module):
    """A stock model whose hidden states are seen through filters; its logits are its own.

    Where the model is shared out among the processes, so are the filters then, in place.
    pooled: what is seen of each filtered layer is the mean over real tokens.
    """

    def __init__(self, model, filters, *, pooled=False):
        super().__init__()
        self.model, self.filters, self.pooled = model, filters, pooled
        if distributed.is_shared_out(model):
            sharding.gather_at_once(filters)

    def forward(self, *, output_hidden_states, **inputs):
        """The stock model's output; hidden_states, where they are asked for, are [B, L or 1, P] of each
        filtered layer."""
        output = self.model(**inputs, output_hidden_states=output_hidden_states)
        if output_hidden_states:
            states = [self._filterable(output.hidden_states[int(layer)]) for layer in self.filters]
            filtered = (
                self.filters.pooled(states, inputs["attention_mask"].bool())
                if self.pooled
                else self.filters(states)
            )
            output.hidden_states = tuple(filtered)
        return output

    def _filterable(self, state_BLD):
        """In the type of the filters' weights, where the model's are kept in another."""
        return state_BLD.to(next(self.filters.parameters()).dtype)


def new_filters(model, *, task, interval=1, output_dim=None, nonlinear=False, pooled=False):
    """(filters, their specification) for a model, randomly initialised, on its device.

    interval: layers from one filter to the next.  output_dim: the model's hidden size where it is None.  The
    rest: of FilterSpec. Raises CheckpointError where the model has fewer layers than one interval.
    """
    num_layers, hidden_size = len(architectures.layers(model)), model.config.hidden_size
    layers = filter_specs.filtered_layers(num_layers, interval)
    if not layers:
        raise CheckpointError(f"a filter every {interval} layers wanted: this model has {num_layers}")
    spec = FilterSpec(task, num_layers, hidden_size, layers, output_dim or hidden_size, nonlinear, pooled)
    return _filters(spec).to(model.device), spec


def save_filters(filters, spec, folder):
    """Write filters and specification into a folder, which is made where it is absent.

    Raises CheckpointError for weights that are not finite.
    """
    check_finite(filters, folder)
    with files.writing(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file(filters.state_dict(), Path(folder) / filter_specs.WEIGHTS)
        spec.write(folder)
    files.permit(folder)


def load_filters(path, model, *, task, **wanted):
    """(filters, their specification) of a checkpoint, on the model's device.

    task: its name.  wanted: what flags say about them, see filter_specs.contradictions().
    Raises CheckpointError where there are none, where they belong to another task or to a model of other
    sizes, where they are not as wanted, and where a weight is missing, left over, of another size or not
    finite.
    """
    folder = local_folder(path)
    spec = filter_specs.read_spec(folder)
    sizes = {"num_layers": len(architectures.layers(model)), "hidden_size": model.config.hidden_size}
    wrong = [*filter_specs.misfits(spec, task=task, **sizes), *filter_specs.contradictions(spec, **wanted)]
    if wrong:
        raise CheckpointError(f"{path}: its filters do not fit: {'; '.join(wrong)}")
    file = folder / filter_specs.WEIGHTS
    try:
        found = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{file}: missing, damaged or cut off ({error}); write the filters again"
        ) from error
    filters = _filters(spec)
    expected = filters.state_dict()
    faults = [f"{name} is missing" for name in expected if name not in found]
    faults += [f"{name} is left over" for name in found if name not in expected]
    faults += [
        f"{name} is {[*found[name].shape]}, not {[*tensor.shape]}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if faults:
        raise CheckpointError(f"{file}: does not hold what {filter_specs.SPEC} says: {'; '.join(faults[:6])}")
    filters.load_state_dict(found)
    check_finite(filters, file)
    return filters.to(model.device), spec


def _filters(spec):
    return Filters(
        spec.layers, hidden_size=spec.hidden_size, output_dim=spec.output_dim, nonlinear=spec.nonlinear
    )


class FrozenStates:
    """A frozen model's hidden states that filters are trained on, for batches of several splits.

    First-token tasks: that token only.  Means over tokens: the mean only, if filters are linear; else all
    tokens.
    """

    def __init__(self, model, splits, *, spec, kind, cached, batch_size, precision):
        """splits: whatever is asked for later; cached: None, or where each is kept, run once, now, in batches
        of batch_size: frozen_outputs.MEMORY or a folder.

        spec: FilterSpec.  kind: of the task.
        """
        pool = None if kind in PER_TOKEN else first_token
        if spec.pooled:
            pool = None if spec.nonlinear else mean_token
        self.all_tokens, self.answers = pool is None, {}
        for split in splits:
            teacher = FrozenOutputs(model, layers=spec.layers, precision=precision, pool=pool)
            if cached:
                teacher.cache(split, batch_size=batch_size, where=cached)
            self.answers[split] = teacher

    def __call__(self, split, batch):
        """What a FilterTraining takes: ([B, L, D] of each layer, the mask [B, L] of real tokens, or None
        where L is 1)."""
        return self.answers[split](batch)[1], batch.mask if self.all_tokens else None


def head_metrics(stage, states, splits, *, layers, metric, constants, batch_size, precision, device):
    """How the filters' own heads do, that is, which layers carry the task.

    stage: a FilterTraining, put into eval mode and back.  states: a FrozenStates that knows the splits.
    constants: {split name: utils.chance.Constant} of the splits whose heads are held against chance.
    Returns ({split name: {"metric/layer": value}}, {split name: [{"layer", "metric", ...}, see
    utils.chance.beside_constant]}).
    """
    stage.eval()
    found, tables = {}, {}
    for name, split in splits.items():

        def answer(batch, split=split):
            with evaluation.autocast(device, precision):
                logits = stage(*states(split, batch))
            return {layer: values.float() for layer, values in zip(layers, logits)}

        outputs = evaluation.collect(answer, split, batch_size=batch_size, device=device)
        found[name] = {f"{metric}/{layer}": split.score(outputs[layer])[metric] for layer in layers}
        if name in constants:
            tables[name] = [
                {
                    "layer": layer,
                    "metric": metric,
                    **chance.beside_constant(split, outputs[layer], metric, constants[name]),
                }
                for layer in layers
            ]
    stage.train()
    return found, tables
