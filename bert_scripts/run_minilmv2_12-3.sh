#!/usr/bin/env bash
# MiniLMv2 through a teacher assistant: BERT-base into 12 layers, 384 wide, and that into 3 layers.
#   SEED=1 bash bert_scripts/run_minilmv2_12-3.sh                            # after run_corpus_wiki.sh
# path: MiniMoE's scripts; batch, steps, rate: bloomberg/minilmv2.bb
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-bert-base-uncased}      # any encoder
CORPUS=${CORPUS:-outputs/corpus/wiki}
OUTPUT=${OUTPUT:-outputs/minilmv2/12-3L_384}
${LAUNCH:-python} run_minilmv2.py --teacher_model_path "$TEACHER" --corpus "$CORPUS" --output_dir "$OUTPUT" \
    --student_path 12,3L --hidden 384 --heads 12 --num_relation_heads 48 --max_steps 400000 \
    --per_device_train_batch_size 256 --learning_rate 6e-4 --warmup_proportion 0.01 --weight_decay 0.01 --adam_epsilon 1e-6 \
    --max_grad_norm 1.0 --eval_interval 10000 --seed "${SEED:-42}" "$@"
