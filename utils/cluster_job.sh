#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One job on a cluster: gives a command its log, and the log its frame. slurm.py and sge.py hand it to sbatch and qsub:
#   cluster_job.sh /home/me/vox/exp/log/q/x.JOB.sh /home/me/vox exp/log/x.JOB.log JOB 1 1 -
# Arguments: the script that runs the command, the folder, the log from there, the name that stands for the job's number
# in it (-: none), the numbers of threads and of nodes, the jobs (-: the scheduler's tasks; 3,7: its tasks 1 and 2).
# A command that was asked to end (TERM) and exits with 75, or touches the file $RUN_AGAIN, is run again, in the same
# log; not if somebody cancelled the job.
set -u
script=$1 folder=$2 log=$3 name=$4 threads=$5 nodes=$6 numbers=$7

task=${SLURM_ARRAY_TASK_ID:-${SGE_TASK_ID:-undefined}}
IFS=, read -r -a listed <<< "$numbers"
if [ "$numbers" = - ]; then
  job=$task
elif [ "$task" = undefined ]; then
  job=${listed[0]}
else job=${listed[task - 1]}; fi
[ "$name" = - ] || log=${log//"$name"/$job}
[[ "$log" = /* ]] || log=$folder/$log
exec >> "$log" 2>&1 < /dev/null

restarts=${script%.sh}.$job.restarts # how often in a row it was run again after less than a minute
export RUN_AGAIN=${script%.sh}.$job.again
rm -f "$RUN_AGAIN"
stoppable=yes # no: the job is being deleted, and must not come back

# Grid Engine warns of the end with a signal to all processes of the job; the command knows TERM only.
# shellcheck disable=SC2329  # called by traps
ask_to_end() {
  asked=yes
  trap '' TERM
  kill -TERM 0
  trap : TERM
}

run() {
  if [ -n "${SLURM_JOB_ID:-}" ]; then # as a step, so that Slurm's signals reach the command
    srun --quiet --export=ALL --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --kill-on-bad-exit=1 \
      ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} bash "$script" "$job"
    return
  fi
  trap ask_to_end USR1
  trap 'stoppable=no; ask_to_end' USR2
  (
    trap '' USR1 USR2
    exec bash "$script" "$job"
  ) &
  local child=$! asked code
  asked=yes
  while [ -n "$asked" ]; do # a signal ends the waiting, not the child
    asked=
    wait "$child"
    code=$?
  done
  return "$code"
}

# The words in which torchrun reads from the environment who its fellows are.
describe_nodes() {
  local first address
  first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  address=$(scontrol -o show node "$first" | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')
  export PET_NNODES=$nodes PET_RDZV_BACKEND=c10d PET_RDZV_ID=$SLURM_JOB_ID
  export PET_RDZV_ENDPOINT=${address:-$first}:$((20000 + SLURM_JOB_ID % 10000))
}

# Does the scheduler let the job go on? (After scancel or qdel it does not.)
may_go_on() {
  if [ -n "${SLURM_JOB_ID:-}" ]; then
    [[ "$(scontrol -o show job "$SLURM_JOB_ID")" == *" JobState=RUNNING "* ]]
  else
    [ "$stoppable" = yes ]
  fi
}

# Put this job into the queue again. Slurm then ends this script; Grid Engine wants an exit code.
run_again() {
  if [ -n "${SLURM_JOB_ID:-}" ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}" || return
    sleep 60
    exit 0
  fi
  exit 99
}

echo "# Running on $(hostname)"
echo "# Started at $(date)"
for variable in SLURM_JOB_ID SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID SLURM_JOB_NODELIST JOB_ID SGE_TASK_ID; do
  [ -z "${!variable:-}" ] || echo "# $variable: ${!variable}"
done
begin=$(date +%s)
trap : TERM # the job's own processes get it too; this one stays to see how they end
[ "$nodes" -eq 1 ] || describe_nodes
run
code=$?
seconds=$(($(date +%s) - begin))
echo "# Accounting: time=$seconds threads=$threads"

if [ "$code" -ne 0 ] && [ -e "$RUN_AGAIN" ] && may_go_on; then
  quick=0
  if [ "$seconds" -lt 60 ]; then quick=$(($(cat "$restarts" 2> /dev/null || echo 0) + 1)); fi
  echo "$quick" > "$restarts"
  if [ "$quick" -le 5 ]; then
    echo "# Stopped at $(date) with status $code, to be run again"
    run_again
    echo "# The scheduler does not run it again"
  else
    echo "# Stopped $quick times within a minute: not run again"
  fi
fi
rm -f "$RUN_AGAIN" "$restarts"
echo "# Finished at $(date) with status $code"
case $code in 99 | 100) code=1 ;; esac # to Grid Engine these mean: once more; stay in the queue with an error
exit "$code"
