"""Text to batches.  Knows no model.

tasks: the registry of tasks, one row each.  readers: GLUE's tables, with classes or STS-B's scores, and
CoNLL's files, to columns.  demo: the generated task.
task_data: the splits of a run.  hold_out: which rows of train no stage trains on.
model_tokenizer: a checkpoint's tokenizer.  deberta_tokenizer: DeBERTa's, as its models were pretrained with
it.
tokenising: columns to token ids.  splits: token ids to batches, outputs to scores and submissions.
new_rows: rows to be answered, a part at a time.  answer_lines: the answers as text.
squad/: questions about a text, to windows of tokens and back to answers.
corpus/: raw text to blocks of token ids.
vocabulary/: which pieces of a tokenizer text needs, and the tokenizer of those.
"""
