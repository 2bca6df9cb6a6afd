"""ONNX exports read by optimum and by transformers.js, beside onnxruntime:

    node results/readers/read.mjs OUT.json FOLDER ...; python results/readers/read.py OUT.json

The first needs `npm install @huggingface/transformers`, the second `pip install optimum-onnx[onnxruntime]`,
in an environment of its own (optimum wants an older transformers).  Prints the largest difference of the
logits.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer

TEXTS = ["The soup was cold, in Berlin.", "Good."]
GRAPHS = {"fp32": "model.onnx", "q8": "model_quantized.onnx"}

print({name: version(name) for name in ("optimum", "transformers", "onnxruntime")})
for folder, precisions in json.loads(Path(sys.argv[1]).read_text()).items():
    batch = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="np")
    for precision, script in precisions.items():
        session = onnxruntime.InferenceSession(Path(folder) / "onnx" / GRAPHS[precision])
        (wanted,) = session.run(None, {each.name: batch[each.name] for each in session.get_inputs()})
        model = ORTModelForSequenceClassification.from_pretrained(
            folder, subfolder="onnx", file_name=GRAPHS[precision]
        )
        optimum = np.abs(model(**batch).logits - wanted).max()
        same, by_script = batch["input_ids"].ravel().tolist() == script["ids"], np.array(script["logits"])
        by_script = np.abs(by_script.reshape(wanted.shape) - wanted).max()
        print(f"{folder} {precision}: optimum {optimum}, transformers.js {by_script}, same token ids {same}")
