#!/usr/bin/env bash
# Test and measure this code on one GPU, in at most 9 minutes on an H100.
#   bench/gpu.sh [options]
#   e.g.: bench/gpu.sh --out gpu_h100
#         bench/gpu.sh --dry        (everything in miniature on the CPU, to test this script)
# Runs tests/gpu and bench/gpu.py; then, with --conf, trains that system until the time is over. Prints OUT/table.md; the
# output of each part is in OUT/PART.out and OUT/PART.log. Exit status 1 if a part failed; the others are still run.

# A machine with CUDA, Python 3.12 and torch 2.11, and nothing else, lacks packages. Without a network, make their wheels
# elsewhere (52 MiB; 15 MiB more with numpy, which torch's images have), and give their folder as --wheels:
#   pip download --no-deps --only-binary :all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
#     --platform manylinux2014_x86_64 --platform any -d wheels absl-py attrs audioread cffi click cytoolz hypothesis \
#     iniconfig intervaltree kaldiio==2.18.* lhotse==1.33.* lilcom omegaconf==2.3.* packaging pluggy protobuf pycparser \
#     pygments pytest python-stretch==0.3.* pytorch-metric-learning==2.9.* pyyaml safetensors scipy sortedcontainers \
#     soundfile==0.14.* tabulate tensorboard toolz torchaudio==2.11.0 tqdm urllib3==2.*
#   pip wheel --no-deps -w wheels antlr4-python3-runtime==4.9.3
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

out=gpu_out # folder of the output
wheels=     # folder of wheels to install for this run; empty: none
minutes=9   # time for everything
conf=       # YAML files of a system to train in the time that is left; empty: none
train=      # its training data; the recordings for augmentation are next to it
dry=false   # true: tiny models on the CPU
if [ "${1:-}" = --dry ] && [ "${2:-}" != true ]; then set -- --dry true "${@:2}"; fi
. utils/parse_options.sh

mkdir -p "$out"
if [ -n "$wheels" ]; then
  packages=$(mktemp -d)
  trap 'rm -rf "$packages"' EXIT
  python3 -m pip install --quiet --no-index --no-deps --target "$packages" "$wheels"/*.whl || exit 1
  export PYTHONPATH=$packages${PYTHONPATH:+:$PYTHONPATH}
fi
. ./path.sh
device=cuda options=() failed=0
if $dry; then
  export RAWNEXT_GPU_DRY=1 OMP_NUM_THREADS=1
  device=cpu options=(--dry)
fi

# part NAME LIMIT COMMAND...: runs a command for at most LIMIT seconds, or as many as are left; then it gets SIGTERM.
part() {
  local code=0 start=$SECONDS left=$((60 * minutes - SECONDS))
  local limit=$((left < $2 ? left : $2))
  if $dry; then limit=$left; fi # the limits are for a GPU, a busy CPU may take longer
  if ((limit < 10)); then
    echo "- $1: not run, no time was left" | tee -a "$out/table.md"
    return
  fi
  timeout --preserve-status --kill-after=30 "$limit" "${@:3}" > "$out/$1.out" 2> "$out/$1.log" || code=$?
  echo "- $1: exit status $code, $((SECONDS - start)) s" | tee -a "$out/table.md"
  if ((code != 0 && code != 75)); then # 75: a training that saved its state
    failed=1
    tail -n 20 "$out/$1.out" "$out/$1.log" >&2
  fi
}

: > "$out/table.md"
part tests 300 python3 -m pytest -q -p no:cacheprovider --durations=10 tests/gpu
part training 120 python3 -m bench.gpu "${options[@]}" training
part extraction 60 python3 -m bench.gpu "${options[@]}" extraction
part compiled 200 python3 -m bench.gpu "${options[@]}" compiled
if [ -n "$conf" ]; then
  part train $((60 * minutes - SECONDS - 30)) steps/train.py --device "$device" --config "$conf" --train "$train" \
    --banks "$(dirname "$train")" "$out/exp"
fi
{
  tail -n 1 "$out/tests.out"
  for name in training extraction compiled; do
    if [ -f "$out/$name.out" ]; then cat "$out/$name.out"; fi
  done
} | tee -a "$out/table.md"
exit "$failed"
