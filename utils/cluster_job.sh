#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run one job on a cluster and write its log. slurm.py and sge.py submit this script by sbatch and qsub:
#   cluster_job.sh /home/me/vox/exp/log/q/x.JOB.sh /home/me/vox exp/log/x.JOB.log JOB 1 1 -
# Arguments: the script that runs the command, the working folder, the log (relative to that folder), the identifier in
# the log's name that the job's number replaces (-: none), the number of threads, the number of nodes, the job numbers
# (-: equal to the task ids; 3,7: job 3 is task 1, job 7 is task 2).
# If the command exits with 75, or fails and has created the file $RUN_AGAIN, the job is requeued and appends to the
# same log, unless it was cancelled.
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

restarts=${script%.sh}.$job.restarts # number of consecutive runs that were shorter than a minute
export RUN_AGAIN=${script%.sh}.$job.again
rm -f "$RUN_AGAIN"
deleted= # yes: the job was deleted by qdel and must not be requeued

# Grid Engine sends USR1 or USR2 to all processes of the job before it ends them; the command handles only TERM.
# shellcheck disable=SC2329  # called by traps
terminate() {
  signalled=yes
  trap '' TERM
  kill -TERM 0
  trap : TERM
}

run() {
  if [ -n "${SLURM_JOB_ID:-}" ]; then # by srun, so that Slurm's signals reach the command
    srun --quiet --export=ALL --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --kill-on-bad-exit=1 \
      ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} bash "$script" "$job"
    return
  fi
  trap terminate USR1
  trap 'deleted=yes; terminate' USR2
  (
    trap '' USR1 USR2
    exec bash "$script" "$job"
  ) &
  local child=$! code signalled=yes
  while [ -n "$signalled" ]; do # a signal interrupts `wait`
    signalled=
    wait "$child"
    code=$?
  done
  return "$code"
}

# Set the variables from which torchrun reads the number of nodes and where they meet.
set_torchrun_variables() {
  local first address
  first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  address=$(scontrol -o show node "$first" | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')
  export PET_NNODES=$nodes PET_RDZV_BACKEND=c10d PET_RDZV_ID=$SLURM_JOB_ID
  export PET_RDZV_ENDPOINT=${address:-$first}:$((20000 + SLURM_JOB_ID % 10000))
}

# Succeeds unless the job was cancelled by scancel or qdel.
may_requeue() {
  if [ -n "${SLURM_JOB_ID:-}" ]; then
    [[ "$(scontrol -o show job "$SLURM_JOB_ID")" == *" JobState=RUNNING "* ]]
  else
    [ -z "$deleted" ]
  fi
}

# Requeue this job. Slurm then ends this script; Grid Engine requeues on exit code 99.
requeue() {
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
trap : TERM # the command gets it too; this script waits for the command's exit code
[ "$nodes" -eq 1 ] || set_torchrun_variables
run
code=$?
seconds=$(($(date +%s) - begin))
echo "# Accounting: time=$seconds threads=$threads"

if [ "$code" -ne 0 ] && [ -e "$RUN_AGAIN" ] && may_requeue; then
  quick=0
  if [ "$seconds" -lt 60 ]; then quick=$(($(cat "$restarts" 2> /dev/null || echo 0) + 1)); fi
  echo "$quick" > "$restarts"
  if [ "$quick" -le 5 ]; then
    echo "# Stopped at $(date) with status $code, to be run again"
    requeue
    echo "# The scheduler did not requeue the job"
  else
    echo "# Stopped after less than a minute $quick times in a row: not run again"
  fi
fi
rm -f "$RUN_AGAIN" "$restarts"
echo "# Finished at $(date) with status $code"
case $code in 99 | 100) code=1 ;; esac # for Grid Engine, 99 means requeue and 100 error state
exit "$code"
