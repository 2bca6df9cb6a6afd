"""A tokenizer with fewer pieces: which text tells what is used, which pieces stay, the tokenizer of those.

counting: texts, and how often each piece occurs in them.
pieces: which pieces must stay so that whatever could be spelled still can, and which others are worth a row.
trimmed: the tokenizer of the pieces that stay, as files.
"""
