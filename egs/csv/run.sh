#!/usr/bin/env bash
# shellcheck disable=SC2034 # options_of reads the options
# Speaker verification from CSV files: one names files and their speakers, the other pairs of files by unknown speakers.
#   ./run.sh --train-csv train.csv --pairs test_pairs.csv      # columns idx, wav path, speaker id; idx, left wav, right wav
#   ./run.sh --train-csv train.csv --way triplet --wav-dir /corpora/wavs
# Writes exp/NAME/submission.csv: idx, score, label, WHERE LABEL 0 MEANS THE SAME SPEAKER AND 1 DIFFERENT SPEAKERS.
set -euo pipefail
. ./path.sh
. ./cmd.sh

. steps/options.sh
stage=1 # first and last stage to run; what is up to date is left alone
stop_stage=10
train_csv=         # CSV of the training utterances: idx, wav path, speaker id
pairs=             # CSV of the pairs to decide: idx, left wav, right wav; empty: none
wav_dir=           # where the CSVs' relative paths begin; empty: in each CSV's own folder
train_columns=     # path,speaker by their names or numbers, if not those that prepare_csv.py --help lists
pairs_columns=     # idx,left,right likewise
dev_speakers=      # speakers held out; the pairs of their utterances give the threshold; empty: a fifth of them, 2 to 20
max_bad_fraction=0 # share of the training files that may be unreadable and left out
musan=             # MUSAN, for the operations noise, music and babble; empty: none
rirs=              # RIRS_NOISES, for the operation reverb; empty: none
data=data          # where the data directories go
way=siamese        # siamese (1st way); contrastive, triplet, angular_prototypical or aam (2nd way)
conf=              # YAML files over conf/csv/{training,augment,$way}.yaml, such as conf/csv/convmixer.yaml
name=              # results go to exp/$name; empty: $way
backends=          # docs/reference/backend.md; the first decides the pairs; empty: siamese for the 1st way, else cosine
protocols=native   # native: true length, one pass; paper: averaged segments of one length; the first decides the pairs
durations=
. utils/parse_options.sh
name=${name:-$way}
backends=${backends:-$([ "$way" = siamese ] && echo siamese || echo cosine)}
backend=${backends%% *}
protocol=${protocols%% *}
exp=exp/$name
RAWNEXT_COMMAND="egs/csv/run.sh$(given way name backends conf set init teacher seeds)"
conf="conf/csv/training.yaml conf/csv/augment.yaml conf/csv/$way.yaml${conf:+ $conf}"

if [ "$stage" -le 1 ]; then
  [ -n "$train_csv" ] || die "$0: --train-csv is needed"
  for f in "$train_csv" ${pairs:+"$pairs"}; do [ -f "$f" ] || die "$0: no such file $f"; done
fi
if [[ -n "$pairs" && "$backend" == *norm ]]; then die "$0: --backends: $backend cannot come first, it decides no pairs"; fi
. steps/recipe.sh

# All that its result depends on is an argument: `once` compares them.
prepare() {
  local/csv/prepare_csv.py --nj "$nj" "${@:3}" "$data"
  draw_and_check 1 dev
  if [ -n "$pairs" ]; then utils/validate_data_dir.py "$data/pairs"; fi
}

if in_stage 1 "data directories, held-out speakers and their trials"; then
  sets=("$data"/{train,dev} ${pairs:+"$data/pairs"})
  once "${sets[@]/%//.prepared}" -- prepare "$(cksum < "$train_csv")" "${pairs:+$(cksum < "$pairs")}" \
    ${wav_dir:+--wav-dir "$wav_dir"} ${pairs:+--pairs "$pairs" --pairs-columns "$pairs_columns"} \
    --train-columns "$train_columns" ${dev_speakers:+--dev-speakers "$dev_speakers"} \
    --max-bad-fraction "$max_bad_fraction" "$train_csv"
fi

if [ -n "$musan$rirs" ] && in_stage 2 "noise and room banks"; then
  banks=()
  if [ -n "$musan" ]; then banks+=("$data"/musan_{noise,music,speech}); fi
  if [ -n "$rirs" ]; then banks+=("$data/rirs"); fi
  once "${banks[@]/%//.prepared}" -- prepare_banks "" --musan "$musan" --rirs "$rirs"
fi

hold shared "$data" # no other run may prepare it again during training
steps/verification.sh "${options[@]}" --train "$data/train" --dev "$data/dev" --eval "${data@Q}/dev:trials" "$exp"

if [ -n "$pairs" ] && in_stage 10 "decide the pairs"; then
  out=$exp/embeddings/pairs_$protocol
  scores=$exp/scores/$backend
  model=$exp/backend/$protocol
  if [ "$backend" = siamese ]; then model=$exp; fi
  steps/extract.sh --cmd "$extract_cmd" --nj $((ngpu > 0 ? ngpu * num_nodes : nj)) --gpu $((ngpu > 0)) --protocol "$protocol" \
    "$data/pairs" "$exp" "$out"
  steps/score.py --unlabelled --backend "$backend" --model "$model" --enroll "$out/embedding.scp" \
    --test "$out/embedding.scp" "$data/pairs/pairs" "$scores/pairs/pairs_$protocol"
  steps/submission.py --dev-scores "$scores/dev/trials_$protocol" --dev-trials "$data/dev/trials" \
    --pairs "$data/pairs/pairs" "$scores/pairs/pairs_$protocol" "$exp/submission.csv"
  wrote "$exp/submission.csv"
fi
