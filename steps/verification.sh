#!/usr/bin/env bash
# Stages 3 and up of every recipe: train, extract embeddings, score trials, calibrate, results table, pictures.
#   steps/verification.sh [options] EXP_DIR
#   e.g.: steps/verification.sh --conf "conf/rawnext.yaml" --ngpu 4 --eval "data/vox1_test:trials_O" exp/rawnext
set -euo pipefail
. ./path.sh
. ./cmd.sh

stage=3 # first and last stage to run
stop_stage=9
conf=conf/rawnext.yaml    # YAML files of the system, merged from left to right
set=                      # single options over them, such as "optim.lr=5e-4 seed=2"
init=                     # trained experiment to start from (see docs/howto/own_data.md); empty: from new weights
train=data/train          # training data
dev=data/dev              # held-out training speakers with trials, for validation; empty: none
eval="data/test:trials"   # TEST_DIR:TRIALS[:ENROLL_DIR]; the enroll side is of the same directory unless one is named
durations="5 2 1"         # seconds to which the test side is cut, besides its full length, ...
cut=                      # ... in these lists of --eval; empty: in the first
protocols="paper native"  # how utterances become embeddings
backends=cosine           # cosine, cosine_mean, snorm, asnorm, asnorm_matched, lda, plda, siamese (docs/reference/backend.md)
cohort_utts=10            # utterances of each training speaker, for the back ends that want such
calibrate=all             # back ends whose scores become LLRs too (BACKEND+cal), by --dev; empty: none
measures=inverse_duration # what calibration knows besides the score (docs/howto/calibration.md)
ngpu=0                    # GPUs for training (processes) on each machine; 0: one process on the CPU
num_nodes=1               # machines to train on, which $cuda_cmd provides
torchrun_opts=            # options of steps/torchrun.py, such as "--max-restarts 10"
nj=$(nproc)               # extraction jobs
num_threads=0             # CPU threads for training; 0: all of this machine
num_workers=2             # data workers of each training process
. utils/parse_options.sh

[ $# -eq 1 ] || die "Usage: $0 [options] <exp-dir>   (--help lists the options)"
exp=$1
if [ "$stop_stage" -lt 3 ]; then exit 0; fi
if [ "$stage" -le 3 ]; then mkdir -p "$exp"; fi
hold alone "$exp"
[ "$num_threads" -gt 0 ] || num_threads=$(nproc)
processes=$((ngpu > 0 ? ngpu : 1))
direct=() trained=() cohort=false # back ends that need no training speakers, and those that do
for backend in $backends; do
  case $backend in
    cosine | siamese) direct+=("$backend") ;;
    cosine_mean | lda | plda | snorm | asnorm | asnorm_matched) trained+=("$backend") cohort=true ;;
    *) die "$0: --backends: unknown $backend; --help lists them" ;;
  esac
done
if [[ "$measures" == *cohort_mean* ]]; then cohort=true; fi
if [ "$calibrate" = all ]; then
  calibrate=$([ -z "$dev" ] || [ ! -f "$dev/trials" ] || echo "$backends")
fi
scored_on_dev=() calibrated=()
if [[ "$calibrate" == *norm* && " $calibrate " != *" cosine "* ]]; then scored_on_dev=(cosine); fi
for backend in $calibrate; do
  scored_on_dev+=("$backend") calibrated+=("$backend+cal")
  [[ " $backends " == *" $backend "* ]] || die "$0: --calibrate: $backend is not one of --backends"
  [ -f "$dev/trials" ] || die "$0: --calibrate: no such file $dev/trials"
done

if in_stage 3 "train ($conf)"; then
  log "training log: $exp/log/train.log"
  nodes=()
  if [ "$num_nodes" -gt 1 ]; then nodes=(--num-nodes "$num_nodes"); fi
  # shellcheck disable=SC2086
  $cuda_cmd --gpu "$ngpu" --num-threads "$num_threads" "${nodes[@]}" "$exp/log/train.log" \
    steps/torchrun.py --nproc-per-node "$processes" $torchrun_opts \
    steps/train.py --config "$conf" --set "$set" --init "$init" --train "$train" --dev "$dev" \
    --banks "$(dirname "$train")" --num-workers "$num_workers" \
    --num-threads $(((num_threads + processes - 1) / processes)) "$exp"
  wrote "$exp/model.pt" "$exp/train.tsv"
fi

# What is embedded: lines `protocol seconds data_dir`; and scored: `protocol seconds test_dir trials enroll_dir
# enroll_seconds`, the last 0, and with cut_both=true also that of the test side.
scores() {
  local protocol list seconds test trials enroll
  for protocol in $protocols; do
    for list in $eval; do
      IFS=: read -r test trials enroll <<< "$list"
      for seconds in 0 $durations; do
        if [ "$seconds" = 0 ] || [[ " ${cut:-${eval%% *}} " == *" $list "* ]]; then
          echo "$protocol $seconds $test $trials ${enroll:-$test} 0"
          if ! ${cut_both:-false} || [ "$seconds" = 0 ]; then continue; fi
          echo "$protocol $seconds $test $trials ${enroll:-$test} $seconds"
        fi
      done
    done
  done
}
embeddings() {
  local protocol seconds test enroll
  scores | while read -r protocol seconds test _ enroll _; do
    printf '%s\n' "$protocol 0 $enroll" "$protocol $seconds $test"
    if $cohort; then echo "$protocol 0 $exp/cohort"; fi
    if [[ " $backends " == *" asnorm_matched "* ]]; then echo "$protocol $seconds $exp/cohort"; fi
  done | sort -u
}
# tag PROTOCOL SECONDS [ENROLL_SECONDS]: how a folder's or a file's name says them.   side SECONDS: how a program does.
tag() {
  local name=$1 s
  for s in "${@:2}"; do [ "$s" = 0 ] || name+=_${s}s; done
  echo "$name"
}
side() { if [ "$1" = 0 ]; then echo full; else echo "$1"; fi; }
# folder DATA_DIR PROTOCOL SECONDS: where its embeddings are.
folder() { echo "$exp/embeddings/$(basename "$1")_$(tag "$2" "$3")"; }

extract() {
  local protocol seconds data
  embeddings | while read -r protocol seconds data; do
    steps/extract.sh --cmd "$extract_cmd" --nj "$nj" --gpu $((ngpu > 0)) --protocol "$protocol" \
      --duration "$seconds" "$data" "$exp" "$(folder "$data" "$protocol" "$seconds")" < /dev/null
  done
}

if in_stage 4 "extract embeddings"; then
  if $cohort; then utils/subset_data_dir.py --per-spk "$cohort_utts" "$train" "$exp/cohort"; fi
  extract
fi

# score BACKEND...: all lists, by each of these; TRIALS.enroll beside a list TRIALS names the utterances of its models.
score() {
  local backend protocol seconds data trials enroll enroll_seconds name sides how
  scores | while read -r protocol seconds data trials enroll enroll_seconds; do
    name=$(basename "$data")/${trials}_$(tag "$protocol" "$seconds" "$enroll_seconds")
    sides=(--enroll "$(folder "$enroll" "$protocol" "$enroll_seconds")/embedding.scp"
    --test "$(folder "$data" "$protocol" "$seconds")/embedding.scp")
    if [ -f "$data/$trials.enroll" ]; then sides+=(--enroll-map "$data/$trials.enroll"); fi
    for backend in "$@"; do
      how=()
      case $backend in
        cosine | asnorm) ;;
        snorm) how=(--top 0) ;;
        asnorm_matched) how=(--test-cohort "$(folder cohort "$protocol" "$seconds")/embedding.scp") ;;
        siamese) how=(--backend siamese --model "$exp") ;;
        *) how=(--backend "$backend" --model "$exp/backend/$protocol") ;;
      esac
      if [[ "$backend" == *norm* ]]; then
        steps/normalize.py "${sides[@]}" --cohort "$exp/embeddings/cohort_$protocol/embedding.scp" "${how[@]}" \
          "$exp/scores/cosine/$name" "$exp/scores/$backend/$name"
      else
        steps/score.py "${sides[@]}" "${how[@]}" "$data/$trials" "$exp/scores/$backend/$name"
      fi
      rm -f "$exp/scores/$backend+cal/$name"{,.json} # made of the scores before
      wrote "$exp/scores/$backend/$name"
    done
  done
}

if in_stage 5 "score trials"; then
  if [[ "$backends" == *norm* && " $backends " != *" cosine "* ]]; then direct+=(cosine); fi
  score "${direct[@]}"
fi

if in_stage 6 "train back ends, normalise scores"; then
  if [[ " $backends " =~ " "(cosine_mean|lda|plda)" " ]]; then
    for protocol in $protocols; do
      steps/train_backend.py "$exp/embeddings/cohort_$protocol/embedding.scp" "$exp/cohort/utt2spk" "$exp/backend/$protocol"
    done
  fi
  score "${trained[@]}"
fi

# fit_calibration PROTOCOL BACKEND: on the held-out trials, of all durations at once.
fit_calibration() {
  local seconds enroll_seconds file files=() models=()
  while read -r _ seconds _ _ _ enroll_seconds; do
    file=$exp/scores/$2/$(basename "$dev")/trials_$(tag "$1" "$seconds" "$enroll_seconds")
    files+=("$file:$(side "$enroll_seconds"):$(side "$seconds"):$(folder "$dev" "$1" "$enroll_seconds"):$(folder "$dev" "$1" "$seconds")")
  done < <(protocols=$1 scores)
  if [ -f "$dev/trials.enroll" ]; then models=(--enroll-map "$dev/trials.enroll"); fi
  steps/calibrate.py fit --backend "$2" --protocol "$1" --data "$dev" --trials "$dev/trials" "${models[@]}" \
    --measures "$measures" --out "$exp/calibration/$2/$1" "${files[@]}"
  wrote "$exp/calibration/$2/$1"/{model.json,thresholds.tsv,thresholds.md}
}

# quality: of the utterances on both sides of all lists, if a measure wants more than durations.
quality() {
  local protocol seconds data cohort_of=()
  if [[ ! "$measures" =~ norm|cohort_mean ]]; then return; fi
  cohort=false backends='' embeddings | while read -r protocol seconds data; do
    if [[ "$measures" == *cohort_mean* ]]; then cohort_of=(--cohort "$(folder cohort "$protocol" 0)/embedding.scp"); fi
    steps/quality.py "${cohort_of[@]}" "$(folder "$data" "$protocol" "$seconds")"
  done
}

# In a subshell, as the held-out trials take the place of --eval.
calibrate_on_dev() (
  eval=$dev:trials cut='' cut_both=true
  cohort=false backends='' extract
  quality
  score "${scored_on_dev[@]}"
  for protocol in $protocols; do
    for backend in $calibrate; do fit_calibration "$protocol" "$backend"; done
  done
)

if [ -n "$calibrate" ] && in_stage 7 "calibrate: log-likelihood ratios"; then
  calibrate_on_dev
  quality
  scores | while read -r protocol seconds data trials enroll _; do
    name=$(basename "$data")/${trials}_$(tag "$protocol" "$seconds") models=()
    if [ "$data/$trials" = "$dev/trials" ]; then continue; fi # what it was fitted on would flatter it
    if [ -f "$data/$trials.enroll" ]; then models=(--enroll-map "$data/$trials.enroll"); fi
    for backend in $calibrate; do
      steps/calibrate.py apply --backend "$backend" --protocol "$protocol" --enroll-data "$enroll" --test-data "$data" \
        "${models[@]}" --model "$exp/calibration/$backend/$protocol/model.json" \
        "$exp/scores/$backend/$name:full:$(side "$seconds"):$(folder "$enroll" "$protocol" 0):$(folder "$data" "$protocol" "$seconds")" \
        "$exp/scores/$backend+cal/$name"
      wrote "$exp/scores/$backend+cal/$name"
    done
  done
fi

if in_stage 8 "results table"; then
  scores | while read -r protocol seconds data trials enroll _; do
    name=$(basename "$data")/${trials}_$(tag "$protocol" "$seconds")
    for backend in $backends "${calibrated[@]}"; do
      llr=()
      if [[ "$backend" == *+cal ]]; then
        llr=(--llr)
        if [ ! -f "$exp/scores/$backend/$name" ]; then continue; fi # stage 7 has not been run
      fi
      steps/evaluate.py --exp "$exp" --list "${trials#trials_}" --data-set "$(basename "$data")" --protocol "$protocol" \
        --duration "$(side "$seconds")" --enroll "$enroll" --backend "$backend" "${llr[@]}" \
        "$exp/scores/$backend/$name" "$data/$trials"
    done
  done
  steps/results.py "$exp"
  wrote "$exp/results.tsv" "$exp/RESULTS.md"
fi

if in_stage 9 "pictures"; then
  steps/plot.py "$exp"
  steps/report.py "$exp"
  wrote "$exp"/figures/*.png "$exp/report.html"
fi
