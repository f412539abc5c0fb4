#!/usr/bin/env bash
# Error rates over duration: the test side, the enroll side or both cut to each length, of one or several experiments.
#   steps/duration_grid.sh [options] DATA_DIR TRIALS EXP_DIR [EXP_DIR...]
#   e.g.: steps/duration_grid.sh --nj 8 data/vox1_test data/vox1_test/trials_O exp/rawnext exp/resnext
# Writes OUT/GRID.md, grid.tsv, eer.png, eer.pdf. Utterances keep their ids, so every cell has the same trials. A cut is
# embedded once, for both sides. If it is stopped, the same command continues. Scores are cosines; if the experiment has a
# calibration of them (steps/calibrate.py), their actual DCF is in the tables too.
set -euo pipefail
. ./path.sh
. ./cmd.sh

stage=1 # first and last stage to run
stop_stage=9
again=false               # true, with --stage 1: cut again, though it is done
grid="0.5 1 2 3 5 8 full" # seconds, and full
sides="test enroll both"  # which side is cut
policy=centre             # which part of an utterance is kept: centre, start, or random (seeded, by utterance)
short=keep                # utterances shorter than a cut: keep them whole, tile them, or drop them with their trials
seed=0                    # random seed of --policy random
protocol=native           # of extraction; for paper see docs/reference/recipes.md
out=                      # folder of all results; empty: duration_grid/DATA_TRIALS_POLICY_SHORT next to EXP_DIR
nj=4                      # extraction jobs
gpu=0                     # 1: each job takes a GPU
allow_pipes=false         # true: run the commands `... |` of wav.scp
. utils/parse_options.sh

[ $# -ge 3 ] || die "Usage: $0 [options] <data-dir> <trials> <exp-dir> [<exp-dir>...]   (--help lists the options)"
data=$1 trials=$2
shift 2
set -- "${@%/}"
for f in "$data/wav.scp" "$data/utt2spk" "$trials" "${@/%//model.pt}"; do [ -f "$f" ] || die "$0: no such file $f"; done
for side in $sides; do [[ "$side" == @(test|enroll|both) ]] || die "$0: --sides: $side is not test, enroll or both"; done
[ "$(for exp in "$@"; do basename "$exp"; done | sort | uniq -d | wc -l)" -eq 0 ] || die "$0: two experiments have the same name"
out=${out:-$(dirname "$1")/duration_grid/$(basename "$data")_$(basename "$trials")_${policy}_$short}
export RAWNEXT_COMMAND="steps/duration_grid.sh --grid \"$grid\" --policy $policy --short $short --seed $seed --protocol $protocol $data $trials $*"
mkdir -p "$out"
hold alone "$out"
pipes=()
if $allow_pipes; then pipes=(--allow-pipes); fi

cut_dirs() { steps/cut_data_dir.py "${@:2}" "${pipes[@]}" "$data" "$out/data"; }

if in_stage 1 "cut the data directory"; then
  tables=$(cat "$data"/{wav.scp,utt2spk} "$trials" "$([ -f "$data/segments" ] && echo "$data/segments" || echo /dev/null)" | cksum)
  once "$out/data/.prepared" -- cut_dirs "$tables" --durations "$grid" --policy "$policy" --short "$short" --seed "$seed" \
    --trials "$trials"
  for cut in "$out"/data/*/wav.scp; do utils/validate_data_dir.py "$(dirname "$cut")"; done
  wrote "$out/data/cuts.tsv"
fi
cuts=$(cut -f 1 "$out/data/cuts.tsv" | tail -n +2) # 0.5s 1s ... full

# Lines `cell seconds enroll_cut test_cut`: full, test_0.5s, enroll_0.5s, both_0.5s, ...
cells() {
  local cut side
  echo "full full full full"
  for cut in $cuts; do
    for side in $sides; do
      case $cut.$side in
        full.*) ;;
        *.test) echo "test_$cut ${cut%s} full $cut" ;;
        *.enroll) echo "enroll_$cut ${cut%s} $cut full" ;;
        *.both) echo "both_$cut ${cut%s} $cut $cut" ;;
      esac
    done
  done
}

if in_stage 4 "extract embeddings"; then
  for exp in "$@"; do
    for cut in $cuts; do
      steps/extract.sh --cmd "$extract_cmd" --nj "$nj" --gpu "$gpu" --protocol "$protocol" --allow-pipes "$allow_pipes" \
        "$out/data/$cut" "$exp" "$out/$(basename "$exp")/embeddings/grid_$cut" < /dev/null
    done
  done
fi

if in_stage 5 "score trials"; then
  for exp in "$@"; do
    place=$out/$(basename "$exp")
    rm -rf "$place/scores" # of another grid
    cells | while read -r cell _ enroll test; do
      steps/score.py --enroll "$place/embeddings/grid_$enroll/embedding.scp" \
        --test "$place/embeddings/grid_$test/embedding.scp" "$out/data/full/trials" "$place/scores/cosine/$cell"
    done
  done
fi

if in_stage 7 "calibrate"; then
  for exp in "$@"; do
    place=$out/$(basename "$exp") model=$exp/calibration/cosine/$protocol/model.json
    if [ ! -f "$model" ]; then
      log "no such file $model: no actual DCF of $exp"
      rm -rf "$place/scores/cosine+cal"
      continue
    fi
    cells | while read -r cell _ enroll test; do
      steps/calibrate.py apply --backend cosine --protocol "$protocol" --model "$model" --enroll-data "$out/data/full" \
        --test-data "$out/data/full" "$place/scores/cosine/$cell:${enroll%s}:${test%s}" "$place/scores/cosine+cal/$cell"
    done
  done
fi

if in_stage 8 "tables"; then
  for exp in "$@"; do
    for backend in cosine cosine+cal; do
      place=$out/$(basename "$exp")/scores/$backend llr=()
      if [ ! -d "$place" ]; then continue; fi
      if [ "$backend" = cosine+cal ]; then llr=(--llr); fi
      cells | while read -r cell seconds _; do
        steps/evaluate.py --exp "$exp" --list "$(basename "$trials")" --data-set "$(basename "$data")" --protocol "$protocol" \
          --duration "$seconds" --crop "${cell%_*} side, $policy" --backend "$backend" "${llr[@]}" \
          "$place/$cell" "$out/data/full/trials"
      done
    done
  done
  steps/duration_table.py "$out" "${@##*/}"
  wrote "$out/GRID.md" "$out/grid.tsv"
fi

if in_stage 9 "picture"; then
  steps/duration_table.py --plot "$out" "${@##*/}"
  wrote "$out/eer.png" "$out/eer.pdf"
fi
