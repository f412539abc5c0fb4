#!/usr/bin/env bash
# A corpus that the recipe speaks itself, by eSpeak NG: every stage in minutes on a laptop, without network.
# It shows that all works; what it measures is not speech.
#   ./run.sh
#   ./run.sh --stage 3 --conf "conf/mini/resnext.yaml" --name resnext
set -euo pipefail
. ./path.sh
. ./cmd.sh

stage=0 # first and last stage to run
stop_stage=9
corpus=corpus                 # where the synthesised corpus goes
corpus_opts=                  # options of local/mini/make_mini.py, such as "--train-speakers 32 --utts 10"
data=data                     # where the data directories go
conf=conf/mini/rawnext.yaml   # YAML files of the system, merged from left to right
set=                          # single options over them, such as "optim.lr=5e-4 seed=2"
init=                         # trained experiment to start from, such as exp/rawnext; empty: from new weights
name=rawnext                  # results go to exp/$name
backends="cosine asnorm plda" # what scores the trials (docs/reference/backend.md)
ngpu=0                        # GPUs for training; 0: one process on the CPU
nj=$(nproc)                   # parallel jobs
. utils/parse_options.sh
export RAWNEXT_COMMAND="egs/mini/run.sh --conf \"$conf\" --name $name${set:+ --set \"$set\"}${init:+ --init $init}"

if ((stage <= 3 && stop_stage >= 3)); then steps/train.py --check --config "$conf" --set "$set" --init "$init" -; fi

if [ "$stage" -le 2 ]; then
  mkdir -p "$data"
  hold alone "$data"
fi

if in_stage 0 "synthesise the corpus"; then
  # shellcheck disable=SC2086
  local/mini/make_mini.py --nj "$nj" $corpus_opts "$corpus"
  wrote "$corpus"
fi

# All that their results depend on is an argument, also which corpus it is: `once` compares them.
prepare() {
  local d
  local/mini/prepare_mini.py "$corpus" "$data"
  for d in dev test; do utils/make_trials.py --seed 1 "$data/$d" "$data/$d/trials"; done
  for d in train dev test; do utils/validate_data_dir.py "$data/$d"; done
  for d in dev test; do utils/lint_trials.py --train "$data/train" "$data/$d/trials"; done
}
prepare_banks() {
  local/noise/prepare_musan.py "$corpus/musan" "$data"
  local/noise/prepare_rirs.py "$corpus/rirs" "$data"
}

if in_stage 1 "data directories, trials, held-out speakers"; then
  once "$data"/{train,dev,test}/.prepared -- prepare "$corpus" "$(cksum < "$corpus/.complete")"
  wrote "$data"/{train,dev,test}/wav.scp
fi

if in_stage 2 "noise and room banks"; then
  banks=("$data"/{musan_noise,musan_music,musan_speech,rirs})
  once "${banks[@]/%//.prepared}" -- prepare_banks "$corpus" "$(cksum < "$corpus/.complete")"
  wrote "${banks[@]/%//cuts.jsonl}"
fi

hold shared "$data" # nobody may prepare it anew under a training
steps/verification.sh --stage "$stage" --stop-stage "$stop_stage" --conf "$conf" --set "$set" --init "$init" \
  --train "$data/train" --dev "$data/dev" --eval "$data/test:trials" --durations "2 1" \
  --backends "$backends" --ngpu "$ngpu" --nj "$nj" --num-workers 1 "exp/$name"
