#!/usr/bin/env bash
# shellcheck disable=SC2034 # options_of reads the options
# A demonstration on real speech that comes with the project (pack/): every stage in minutes on a laptop, without network.
#   ./run.sh
#   ./run.sh --stage 3 --conf "conf/mini/resnext.yaml" --name resnext # another network, from new weights
set -euo pipefail
. ./path.sh
. ./cmd.sh

. steps/options.sh
stage=1                  # first and last stage to run; what is up to date is left alone
pack=pack                # the speech
data=data                # where the data directories go
name=demo                # results go to exp/$name
conf=conf/mini/tune.yaml # YAML files of the system, merged from left to right
init=                    # trained experiment to start from; empty: the model of the package (tune.yaml) or new weights
protocols=native
backends="cosine asnorm plda"
durations="2 1"
num_threads=1 # and a data worker: two cores
num_workers=1
. utils/parse_options.sh
if [[ " $conf " == *" conf/mini/tune.yaml "* ]]; then init=${init:-pretrained}; fi
RAWNEXT_COMMAND="egs/mini/run.sh$(given conf name set init teacher seeds)"
. steps/recipe.sh

# All that its result depends on is an argument: `once` compares them.
prepare() {
  local/open/prepare_open.py --nj "$nj" --dev-share 0 --train "speechocean762=$1/speechocean762" \
    --train "librispeech=$1/librispeech" --test "dev=$1/dev" --test "test=$1/test" "$data"
  draw_and_check 1 dev test
}

if in_stage 1 "data directories, trials, held-out speakers"; then
  once "$data"/{train,dev,test}/.prepared -- prepare "$pack" "$(cat "$pack"/*/wav.scp | cksum)"
fi

if in_stage 2 "noise and room banks"; then
  banks=("$data"/{musan_noise,musan_music,musan_speech,rirs})
  once "${banks[@]/%//.prepared}" -- prepare_banks "$(cksum < "$data/train/wav.scp")" --synthesise
fi

hold shared "$data" # no other run may prepare it again during training
steps/verification.sh "${options[@]}" --train "$data/train" --dev "$data/dev" --eval "${data@Q}/test:trials" "exp/$name"

if ((stop_stage >= 9)); then
  echo "$(grep -m 1 '^\*\*' "exp/$name/RESULTS.md" | tr -d '*'). Page: $PWD/exp/$name/report.html. Two files of your own:" \
    "$(printf '. %q; rawnext verify -m %q' "$RAWNEXT_ROOT/path.sh" "$PWD/exp/$name") a.wav b.wav"
fi
