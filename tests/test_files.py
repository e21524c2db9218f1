"""Files are whole whoever writes them, and what only the user can mend is one sentence."""

import errno
import json
import os
import subprocess
import sys

import pytest

from rmiov2.files import refuse_unwritable, replace_file, write_json
from rmiov2.program import exit_code
from rmiov2.types import UserError

WRITER = """
import sys
from pathlib import Path
from rmiov2.files import write_json
for _ in range(40):
    write_json(Path(sys.argv[1]), [int(sys.argv[2])] * 20_000)
"""


def test_of_two_that_write_one_file_each_writes_it_whole(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, [0] * 20_000)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(k)]) for k in (1, 2)]
    read = set()
    while any(writer.poll() is None for writer in writers):
        found = json.loads(path.read_text())
        assert len(found) == 20_000 and len(set(found)) == 1
        read.add(found[0])
    assert [writer.returncode for writer in writers] == [0, 0]
    assert read >= {1, 2} and os.listdir(tmp_path) == ["result.json"]


def test_what_a_kill_left_half_written_is_taken_over(tmp_path):
    path, left = tmp_path / "result.json", tmp_path / ".result.json.partial"
    left.write_bytes(b"[1, 2, 3, 4, 5, 6, 7, 8, 9")
    write_json(path, [])
    assert json.loads(path.read_text()) == [] and not left.exists()


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replace_file(path) as handle:
        handle.write(b"new")
        _ = 1 / 0
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["result.json"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_in_json_is_refused_and_leaves_the_old_file(tmp_path, number):
    path = tmp_path / "metrics.json"
    write_json(path, {"auc": 0.5})
    with pytest.raises(UserError, match="expected finite numbers"):
        write_json(path, {"auc": number})
    assert json.loads(path.read_text()) == {"auc": 0.5} and os.listdir(tmp_path) == ["metrics.json"]


def test_a_folder_is_no_file_to_write_and_is_refused_before_the_work(tmp_path):
    with pytest.raises(UserError, match="is a folder, expected a file"):
        refuse_unwritable(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        refuse_unwritable(tmp_path / "file" / "result.json")
    refuse_unwritable(tmp_path / "new" / "result.json")
    assert os.listdir(tmp_path / "new") == []


def test_what_would_be_replaced_or_cannot_be_named_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link.json").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("link.json", "pipe.json"):
        with pytest.raises(UserError, match="is a link or a device"):
            refuse_unwritable(tmp_path / name)
    for letters in (250, 300):  # the first is a name, but not one beside which its half-written file would fit
        with pytest.raises(UserError, match="cannot be written: File name too long"):
            refuse_unwritable(tmp_path / ("a" * letters))


def test_a_path_that_is_no_text_does_not_lose_a_result(tmp_path):
    write_json(tmp_path / "result.json", {"path": os.fsdecode(b"/m\xff"), "ü": 1})
    assert json.loads((tmp_path / "result.json").read_bytes()) == {"path": os.fsdecode(b"/m\xff"), "ü": 1}


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EISDIR, errno.ENAMETOOLONG])
def test_a_disk_that_takes_nothing_is_one_sentence(number, capsys):
    def work():
        raise OSError(number, os.strerror(number), "/mnt/state/run.lock")

    assert exit_code("run", work, "") == 2
    assert capsys.readouterr().err == f"run: /mnt/state/run.lock: {os.strerror(number)}; mend that, then try again\n"


def test_a_wrong_name_of_a_window_system_hinders_no_picture():
    drawing = "from rmiov2.program import exit_code; exit_code('draw', lambda: exec('import matplotlib'), '')"
    subprocess.run([sys.executable, "-c", drawing], env=os.environ | {"MPLBACKEND": "nonsense"}, check=True)


def test_a_game_that_hangs_up_is_no_users_mistake():
    def work():
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    with pytest.raises(ConnectionResetError):
        exit_code("run", work, "")
