"""Write a DeBERTaV3 of random weights as the hub has them (spm.model, no tokenizer.json, fp16): it proves the path, no score.

    python results/ted/small_deberta.py ../shared/datasets outputs/results/ted/small_deberta
4 layers, 128 wide; a sentencepiece vocabulary of 4,000 pieces learnt from the contexts of SQuAD's train file.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from data import tasks
from utils import files

PIECES = 4000


def main():
    """Train the vocabulary, draw the weights, write; prints the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", help="the parent of squad2/")
    parser.add_argument("folder", type=Path, help="where the model goes; nothing is done where it is")
    args = parser.parse_args()
    if args.folder.exists():
        return
    import torch
    import transformers

    from models import save_model

    contexts = dict.fromkeys(tasks.get("squad2").read(args.data_dir, "train").second)
    args.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder.parent) as made:
        aside = Path(made) / "model"
        aside.mkdir()
        write_vocabulary(contexts, aside / "spm")
        (aside / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
        config = transformers.DebertaV2Config(
            vocab_size=PIECES + 100, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512,
            max_position_embeddings=512, relative_attention=True, position_buckets=64, norm_rel_ebd="layer_norm",
            share_att_key=True, pos_att_type="p2c|c2p", layer_norm_eps=1e-7, max_relative_positions=-1,
            position_biased_input=False, type_vocab_size=0, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        transformers.set_seed(776)
        save_model(transformers.DebertaV2Model(config).to(torch.float16), aside)
        files.replace_folder(aside, args.folder)
    print(args.folder)


def write_vocabulary(texts, prefix):
    """Train a sentencepiece model as DeBERTaV3 has one: these special pieces first, NFKC and a little more."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(prefix), vocab_size=PIECES, max_sentence_length=100_000, minloglevel=2,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]",
        normalization_rule_name="nmt_nfkc", num_threads=1,
    )  # fmt: skip
    Path(f"{prefix}.vocab").unlink()


if __name__ == "__main__":
    main()
