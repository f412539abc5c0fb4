#!/usr/bin/env bash
# Runs a real Slurm with two virtual nodes on the loopback interface, to test utils/slurm.py.
#   tests/cluster/slurm.sh start|stop|env
#   eval "$(tests/cluster/slurm.sh env)" && sinfo     after start: sbatch, srun, scontrol, ... are on PATH
# All files are in $RAWNEXT_CLUSTER (default: a folder in /tmp); an installed Slurm is not touched.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/packages.sh"
slurm=$CLUSTER/slurm
libraries=$ROOT/usr/lib/$(uname -m)-linux-gnu
port=${SLURM_TEST_PORT:-46817} # and the next two
cpus=4                         # per node; may exceed the real number

configure() {
  mkdir -p "$slurm"/{bin,log,state,n1,n2}
  cat > "$slurm/slurm.conf" << EOF
ClusterName=rawnext
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$slurm/munge/socket,cred_expire=5
CredType=cred/munge
PluginDir=$libraries/slurm-wlm
StateSaveLocation=$slurm/state
SlurmdSpoolDir=$slurm/%n
SlurmctldPidFile=$slurm/slurmctld.pid
SlurmdPidFile=$slurm/slurmd-%n.pid
SlurmctldLogFile=$slurm/log/slurmctld.log
SlurmdLogFile=$slurm/log/slurmd-%n.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
GresTypes=gpu
JobRequeue=1
KillWait=30
MinJobAge=30
ReturnToService=2
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname=$(hostname -s) Port=$((port + 1)) CPUs=$cpus RealMemory=16000 Gres=gpu:2
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname=$(hostname -s) Port=$((port + 2)) CPUs=$cpus RealMemory=16000 Gres=gpu:2
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE DefMemPerCPU=2000
EOF
  # Slurm requires device files; no job opens them.
  printf 'Name=gpu File=%s\n' /dev/null /dev/zero > "$slurm/gres.conf"
}

# Slurm's programs depend on their names, to which Debian adds -wlm.
link_programs() {
  local program
  for program in slurmctld slurmd slurmstepd; do ln -sf "$program-wlm" "$ROOT/usr/sbin/$program"; done
  for program in sbatch srun scontrol scancel squeue sinfo; do
    # The wrappers set the variables that these programs need, because jobs inherit only PATH.
    cat > "$slurm/bin/$program" << EOF
#!/bin/sh
SLURM_CONF=$slurm/slurm.conf exec /lib64/ld-linux-x86-64.so.2 --library-path $libraries:$libraries/slurm-wlm \\
  $ROOT/usr/bin/$program "\$@"
EOF
    chmod +x "$slurm/bin/$program"
  done
}

start_munge() {
  mkdir -p "$slurm/munge"
  "$ROOT/usr/sbin/mungekey" --create --keyfile="$slurm/munge/key"
  "$ROOT/usr/sbin/munged" --socket="$slurm/munge/socket" --key-file="$slurm/munge/key" --pid-file="$slurm/munge/pid" \
    --log-file="$slurm/munge/log" --seed-file="$slurm/munge/seed"
}

ready() { [ "$("$slurm/bin/sinfo" -h -N -t idle,mixed,allocated | wc -l)" = 2 ]; }

start() {
  if [ -f "$slurm/up" ] && ready; then return; fi
  unpack slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge libmunge2 libhwloc15
  stop
  configure
  link_programs
  export LD_LIBRARY_PATH=$libraries:$libraries/slurm-wlm SLURM_CONF=$slurm/slurm.conf
  start_munge
  "$ROOT/usr/sbin/slurmctld" -c -i
  for node in n1 n2; do "$ROOT/usr/sbin/slurmd" -N "$node" -d "$ROOT/usr/sbin/slurmstepd"; done
  unset LD_LIBRARY_PATH SLURM_CONF
  wait_for 60 ready || {
    tail -n 20 "$slurm"/log/*.log >&2
    fail "the nodes do not start; see $slurm/log"
  }
  touch "$slurm/up"
  echo "$0: Slurm is running; its files are in $slurm"
}

stop() {
  if [ -f "$slurm/slurmctld.pid" ]; then
    timeout 5 "$slurm/bin/scancel" --user="$(id -un)" 2> /dev/null || true
    wait_for 40 no_jobs || true
  fi
  end_living "$ROOT/usr/*bin"
  rm -rf "$slurm"
}

no_jobs() { [ -z "$(timeout 5 "$slurm/bin/squeue" -h)" ]; }

run_verb "${1:-}" "$slurm/bin"
