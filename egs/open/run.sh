#!/usr/bin/env bash
# shellcheck disable=SC2034 # options_of reads the options
# Open corpora joined: a network for microphone and telephone, near and far, loud and quiet.
#   ./run.sh                                        # downloads LibriSpeech train-clean-100 and speechocean762 (7 GB)
#   ./run.sh --corpora "librispeech=/corpora/LibriSpeech mine=/corpora/mine" --test-corpora "theirs=/corpora/theirs"
set -euo pipefail
. ./path.sh
. ./cmd.sh

. steps/options.sh
stage=0       # first and last stage to run; what is up to date is left alone
corpora=      # NAME=FOLDER ..., each LibriSpeech or a Kaldi data directory; empty: those of --urls, downloaded to --data
test_corpora= # likewise, to test on; empty: speechocean762's test set, if it was downloaded
urls="https://www.openslr.org/resources/12/train-clean-100.tar.gz https://www.openslr.org/resources/101/speechocean762.tar.gz"
musan=        # MUSAN, for augmentation; empty: noise and music are synthesised
rirs=         # RIRS_NOISES; empty: room responses are synthesised
data=data     # where the data directories go
dev_share=0.1 # share of each corpus' speakers with two utterances that are held out for validation
name=rawnext  # results go to exp/$name
conf=conf/open/rawnext.yaml
protocols=native
durations="5 2 1"
backends="cosine asnorm"
measures="inverse_duration cohort_mean_lower cohort_mean_higher norm_lower norm_higher"
num_workers=1
. utils/parse_options.sh
RAWNEXT_COMMAND="egs/open/run.sh$(given conf name set init teacher seeds)"
. steps/recipe.sh

if [ -z "$corpora" ]; then
  corpora="librispeech=${data@Q}/corpora/train-clean-100/LibriSpeech speechocean762=${data@Q}/corpora/speechocean762/speechocean762/train"
  test_corpora=${test_corpora:-speechocean762_test=${data@Q}/corpora/speechocean762/speechocean762/test}
  if in_stage 0 "the corpora"; then
    for url in $urls; do
      archive=${url##*/}
      download "$url" "$data/corpora/${archive%%.tar*}" --corpora
    done
  fi
fi
mapfile -t trained < <(xargs -r -n 1 <<< "$corpora") # folders may be quoted
mapfile -t tested < <(xargs -r -n 1 <<< "$test_corpora")
sets=(dev "${tested[@]%%=*}")

# All that its result depends on is an argument: `once` compares them.
prepare() {
  local/open/prepare_open.py --nj "$nj" "$@" "$data"
  draw_and_check 762 "${sets[@]}"
}

if in_stage 1 "data directories, trials, held-out speakers"; then
  asked=(--dev-share "$dev_share")
  for corpus in "${trained[@]}"; do asked+=(--train "$corpus"); done
  for corpus in "${tested[@]}"; do asked+=(--test "$corpus"); done
  folders=("$data/train" "${sets[@]/#/$data/}")
  once "${folders[@]/%//.prepared}" -- prepare "${asked[@]}"
fi

if in_stage 2 "noises and room responses for augmentation"; then
  banks=("$data"/{musan_noise,musan_music,musan_speech,rirs})
  once "${banks[@]/%//.prepared}" -- prepare_banks "$(cksum < "$data/train/wav.scp")" --synthesise \
    --musan "$musan" --rirs "$rirs"
fi

hold shared "$data" # no other run may prepare it again during training

if [ -n "$test_corpora" ]; then sets=("${sets[@]:1}"); fi # scores of dev are calibrated on dev itself
lists=("${sets[@]/#/$data/}")
lists=("${lists[@]/%/:trials}")
eval=${lists[*]@Q}
steps/verification.sh "${options[@]}" --train "$data/train" --dev "$data/dev" --eval "$eval" --cut "$eval" "exp/$name"
