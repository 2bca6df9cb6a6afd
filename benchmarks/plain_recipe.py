"""The plain recipe of earlier code bases: what the speed of ours is measured against.  Imports nothing of
this project.

    from benchmarks import plain_recipe
    plain_recipe.finetune_steps("path/to/encoder", texts, labels, batch_size=16, num_steps=20)
    plain_recipe.distil_steps("path/to/teacher", "path/to/student", texts, labels, batch_size=16,
                              num_steps=20)

Its ingredients, each as it was usual in the published code of MiniDisc and StarK:

    tokenising   the slow tokenizer (transformers' BertTokenizerLegacy: a loop over characters, then a greedy
                 WordPiece loop in Python), one example at a time, once before the first epoch
    padding      every example to 128 tokens, whatever its length; examples shuffled, not grouped by length
    attention    eager; attention maps and all hidden states are requested in every forward pass,
                 though no loss uses the maps
    precision    float32 throughout
    optimiser    torch's AdamW with its defaults: a loop over tensors on a CPU, foreach on a GPU, not fused;
                 decay on everything but biases and LayerNorm, linear warm-up and decay, clipping at 5
    teacher      asked again for every batch of every epoch (nothing is cached), at its full depth
    logging      the loss is read back to the host at every step
    loss         hidden states stacked over layers, then masked; soft labels beside them (the sparsebert
                 objective)

What is left as fast as it is today: torch's kernels, tensors that are ready in memory before training, no
evaluation in between. So the ratio says what the recipe costs, not what older versions of the libraries did.
Classification only; WordPiece models.
A student of another structure than a stock model loads here too once its classes are registered (`import
models`).
"""

import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

MAX_LENGTH = 128
NUM_WARMUP_STEPS = 2  # run and not timed
PUBLISHED_EPOCHS = 10  # over which one tokenising is spread


def finetune_steps(
    model_folder,
    texts,
    labels,
    batch_size,
    num_steps,
    *,
    num_epochs=PUBLISHED_EPOCHS,
    learning_rate=3e-5,
    device="cpu",
    seed=776,
    clock=time.perf_counter,
):
    """Time some steps of fine-tuning.

    model_folder: checkpoint folder of an encoder, with or without a head, and its tokenizer.
    texts: [(first, second), ...], second None for single sentences; all of them are tokenised, and timed.
    labels: class ids, one per text.  num_steps: how many are timed; the texts are gone through as often as
    that takes. num_epochs: each example counts as tokenised once and trained on so often; 1 charges all of
    the tokenising to one epoch. clock: returns seconds; time.process_time (one thread, no GPU) where other
    programs want the cores too.
    Returns {"examples_per_s": tokenising included, "training_examples_per_s": without it,
    "tokenising_examples_per_s", "tokenising_share": of the time, "step_s" and "losses": lists, one value for
    each timed step}; rates are from mean times.
    """
    torch.manual_seed(seed)
    model = _load(model_folder, num_labels=max(labels) + 1).to(device).train()

    def loss_of(inputs, labels_B):
        output = model(**inputs, output_attentions=True, output_hidden_states=True)
        return F.cross_entropy(output.logits, labels_B)

    data = _tokenise(model_folder, texts, labels, clock)
    return _time_steps(model, loss_of, data, batch_size, num_steps, num_epochs, learning_rate, device, clock)


def distil_steps(
    teacher_folder,
    student_folder,
    texts,
    labels,
    batch_size,
    num_steps,
    *,
    num_epochs=PUBLISHED_EPOCHS,
    learning_rate=3e-5,
    device="cpu",
    seed=776,
    clock=time.perf_counter,
):
    """Time some steps of distillation with the sparsebert objective: hidden states and soft labels, halved.

    teacher_folder, student_folder: checkpoint folders with heads for the same classes, equally deep and wide
    (a student pruned to 90%: heads and neurons are fewer, layers and hidden size are not). The rest is as in
    `finetune_steps`.
    """
    torch.manual_seed(seed)
    teacher = _load(teacher_folder, num_labels=max(labels) + 1).to(device).eval()
    student = _load(student_folder, num_labels=max(labels) + 1).to(device).train()
    every = max(1, teacher.config.num_hidden_layers // 6)

    def loss_of(inputs, labels_B):  # the objective has no gold labels
        with torch.no_grad():
            target = teacher(**inputs, output_attentions=True, output_hidden_states=True)
        output = student(**inputs, output_attentions=True, output_hidden_states=True)
        student_BMLD = torch.stack(output.hidden_states[::every], dim=1)
        teacher_BMLD = torch.stack(target.hidden_states[::every], dim=1)
        mask_BMLD = inputs["attention_mask"][:, None, :, None].expand_as(student_BMLD)
        hidden = (
            F.mse_loss(student_BMLD, teacher_BMLD, reduction="none") * mask_BMLD
        ).sum() / mask_BMLD.sum()
        soft = -(F.softmax(target.logits, dim=-1) * F.log_softmax(output.logits, dim=-1)).sum(-1).mean()
        return (hidden + soft) / 2

    data = _tokenise(teacher_folder, texts, labels, clock)
    return _time_steps(
        student, loss_of, data, batch_size, num_steps, num_epochs, learning_rate, device, clock
    )


def slow_tokenizer(model_folder):
    """The pure Python tokenizer with the vocabulary and the casing of a folder's fast one."""
    fast = AutoTokenizer.from_pretrained(model_folder)
    vocabulary = sorted(fast.get_vocab().items(), key=lambda item: item[1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vocab.txt")
        path.write_text("".join(f"{token}\n" for token, _ in vocabulary), encoding="utf-8")
        return BertTokenizerLegacy(str(path), do_lower_case=getattr(fast, "do_lower_case", True))


def _load(folder, *, num_labels):
    return AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=num_labels, dtype=torch.float32, attn_implementation="eager"
    )


def _tokenise(model_folder, texts, labels, clock):
    """All examples padded to 128: tensors by name, the labels, and the seconds that it took."""
    tokenizer = slow_tokenizer(model_folder)
    start = clock()
    settings = {
        "truncation": "longest_first",
        "max_length": MAX_LENGTH,
        "padding": "max_length",
        "return_token_type_ids": True,
    }
    rows = [tokenizer(first, second, **settings) for first, second in texts]  # one by one
    tensors = {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}
    return tensors, torch.tensor(labels), clock() - start


def _time_steps(model, loss_of, data, batch_size, num_steps, num_epochs, learning_rate, device, clock):
    tensors, labels, tokenising_s = data
    assert len(labels) >= batch_size, (len(labels), batch_size)
    optimizer, scheduler = _optimizer(model, learning_rate, num_steps + NUM_WARMUP_STEPS)
    losses, times = [], []
    for positions in _batches(len(labels), batch_size, num_steps + NUM_WARMUP_STEPS):
        start = clock()
        inputs = {name: tensor[positions].to(device) for name, tensor in tensors.items()}
        loss = loss_of(inputs, labels[positions].to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())  # waits for a GPU
        times.append(clock() - start)
    training = sum(times[NUM_WARMUP_STEPS:]) / num_steps / batch_size
    tokenising = tokenising_s / len(labels) / num_epochs  # both: seconds per example trained on
    return {
        "examples_per_s": 1 / (training + tokenising),
        "training_examples_per_s": 1 / training,
        "tokenising_examples_per_s": len(labels) / tokenising_s,
        "tokenising_share": tokenising / (training + tokenising),
        "step_s": times[NUM_WARMUP_STEPS:],
        "losses": losses[NUM_WARMUP_STEPS:],
    }


def _batches(num_examples, batch_size, num_batches):
    """Positions of full batches, shuffled anew in each epoch."""
    while num_batches > 0:
        order = torch.randperm(num_examples).split(batch_size)
        full = [positions for positions in order if len(positions) == batch_size][:num_batches]
        yield from full
        num_batches -= len(full)


def _optimizer(model, learning_rate, num_steps):
    plain = ("bias", "LayerNorm.weight")
    named = list(model.named_parameters())
    groups = [
        {"params": [p for name, p in named if not name.endswith(plain)], "weight_decay": 0.01},
        {"params": [p for name, p in named if name.endswith(plain)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate)
    warmup = max(1, num_steps // 10)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (num_steps - step) / max(1, num_steps - warmup))
    )
    return optimizer, rate
