#!/usr/bin/env bash
# Build the corpus of the MiniLMv2 and MiniMoE scripts: blocks of 128 tokens from text.
#   INPUT=wiki/AA bash bert_scripts/run_corpus_wiki.sh --num_workers 8       # wikiextractor's output, plain text, JSON lines, ...
# expect  the same blocks for any number of workers
# time    1.5 million tokens per second and core
set -euo pipefail
cd "$(dirname "$0")/.."
MODEL=${MODEL:-bert-base-uncased}          # whose tokenizer is taken: the teacher
INPUT=${INPUT:-datasets/wiki}
OUTPUT=${OUTPUT:-outputs/corpus/wiki}
${LAUNCH:-python} run_corpus.py --input "$INPUT" --tokenizer_name_or_path "$MODEL" --output_dir "$OUTPUT" --max_seq_length 128 "$@"
