# SPDX-License-Identifier: Apache-2.0
"""Which commands are up to date: any change of command, input or output must be noticed."""

import os
import shutil
from pathlib import Path

import pytest

from rawnext.errors import InputError
from rawnext.identity import content_of
from rawnext.pipeline import records
from rawnext.pipeline.records import (
    AUDIO,
    CONTENT,
    EMBEDDINGS,
    Task,
    begin,
    finish,
    identity,
    pending,
    read_pending,
    write_pending,
)


@pytest.fixture
def exp(tmp_path, monkeypatch):
    """An experiment whose one task, of two inputs, has been done."""
    (tmp_path / "place/exp/scores").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "place")
    for name in ("in1", "in2", "exp/scores/out"):
        Path(name).write_text(f"{name}\n")
    do(Path("exp"))
    return Path("exp")


def task(exp, **changes):
    return Task(**{"command": ("a", "b"), "inputs": ("in1", "in2", "none"), "outputs": (str(exp / "scores/out"),),
                   **changes})


def do(exp, **changes):
    identity.cache_clear()
    item, = pending(exp, [task(exp, **changes)], again=True)
    return finish(item)


def is_done(exp, **changes):
    identity.cache_clear()
    return not pending(exp, [task(exp, **changes)])


def test_what_was_done_is_up_to_date(exp):
    assert is_done(exp) and (exp / "made/scores/out").exists()
    assert pending(exp, [task(exp)], again=True)


@pytest.mark.parametrize("change", [
    lambda exp: (exp.parent / "in1").write_text("in9\n"),  # the same size
    lambda exp: (exp.parent / "in2").unlink(),
    lambda exp: (exp.parent / "none").write_text(""),
    lambda exp: (exp / "scores/out").write_text("exp/scores/ouu\n"),
    lambda exp: (exp / "scores/out").unlink(),
    lambda exp: (exp / "made/scores/out").unlink(),
    lambda exp: (exp / "made/scores/out").write_text('{"command": ["a"'),
    lambda exp: (exp / "made/scores/out").write_text('[]'),
])
def test_each_change_is_noticed(exp, change):
    change(exp)
    assert not is_done(exp)


def test_content_of_the_same_size_and_time_is_compared(exp):
    before = os.stat("in1")
    (exp.parent / "new").write_text("in9\n")
    os.utime("new", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace("new", "in1")
    assert not is_done(exp)


def test_another_command_or_other_files_are_another_task(exp):
    assert not is_done(exp, command=("a", "c"))
    assert not is_done(exp, inputs=("in1", "in2"))
    assert not is_done(exp, outputs=(str(exp / "scores/out"), "in1"))


def test_the_same_content_at_another_time_or_place_is_no_change(exp, monkeypatch):
    text = (exp.parent / "in1").read_text()
    (exp.parent / "in1").unlink()
    (exp.parent / "in1").write_text(text)
    assert is_done(exp)
    shutil.copytree(".", "../copy")
    monkeypatch.chdir("../copy")
    assert is_done(exp)
    (exp / "scores/out").unlink()
    assert not is_done(exp)


def test_inputs_are_those_from_before_the_command(exp):
    identity.cache_clear()
    item, = pending(exp, [task(exp)], again=True)
    (exp.parent / "in1").write_text("changed while it ran\n")
    (exp / "scores/out").unlink()
    (exp / "scores/out").write_text("new\n")
    assert finish(item) == "" and not is_done(exp)


def test_an_output_that_was_kept_is_not_recorded_for_other_inputs(exp):
    """A finished training is left as it is when its data changed: it must not count as trained on them."""
    (exp.parent / "in1").write_text("other data\n")
    assert "out was kept, but in1 changed since it was made" in do(exp)
    assert not is_done(exp)
    assert "but its options changed" in do(exp, command=("a", "c"), inputs=("in2",))
    (exp / "scores/out").unlink()
    (exp / "scores/out").write_text("made of other data\n")
    assert do(exp) == "" and is_done(exp)


def test_a_missing_output_is_one_line(exp):
    (exp / "scores/out").unlink()
    with pytest.raises(InputError, match="scores/out: was not written"):
        do(exp)


def test_embeddings_are_their_archives(exp):
    folder = exp.parent / "embeddings"
    folder.mkdir()
    inputs = (f"{EMBEDDINGS}embeddings",)
    (folder / "embedding.1.ark").write_text("a vector")
    (folder / "embedding.scp").write_text(f"utt {folder}/embedding.1.ark:4\n")
    (exp / "scores/out").unlink()
    (exp / "scores/out").write_text("new\n")
    do(exp, inputs=inputs)
    assert is_done(exp, inputs=inputs)
    (folder / "embedding.1.ark").write_text("b vector")
    assert not is_done(exp, inputs=inputs)
    (folder / "embedding.1.ark").write_text("a vector")
    assert is_done(exp, inputs=inputs)
    (folder / "embedding.1.ark").unlink()
    assert not is_done(exp, inputs=inputs)
    (folder / "embedding.scp").unlink()
    assert not is_done(exp, inputs=inputs)


def done_of_audio(exp, wav_scp, how=AUDIO):
    """The inputs of a task that read this wav.scp and has been done."""
    inputs = (f"{how}data",)
    (exp.parent / "data").mkdir()
    (exp.parent / "data/wav.scp").write_text(wav_scp)
    (exp / "scores/out").unlink()
    (exp / "scores/out").write_text("new\n")
    do(exp, inputs=inputs)
    assert is_done(exp, inputs=inputs)
    return inputs


def test_audio_is_known_by_size_and_time(exp):
    inputs = done_of_audio(exp, "utt in1\npipe cat in2 |\n")
    os.utime("in1", ns=(1, 1))
    assert not is_done(exp, inputs=inputs)


def test_with_checksum_audio_is_known_by_its_content(exp):
    inputs = done_of_audio(exp, "utt in1\narchive in1:2\npipe cat in2 |\n", CONTENT)
    os.utime("in1", ns=(1, 1))
    assert is_done(exp, inputs=inputs)
    for name in ("in1", "in2"):
        text, status = Path(name).read_bytes(), os.stat(name)
        Path(name).write_bytes(text[::-1] if text != text[::-1] else b"x" * len(text))
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns))
        content_of.cache_clear()
        assert not is_done(exp, inputs=inputs), "same size and time"
        Path(name).write_bytes(text)
        content_of.cache_clear()
        assert is_done(exp, inputs=inputs)


def test_begun_work_is_not_continued_with_other_audio(exp):
    inputs = (f"{AUDIO}data",)
    (exp.parent / "data").mkdir()
    (exp.parent / "data/wav.scp").write_text("utt in1\n")

    def item():
        identity.cache_clear()
        return pending(exp, [task(exp, inputs=inputs)])[0]

    begin(item(), False)
    begin(item(), True)
    os.utime("in1", ns=(1, 1))
    with pytest.raises(InputError, match="^data: its audio has changed since the training of .*out began; --stage 3"):
        begin(item(), True)
    begin(item(), False)   # nothing had been made, or all is made again
    begin(item(), True)
    os.utime("in1", ns=(2, 2))
    item().record.unlink()
    begin(item(), True)    # as the message advises
    begin(item(), True)


def test_commands_are_known_by_the_files_they_name_with_a_warning(exp, capsys):
    inputs = done_of_audio(exp, "utt sox 'in2' -t wav - |\narchive in1:7\n")
    assert "data/wav.scp: 1 recordings come from commands: a change of the files that they" in capsys.readouterr().err
    for name in ("in1", "in2"):
        os.utime(name, ns=(1, 1))
        assert not is_done(exp, inputs=inputs)
        do(exp, inputs=inputs)
        (exp / "scores/out").write_text(f"made again for {name}\n")
        do(exp, inputs=inputs)


def test_outputs_that_others_wrote_are_known(exp):
    (exp.parent / "in1").write_text("other\n")
    identity.cache_clear()
    assert [item.spoilt for item in pending(exp, [task(exp)])] == [False]
    for text, spoilt in (("by hand", True), (None, False)):
        (exp / "scores/out").unlink()
        if text:
            (exp / "scores/out").write_text(text)
        identity.cache_clear()
        assert [item.spoilt for item in pending(exp, [task(exp)])] == [spoilt]


def test_a_copied_folder_of_embeddings_is_not_up_to_date(exp):
    (exp / "embeddings/test").mkdir(parents=True)
    inputs = (f"{EMBEDDINGS}{exp}/embeddings/test",)
    (exp / "embeddings/test/embedding.1.ark").write_text("a vector")
    (exp / "embeddings/test/embedding.scp").write_text(f"utt {exp.resolve()}/embeddings/test/embedding.1.ark:4\n")
    (exp / "scores/out").unlink()
    (exp / "scores/out").write_text("new\n")
    do(exp, inputs=inputs)
    assert is_done(exp, inputs=inputs)
    shutil.copytree("exp", "copy")
    assert identity(f"{EMBEDDINGS}copy/embeddings/test") is None


def test_changed_code_makes_all_of_it_again(exp, monkeypatch, tmp_path):
    for name in ("rawnext/a.py", "steps/b.py"):
        (tmp_path / "root" / name).parent.mkdir(parents=True)
        (tmp_path / "root" / name).write_text("x = 1\n")
    monkeypatch.setattr(records, "ROOT", tmp_path / "root")
    (exp / "scores/out").unlink()
    (exp / "scores/out").write_text("new\n")
    do(exp, inputs=("code",))
    assert is_done(exp, inputs=("code",))
    (tmp_path / "root/steps/b.py").write_text("x = 2\n")
    assert not is_done(exp, inputs=("code",))


def test_tasks_survive_their_file(exp, tmp_path):
    items = pending(exp, [task(exp, stale=("old",))], again=True)
    write_pending(tmp_path / "todo", items)
    assert read_pending(tmp_path / "todo") == items
    (tmp_path / "todo").write_text("{}\n")
    with pytest.raises(InputError, match="not a list of tasks"):
        read_pending(tmp_path / "todo")
