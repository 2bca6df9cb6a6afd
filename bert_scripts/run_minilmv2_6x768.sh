#!/usr/bin/env bash
# MiniLMv2: distil BERT-base into 6 layers, 768 wide, on a corpus.
#   SEED=1 bash bert_scripts/run_minilmv2_6x768.sh --per_device_train_batch_size 128   # after run_corpus_wiki.sh
# steps, warm-up, rate, decay and epsilon: bloomberg/minilmv2.bb, which has 512 tokens a block and an unknown number of devices
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-bert-base-uncased}      # any encoder
CORPUS=${CORPUS:-outputs/corpus/wiki}
OUTPUT=${OUTPUT:-outputs/minilmv2/6L_768}
${LAUNCH:-python} run_minilmv2.py --teacher_model_path "$TEACHER" --corpus "$CORPUS" --output_dir "$OUTPUT" \
    --layer 6 --hidden 768 --heads 12 --intermediate 3072 --num_relation_heads 48 --max_steps 400000 \
    --per_device_train_batch_size 256 --learning_rate 6e-4 --warmup_proportion 0.01 --weight_decay 0.01 --adam_epsilon 1e-6 \
    --max_grad_norm 1.0 --eval_interval 10000 --seed "${SEED:-42}" "$@"
