#!/usr/bin/env bash
# Every system on one corpus with one budget, compared in exp/COMPARISON.md. If it is stopped, the same command continues.
#   ./run_all.sh --corpus /corpora/speechocean762 --musan /corpora/musan --rirs /corpora/RIRS_NOISES
#   ./run_all.sh --stage 3 --systems "rawnext resnext"
set -euo pipefail
. ./path.sh
. ./cmd.sh

stage=0 # first stage of run.sh
corpus= # see run.sh --help
musan=
rirs=
baselines="mel_lda background_lda" # without a network
systems="rawnext resnext next_tdnn next_tdnn_light ecapa_tdnn rawnet2 rawnet3 mr_rawnet resnet34 dtdy_resnet34"
systems+=" thin_resnet34_se convmixer"
durations="5 2 1" # see run.sh --help
backends=cosine   # what scores the trials (docs/reference/backend.md)
ngpu=0            # GPUs for each system; 0: the CPU
jobs=$(nproc)     # systems at a time, each with one CPU thread
. utils/parse_options.sh

if [ "$stage" -le 2 ]; then
  ./run.sh --stage "$stage" --stop-stage 2 --corpus "$corpus" --musan "$musan" --rirs "$rirs" --nj "$jobs"
fi

# all FIT NAME...: stages 3 to 9 of each system, $jobs of them at a time
all() {
  local fit=$1
  shift
  printf '%s\n' "$@" | xargs -P "$jobs" -I NAME ./run.sh --stage 3 --conf conf/small/NAME.yaml --name NAME --fit "$fit" \
    --durations "$durations" --backends "$backends" --ngpu "$ngpu" --nj 1 --num-threads 1
}
# shellcheck disable=SC2086
all true $baselines
# shellcheck disable=SC2086
all false $systems

exps=()
for name in $baselines $systems; do exps+=("exp/$name"); done
steps/compare.py --out exp/COMPARISON.md "${exps[@]}"
wrote exp/COMPARISON.md
