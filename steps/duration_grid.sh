#!/usr/bin/env bash
# Error rates over duration: the test side, the enroll side or both cut to each length, of one or several experiments.
#   steps/duration_grid.sh [options] DATA_DIR TRIALS EXP_DIR [EXP_DIR...]
#   e.g.: steps/duration_grid.sh --nj 8 data/vox1_test data/vox1_test/trials_O exp/rawnext exp/resnext
# Writes OUT/GRID.md, eer.png, eer.pdf, and for each experiment OUT/NAME/results.tsv and RESULTS.md. Utterances keep their
# ids, so every cell has the same trials. A cut is embedded once, for both sides. What is up to date is left alone. Scores
# are cosines and, if the experiment has a calibration of them (steps/calibrate.py), LLRs.
set -euo pipefail
. ./path.sh

stage=1 # first and last stage to run
stop_stage=9
again=false               # true: the stage that --stage names is done again, though it is finished
grid="0.5 1 2 3 5 8 full" # seconds, and full
sides="test enroll both"  # which side is cut
policy=centre             # which part of an utterance is kept: centre, start, or random (seeded, by utterance)
short=keep                # utterances shorter than a cut: keep them whole, tile them, or drop them with their trials
seed=0                    # random seed of --policy random
protocol=native           # of extraction; for paper see docs/reference/recipes.md
out=                      # folder of all results; empty: duration_grid/DATA_TRIALS_POLICY_SHORT next to EXP_DIR
nj=4                      # parallel jobs
ngpu=0                    # GPUs, one for each extraction job; 0: the CPU
allow_pipes=false         # true: run the commands `... |` of wav.scp
checksum=false            # true: compare the content of audio files, in place of sizes and times
. utils/parse_options.sh

[ $# -ge 3 ] || die "Usage: $0 [options] <data-dir> <trials> <exp-dir> [<exp-dir>...]   (--help lists the options)"
data=$1 trials=$2
shift 2
set -- "${@%/}"
for f in "$data/wav.scp" "$data/utt2spk" "$trials"; do [ -f "$f" ] || die "$0: no such file $f"; done
for exp in "$@"; do has_model "$exp"; done
for side in $sides; do [[ "$side" == @(test|enroll|both) ]] || die "$0: --sides: $side is not test, enroll or both"; done
[ "$(for exp in "$@"; do basename "$exp"; done | sort | uniq -d | wc -l)" -eq 0 ] || die "$0: two experiments have the same name"
out=${out:-$(dirname "$1")/duration_grid/$(basename "$data")_$(basename "$trials")_${policy}_$short}
export RAWNEXT_COMMAND="steps/duration_grid.sh --grid \"$grid\" --policy $policy --short $short --seed $seed --protocol $protocol --sides \"$sides\" $data $trials $*"
mkdir -p "$out"
hold alone "$out"

set=$out/data/$(basename "$data") # the uncut utterances, with the name of their data set
list=$set:$(basename "$trials")

cut_dirs() {
  local pipes=() cut
  if $allow_pipes; then pipes=(--allow-pipes); fi
  rm -rf "$out"/*/scores # of other cuts
  steps/cut_data_dir.py "${@:3}" "${pipes[@]}" "$data" "$out/data"
  for cut in "$out"/data/*/wav.scp; do utils/validate_data_dir.py "$(dirname "$cut")"; done
  [ -e "$set" ] || ln -s full "$set"
}

if in_stage 1 "cut the data directory"; then
  tables=$(cat "$data"/{wav.scp,utt2spk} "$trials" "$([ -f "$data/segments" ] && echo "$data/segments" || echo /dev/null)" | cksum)
  once "$out/data/.prepared" -- cut_dirs "$tables" "$sides" --durations "$grid" --policy "$policy" --short "$short" \
    --seed "$seed" --trials "$trials"
  wrote "$out/data/cuts.tsv"
fi

if ((stop_stage >= 4)); then
  durations=$(cut -f 1 "$out/data/cuts.tsv" | sed -n 's/s$//p' | xargs)
  places=()
  for exp in "$@"; do
    place=$out/$(basename "$exp")
    places+=("$place")
    mkdir -p "$place"
    for part in model.pt model.safetensors config.yaml train_info.json calibration; do
      if [ -e "$exp/$part" ]; then ln -sfn "$(realpath "$exp/$part")" "$place/$part"; fi
    done
    calibrate=$([ ! -f "$exp/calibration/cosine/$protocol/model.json" ] || echo cosine)
    steps/verification.sh --stage $((stage > 4 ? stage : 4)) --stop-stage $((stop_stage < 8 ? stop_stage : 8)) \
      --again "$( ((stage >= 4)) && echo "$again" || echo false)" --nj "$nj" --ngpu "$ngpu" --allow-pipes "$allow_pipes" --checksum "$checksum" \
      --protocols "$protocol" --durations "$durations" --sides "$sides" --cut-data "$out/data" --calibrate "$calibrate" \
      --dev "" --eval "${list@Q}" "$place"
  done
fi

if in_stage 9 "comparison and picture"; then
  files_or_nothing "$out/GRID.md"
  {
    steps/compare.py --plot "$out/eer.png" --plot "$out/eer.pdf" "${places[@]}"
    printf '\n### Cuts\n\n'
    sed 's/\t/ | /g; s/.*/| & |/; 1 { p; s/[^|]\+/ --- /g }' "$out/data/cuts.tsv"
  } > "$out/.GRID.md.$$.tmp"
  mv "$out/.GRID.md.$$.tmp" "$out/GRID.md"
  wrote "$out/GRID.md" "$out/eer.png" "$out/eer.pdf"
fi
