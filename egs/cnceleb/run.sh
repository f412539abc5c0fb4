#!/usr/bin/env bash
# shellcheck disable=SC2034 # options_of reads the options
# CN-Celeb: train on its 800 training speakers, test on its trials across genres.
#   ./run.sh --corpus /corpora/CN-Celeb_flac --musan /corpora/musan --rirs /corpora/RIRS_NOISES
set -euo pipefail
. ./path.sh
. ./cmd.sh

. steps/options.sh
stage=1                       # first and last stage to run; what is up to date is left alone
corpus=/corpora/CN-Celeb_flac # where the corpora are
musan=/corpora/musan
rirs=/corpora/RIRS_NOISES
data=data       # where the data directories go
dev_speakers=20 # training speakers held out for validation; 0: none
name=rawnext    # results go to exp/$name
conf="conf/augment.yaml conf/rawnext_aam.yaml"
backends="cosine asnorm plda"
num_workers=4
. utils/parse_options.sh
RAWNEXT_COMMAND="egs/cnceleb/run.sh$(given conf name set init teacher seeds dev_speakers)"
. steps/recipe.sh
test=$data/cnceleb_test enroll=$data/cnceleb_enroll train=$data/cnceleb_train
dev=$([ "$dev_speakers" -eq 0 ] || echo "$data/cnceleb_dev")

# All that its result depends on is an argument: `once` compares them.
prepare() {
  local d
  local/cnceleb/prepare_cnceleb.py --nj "$nj" "$@" "$data"
  if [ -n "$dev" ]; then utils/make_trials.py --seed 1 --different-session "$dev" "$dev/trials"; fi
  for d in "${sets[@]}"; do utils/validate_data_dir.py --enroll "$d" --enroll "$enroll" "$d"; done
  for d in ${dev:+"$dev/trials"} "$test"/trials{,_parts}; do
    utils/lint_trials.py --train "$train" --test "$(dirname "$d")" --test "$enroll" "$d"
  done
  wrote "${sets[@]/%//wav.scp}"
}

if in_stage 1 "data directories, trials, held-out speakers"; then
  sets=("$train" ${dev:+"$dev"} "$enroll" "$test")
  once "${sets[@]/%//.prepared}" -- prepare --dev-speakers "$dev_speakers" "$corpus"
fi

if in_stage 2 "noise and room banks"; then
  banks=("$data"/{musan_noise,musan_music,musan_speech,rirs})
  once "${banks[@]/%//.prepared}" -- prepare_banks "" --musan "$musan" --rirs "$rirs"
fi

hold shared "$data" # no other run may prepare it again during training
lists=("$test:trials:$enroll" "$test:trials_parts:$enroll")
steps/verification.sh "${options[@]}" --train "$train" --dev "$dev" --eval "${lists[*]@Q}" "exp/$name"
