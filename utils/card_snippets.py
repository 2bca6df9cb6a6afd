"""The lines of Python in a model card: text in, label names and probabilities out.  They run as they stand in
the card's own folder; "." may become the folder's path, or its name on the Hugging Face hub."""

from utils import families

PIPELINE_TAGS = {  # of a class name: pipeline_tag of the hub
    "SequenceClassification": "text-classification",
    "TokenClassification": "token-classification",
    "QuestionAnswering": "question-answering",
    "MaskedLM": "fill-mask",
}
SENTENCE, SECOND = "The soup was cold.", "The meal was a pleasure."
WORDS = "Angela Merkel was born in Hamburg."
QUESTION = "Where was Angela Merkel born?"


def snippet(config: dict, *, max_length: int, pair: bool, graph=None, disabled=()) -> list[str]:
    """The lines for a checkpoint.

    config: its config.json.  max_length: tokens of its inputs.  pair: whether it reads two texts.  graph: of
    an ONNX export, the file in its folder.  disabled: onnxruntime's optimisers that it is run without.
    """
    if graph is not None:
        return _graph(config, max_length, pair, graph, disabled)
    trust = ", trust_remote_code=True" if "auto_map" in config else ""
    lines, head = [], families.head_of(config)
    if not trust and families.stock_type(config["model_type"]) != config["model_type"]:
        lines = ["import models  # of this repository, which is on PYTHONPATH: the Auto classes know it then"]
    if head == "SequenceClassification":
        return lines + _classify(config, max_length, pair, trust)
    if head == "TokenClassification":
        return lines + _tag(max_length, trust)
    return lines + (_answer if head == "QuestionAnswering" else _encode)(max_length, trust)


def _classify(config, max_length, pair, trust):
    text = f'{{"text": "{SENTENCE}", "text_pair": "{SECOND}"}}' if pair else f'"{SENTENCE}"'
    several = config.get("problem_type") == "multi_label_classification"
    call = f"classify([{text}], {'top_k=None, ' if several else ''}truncation=True, max_length={max_length})"
    label = "" if config.get("problem_type") == "regression" else 'found["label"], '
    return [
        "from transformers import pipeline",
        "",
        f'classify = pipeline("text-classification", model="."{trust})',
        f"for found in {call}{'[0]' if several else ''}:",
        f'    print({label}found["score"])',
    ]


def _tag(max_length, trust):
    return [
        "from transformers import AutoTokenizer, pipeline",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained(".", model_max_length={max_length}{trust})',
        'tag = pipeline("token-classification", model=".", tokenizer=tokenizer, '
        f'aggregation_strategy="first"{trust})',
        f'for found in tag("{WORDS}"):',
        '    print(found["word"], found["entity_group"], found["score"])',
    ]


def _load(auto, trust):
    return [
        "import torch",
        f"from transformers import {auto}, AutoTokenizer",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("."{trust})',
        f'model = {auto}.from_pretrained("."{trust}).eval()',
    ]


def _encode(max_length, trust):
    return [
        *_load("AutoModel", trust),
        f'inputs = tokenizer("{SENTENCE}", truncation=True, max_length={max_length}, return_tensors="pt")',
        "with torch.inference_mode():",
        "    print(model(**inputs).last_hidden_state.shape)",
    ]


def _answer(max_length, trust):
    return [
        *_load("AutoModelForQuestionAnswering", trust),
        f'question, context = "{QUESTION}", "{WORDS}"',
        f'inputs = tokenizer(question, context, truncation="only_second", max_length={max_length}, '
        'return_tensors="pt")',
        "with torch.inference_mode():",
        "    output = model(**inputs)",
        "starts, ends = output.start_logits[0].softmax(-1), output.end_logits[0].softmax(-1)",
        *_best_span(),
    ]


def _best_span():
    """The lines that choose among all spans of the context, and the empty one at the first token."""
    return [
        "spans = [(0, 0)] + [(i, j) for i in range(len(starts)) for j in range(i, min(i + 30, len(ends)))",
        "                    if inputs.sequence_ids(0)[i] == inputs.sequence_ids(0)[j] == 1]",
        "first, last = max(spans, key=lambda span: starts[span[0]] * ends[span[1]])",
        'answer = tokenizer.decode(inputs["input_ids"][0][first : last + 1]) if last else "no answer"',
        "print(answer, float(starts[first] * ends[last]))",
    ]


def _graph(config, max_length, pair, graph, disabled):
    head, kind = families.head_of(config), config.get("problem_type")
    texts = f'"{SENTENCE}", "{SECOND}"' if pair else f'"{SENTENCE}"'
    texts = {"TokenClassification": f'"{WORDS}"', "QuestionAnswering": f'"{QUESTION}", "{WORDS}"'}.get(
        head, texts
    )
    named = 'labels = json.load(open("config.json", encoding="utf-8"))["id2label"]'
    if head == "QuestionAnswering":
        last = [
            "odds = [np.exp(each[0] - each[0].max()) for each in outputs]",
            "starts, ends = (each / each.sum() for each in odds)",
            *_best_span(),
        ]
    elif kind == "regression":
        last = ["print(outputs[0][0, 0])"]
    elif kind == "multi_label_classification":
        last = [
            named,
            "for number, logit in enumerate(outputs[0][0]):",
            "    print(labels[str(number)], 1 / (1 + np.exp(-logit)))",
        ]
    else:
        last = [named, "logits = outputs[0][0]", "odds = np.exp(logits - logits.max(-1, keepdims=True))"]
        if head == "TokenClassification":
            last += [
                'for token, row in zip(tokenizer.convert_ids_to_tokens(inputs["input_ids"][0]), odds):',
                "    print(token, labels[str(row.argmax())], row.max() / row.sum())",
            ]
        else:
            last += ["print(labels[str(odds.argmax())], odds.max() / odds.sum())"]
    without = f", disabled_optimizers={list(disabled)}".replace("'", '"') if disabled else ""
    return [
        *(["import json", ""] if named in last else []),
        *(["import numpy as np"] if any("np." in line for line in last) else []),
        "import onnxruntime",
        "from transformers import AutoTokenizer",
        "",
        f'session = onnxruntime.InferenceSession("{graph}"{without})',
        'tokenizer = AutoTokenizer.from_pretrained(".")',
        f'inputs = tokenizer({texts}, truncation=True, max_length={max_length}, return_tensors="np")',
        "outputs = session.run(None, {each.name: inputs[each.name] for each in session.get_inputs()})",
        *last,
    ]
