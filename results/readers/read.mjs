// ONNX exports read by transformers.js:   node results/readers/read.mjs OUT.json FOLDER ...
// Writes {folder: {precision: {ids, logits}}} for TEXTS; read.py puts other readers beside it.
import fs from 'fs';
import path from 'path';
import { AutoModelForSequenceClassification, AutoTokenizer, env } from '@huggingface/transformers';

const TEXTS = ['The soup was cold, in Berlin.', 'Good.'];
const [out, ...folders] = process.argv.slice(2);
const found = {};
env.allowRemoteModels = false;
for (const folder of folders) {
  env.localModelPath = path.dirname(path.resolve(folder));
  const name = path.basename(folder);
  const tokenizer = await AutoTokenizer.from_pretrained(name);
  found[folder] = {};
  for (const dtype of ['fp32', 'q8']) {
    const model = await AutoModelForSequenceClassification.from_pretrained(name, { dtype });
    const batch = tokenizer(TEXTS, { padding: true });
    const { logits } = await model(batch);
    const ids = Array.from(batch.input_ids.data, Number);
    found[folder][dtype] = { ids, logits: Array.from(logits.data) };
  }
}
fs.writeFileSync(out, JSON.stringify(found));
