#!/usr/bin/env bash
# MiniMoE: BERT-large into 3 layers, 384 wide, with one attention expert and 4 feed-forward experts.
#   MOE=1,1 bash bert_scripts/run_minimoe_3x384.sh                           # its dense twin; after run_corpus_wiki.sh
# settings: MiniMoE's scripts, which train on 8 GPUs with 128 blocks each, sentence pairs (CORPUS: run_corpus.py --blocks pairs)
set -euo pipefail
cd "$(dirname "$0")/.."
TEACHER=${TEACHER:-bert-large-uncased}     # any encoder
CORPUS=${CORPUS:-outputs/corpus/wiki}
MOE=${MOE:-1,4}                            # attention experts, feed-forward experts
OUTPUT=${OUTPUT:-outputs/minimoe/3L_384_${MOE/,/-}}
${LAUNCH:-python} run_minimoe.py --teacher_model_path "$TEACHER" --corpus "$CORPUS" --output_dir "$OUTPUT" --moe "$MOE" \
    --layer 3 --hidden 384 --heads 12 --num_relation_heads 32 --num_train_epochs 5 --per_device_train_batch_size 128 \
    --learning_rate 3e-4 --warmup_proportion 0.01 --weight_decay 0.01 --max_grad_norm 5.0 --eval_interval 1000 \
    --seed "${SEED:-776}" "$@"
