#!/usr/bin/env bash
# The paper's Table 4 (exp/TABLE4.md): ResNeXt, five intermediate systems, RawNeXt, one after the other on the same data.
#   ./run_ablation.sh -- --vox1 /corpora/VoxCeleb1 --vox2 /corpora/VoxCeleb2 --musan /corpora/musan \
#     --rirs /corpora/RIRS_NOISES --ngpu 4
#   ./run_ablation.sh --stage 3 --rows "1 7" -- --ngpu 4
# The options after -- go to run.sh. If it is stopped, the same command continues: a row with exp/NAME/RESULTS.md is left
# alone, unless --stage asks for a stage after the training.
set -euo pipefail
. ./path.sh
. ./cmd.sh

stage=0 # first and last stage of run.sh
stop_stage=9
rows="1 2 3 4 5 6 7" # which rows of the table to train; all finished rows are printed
. utils/parse_options.sh

conf=("" conf/resnext.yaml conf/ablation/{2..6}.yaml conf/rawnext.yaml) # of each row
name=("" resnext ablation_{2..6} rawnext)
for row in $rows; do
  [[ "$row" == [1-7] ]] || die "$0: Table 4 has no row $row (--rows)"
done

if ((stage <= 2)); then ./run.sh "$@" --stage "$stage" --stop-stage "$((stop_stage < 2 ? stop_stage : 2))"; fi
if ((stop_stage < 3)); then exit 0; fi

for row in $rows; do
  exp=exp/${name[$row]}
  if ((stage <= 3)) && [ -f "$exp/RESULTS.md" ]; then
    log "row $row: finished before: $exp"
  else
    log "row $row: $exp"
    ./run.sh "$@" --stage "$((stage > 3 ? stage : 3))" --stop-stage "$stop_stage" --conf "${conf[$row]}" --name "${name[$row]}"
  fi
done

exps=()
for row in 1 2 3 4 5 6 7; do
  if [ -f "exp/${name[$row]}/RESULTS.md" ]; then exps+=("$row=exp/${name[$row]}"); fi
done
steps/paper_tables.py --table 4 --out exp/TABLE4 "${exps[@]}"
wrote exp/TABLE4.md exp/TABLE4.tsv
