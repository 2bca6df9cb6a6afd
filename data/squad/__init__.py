"""Questions about a text (SQuAD 2.0): files to windows of tokens, a model's scores to answers.

questions: the official JSON to columns.  context_windows: long contexts to overlapping windows of tokens.
question_split: the windows of a split; answers, scores, files of predictions.  best_spans: the search for the
best answers.
"""
