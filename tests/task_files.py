"""Small valid files of each reader, and one fault in one of them."""

_PAIRS = "index\tsentence1\tsentence2\tlabel\n"
FILES = {
    "rte": {  # a header, two texts, labels by name
        "train.tsv": _PAIRS + "0\tthe soup was good .\tthe guest liked the food .\tentailment\n" * 4,
        "dev.tsv": _PAIRS + "0\tthe bill was poor .\tthe guest liked the price .\tnot_entailment\n" * 4,
        "test.tsv": "index\tsentence1\tsentence2\n" + "0\tthe bill was poor .\tthe guest liked the price .\n" * 4,
    },
    "cola": {  # no header, labels are digits
        "train.tsv": "gj04\t1\t\tthe soup was good .\n" * 4,
        "dev.tsv": "gj04\t0\t*\tsoup the was the .\n" * 4,
        "test.tsv": "index\tsentence\n" + "0\tthe soup was good .\n" * 4,
    },
    "stsb": {  # scores
        "train.tsv": "index\tsentence1\tsentence2\tscore\n" + "0\tthe soup was good .\tthe soup was fine .\t4.500\n" * 4,
        "dev.tsv": "index\tsentence1\tsentence2\tscore\n" + "0\tthe hall was dull .\tthe soup was fine .\t0.0\n" * 4,
    },
    "mnli": {  # two dev files, the second may be missing
        "train.tsv": "index\tsentence1\tsentence2\tgold_label\n" + "0\tthe hall was dull .\tthe soup was fine .\tneutral\n" * 4,
        "dev_matched.tsv": "index\tsentence1\tsentence2\tgold_label\n" + "0\tthe hall\tthe soup\tneutral\n" * 4,
    },
    "conll": {  # columns, sentences apart
        "train.txt": "-DOCSTART- -X- O O\n\n" + "the DT B-NP O\nBerlin NNP I-NP B-LOC\n\n" * 4,
        "dev.txt": "the DT B-NP O\nBerlin NNP I-NP B-LOC\n\n" * 4,
    },
}  # fmt: skip


def write_task(folder, task, name=None, fault=None):
    """The files of a task, one of them with a fault; returns its path."""
    folder.mkdir(parents=True)
    for file, text in FILES[task].items():
        (folder / file).write_bytes(text.encode())
    if name is None:
        return None
    path = folder / name
    if fault is None:
        path.unlink()
    else:
        path.write_bytes(fault(path.read_bytes()))
    return path
