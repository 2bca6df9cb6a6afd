"""Text to batches: the task registry, the file readers, tokenising and collation, the demo task.  Knows no model.

corpus/: raw text to blocks of token ids.  squad/: questions about a text.
"""
