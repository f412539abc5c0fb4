#!/usr/bin/env bash
# Embed every utterance of a Kaldi data directory (wav.scp with wav, flac or ogg paths; segments and spk2utt optional).
#   steps/extract.sh [options] DATA_DIR EXP_DIR OUT_DIR
#   e.g.: steps/extract.sh --nj 8 --cmd "$extract_cmd" --duration 2 data/vox1 exp/rawnext exp/rawnext/embeddings/vox1_2s
# Writes OUT_DIR/embedding.JOB.{ark,scp,sources}, embedding.scp, and with spk2utt spk_embedding.{ark,scp}, num_utts.ark;
# with --min-duration also short_utts, the utterances that were skipped. EXP_DIR is an experiment, whose log/ gets the logs,
# or an exported model such as rawnext/pretrained; then OUT_DIR/log gets them.
# If it was killed, the same command continues. Embeddings of the same model and audio are not made again.
set -euo pipefail
. ./path.sh

cmd=run.py        # launcher of the jobs
nj=               # jobs; empty: one for each CPU of this machine, with --gpu 1 four
duration=0        # seconds cut from the middle of each utterance; 0: all of it
min_duration=0    # skip utterances shorter than these seconds; 0: one below 0.1 s is an error before any work starts
protocol=native   # native: whole utterance in one pass; paper: averaged segments of 59,049 samples
num_threads=      # CPU threads of a job; empty: 1, with --gpu 1 four, which decode audio
gpu=0             # 1: each job takes a GPU; 0: jobs run on the CPU
vad=              # embed the speech alone: energy, silero (a network), or scp: as DATA_DIR/vad.scp of steps/vad.sh has it
allow_pipes=false # true: run the commands `... |` of wav.scp
checksum=false    # true: OUT_DIR/*.sources have the SHA-256 of the audio in place of its time, to notice any change
. utils/parse_options.sh

[ $# -eq 3 ] || die "Usage: $0 [options] <data-dir> <exp-dir> <out-dir>   (--help lists the options)"
data=$1 exp=$2 out=$3
for f in "$data/wav.scp" "$exp/config.yaml"; do [ -f "$f" ] || die "$0: no such file $f"; done
has_model "$exp"
logs=$([ -f "$exp/model.pt" ] && echo "$exp" || echo "$out")/log

num_utts=$(wc -l < "$data/$([ -f "$data/segments" ] && echo segments || echo wav.scp)")
if [ -z "$nj" ]; then nj=$([ "$gpu" = 0 ] && nproc || echo 4); fi
[ "$nj" -le "$num_utts" ] || nj=$num_utts
if [ -z "$num_threads" ]; then num_threads=$([ "$gpu" = 0 ] && echo 1 || echo 4); fi
device=$([ "$gpu" = 0 ] && echo cpu || echo cuda)
flags=()
if [ "$allow_pipes" = true ]; then flags=(--allow-pipes); fi
if [ "$checksum" = true ]; then flags+=(--checksum); fi
if [ -n "$vad" ]; then flags+=(--vad "$vad"); fi
mkdir -p "$out"
files_or_nothing "$out/embedding.scp" "$out/short_utts"
# if they exist, all of it is of one run
rm -f "$out"/{embedding.scp,short_utts,spk_embedding.scp,spk_embedding.ark,num_utts.ark,utt2norm,utt2cohort_mean}

launch "$cmd --gpu $gpu --num-threads $num_threads" "$nj" "$logs/extract.$(basename "$out")" \
  steps/extract.py --protocol "$protocol" --duration "$duration" --min-duration "$min_duration" --device "$device" \
  --num-threads "$num_threads" "${flags[@]}" "$data" "$exp" "$out"

for j in $(seq "$nj"); do cat "$out/embedding.$j.scp"; done | sort > "$out/.embedding.scp.tmp"
skipped=()
if [ "$min_duration" != 0 ]; then
  skipped=(--skipped "$out/short_utts")
  for j in $(seq "$nj"); do cut -d ' ' -f 1,2 "$out/embedding.$j.short"; done > "$out/short_utts"
  num_short=$(wc -l < "$out/short_utts")
  log "skipped $num_short of $num_utts utterances, shorter than $min_duration s${vad:+ of speech}; $out/short_utts lists them"
  num_utts=$((num_utts - num_short))
  [ "$num_utts" -gt 0 ] || die "$0: no utterance of $data has $min_duration s or more"
fi
[ "$(wc -l < "$out/.embedding.scp.tmp")" -eq "$num_utts" ] || die "$0: not $num_utts embeddings in $out"
for f in "$out"/{,.}embedding.*.*; do # left by a run with more jobs
  j=${f##*embedding.}
  if [[ "${j%%.*}" =~ ^[0-9]+$ && "${j%%.*}" -gt "$nj" ]]; then rm -f "$f"; fi
done
mv "$out/.embedding.scp.tmp" "$out/embedding.scp"
if [ -f "$data/spk2utt" ]; then steps/average_speakers.py "${skipped[@]}" "$data/spk2utt" "$out"; fi
wrote "$out/embedding.scp"
