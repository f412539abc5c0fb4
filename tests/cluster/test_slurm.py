# SPDX-License-Identifier: Apache-2.0
"""slurm.py on a real Slurm with two nodes: resources, limits, requeued jobs, jobs on several nodes."""

import re
import shutil

from cluster import eventually
from test_launchers import AGAIN


def test_resources_arrive(slurm):
    show = f"{shutil.which('scontrol', path=slurm.path)} -o show job $SLURM_JOB_ID; echo omp=$OMP_NUM_THREADS; " \
           "echo gpus=$CUDA_VISIBLE_DEVICES"
    done = slurm.run("--mem", "300M", "--num-threads", 3, "--gpu", 2, "--time", "1:00:00", "x.log", *slurm.script(show))
    assert done.returncode == 0, done.stderr
    log = slurm.read("x.log")
    for word in ("CPUs/Task=3", "MinMemoryNode=300M", "TimeLimit=01:00:00", "TresPerNode=gres:gpu:2"):
        assert f" {word} " in log, word
    assert "\nomp=3\n" in log and re.search(r"^gpus=\d,\d$", log, re.M)


def test_memory_limit(slurm):
    done = slurm.run("--mem", "60M", "x.log", "python3", "-c", "x = bytearray(300 << 20); import time; time.sleep(60)")
    assert done.returncode == 1 and "memory" in slurm.read("x.log") + slurm.read("q/x.out") + done.stderr


def test_time_limit(slurm):
    done = slurm.run("--time", "1", "x.log", *slurm.script("touch began; sleep 300"))   # SIGTERM after 0 s
    assert done.returncode == 1 and (slurm.folder / "began").exists() and "status 143" in slurm.read("x.log")


def test_jobs_that_exit_with_75_are_requeued(slurm):
    launcher = slurm.begin("JOB=1:2", "x.JOB.log", *slurm.script(AGAIN.replace("second;", "second.$1;")
                                                                  .replace("-e second ", "-e second.$1 ")))
    assert eventually((slurm.folder / "began.2").exists) and eventually((slurm.folder / "began.1").exists)
    [job] = slurm.queue()
    slurm.query("scancel", "--signal=TERM", f"{job}_1", f"{job}_2")     # signals the steps only, not the batch script
    done = slurm.end(launcher)
    assert (done.returncode, done.stderr) == (0, "")
    for log in (slurm.read("x.1.log"), slurm.read("x.2.log")):
        assert 0 < log.index("first run") < log.index("to be run again") < log.index("second run")
        assert log.count("with status 0") == 1
    assert not slurm.queue()


REDUCE = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.tensor([10 ** dist.get_rank()])
dist.all_reduce(total)
print("sum", total.item(), "of", dist.get_world_size(), "on", os.environ["SLURMD_NODENAME"], flush=True)
dist.destroy_process_group()
"""


def test_all_reduce_on_two_nodes(slurm, root):
    (slurm.folder / "path.sh").symlink_to(root / "path.sh")
    (slurm.folder / "reduce.py").write_text(REDUCE)
    done = slurm.run("--num-nodes", 2, "x.log", "torchrun", "--nproc-per-node", 1, "reduce.py")
    log = slurm.read("x.log")
    assert done.returncode == 0, log
    assert sorted(re.findall(r"^sum .*", log, re.M)) == ["sum 11 of 2 on n1", "sum 11 of 2 on n2"]


def test_failure_on_one_node_ends_the_others(slurm):
    done = slurm.run("--num-nodes", 2, "x.log", *slurm.script("[ $SLURM_PROCID = 0 ] && sleep 300; exit 3"))
    assert done.returncode == 1 and "status" in slurm.read("x.log") and not slurm.queue()
