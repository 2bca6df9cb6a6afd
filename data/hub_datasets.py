"""A data set of the Hugging Face Hub, or in its form in a folder, as files of a task of the user's own.

The datasets library reads it, and keeps what it downloads; each split is written once beside that, as
Parquet, with the names of classes instead of their numbers.
"""

import re
from pathlib import Path

from utils import files
from utils.errors import DataError

_SPLITS = {
    "train": ("train",),
    "dev": ("validation", "dev", "valid", "validation_matched"),
    "test": ("test", "test_matched"),
}


def describe(name: str, config: str | None) -> dict:
    """The description of a task, as data.own_tasks.read_description() gives it.

    name: on the Hub, or a folder.  config: which of its configurations.  Raises DataError where the library
    cannot load it, or it has no split of train.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        if (Path(name) / "dataset_dict.json").exists():  # of save_to_disk()
            found = datasets.load_from_disk(name)
        else:
            found = datasets.load_dataset(name, config)
    except Exception as error:  # the library raises whatever it likes
        said = str(error).strip().split("\n")[0]
        raise DataError(
            f"--dataset_name {name}: the datasets library cannot load it ({said}); expected a data set of "
            "the Hub, or a folder of one"
        ) from error
    chosen = {split: next((n for n in names if n in found), None) for split, names in _SPLITS.items()}
    if chosen["train"] is None:
        raise DataError(f"--dataset_name {name}: found the splits {', '.join(found)}; expected train")
    short = re.sub(r"[^\w.-]", "_", "_".join([Path(name).name, *([config] if config else [])]))
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "own_tasks"
    folder.mkdir(parents=True, exist_ok=True)
    result = {"name": short, "files": {}}
    for split, of_hub in chosen.items():
        if of_hub is not None:
            table = found[of_hub]
            path = folder / f"{short}_{split}_{table._fingerprint}.parquet"
            if not path.exists():
                with files.new_file(path) as aside:
                    _named(table, datasets).to_parquet(aside)
            result["files"][split] = str(path.absolute())
    classes = {
        column: feature.names
        for column, feature in found[chosen["train"]].features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
    if len(classes) == 1:
        ((column, names),) = classes.items()
        result |= {"label": [column], "labels": names, "kind": "classification"}
    return result


def _named(table, datasets):
    """The same table with the names of classes; -1, which is no class, becomes nothing."""
    for column, feature in table.features.items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, datasets.ClassLabel):
            kind = datasets.Value("string")
            features = table.features.copy()
            features[column] = kind if inner is feature else datasets.Sequence(kind)
            table = table.map(_names_of(column, inner.names), features=features, keep_in_memory=True)
    return table


def _names_of(column, names):
    def one(value):
        return None if value is None or value < 0 else names[value]

    def rename(row):
        value = row[column]
        return {column: [one(item) for item in value] if isinstance(value, list) else one(value)}

    return rename
