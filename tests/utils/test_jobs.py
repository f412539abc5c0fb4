# SPDX-License-Identifier: Apache-2.0
"""The launchers' shared interface: quoting, parsing, substitution, reading old logs."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "utils"))

import jobs


@pytest.mark.parametrize("args, line", [
    (["a", "\\|", "b", "\\>", "c"], "a \\| b \\> c"),             # not quoted
    (["ark:gunzip -c x.gz |"], '"ark:gunzip -c x.gz |"'),
    (['say "hi" now'], "'say \"hi\" now'"),
    (['no"space'], 'no"space'),
    (["a", ""], 'a ""'),
    (["two\nlines"], '"two\nlines"'),
    (["no\u00a0break"], "no\u00a0break"),                         # not white space for bash
])
def test_quote(args, line):
    assert jobs.quote(args) == line


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab' \"\t\n|>*;#(é"), max_size=8).map(lambda text: " " + text), min_size=1))
def test_quoted_arguments_survive_bash(args):
    """Arguments with white space arrive unchanged, except for $, ` and backslash, which bash is meant to interpret."""
    command = ["bash", "-c", f"printf '%s\\0' {jobs.quote(args)}"]
    assert subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")[:-1] == args


def parse(line: str):
    return jobs.parse(line.split())


def test_parse_takes_options_before_and_after_the_range():
    request = parse("--mem 4G -V N=3:5 --num-threads 2 -pe smp 4 --gpu 1 x.N.log cmd --job N --gpu 7")
    assert (request.name, list(request.jobs)) == ("N", [3, 4, 5])
    assert (request.long_options["mem"], request.num_threads, request.gpu) == ("4G", 2, 1)
    assert request.command == "cmd --job N --gpu 7"               # options after the log belong to the command
    assert request.short_options == [["-V"], ["-pe", "smp", "4"]]         # for the scheduler
    assert str(request.log_path(4)) == "x.4.log"
    assert request.job_command(4) == "cmd --job 4 --gpu 7"


def test_job_name_is_replaced_everywhere():
    request = jobs.parse(["JOB=2", "JOB/x.JOB.log", "cp", "a.JOB", "bJOBc dJOB"])
    assert str(request.log_path(2)) == "2/x.2.log"
    assert request.job_command(2) == 'cp a.2 "b2c d2"'


def test_long_options():
    request = parse("--num-threads 02 --time 1-0 --own x --max-jobs-run 7 -tc 3 --pick all --config f -q a --mem 1 x c")
    assert request.long_options == {"num_threads": "2", "time": "1-0", "own": "x", "max_jobs_run": "3", "mem": "1"}
    assert (request.long_options["time"], request.num_nodes, request.short_options) == ("1-0", 1, [["-q", "a"]])


def test_smallest_job_limit_applies():
    assert parse("--max-jobs-run 3 -tc 2 --max-jobs-run 9 l true").max_jobs_run == 2


@pytest.mark.parametrize("line, code, why", [
    ("", 255, "usage"),
    ("x.log", 255, "usage"),
    ("--mem", 255, "needs a value"),
    ("JOB=0:3 x.JOB.log true", 255, "invalid job range 'JOB=0:3'"),
    ("JOB=3:1 x.JOB.log true", 255, "invalid job range 'JOB=3:1'"),
    ("JOB=1: x.JOB.log true", 255, "invalid job range 'JOB=1:'"),
    ("JOB=1:2 K=1:2 x.JOB.log true", 255, "more than one job range"),
    ("--gpu --mem 4G x.log true", 255, "--gpu must be an integer >= 0, got '--mem'"),
    ("--num-threads 0 x.log true", 255, "--num-threads must be an integer >= 1"),
    ("--max-jobs-run -1 x.log true", 255, "--max-jobs-run must be an integer >= 1"),
    ("--num-nodes 0 x.log true", 255, "--num-nodes must be an integer >= 1"),
    ("--pick some x.log true", 255, "--pick must be one of all, failed, incomplete"),
    ("JOB=1:3 x.log true", 1, "putting the output into just one log file (x.log)"),
])
def test_errors(line, code, why):
    with pytest.raises(jobs.LauncherError) as refused:
        parse(line)
    assert refused.value.code == code and why in str(refused.value)


def test_single_job_without_number_in_log():
    assert str(parse("JOB=1:1 x.log true").log_path(1)) == "x.log"


def test_unknown_options(capsys):
    parse("--num-thread 4 --time 4:0:0 x.log true")
    assert capsys.readouterr().err.count("\n") == 1
    parse("--num-thread 4 x.log true")
    assert "did you mean --num-threads?" in capsys.readouterr().err


@pytest.mark.parametrize("text, state", [
    (None, "incomplete"),
    ("# cmd\n# Started at x\n#\nhello\n", "incomplete"),
    ("# Ended (code 0) at x, elapsed time 1 seconds\n", "succeeded"),
    ("# Ended (code 3) at x, elapsed time 1 seconds\n", "failed"),
    ("# Ended (code 0; signal 9) at x, elapsed time 1 seconds\n", "failed"),
    ("# Ended (code 0) at x\n# Ended (code 1) at y\n", "failed"),   # the last one is used
    ("  # Ended (code 0) at x\n", "incomplete"),                    # indented: the command's own output
    ("# Started at x\n# Finished at y with status 0\n", "succeeded"),                    # on a cluster
    ("# Started at x\n# Finished at y with status 10\n", "failed"),
    ("# Started at x\n# Finished at y with status 137\n", "failed"),
    ("# Started at x\n# Finished at y with status 0", "incomplete"),                     # truncated line
    ("# Started at x\n# Stopped at y with status 75, to be run again\n", "incomplete"),
    ("# Started at x\n# Finished at y with status 0\n# Started at z\n", "incomplete"),   # requeued
    ("# Started at x\n# Finished at y with status 1\n# Started at z\n# Finished at z with status 0\n", "succeeded"),
])
def test_last_state(tmp_path, text, state):
    log = tmp_path / "x.log"
    if text is not None:
        log.write_text(text)
    assert jobs.job_state(log) == state


def test_tail(tmp_path):
    log = tmp_path / "x.log"
    log.write_bytes(b"\xff\n" + b"".join(b"line %d\n" % i for i in range(100_000)))
    assert jobs.tail(log, 2) == ["line 99998", "line 99999"]
