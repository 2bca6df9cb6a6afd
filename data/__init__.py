"""Text to batches.  Knows no model.

tasks: the registry of tasks.  own_tasks: those of the user, from a description and files; hub_datasets: from
the Hub's data sets.  demo: the generated task.
opening: files as bytes and lines, packed or not.  tables: TSV, CSV, JSON, Parquet as rows of cells.
readers: rows to columns.  tagged_words: sentences of tagged words to columns.
task_data: the splits of a run.  hold_out: which rows of train no stage trains on.
model_tokenizer: a checkpoint's tokenizer.  deberta_tokenizer: DeBERTa's, as its models were pretrained with
it.
tokenising: columns to token ids.  splits: token ids to batches, outputs to scores and submissions.
new_rows: rows to be answered, a part at a time.  answer_lines: the answers as text.
squad/: questions about a text, to windows of tokens and back to answers.
corpus/: raw text to blocks of token ids.
vocabulary/: which pieces of a tokenizer text needs, and the tokenizer of those.
"""
