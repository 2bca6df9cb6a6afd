"""Short relation distillations on a corpus of the demo task's sentences; its fixtures are in conftest.py."""

import torch
import transformers

LENGTH = 24  # tokens of a block
SIZES = ("--layer", 2, "--hidden", 24, "--heads", 4)
# 12 updates; evaluated and saved at 4, 8 and 12
SHORT = (
    *"--max_steps 12 --eval_interval 4 --log_interval 1 --save_minutes 0 --use_cpu".split(),
    *"--num_heldout_blocks 40 --per_device_train_batch_size 16 --learning_rate 0.003".split(),
)


def save_teacher(folder, tokenizer, **sizes):
    """A random BERT with some contrast in its relations."""
    settings = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
    settings["max_position_embeddings"] = LENGTH
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), initializer_range=0.2, **{**settings, **sizes}
    )
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
