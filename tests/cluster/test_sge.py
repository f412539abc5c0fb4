# SPDX-License-Identifier: Apache-2.0
"""sge.py on a real Grid Engine: resources, limits and requeued jobs."""

import shutil

from test_launchers import AGAIN


def test_resources_arrive(sge):
    show = f"{shutil.which('qstat', path=sge.path)} -j $JOB_ID; echo omp=$OMP_NUM_THREADS slots=$NSLOTS"
    done = sge.run("--mem", "1G", "--num-threads", 3, "--gpu", 2, "--time", "1:0:0", "x.log", *sge.script(show))
    assert done.returncode == 0, done.stderr
    log = sge.read("x.log")
    [resources] = [line for line in log.splitlines() if line.startswith("hard resource_list:")]
    for word in ("mem_free=1G", "gpu=2", "s_rt=3600"):
        assert word in resources
    assert "\nomp=3 slots=3\n" in log


def test_time_limit(sge):
    done = sge.run("-l", "h_rt=2", "x.log", "sleep", 100)
    assert done.returncode == 1 and "x.log" in done.stderr and not sge.queue()


def test_job_that_exits_with_75_is_requeued(sge):
    done = sge.run("--time", "0:0:2", "x.log", *sge.script(AGAIN))    # soft limit
    assert (done.returncode, done.stderr) == (0, "")
    log = sge.read("x.log")
    assert 0 < log.index("first run") < log.index("to be run again") < log.index("second run")
    assert log.count("with status 0") == 1 and not sge.queue()


def test_several_nodes_are_refused(sge):
    done = sge.run("--num-nodes", 2, "x.log", "touch", "ran")
    assert done.returncode == 255 and done.stderr.count("\n") == 1 and not (sge.folder / "ran").exists()
    assert sge.run("--num-nodes", 1, "x.log", "touch", "ran").returncode == 0
