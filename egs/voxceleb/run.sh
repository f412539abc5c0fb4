#!/usr/bin/env bash
# VoxCeleb2 -> Vox1-O, E and H: RawNeXt as in the paper, from the corpora on disk to the results table.
#   ./run.sh --vox1 /corpora/VoxCeleb1 --vox2 /corpora/VoxCeleb2 --musan /corpora/musan --rirs /corpora/RIRS_NOISES
#   ./run.sh --conf conf/resnext.yaml --name resnext --stage 3      # another system on the same data
set -euo pipefail
. ./path.sh
. ./cmd.sh

stage=0 # first and last stage to run
stop_stage=9
vox1=/corpora/VoxCeleb1 # where the corpora are
vox2=/corpora/VoxCeleb2
musan=/corpora/musan
rirs=/corpora/RIRS_NOISES
lists=                        # folder of the trial lists (veri_test2.txt, list_test_all2.txt, ...); empty: --vox1
data=data                     # where the data directories go
vox2_flac=                    # where FLAC copies of VoxCeleb2's m4a go; empty: vox2_flac in --data
dev_speakers=40               # training speakers held out for validation; 0: none, as in the paper
conf=conf/rawnext.yaml        # YAML files of the system, merged from left to right
set=                          # single options over them, such as "optim.lr=5e-4 seed=2"
init=                         # trained experiment to start from, such as exp/rawnext; empty: from new weights
name=rawnext                  # results go to exp/$name
durations="5 2 1"             # seconds to which the test side of Vox1-O is cut, besides its full length
protocols="paper native"      # paper: averaged segments of 59,049 samples; native: true length, one pass
backends="cosine asnorm plda" # what scores the trials (docs/reference/backend.md)
ngpu=0                        # GPUs for training, on each machine; 0: one process on the CPU
num_nodes=1                   # machines to train on (a cluster's; see docs/howto/cluster.md)
torchrun_opts=                # options of steps/torchrun.py, such as "--max-restarts 10"
nj=$(nproc)                   # parallel jobs of preparation and extraction
num_threads=0                 # CPU threads for training; 0: all of this machine
num_workers=4                 # data workers of each training process
max_bad_fraction=0            # of the audio files that may be unreadable and left out
. utils/parse_options.sh
vox2_flac=${vox2_flac:-$data/vox2_flac}
export RAWNEXT_COMMAND="egs/voxceleb/run.sh --conf \"$conf\" --name $name${set:+ --set \"$set\"}${init:+ --init $init} --dev-speakers $dev_speakers"

if ((stage <= 3 && stop_stage >= 3)); then steps/train.py --check --config "$conf" --set "$set" --init "$init" -; fi

if [ "$stage" -le 2 ]; then
  mkdir -p "$data"
  hold alone "$data"
fi

if in_stage 0 "check the corpora; transcode VoxCeleb2's m4a to FLAC"; then
  local/voxceleb/check_voxceleb.py --vox1 "$vox1" --vox2 "$vox2" --musan "$musan" --rirs "$rirs" --lists "$lists"
  $train_cmd JOB=1:"$nj" exp/log/transcode.JOB.log \
    local/voxceleb/transcode_vox2.py --job JOB --num-jobs "$nj" "$vox2" "$vox2_flac"
  if [ -d "$vox2_flac" ]; then wrote "$vox2_flac"; fi
fi

# All that its result depends on is an argument: `once` compares them.
prepare() {
  local d checked=(vox1_test/trials_O vox1/trials_{E,H})
  local/voxceleb/prepare_voxceleb.py "$@" --nj "$nj" "$data"
  if [ "$dev_speakers" -gt 0 ]; then
    utils/make_trials.py --seed 1 "$data/dev" "$data/dev/trials"
    checked+=(dev/trials)
  fi
  for d in "${sets[@]}"; do utils/validate_data_dir.py "$d"; done
  for d in "${checked[@]}"; do utils/lint_trials.py --train "$data/train" "$data/$d"; done
}

if in_stage 1 "data directories, trials, held-out speakers"; then
  sets=("$data"/{train,vox1_test,vox1})
  if [ "$dev_speakers" -gt 0 ]; then sets+=("$data/dev"); fi
  once "${sets[@]/%//.prepared}" -- prepare --vox1 "$vox1" --vox2 "$vox2" --vox2-flac "$vox2_flac" --lists "$lists" \
    --dev-speakers "$dev_speakers" --max-bad-fraction "$max_bad_fraction"
  wrote "${sets[@]/%//wav.scp}"
fi

if in_stage 2 "noise and room banks"; then
  once "$data"/musan_{noise,music,speech}/.prepared -- local/noise/prepare_musan.py "$musan" "$data"
  once "$data/rirs/.prepared" -- local/noise/prepare_rirs.py "$rirs" "$data"
  wrote "$data"/{musan_noise,musan_music,musan_speech,rirs}/cuts.jsonl
fi

hold shared "$data" # nobody may prepare it anew under a training
dev=
if [ "$dev_speakers" -gt 0 ]; then dev=$data/dev; fi
steps/verification.sh --stage "$stage" --stop-stage "$stop_stage" --conf "$conf" --set "$set" --init "$init" \
  --train "$data/train" --dev "$dev" \
  --eval "$data/vox1_test:trials_O $data/vox1:trials_E $data/vox1:trials_H" --durations "$durations" \
  --protocols "$protocols" --backends "$backends" --ngpu "$ngpu" --num-nodes "$num_nodes" --torchrun-opts "$torchrun_opts" \
  --nj "$nj" --num-threads "$num_threads" --num-workers "$num_workers" "exp/$name"
