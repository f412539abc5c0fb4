#!/usr/bin/env bash
# Voice activity of every utterance of a Kaldi data directory, as Kaldi's compute_vad_decision.sh.
#   steps/vad.sh [options] DATA_DIR [OUT_DIR]      (OUT_DIR: DATA_DIR/vad)
#   e.g.: steps/vad.sh --nj 8 --vad silero data/test
#         steps/vad.sh --segments data/test_speech data/test
# Writes OUT_DIR/vad.JOB.{ark,scp} and DATA_DIR/vad.scp: for each 10 ms, 1 for speech and 0 for others.
set -euo pipefail
. ./path.sh

cmd=run.py                   # launcher of the jobs
nj=                          # jobs; empty: one for each CPU of this machine
vad=energy                   # energy: Kaldi's threshold on the energy; silero: a network (pip install 'rawnext[vad]')
vad_energy_threshold=5.0     # of energy, as the next three: options of Kaldi's compute-vad
vad_energy_mean_scale=0.5    # share of the recording's mean log energy that is added to the threshold
vad_frames_context=0         # frames on each side that are considered
vad_proportion_threshold=0.6 # share of these frames that must exceed the threshold
segments=                    # also write this data directory, whose utterances are the stretches of speech
allow_pipes=false            # true: run the commands `... |` of wav.scp
. utils/parse_options.sh

(($# == 1 || $# == 2)) || die "Usage: $0 [options] <data-dir> [<out-dir>]   (--help lists the options)"
data=$1 out=${2:-$1/vad}
[ -f "$data/wav.scp" ] || die "$0: no such file $data/wav.scp"

num_utts=$(wc -l < "$data/$([ -f "$data/segments" ] && echo segments || echo wav.scp)")
if [ -z "$nj" ]; then nj=$(nproc); fi
[ "$nj" -le "$num_utts" ] || nj=$num_utts
more=()
if [ "$allow_pipes" = true ]; then more=(--allow-pipes); fi
mkdir -p "$out"
files_or_nothing "$data/vad.scp"
rm -f "$data/vad.scp"
launch "$cmd" "$nj" "$out/log/vad" \
  steps/compute_vad.py --vad "$vad" --vad-energy-threshold "$vad_energy_threshold" \
  --vad-energy-mean-scale "$vad_energy_mean_scale" --vad-frames-context "$vad_frames_context" \
  --vad-proportion-threshold "$vad_proportion_threshold" "${more[@]}" "$data" "$out"
for j in $(seq "$nj"); do cat "$out/vad.$j.scp"; done | sort > "$data/.vad.scp.tmp"
[ "$(wc -l < "$data/.vad.scp.tmp")" -eq "$num_utts" ] || die "$0: not $num_utts utterances in $out"
mv "$data/.vad.scp.tmp" "$data/vad.scp"
if [ -n "$segments" ]; then steps/vad_segments.py "${more[@]}" "$data" "$segments"; fi
wrote "$data/vad.scp"
