#!/usr/bin/env bash
# shellcheck disable=SC2034 # a loop reads the options
# Who speaks when in each recording (or segment) of a Kaldi data directory.
#   steps/diarize.sh [options] DATA_DIR EXP_DIR OUT_DIR
#   e.g.: steps/diarize.sh --nj 8 --vad silero data/meetings exp/rawnext exp/rawnext/diarization
# Writes OUT_DIR/rttm.JOB and OUT_DIR/rttm. steps/der.py compares it with a reference.
set -euo pipefail
. ./path.sh

cmd=run.py        # launcher of the jobs
nj=               # jobs; empty: one for each CPU of this machine
vad=energy        # energy, silero (a network), scp: DATA_DIR/vad.scp of steps/vad.sh, rttm: the turns of DATA_DIR/ref.rttm
num_speakers=0    # 0: estimated
reco2num_spk=     # file with the number of speakers of each recording
max_speakers=     # upper limit of the estimate; this and the next three: empty for the defaults of steps/diarize.py
threshold=        # mean LLR (without a calibration: cosine) below which two groups of windows are two speakers
window=           # seconds of the windows that are embedded
shift=            # seconds between windows
gallery=          # ARK,SCP of rawnext enroll: the calibration decides which of its names the speakers get
prior=            # prior probability of a target pair, for these names
allow_pipes=false # true: run the commands `... |` of wav.scp
. utils/parse_options.sh

[ $# -eq 3 ] || die "Usage: $0 [options] <data-dir> <exp-dir> <out-dir>   (--help lists the options)"
data=$1 exp=$2 out=$3
[ -f "$data/wav.scp" ] || die "$0: no such file $data/wav.scp"

num=$(wc -l < "$data/$([ -f "$data/segments" ] && echo segments || echo wav.scp)")
if [ -z "$nj" ]; then nj=$(nproc); fi
[ "$nj" -le "$num" ] || nj=$num
more=()
if [ "$allow_pipes" = true ]; then more=(--allow-pipes); fi
for option in reco2num_spk max_speakers threshold window shift gallery prior; do
  if [ -n "${!option}" ]; then more+=("--${option//_/-}" "${!option}"); fi
done
mkdir -p "$out"
files_or_nothing "$out/rttm"
rm -f "$out/rttm"
launch "$cmd" "$nj" "$out/log/diarize" \
  steps/diarize.py --device cpu --vad "$vad" --num-speakers "$num_speakers" "${more[@]}" "$data" "$exp" "$out"
for j in $(seq "$nj"); do cat "$out/rttm.$j"; done > "$out/.rttm.tmp"
mv "$out/.rttm.tmp" "$out/rttm"
wrote "$out/rttm"
