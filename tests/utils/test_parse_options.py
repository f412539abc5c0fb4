# SPDX-License-Identifier: Apache-2.0
"""utils/parse_options.sh, sourced by scripts under `set -euo pipefail`."""

import re
import subprocess
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
        return subprocess.run(["./toy.sh", *args], cwd=tmp_path, capture_output=True, text=True, timeout=20)
    return call


def fields(done) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.split("|")[:-1]


DEFAULTS = ["0", "9", "toy", "conf/a.yaml # b", "false", "", "4"]


def test_defaults_and_arguments(toy):
    assert fields(toy()) == [*DEFAULTS, "0"]
    assert fields(toy("a b", "--stage", "3")) == [*DEFAULTS, "3", "a b", "--stage", "3"]  # options stand in front
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


def test_wrote_says_how_much(toy, tmp_path):
    (tmp_path / "a list").write_text("x\ny\n")
    (tmp_path / "blob").write_bytes(bytes(5000))
    (tmp_path / "nothing").touch()
    (tmp_path / "folder").mkdir()
    done = toy(body='wrote "a list" blob nothing folder')
    assert done.returncode == 0
    said = [line.partition("toy.sh:18 ")[2] for line in done.stderr.splitlines()]
    assert said[:3] == ["wrote a list (2 lines)", "wrote blob (4.9K)", "wrote nothing (0 lines)"]
    assert re.fullmatch(r"wrote folder \(\S+\)", said[3])


def test_wrote_of_what_is_not_there_fails(toy):
    done = toy(body="wrote nowhere")
    assert done.returncode == 1 and done.stderr == "./toy.sh: nowhere was not written\n"
