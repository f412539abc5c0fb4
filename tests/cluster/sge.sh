#!/usr/bin/env bash
# Runs a real Grid Engine with one host on the loopback interface, to test utils/sge.py.
#   tests/cluster/sge.sh start|stop|env
#   eval "$(tests/cluster/sge.sh env)" && qhost      after start: qsub, qstat, qdel, ... are on PATH
# All files are in $RAWNEXT_CLUSTER (default: a folder in /tmp); an installed Grid Engine is not touched.
# It has a queue all.q with 8 slots, the parallel environment smp, and the consumable resources gpu=2 and ram_free=32G.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/packages.sh"
sge=$CLUSTER/sge
programs=$ROOT/usr/lib/gridengine
port=${SGE_TEST_PORT:-46830} # and the next
user=$(id -un)
host=$(hostname)

environment() {
  echo "export SGE_ROOT=$sge SGE_CELL=default SGE_CLUSTER_NAME=rawnext SGE_ARCH=lx-amd64"
  echo "export SGE_QMASTER_PORT=$port SGE_EXECD_PORT=$((port + 1))"
}

with_libraries() { LD_LIBRARY_PATH=$programs:$ROOT/usr/lib/$(uname -m)-linux-gnu "$@"; }

# Debian's build loads its spooling library only from /usr/lib/gridengine; patch it to search LD_LIBRARY_PATH.
patch_library_path() {
  local program from='/usr/lib/gridengine/%s%s' nuls
  nuls=$(printf '\\x00%.0s' {1..20})
  for program in sge_qmaster spoolinit spooldefaults.bin; do
    LC_ALL=C sed -i "s|$from|%s%s$nuls|" "$programs/$program"
  done
}

configure() {
  mkdir -p "$sge"/{bin,qmaster,execd,spool,default/common}
  ln -s "$ROOT/usr/share/gridengine/util" "$sge/util"
  echo "$host" > "$sge/default/common/act_qmaster"
  # 127.0.0.1 resolves to localhost; Grid Engine requires one name per host.
  [ "$host" = localhost ] || echo "$host localhost" > "$sge/default/common/host_aliases"
  cat > "$sge/default/common/bootstrap" << EOF
admin_user $([ "$user" = root ] && echo none || echo "$user")
default_domain none
ignore_fqdn true
spooling_method classic
spooling_lib libspoolc
spooling_params $sge/default/common;$sge/spool
binary_path $programs
qmaster_spool_dir $sge/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
EOF
  sed -e "s|^execd_spool_dir.*|execd_spool_dir $sge/execd|" -e 's/^\(min_[ug]id\).*/\1 0/' \
    -e 's|^mailer.*|mailer /bin/true|' -e 's/^administrator_mail.*/administrator_mail none/' \
    -e 's/^load_report_time.*/load_report_time 00:00:05/' \
    "$ROOT/usr/share/gridengine/default-configuration" > "$sge/configuration"
  with_libraries "$programs/spoolinit" classic libspoolc "$sge/default/common;$sge/spool" init
  with_libraries "$programs/spooldefaults.bin" configuration "$sge/configuration"
  with_libraries "$programs/spooldefaults.bin" complexes "$ROOT/usr/share/gridengine/util/resources/centry"
  with_libraries "$programs/spooldefaults.bin" usersets "$ROOT/usr/share/gridengine/util/resources/usersets"
  with_libraries "$programs/spooldefaults.bin" managers "$user"
}

link_programs() {
  local program
  for program in qsub qstat qdel qconf qhost qalter qmod qacct qhold qrls; do
    cat > "$sge/bin/$program" << EOF
#!/bin/sh
$(environment)
exec /lib64/ld-linux-x86-64.so.2 --library-path $programs:$ROOT/usr/lib/$(uname -m)-linux-gnu $programs/$program "\$@"
EOF
    chmod +x "$sge/bin/$program"
  done
}

# Sets up what a site's administrator would: the host, the resources and the queue.
set_up_site() {
  local qconf=$sge/bin/qconf
  "$qconf" -as "$host"
  {
    "$qconf" -sc | grep -v '^#'
    echo "gpu gpu INT <= YES JOB 0 0"
    echo "ram_free ram_free MEMORY <= YES JOB 0 0"
  } > "$sge/complexes"
  "$qconf" -Mc "$sge/complexes"
  "$qconf" -ssconf | sed -e 's/^schedule_interval.*/schedule_interval 0:0:1/' -e 's/^flush_\(submit\|finish\)_sec.*/flush_\1_sec 1/' \
    -e 's/^load_adjustment_decay_time.*/load_adjustment_decay_time 0:0:0/' -e 's/^job_load_adjustments.*/job_load_adjustments NONE/' \
    > "$sge/schedule"
  "$qconf" -Msconf "$sge/schedule"
  printf '%s\n' "pe_name smp" "slots 99" "user_lists NONE" "xuser_lists NONE" "start_proc_args NONE" \
    "stop_proc_args NONE" "allocation_rule \$pe_slots" "control_slaves FALSE" "job_is_first_task TRUE" \
    "urgency_slots min" "accounting_summary FALSE" "qsort_args NONE" > "$sge/smp"
  "$qconf" -Ap "$sge/smp"
  "$qconf" -sq | sed -e 's/^qname.*/qname all.q/' -e "s/^hostlist.*/hostlist $host/" -e 's/^slots.*/slots 8/' \
    -e 's/^load_thresholds.*/load_thresholds NONE/' -e 's/^pe_list.*/pe_list smp/' -e 's/^rerun.*/rerun TRUE/' \
    -e 's|^shell .*|shell /bin/bash|' -e 's/^notify.*/notify 00:00:05/' > "$sge/queue"
  "$qconf" -Aq "$sge/queue"
  "$qconf" -rattr exechost complex_values gpu=2,ram_free=32G "$host"
}

answers() { timeout 5 "$sge/bin/qconf" -sh; }
host_is_up() { timeout 5 "$sge/bin/qconf" -sel | grep -q .; }
ready() { timeout 5 "$sge/bin/qstat" -f -xml | grep -q '<arch>lx'; }

start() {
  if [ -f "$sge/up" ] && ready; then return; fi
  unpack gridengine-common gridengine-client gridengine-exec gridengine-master libmunge2 libhwloc15 libjemalloc2
  stop
  patch_library_path
  eval "$(environment)"
  configure > /dev/null
  link_programs
  with_libraries "$programs/sge_qmaster"
  wait_for 20 answers || fail "sge_qmaster does not respond; see $sge/qmaster/messages"
  with_libraries "$programs/sge_execd"
  wait_for 20 host_is_up || fail "sge_execd does not start; see $sge/execd"
  set_up_site > "$sge/set_up.log" 2>&1 || fail "set-up failed; see $sge/set_up.log"
  wait_for 20 ready || fail "the queue does not start; see $sge/qmaster/messages"
  touch "$sge/up"
  echo "$0: Grid Engine is running; its files are in $sge"
}

stop() {
  if [ -x "$sge/bin/qdel" ]; then
    timeout 5 "$sge/bin/qdel" -u "$user" > /dev/null 2>&1 || true
    wait_for 20 no_jobs || true
  fi
  end_living "$programs"
  rm -rf "$sge"
}

no_jobs() { [ -z "$(timeout 5 "$sge/bin/qstat" -u '*')" ]; }

run_verb "${1:-}" "$sge/bin"
