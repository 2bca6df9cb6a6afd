"""Corpora: raw text to blocks of token ids, built ahead or made while training reads.

documents: text files to documents.  downloads: files behind URLs.  sentences: documents to sentences.
layout: what a block looks like, of a tokenizer.  blocks: documents to blocks of token ids.
build: the blocks of a whole corpus, by worker processes, into files.  manifest: corpus.json, which says what
they are. memory_mapped: a built corpus, as training takes it.  streaming: text files, as training takes them.
training_blocks: either of the two, as --corpus says.
"""
