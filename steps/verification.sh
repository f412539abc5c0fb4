#!/usr/bin/env bash
# Stages 3 to 9 of every recipe: train, extract embeddings, score trials, calibrate, results table, pictures.
#   steps/verification.sh [options] EXP_DIR
#   e.g.: steps/verification.sh --conf "conf/rawnext.yaml" --ngpu 4 --eval "data/vox1_test:trials_O" exp/rawnext
# EXP_DIR/plan.tsv has a row for each score file. Rows that you delete are left out by stages 4 to 9 (docs/reference/recipes.md).
set -euo pipefail
arguments=("$@")
. ./path.sh
. ./cmd.sh

. steps/options.sh
train=data/train        # training data
fit=false               # true: a system without a network, fitted by steps/fit_lda.py
dev=data/dev            # held-out training speakers with trials, for validation and calibration; empty: none
eval="data/test:trials" # TEST_DIR:TRIALS[:ENROLL_DIR], quoted if it has spaces; ENROLL_DIR: the enroll side, if elsewhere
cut=                    # those lists of --eval that are also cut to --durations; empty: the first
sides="test"            # which side is cut: test, enroll, both, or several of them
cut_data=               # folder of steps/cut_data_dir.py to take the cuts from; empty: extraction cuts to the centre
allow_pipes=false       # true: run the commands `... |` of wav.scp
. utils/parse_options.sh

[ $# -eq 1 ] || die "Usage: $0 [options] <exp-dir>   (--help lists the options)"
exp=${1%/}
if [ "${seeds:-1}" -gt 1 ]; then
  for ((seed = 1; seed <= seeds; seed++)); do
    "$0" "${arguments[@]:0:${#arguments[@]}-1}" --seeds 1 --set "$set seed=$seed" "$exp-seed$seed"
  done
  if ((stage <= 8 && stop_stage >= 8)); then
    steps/compare.py --seeds --out "$exp-seeds.md" "$exp"-seed* > /dev/null
    wrote "$exp-seeds.md"
  fi
  exit 0
fi
if [ "$stop_stage" -lt 3 ]; then exit 0; fi
if [ "$stage" -le 3 ]; then mkdir -p "$exp"; fi
[ -d "$exp" ] || die "$0: no such file $exp/model.pt"
hold alone "$exp"
[ "$num_threads" -gt 0 ] || num_threads=$(nproc)
processes=$((ngpu > 0 ? ngpu : 1))
device=$( ((ngpu > 0)) && echo cuda || echo cpu)
steps/tasks.py plan --protocols "$protocols" --eval "$eval" --cut "$cut" --durations "$durations" --backends "$backends" \
  --calibrate "$calibrate" --dev "$dev" --sides "$sides" --cut-data "$cut_data" "$exp"

# todo STEP [ROLE]: writes the step's commands that are not up to date to the file $todo, and their number to $num. Its
# commands are those that the rows of the plan with this role (default: eval) need.
todo() {
  local message
  again_option=()
  if again_here; then again_option=(--again); fi
  checksum_option=()
  if "$checksum"; then checksum_option=(--checksum); fi
  job_log=$exp/log/$1${2:+_$2} todo=$exp/log/$1${2:+_$2}.todo
  message=$(steps/tasks.py todo "${again_option[@]}" "${checksum_option[@]}" --role "${2:-eval}" --conf "$conf" --set "$set" --init "$init" --teacher "$teacher" \
    --train "$train" --dev "$dev" --cohort-utts "$cohort_utts" --measures "$measures" --adapt "$adapt" --adaptation "$adaptation" --out "$todo" "$1" "$exp")
  num=$(wc -l < "$todo")
  if [ -n "$message" ]; then log "stage $this_stage: $message"; fi
}

# parallel STEP [ROLE]: runs these commands, in up to $nj jobs of $train_cmd.
parallel() {
  local n threads=
  todo "$@"
  if ((num == 0)); then return; fi
  n=$((num < nj ? num : nj))
  if ((n > 1)); then threads="--num-threads 1"; fi # a single job may use all CPUs
  rm -f "$job_log".[0-9]*.log                      # of other commands, which --pick must not take for these
  launch "$train_cmd $threads" "$n" "$job_log" steps/tasks.py run "$todo"
  repeat_warnings
  log "stage $this_stage: made, logs: $job_log.*.log"
}

# repeat_warnings: prints the warnings in the logs of the jobs of `parallel`, each once.
repeat_warnings() { { grep -h ': WARNING: ' "$job_log".[0-9]*.log || true; } | sort -u >&2; }

# here STEP: runs these commands on this machine.
here() {
  todo "$1"
  if ((num > 0)); then steps/tasks.py run "$todo"; fi
}

# extract ROLE: makes the embeddings that the rows of this role need, each folder in $nj jobs of $extract_cmd, or one for
# each GPU.
extract() {
  todo extract "$1"
  if ((num > 0)); then
    steps/tasks.py run "${again_option[@]}" "$todo" -- --cmd "$extract_cmd" \
      --nj $((ngpu > 0 ? ngpu * num_nodes : nj)) --gpu $((ngpu > 0)) --allow-pipes "$allow_pipes" \
      --checksum "$checksum"
  fi
}

if in_stage 3 "train ($conf)"; then
  todo "$($fit && echo fit || echo train)"
  if again_here; then rm -rf "$exp"/{checkpoints,tensorboard,model.pt,train.tsv,train_info.json}; fi
  if ((num > 0)) && $fit; then
    steps/fit_lda.py --device cpu --config "$conf" --set "$set" --train "$train" --num-threads "$num_threads" "$exp"
  elif ((num > 0)); then
    log "training log: $exp/log/train.log"
    nodes=()
    if [ "$num_nodes" -gt 1 ]; then nodes=(--num-nodes "$num_nodes"); fi
    literal --config "$conf" --set "$set" --init "$init" --teacher "$teacher" --train "$train" --dev "$dev" \
      --banks "$(dirname "$train")" --device "$device" --num-workers "$num_workers" \
      --num-threads $(((num_threads + processes - 1) / processes)) "$exp"
    # shellcheck disable=SC2086
    $cuda_cmd --gpu "$ngpu" --num-threads "$num_threads" "${nodes[@]}" "$exp/log/train.log" \
      steps/torchrun.py --nproc-per-node "$processes" $torchrun_opts steps/train.py "${words[@]}"
  fi
  if ((num > 0)); then steps/tasks.py record "$todo"; fi
  for file in "$exp"/{model.pt,train.tsv}; do
    if [ "$file" -nt "$todo" ]; then wrote "$file"; fi
  done
fi

if in_stage 4 "extract embeddings"; then
  here cohort
  extract eval
fi

if in_stage 5 "score trials"; then parallel score; fi

if in_stage 6 "train back ends, normalise scores"; then
  parallel backend
  parallel score_trained
fi

if grep -qE $'^calibration|\\+cal\t' "$exp/plan.tsv" && in_stage 7 "calibrate: log-likelihood ratios"; then
  extract calibration
  for step in quality score score_trained; do parallel "$step" calibration; done
  parallel quality
  parallel calibrate
  parallel apply
fi

if in_stage 8 "results table"; then
  parallel evaluate
  here results
  if ((num > 0)); then wrote "$exp/results.tsv" "$exp/RESULTS.md"; fi
fi

if in_stage 9 "pictures"; then
  here report
  if ((num > 0)); then wrote "$exp"/figures/*.png "$exp/report.html"; fi
fi
