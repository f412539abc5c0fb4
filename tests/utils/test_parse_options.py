# SPDX-License-Identifier: Apache-2.0
"""utils/parse_options.sh, sourced by scripts under `set -euo pipefail`."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

PARSER = Path(__file__).parents[2] / "utils/parse_options.sh"
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"

SCRIPT = f"""#!/usr/bin/env bash
# A toy recipe.   ./toy.sh --stage 0
#   Its second line.
# shellcheck disable=SC2034
set -euo pipefail
ROOT=/somewhere

stage=0                     # first and last stage to run
stop_stage=9
name=toy                    # results go to exp/$name
conf="conf/a.yaml # b"      # YAML files # merged, "in quotes"
use_gpu=false
empty=
nj=$(echo 4 | cat)          # jobs
. {PARSER}

after=1                     # not an option
BODY
"""
SHOW = 'printf "%s|" "$stage" "$stop_stage" "$name" "$conf" "$use_gpu" "$empty" "$nj" "$#" "$@"'


@pytest.fixture
def toy(tmp_path):
    """toy(*args, body=...) runs ./toy.sh; the body prints all options and arguments, `|` after each."""
    def call(*args, body=SHOW, script=SCRIPT):
        path = tmp_path / "toy.sh"
        path.write_text(script.replace("BODY", body))
        path.chmod(0o755)
        return subprocess.run(["./toy.sh", *args], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    return call


def fields(done) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.split("|")[:-1]


DEFAULTS = ["0", "9", "toy", "conf/a.yaml # b", "false", "", "4"]


def test_defaults_and_arguments(toy):
    assert fields(toy()) == [*DEFAULTS, "0"]
    assert fields(toy("a b", "--stage", "3")) == [*DEFAULTS, "3", "a b", "--stage", "3"]  # options are before it
    assert fields(toy("-1")) == [*DEFAULTS, "1", "-1"]


def test_options_set_variables(toy):
    done = toy("--stage", "2", "--stop-stage", "3", "--use-gpu", "true", "--empty", "--standalone", "--nj", "",
               "x", "y z")
    assert fields(done) == ["2", "3", "toy", "conf/a.yaml # b", "true", "--standalone", "", "2", "x", "y z"]
    assert fields(toy("--stop_stage", "5"))[1] == "5"


def test_values_arrive_as_they_are(toy):
    value = 'a  b "c" \'d\' $HOME `date` $(date) \\ * é'
    assert fields(toy("--name", value))[2] == value


def test_two_dashes_end_the_options(toy):
    assert fields(toy("--name", "x", "--", "--stage")) == ["0", "9", "x", *DEFAULTS[3:], "1", "--stage"]


@pytest.mark.parametrize("args, why", [
    (["--nmae", "x"], "invalid option --nmae; did you mean --name?"),
    (["--stop-stag", "x"], "invalid option --stop-stag; did you mean --stop-stage?"),
    (["--confg", "x"], "invalid option --confg; did you mean --conf"),
    (["--zzzzzzzz", "x"], "invalid option --zzzzzzzz; --help lists them all"),
    (["--after", "2"], "invalid option --after"),
    (["--PATH", "x"], "invalid option --PATH"),
    (["--name; touch hacked", "x"], "invalid option"),
    (["--name=x"], "invalid option --name=x: write --name x"),
    (["--name"], "option --name lacks its value"),
    (["--nj", "--stage", "3"], "option --nj lacks its value, got --stage"),
    (["--use-gpu", "yes"], "expected true or false: --use-gpu yes"),
    (["--stage", "three"], "expected a number: --stage three"),
    (["--config", "nowhere.conf"], "no such file nowhere.conf"),
])
def test_wrong_options_are_one_line(toy, tmp_path, args, why):
    done = toy(*args)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"./toy.sh: {why}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "hacked").exists()


def test_config_is_read_first(toy, tmp_path):
    (tmp_path / "my.conf").write_text("name=from_config; nj=8\n")
    for args in (["--config", "my.conf", "--nj", "9"], ["--nj", "9", "--config", "my.conf"]):
        assert fields(toy(*args))[2:7:4] == ["from_config", "9"]
    assert fields(toy("--name", "x", "y", "--config", "my.conf"))[2] == "x"   # an argument by then


@pytest.mark.parametrize("cmd", ["run.py --mem 4G", ""])
def test_an_empty_cmd_is_refused(toy, cmd):
    done = toy("--cmd", cmd, body='echo "$cmd"', script=SCRIPT.replace("nj=", "cmd=x\nnj="))
    assert (done.returncode, done.stdout) == ((0, f"{cmd}\n") if cmd else (1, ""))
    assert cmd or done.stderr == "./toy.sh: empty argument to --cmd option\n"


def test_help_is_the_script_itself(toy, tmp_path):
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps/more.sh").write_text('if in_stage 3 "train"; then :; fi\n')
    done = toy("--name", "other", "--help", body="""
if in_stage 10 "the last"; then :; fi
if in_stage 0 "the first"; then :; fi
steps/more.sh --stage "$stage" x
""")
    assert done.returncode == 0 and done.stderr == ""
    words = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert words == ["A toy recipe. ./toy.sh --stage 0", "Its second line.", "", "Options:",
                     "--stage 0 first and last stage to run", "--stop-stage 9", "--name other results go to exp/$name",
                     '--conf conf/a.yaml # b YAML files # merged, "in quotes"', "--use-gpu false",
                     '--empty ""', "--nj 4 jobs", "", "Stages:", "0 the first", "3 train", "10 the last"]


SHARED = """# shellcheck shell=bash
name=shared                 # of all recipes
far=1                       # also of all recipes
bare=
"""


def test_options_of_a_sourced_file(toy, tmp_path):
    (tmp_path / "shared.sh").write_text(SHARED)
    (tmp_path / "more.sh").write_text(SCRIPT.replace("stage=0 ", ". ./shared.sh\nstage=0 ").replace(
        "name=toy                    # results go to exp/$name", "").replace("BODY", 'echo "$name|$far|$bare|"'))
    (tmp_path / "more.sh").chmod(0o755)
    script = SCRIPT.replace("stage=0 ", ". ./shared.sh\nstage=0 ").replace("nj=", "far=2\nnj=")
    body = 'options_of shared.sh\n./more.sh "${options[@]}"'
    assert toy(body=body, script=script).stdout == "toy|2||\n", "the script's defaults come after those of the file"
    assert toy("--name", "a b", "--bare", "$x", body=body, script=script).stdout == "a b|2|$x|\n"
    done = toy("--bar", "x", script=script)
    assert done.returncode == 1 and "did you mean --bare?" in done.stderr
    lines = [" ".join(line.split()) for line in toy("--help", script=script).stdout.splitlines()]
    assert lines[lines.index("Options:") + 1:] == [
        "--stage 0 first and last stage to run", "--stop-stage 9", "--name toy results go to exp/$name",
        '--conf conf/a.yaml # b YAML files # merged, "in quotes"', "--use-gpu false", '--empty ""',
        "--far 2 also of all recipes", "--nj 4 jobs", '--bare ""']


def test_given_options_as_words(toy):
    assert toy("--name", "a b", body='given name empty stage').stdout == ' --name "a b" --stage "0"'


def test_help_message_if_there_is_one(toy):
    done = toy("--help", script=SCRIPT.replace("nj=", "help_message='two\\nlines'\nnj="))
    assert (done.returncode, done.stdout) == (0, "two\nlines\n")


STAGES = """
for n in 0 1 2 3 4; do
  if in_stage $n "text $n"; then echo $n; fi
done
"""


@pytest.mark.parametrize("args, ran", [
    ([], "01234"), (["--stage", "3"], "34"), (["--stop-stage", "1"], "01"),
    (["--stage", "2", "--stop-stage", "02"], "2"),
    (["--stage", "08"], ""), (["--stage", "4", "--stop-stage", "3"], ""),
])
def test_in_stage(toy, args, ran):
    done = toy(*args, body=STAGES)
    assert done.returncode == 0 and done.stdout.split() == list(ran)
    lines = done.stderr.splitlines()
    assert len(lines) == len(ran)
    for number, line in zip(ran, lines):
        assert re.fullmatch(rf"{TIME} toy\.sh:20 stage {number}: text {number}", line)


def test_a_failing_line_in_a_stage_stops_the_script(toy):
    done = toy(body='if in_stage 1 "x"; then\n  false\n  echo went on\nfi')
    assert done.returncode == 1 and done.stdout == ""


def test_log_names_the_line_that_asked(toy):
    done = toy(body='log "one two"\nf() { log inner; }\nf')
    assert re.fullmatch(rf"{TIME} toy\.sh:18 one two\n{TIME} toy\.sh:19 inner\n", done.stderr)


def test_die(toy):
    done = toy(body='die "$0: no such file $name"\necho went on')
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "./toy.sh: no such file toy\n")


def test_wrote_says_how_much_and_what_was_kept(toy, tmp_path):
    (tmp_path / "a list").write_text("x\ny\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "old").write_text("z\n")
    os.utime(tmp_path / "old", (1e9, 1e9))
    done = toy(body='cp "a list" new; head -c 5000 /dev/zero > blob; : > nothing; wrote new blob nothing old folder')
    assert done.returncode == 0
    said = [line.partition("toy.sh:18 ")[2] for line in done.stderr.splitlines()]
    assert said[:4] == ["wrote new (2 lines)", "wrote blob (4.9K)", "wrote nothing (0 lines)", "kept old (1 line)"]
    assert re.fullmatch(r"wrote folder \(\S+\)", said[4])


def test_wrote_of_what_is_not_there_fails(toy):
    done = toy(body="wrote nowhere")
    assert done.returncode == 1 and done.stderr == "./toy.sh: nowhere was not written\n"


ONCE = """
work() { echo "$*" >> did; "$@"; }
if in_stage 1 "one"; then once a/.done b/.done -- work ls "$name"; fi
if in_stage 2 "two"; then once c/.done -- work true 2; fi
"""


def test_once_does_what_was_not_done(toy, tmp_path):
    def did(*args):
        (tmp_path / "did").write_text("")
        done = toy(*args, body=ONCE, script=SCRIPT.replace("empty=", "again=false\nempty="))
        return (tmp_path / "did").read_text().splitlines(), done

    for folder in "abc":
        (tmp_path / folder).mkdir()
    (tmp_path / "x").write_text("")
    (tmp_path / "y z").write_text("")
    ran, done = did("--name", "nothing")
    assert ran == ["ls nothing"] and done.returncode != 0 and not (tmp_path / "a/.done").exists()
    assert did("--name", "x")[0] == ["ls x", "true 2"]
    ran, done = did("--name", "x")
    assert ran == [] and "done before: work ls x   (--stage 1 --again true does it again)" in done.stderr
    assert done.stdout == ""
    assert did("--name", "y z")[0] == ["ls y z"], "another command line"
    assert did("--name", "y z", "--stage", "1")[0] == []
    assert did("--name", "y z", "--stage", "1", "--again", "true")[0] == ["ls y z"], "the stage that is named, no other"
    assert did("--name", "y z", "--stage", "02", "--again", "true")[0] == ["true 2"]
    assert did("--name", "y z", "--stage", "0", "--again", "true")[0] == []
    ran, done = did("--name", "y z", "--again", "true")
    assert ran == [] and done.returncode == 1 and "--again true: name the stage by --stage N" in done.stderr
    (tmp_path / "b/.done").unlink()
    assert did("--name", "y z")[0] == ["ls y z"], "each marker counts"
    ran, done = did("--name", "nothing")
    assert ran == ["ls nothing"] and did("--name", "y z")[0] == ["ls y z"], "a failure takes the marker away"
    assert {path.name for folder in "abc" for path in (tmp_path / folder).iterdir()} == {".done"}


def test_a_killed_command_was_not_done(toy, tmp_path):
    body = "work() { echo x >> did; [ -z \"$name\" ] || kill -KILL $$; }\nonce .done -- work"
    for name, code in (("now", -signal.SIGKILL), ("", 0), ("", 0)):
        assert toy("--name", name, body=body).returncode == code
    assert (tmp_path / "did").read_text() == "x\nx\n"


@pytest.fixture
def holder(toy, tmp_path):
    """holder(how, body, *args) starts a script that holds the folder `used`, and waits until it does."""
    (tmp_path / "used").mkdir()
    running = []

    def start(how, body="sleep 300", *args):
        toy("--help")  # writes a script with these options
        script = (tmp_path / "toy.sh").read_text()
        path = tmp_path / f"holder{len(running)}.sh"
        path.write_text(script.replace(SHOW, f"hold {how} used; echo held\n{body}"))
        path.chmod(0o755)
        running.append(subprocess.Popen([f"./{path.name}", *args], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
                                        start_new_session=True))
        assert running[-1].stdout.readline() == "held\n"
        return running[-1]

    yield start
    for process in running:
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("first, second, refused", [
    ("alone", "alone", True), ("alone", "shared", True), ("shared", "alone", True), ("shared", "shared", False)])
def test_a_second_run_is_refused_by_name(toy, holder, first, second, refused):
    process = holder(first, "sleep 300", "--name", "a b")
    done = toy(body=f"hold {second} used; echo held")
    if not refused:
        assert fields_of(done) == (0, "held\n", "")
        return
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"./toy.sh: used is in use: {re.escape(socket.gethostname())} pid {process.pid} since {TIME}: "
                        r"./holder0.sh --name a\\ b\n", done.stderr)


def fields_of(done):
    return done.returncode, done.stdout, done.stderr


def test_the_lock_of_the_dead_does_not_block(toy, holder, tmp_path):
    process = holder("alone", "exec sleep 300")
    process.kill()
    process.wait()
    assert f"pid {process.pid} " in (tmp_path / "used/.lock").read_text()
    assert fields_of(toy(body="hold alone used; echo held")) == (0, "held\n", "")
    assert f"pid {process.pid} " not in (tmp_path / "used/.lock").read_text()


def test_what_a_killed_script_left_running_blocks_until_it_ends(toy, holder):
    process = holder("alone", "sleep 300 & echo $!; wait")
    child = int(process.stdout.readline())
    while not Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"sleep"):  # still a copy of the shell
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = toy(body="hold alone used; echo held")
    assert done.returncode == 1 and done.stderr == (
        f"./toy.sh: used is in use: {socket.gethostname()} pid {child}, left by a script that was killed: sleep 300 \n")
    subprocess.run(["kill", "-KILL", str(child)], check=True)
    deadline = time.monotonic() + 60
    while toy(body="hold alone used").returncode and time.monotonic() < deadline:
        time.sleep(0.05)
    assert fields_of(toy(body="hold alone used; echo held")) == (0, "held\n", "")


def test_jobs_of_the_launcher_do_not_hold_the_lock(toy, holder):
    command = f"{PARSER.with_name('run.py')} used/job.log bash -c 'touch used/begun; sleep 1.5'"
    process = holder("alone", f"{command} & launcher=$!; until [ -e used/begun ]; do sleep 0.05; done; "
                              "kill -KILL $launcher; wait $launcher || echo x")
    assert process.stdout.readline() == "x\n"
    process.wait()
    assert fields_of(toy(body="hold alone used; echo held")) == (0, "held\n", "")


def test_alone_becomes_shared(toy, holder):
    holder("alone", "hold shared used; echo shared; sleep 30").stdout.readline()
    assert fields_of(toy(body="hold shared used; echo held")) == (0, "held\n", "")
    assert "is in use" in toy(body="hold alone used").stderr


def test_alone_sweeps_what_the_dead_left(toy, tmp_path):
    used = tmp_path / "used"
    (used / "deep/.folder.999999998.tmp").mkdir(parents=True)
    living = subprocess.Popen(["sleep", "30"])
    names = [".a.ark.999999999.tmp", "deep/.b c.999999999.tmp", f"deep/.d.{living.pid}.tmp", ".e.tmp", "f.1.tmp",
             "deep/.folder.999999998.tmp/g"]
    for name in names:
        (used / name).write_text("x")
    try:
        assert toy(body="hold alone used").returncode == 0
    finally:
        living.kill()
        living.wait()
    left = {str(path.relative_to(used)) for path in used.rglob("*") if path.is_file()}
    assert left == {".lock", f"deep/.d.{living.pid}.tmp", ".e.tmp", "f.1.tmp"}


def test_a_folder_that_is_not_there_is_not_made(toy, tmp_path):
    assert toy(body="hold alone nowhere; hold shared nowhere").returncode == 0
    assert not (tmp_path / "nowhere").exists()


def test_without_locks_it_is_said(toy, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/flock").write_text("#!/bin/sh\necho 'flock: 12: Function not implemented' >&2\nexit 71\n")
    (tmp_path / "bin/flock").chmod(0o755)
    done = toy(body='PATH=$PWD/bin:$PATH; hold alone used; echo "went on"')
    assert (done.returncode, done.stdout) == (0, "went on\n") and "used/.lock cannot be locked here" in done.stderr
