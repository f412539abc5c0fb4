#!/usr/bin/env bash
# Stages 3 and up of every recipe: train, extract embeddings, score trials, results table, pictures.
#   steps/verification.sh [options] EXP_DIR
#   e.g.: steps/verification.sh --conf "conf/rawnext.yaml" --ngpu 4 --eval "data/vox1_test:trials_O" exp/rawnext
set -euo pipefail
. ./path.sh
. ./cmd.sh

stage=3                        # first and last stage to run
stop_stage=9
conf=conf/rawnext.yaml         # YAML files of the system, merged from left to right
set=                           # single options over them, such as "optim.lr=5e-4 seed=2"
init=                          # trained experiment to start from (see docs/recipes.md); empty: from new weights
train=data/train               # training data
dev=data/dev                   # held-out training speakers with trials, for validation; empty: none
eval="data/test:trials"        # TEST_DIR:TRIALS[:ENROLL_DIR]; the enroll side is of the same directory unless one is named
durations="5 2 1"              # seconds to which the test side is cut, besides its full length, ...
cut=                           # ... in these lists of --eval; empty: in the first
protocols="paper native"       # how utterances become embeddings
backend=cosine                 # what scores the trials: cosine, or siamese: the head of a training with that loss
ngpu=0                         # GPUs for training (processes) on each machine; 0: one process on the CPU
num_nodes=1                    # machines to train on, which $cuda_cmd provides
torchrun_opts=                 # options of steps/torchrun.py, such as "--max-restarts 10"
nj=2                           # extraction jobs
num_threads=0                  # CPU threads for training; 0: all of this machine
num_workers=2                  # data workers of each training process
. utils/parse_options.sh

[ $# -eq 1 ] || die "Usage: $0 [options] <exp-dir>   (--help lists the options)"
exp=$1
if [ "$stop_stage" -lt 3 ]; then exit 0; fi
if [ "$stage" -le 3 ]; then mkdir -p "$exp"; fi
hold alone "$exp"
[ "$num_threads" -gt 0 ] || num_threads=$(nproc)
processes=$(( ngpu > 0 ? ngpu : 1 ))

if in_stage 3 "train ($conf)"; then
  log "training log: $exp/log/train.log"
  nodes=()
  if [ "$num_nodes" -gt 1 ]; then nodes=(--num-nodes "$num_nodes"); fi
  # shellcheck disable=SC2086
  $cuda_cmd --gpu "$ngpu" --num-threads "$num_threads" "${nodes[@]}" "$exp/log/train.log" \
    steps/torchrun.py --nproc-per-node "$processes" $torchrun_opts \
    steps/train.py --config "$conf" --set "$set" --init "$init" --train "$train" --dev "$dev" \
    --banks "$(dirname "$train")" --num-workers "$num_workers" \
    --num-threads $(( (num_threads + processes - 1) / processes )) "$exp"
  wrote "$exp/model.pt" "$exp/train.tsv"
fi

# What is embedded: lines `protocol seconds data_dir`; and scored: `protocol seconds test_dir trials enroll_dir`.
scores() {
  local protocol list seconds test trials enroll
  for protocol in $protocols; do
    for list in $eval; do
      IFS=: read -r test trials enroll <<< "$list"
      for seconds in 0 $durations; do
        if [ "$seconds" = 0 ] || [[ " ${cut:-${eval%% *}} " == *" $list "* ]]; then
          echo "$protocol $seconds $test $trials ${enroll:-$test}"
        fi
      done
    done
  done
}
embeddings() {
  scores | while read -r protocol seconds test _ enroll; do
    printf '%s\n' "$protocol 0 $enroll" "$protocol $seconds $test"
  done | sort -u
}
# tag PROTOCOL SECONDS: how a folder's or a file's name says them.
tag() { if [ "$2" = 0 ]; then echo "$1"; else echo "$1_$2s"; fi; }

if in_stage 4 "extract embeddings"; then
  embeddings | while read -r protocol seconds data; do
    steps/extract.sh --cmd "$extract_cmd" --nj "$nj" --gpu $(( ngpu > 0 )) --protocol "$protocol" \
      --duration "$seconds" "$data" "$exp" "$exp/embeddings/$(basename "$data")_$(tag "$protocol" "$seconds")" </dev/null
  done
fi

if in_stage 5 "score trials"; then
  head=()
  if [ "$backend" = siamese ]; then head=(--siamese "$exp"); fi
  scores | while read -r protocol seconds data trials enroll; do
    out=$exp/scores/$backend/$(basename "$data")/${trials}_$(tag "$protocol" "$seconds")
    steps/score.py "${head[@]}" --enroll "$exp/embeddings/$(basename "$enroll")_$protocol/embedding.scp" \
      --test "$exp/embeddings/$(basename "$data")_$(tag "$protocol" "$seconds")/embedding.scp" "$data/$trials" "$out"
    wrote "$out"
  done
fi

if in_stage 8 "results table"; then
  scores | while read -r protocol seconds data trials _; do
    steps/evaluate.py --exp "$exp" --list "${trials#trials_}" --data-set "$(basename "$data")" --protocol "$protocol" \
      --duration "${seconds/#0/full}" --backend "$backend" \
      "$exp/scores/$backend/$(basename "$data")/${trials}_$(tag "$protocol" "$seconds")" "$data/$trials"
  done
  steps/results.py "$exp"
  wrote "$exp/results.tsv" "$exp/RESULTS.md"
fi

if in_stage 9 "pictures"; then
  steps/plot.py "$exp"
  wrote "$exp"/figures/*.png
fi
