#!/usr/bin/env bash
# shellcheck disable=SC2034 # options_of reads the options
# A corpus that the recipe synthesises itself, by eSpeak NG: every stage in minutes on a laptop, without network.
# It shows that all stages work. Synthetic speech: not a benchmark.
#   ./run.sh
#   ./run.sh --stage 3 --conf "conf/mini/resnext.yaml" --name resnext
set -euo pipefail
. ./path.sh
. ./cmd.sh

. steps/options.sh
stage=0                     # first and last stage to run; what is up to date is left alone
corpus=corpus               # where the synthesised corpus goes
corpus_opts=                # options of local/mini/make_mini.py, such as "--train-speakers 32 --utts 10"
data=data                   # where the data directories go
name=rawnext                # results go to exp/$name
conf=conf/mini/rawnext.yaml # YAML files of the system, merged from left to right
backends="cosine asnorm plda"
durations="2 1"
num_workers=1
. utils/parse_options.sh
RAWNEXT_COMMAND="egs/mini/run.sh$(given conf name set init)"
export RAWNEXT_COMMAND

if ((stage <= 3 && stop_stage >= 3)); then steps/train.py --check --config "$conf" --set "$set" --init "$init" -; fi

if [ "$stage" -le 2 ]; then
  mkdir -p "$data"
  hold alone "$data"
fi

if in_stage 0 "synthesise the corpus"; then
  # shellcheck disable=SC2086
  local/mini/make_mini.py --nj "$nj" $corpus_opts "$corpus"
fi

# All that their results depend on is an argument, including the state of the corpus: `once` compares them.
prepare() {
  local d
  local/mini/prepare_mini.py "$corpus" "$data"
  for d in dev test; do utils/make_trials.py --seed 1 "$data/$d" "$data/$d/trials"; done
  for d in train dev test; do utils/validate_data_dir.py "$data/$d"; done
  for d in dev test; do utils/lint_trials.py --train "$data/train" "$data/$d/trials"; done
  wrote "$data"/{train,dev,test}/wav.scp
}
prepare_banks() {
  local/noise/prepare_musan.py "$corpus/musan" "$data"
  local/noise/prepare_rirs.py "$corpus/rirs" "$data"
  wrote "${banks[@]/%//cuts.jsonl}"
}

if in_stage 1 "data directories, trials, held-out speakers"; then
  once "$data"/{train,dev,test}/.prepared -- prepare "$corpus" "$(cksum < "$corpus/.complete")"
fi

if in_stage 2 "noise and room banks"; then
  banks=("$data"/{musan_noise,musan_music,musan_speech,rirs})
  once "${banks[@]/%//.prepared}" -- prepare_banks "$corpus" "$(cksum < "$corpus/.complete")"
fi

hold shared "$data" # no other run may prepare it again during training
options_of steps/options.sh
steps/verification.sh "${options[@]}" --train "$data/train" --dev "$data/dev" --eval "$data/test:trials" "exp/$name"
