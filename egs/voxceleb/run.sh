#!/usr/bin/env bash
# shellcheck disable=SC2034 # options_of reads the options
# VoxCeleb2 -> Vox1-O, E and H: RawNeXt as in the paper, from the corpora on disk to the results table.
#   ./run.sh --vox1 /corpora/VoxCeleb1 --vox2 /corpora/VoxCeleb2 --musan /corpora/musan --rirs /corpora/RIRS_NOISES
#   ./run.sh --conf conf/resnext.yaml --name resnext --stage 3      # another system on the same data
set -euo pipefail
. ./path.sh
. ./cmd.sh

. steps/options.sh
stage=0                 # first and last stage to run; what is up to date is left alone
vox1=/corpora/VoxCeleb1 # where the corpora are
vox2=/corpora/VoxCeleb2
musan=/corpora/musan
rirs=/corpora/RIRS_NOISES
lists=             # folder of the trial lists (veri_test2.txt, list_test_all2.txt, ...); empty: --vox1
test_lists="O E H" # lists of VoxCeleb1 to prepare and test on; O alone needs only VoxCeleb1's test part
data=data          # where the data directories go
vox2_flac=         # where FLAC copies of VoxCeleb2's m4a go; empty: vox2_flac in --data
dev_speakers=40    # training speakers held out for validation; 0: none, as in the paper
max_bad_fraction=0 # share of the audio files that may be unreadable and left out
name=rawnext       # results go to exp/$name
backends="cosine asnorm plda"
# YAML files of stage 10, which --stop-stage 10 asks for
large_margin="conf/augment.yaml conf/large_margin.yaml"
num_workers=4
. utils/parse_options.sh
vox2_flac=${vox2_flac:-$data/vox2_flac}
tests=() # as --eval of steps/verification.sh
for list in $test_lists; do
  case $list in
    O) tests+=("$data/vox1_test:trials_O") ;;
    E | H) tests+=("$data/vox1:trials_$list") ;;
    *) die "$0: --test-lists: unknown $list; VoxCeleb1 has O, E, H" ;;
  esac
done
[ -n "${tests[*]}" ] || die "$0: --test-lists is empty; name one or more of O, E, H"
RAWNEXT_COMMAND="egs/voxceleb/run.sh$(given conf name set init teacher seeds dev_speakers)"
. steps/recipe.sh

if in_stage 0 "check the corpora; transcode VoxCeleb2's m4a to FLAC"; then
  local/voxceleb/check_voxceleb.py --vox1 "$vox1" --vox2 "$vox2" --musan "$musan" --rirs "$rirs" --lists "$lists" \
    --test-lists "$test_lists"
  launch "$train_cmd" "$nj" exp/log/transcode local/voxceleb/transcode_vox2.py "$vox2" "$vox2_flac"
fi

# All that its result depends on is an argument: `once` compares them.
prepare() {
  local d checked=("${tests[@]/:trials_//trials_}")
  local/voxceleb/prepare_voxceleb.py "$@" --nj "$nj" "$data"
  if [ "$dev_speakers" -gt 0 ]; then
    utils/make_trials.py --seed 1 "$data/dev" "$data/dev/trials"
    checked+=("$data/dev/trials")
  fi
  for d in "${sets[@]}"; do utils/validate_data_dir.py "$d"; done
  for d in "${checked[@]}"; do utils/lint_trials.py --train "$data/train" "$d"; done
  wrote "${sets[@]/%//wav.scp}"
}

if in_stage 1 "data directories, trials, held-out speakers"; then
  mapfile -t sets < <(printf '%s\n' "$data/train" "${tests[@]%:*}" | sort -u)
  if [ "$dev_speakers" -gt 0 ]; then sets+=("$data/dev"); fi
  once "${sets[@]/%//.prepared}" -- prepare --vox1 "$vox1" --vox2 "$vox2" --vox2-flac "$vox2_flac" --lists "$lists" \
    --test-lists "$test_lists" --dev-speakers "$dev_speakers" --max-bad-fraction "$max_bad_fraction"
fi

if in_stage 2 "noise and room banks"; then
  banks=("$data"/{musan_noise,musan_music,musan_speech,rirs})
  once "${banks[@]/%//.prepared}" -- prepare_banks "" --musan "$musan" --rirs "$rirs"
fi

hold shared "$data" # no other run may prepare it again during training
dev=$([ "$dev_speakers" -eq 0 ] || echo "$data/dev")
options+=(--train "$data/train" --dev "$dev" --eval "${tests[*]@Q}")
steps/verification.sh "${options[@]}" "exp/$name"

if in_stage 10 "fine-tune with a larger margin on longer crops (exp/${name}_lm)"; then
  steps/verification.sh "${options[@]}" --stage 3 --stop-stage 9 --init "exp/$name" --conf "$large_margin" \
    "exp/${name}_lm"
fi
