#!/usr/bin/env bash
# shellcheck disable=SC2034 # options_of reads the options
# speechocean762, an open corpus of 250 speakers (OpenSLR 101, free for any use): any system in an evening on a CPU.
#   ./run.sh                                                        # downloads the corpus (520 MB)
#   ./run.sh --corpus /corpora/speechocean762 --musan /corpora/musan --rirs /corpora/RIRS_NOISES
#   ./run.sh --stage 3 --conf conf/small/ecapa_tdnn.yaml --name ecapa_tdnn      # another system on the same data
set -euo pipefail
. ./path.sh
. ./cmd.sh

. steps/options.sh
stage=0 # first and last stage to run; what is up to date is left alone
corpus= # a copy of the corpus; empty: it is downloaded to --data
url=https://www.openslr.org/resources/101/speechocean762.tar.gz
musan=                       # MUSAN, for the noisy test set; empty: noises are synthesised
rirs=                        # RIRS_NOISES, likewise
data=data                    # where the data directories go
dev_speakers=12              # training speakers held out for validation
name=rawnext                 # results go to exp/$name
conf=conf/small/rawnext.yaml # YAML files of the system, merged from left to right
fit=false                    # true: a system without a network (conf/small/mel_lda.yaml), fitted by steps/fit_lda.py
protocols=native
backends="cosine asnorm plda"
num_workers=1
. utils/parse_options.sh
downloaded=$data/speechocean762
RAWNEXT_COMMAND="egs/speechocean762/run.sh$(given conf name set init teacher seeds)"
. steps/recipe.sh

if in_stage 0 "the corpus"; then
  if [ -z "$corpus" ] && [ ! -d "$downloaded" ]; then
    download "$url" "$data/.unpacked" --corpus
    mv "$data/.unpacked/speechocean762" "$downloaded"
    rm -r "$data/.unpacked"
  fi
fi
corpus=${corpus:-$downloaded}

# All that its result depends on is an argument: `once` compares them.
prepare() {
  [ -f "$3/train/wav.scp" ] || die "$0: no $3/train/wav.scp; speechocean762 is at https://www.openslr.org/101/"
  local/open/prepare_open.py --nj "$nj" --no-prefix "$1" "$2" --train "train=$3/train" --test "test=$3/test" "$data"
  utils/make_trials.py --seed 763 --same-gender "$data/test" "$data/test/trials_hard"
  draw_and_check 762 dev test
  utils/lint_trials.py --train "$data/train" "$data/test/trials_hard"
}
prepare_noisy() {
  local/noise/make_noisy.py "$data/test" "$data/noisy_banks" "$data/test_noisy"
  cp "$data/test/trials" "$data/test_noisy/trials"
  wrote "$data/test_noisy/wav.scp"
}

if in_stage 1 "data directories, trials, held-out speakers"; then
  once "$data"/{train,dev,test}/.prepared -- prepare --dev-speakers "$dev_speakers" "$corpus"
fi

if in_stage 2 "noise and room banks; the test set in noise"; then
  banks=("$data"/{musan_noise,musan_music,musan_speech,rirs} "$data"/noisy_banks/{musan_noise,rirs})
  once "${banks[@]/%//.prepared}" -- prepare_banks "$(cksum < "$data/train/wav.scp")" --synthesise \
    --musan "$musan" --rirs "$rirs" --held-out "$data/noisy_banks"
  once "$data/test_noisy/.prepared" -- prepare_noisy "$(cat "$data"/{test,noisy_banks/musan_noise,noisy_banks/rirs}/wav.scp | cksum)"
fi

hold shared "$data" # no other run may prepare it again during training
steps/verification.sh "${options[@]}" --fit "$fit" --train "$data/train" --dev "$data/dev" \
  --eval "${data@Q}/test:trials ${data@Q}/test:trials_hard ${data@Q}/test_noisy:trials:${data@Q}/test" \
  --cut "${data@Q}/test:trials ${data@Q}/test_noisy:trials:${data@Q}/test" "exp/$name"
