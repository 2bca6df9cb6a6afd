"""DeBERTaV2's and V3's tokenizers with the normalisation that the models were pretrained with.

transformers 5 makes a DebertaV2Tokenizer with a normaliser of its own (NFC), whatever the checkpoint says:
ligatures, fractions and full-width letters then become other pieces than in pretraining.  The vocabulary is a
sentencepiece model's, whose own normaliser is a table of replacements (NFKC and a little more) in spm.model;
tokenizer.json, where there is one, holds the same.
"""

from pathlib import Path

SPM = "spm.model"


def restored(tokenizer, source):
    """The tokenizer, or for a DebertaV2Tokenizer one of the same vocabulary with the checkpoint's own
    normaliser.

    source: the folder or hub name that it was loaded from.  What is returned is a PreTrainedTokenizerFast:
    saved, it opens with the stock classes as it is.
    """
    import transformers
    from tokenizers import Tokenizer
    from transformers.utils import cached_file

    if not isinstance(tokenizer, transformers.DebertaV2Tokenizer):
        return tokenizer
    backend = tokenizer.backend_tokenizer
    file = cached_file(str(source), "tokenizer.json", _raise_exceptions_for_missing_entries=False)
    if file is not None:
        backend.normalizer = Tokenizer.from_file(file).normalizer
    else:
        backend.normalizer = _of_sentencepiece(cached_file(str(source), SPM), lower=tokenizer.do_lower_case)
    names = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{f"{name}_token": getattr(tokenizer, f"{name}_token") for name in names},
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        model_input_names=tokenizer.model_input_names,
    )


def _of_sentencepiece(file, *, lower):
    """The normaliser of an spm.model as transformers 4 made it for these models."""
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import Regex, normalizers

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(Path(file).read_bytes())
    charsmap = model.normalizer_spec.precompiled_charsmap
    if not charsmap:
        raise ValueError(
            f"{Path(file).name} has no normaliser; expected a DeBERTa checkpoint's spm.model, which has one"
        )
    steps = [normalizers.Lowercase()] if lower else []
    steps += [
        normalizers.Strip(),
        normalizers.Precompiled(charsmap),
        normalizers.Replace(Regex(" {2,}"), " "),
    ]
    return normalizers.Sequence(steps)
