# SPDX-License-Identifier: Apache-2.0
"""Replacing files: a kill at any rename leaves the old or the new state; links and FIFOs stay."""

import os
import stat
import threading

import numpy as np
import pytest

from rawnext.errors import InputError
from rawnext.files import atomic_path, write_lines
from rawnext.kaldi.ark import read_vectors, write_vectors
from rawnext.scoring.gallery import Gallery

OLD = {f"s{i}": np.full(4, i + 1.0) for i in range(5)}
NEW = {"new": np.full(4, 9.0), **OLD}


class Killed(BaseException):
    pass


def ark_pair(folder, vectors):
    write_vectors(folder / "a.ark", folder / "a.scp", vectors.items())


def read_pair(folder):
    scp = folder / "a.scp"
    return {key: tuple(vector) for key, vector in read_vectors(scp).items()} if scp.exists() else {}


def gallery(folder):
    return Gallery((folder / "g.ark", folder / "g.scp"), "model")


def save_gallery(folder, vectors):
    made = gallery(folder)
    for name, vector in vectors.items():
        made.enroll(name, vector[None] * [1, 2, 3, len(vectors)], 1.0)
    made.save()


def read_gallery(folder):
    return {name: (tuple(spk.mean.astype("f4")), spk.utts) for name, spk in gallery(folder).speakers.items()}


@pytest.mark.parametrize(("save", "read"), [(ark_pair, read_pair), (save_gallery, read_gallery)])
@pytest.mark.parametrize("existing", [True, False])
def test_killed_at_any_change_of_a_folder_leaves_the_old_or_the_new_state(tmp_path, monkeypatch, save, read, existing):
    calls, states = ("replace", "link", "unlink"), set()
    (tmp_path / "whole").mkdir()
    save(tmp_path / "whole", OLD)
    save(tmp_path / "whole", NEW)
    new = read(tmp_path / "whole")
    for limit in range(40):
        folder = tmp_path / str(limit)
        folder.mkdir()
        if existing:
            save(folder, OLD)
        old, done = read(folder), 0
        with monkeypatch.context() as patch:
            def counted(original, folder=folder, limit=limit):
                def call(path, *args, **options):
                    nonlocal done
                    if not str(path).startswith(str(folder)):
                        return original(path, *args, **options)
                    if done >= limit:  # and after it: a killed program does not clean up
                        raise Killed
                    done += 1
                    return original(path, *args, **options)
                return call
            for name in calls:
                patch.setattr(os, name, counted(getattr(os, name)))
            try:
                save(folder, NEW)
                killed = False
            except Killed:
                killed = True
        assert read(folder) in (old, new), f"after {limit} changes"
        states.add(read(folder) == new)
        save(folder, NEW)  # again, after the kill
        assert read(folder) == new and not list(folder.glob(".*.new"))
        if not killed:
            break
    assert not killed and limit >= 2 and states == {True, False}


def test_fifos_are_written_through_or_refused_and_links_stay(tmp_path):
    fifo, target, link = tmp_path / "fifo", tmp_path / "far" / "target", tmp_path / "link"
    os.mkfifo(fifo)
    target.parent.mkdir()
    target.write_text("old\n")
    link.symlink_to(target)
    found = []
    reader = threading.Thread(target=lambda: found.append(fifo.read_text()), daemon=True)
    reader.start()
    write_lines(fifo, ["through"])
    reader.join(10)
    assert found == ["through\n"] and stat.S_ISFIFO(fifo.stat().st_mode)
    write_lines(link, ["new"])
    assert link.is_symlink() and target.read_text() == "new\n"
    with pytest.raises(InputError, match="FIFO"), atomic_path(fifo):
        pass
    for ark, scp in ((fifo, tmp_path / "x.scp"), (tmp_path / "x.ark", fifo), ("/dev/null", tmp_path / "x.scp")):
        with pytest.raises(InputError, match="FIFO"):
            write_vectors(ark, scp, OLD.items())
    ark_pair(tmp_path, OLD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ark", "a.scp", "far", "fifo", "link"]


def test_dev_null_stays_a_device():
    write_lines("/dev/null", ["line"])
    with pytest.raises(InputError, match="device"), atomic_path("/dev/null"):
        pass
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_outputs_without_a_name_are_refused(path):
    with pytest.raises(InputError, match="is not the name of a file"):
        write_lines(path, ["a"])
