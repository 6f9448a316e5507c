import errno
from pathlib import Path

import pytest

from tinyllama.files import explain, new_directory


def test_of_two_that_make_the_same_directory_at_once_the_first_stays(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with new_directory(target, keep=True) as second:
        (second / "file").write_text("second")
        with new_directory(target, keep=True) as first:
            (first / "file").write_text("first")
    assert (target / "file").read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_a_directory_is_replaced_as_a_whole_and_only_when_the_new_one_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with new_directory(target) as beside:
        (beside / "old").touch()
    with pytest.raises(KeyboardInterrupt), new_directory(target):
        raise KeyboardInterrupt
    assert [path.name for path in target.iterdir()] == ["old"]
    with new_directory(target) as beside:
        (beside / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]


def test_entries_of_others_move_to_the_new_directory(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with new_directory(target) as beside:
        (beside / "old").touch()
    (target / "notes").mkdir()
    (target / "notes/file").write_text("theirs")
    (target / "link").symlink_to("nowhere")
    with new_directory(target, foreign=lambda name: name != "old") as beside:
        (beside / "new").touch()
    assert sorted(path.name for path in target.iterdir()) == ["link", "new", "notes"]
    assert (target / "notes/file").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_what_killed_processes_left_is_removed_and_what_they_replaced_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "made"
    for name in ("partial", "partial-1-abc", "replaced-1-abc"):
        (tmp_path / f".made.{name}").mkdir()
        (tmp_path / f".made.{name}" / name).touch()
    (tmp_path / ".made.notes").mkdir()
    with pytest.raises(KeyboardInterrupt), new_directory(target):
        raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == [".made.notes", "made"]
    assert [path.name for path in target.iterdir()] == ["replaced-1-abc"]


def test_two_that_make_the_same_directory_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with new_directory(target) as first:
        (first / "file").write_text("first")
        with new_directory(target) as second:
            (second / "file").write_text("second")
        assert (target / "file").read_text() == "second"
    assert (target / "file").read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("number", [errno.EBADF, errno.ECHILD, errno.EINTR, None])
def test_errors_that_only_a_bug_causes_are_not_explained(number: int | None) -> None:
    assert explain(OSError(number, "what") if number else OSError("what")) is None


def test_errors_are_explained_with_their_file() -> None:
    assert (
        explain(OSError(errno.EACCES, "", "x")) == "x: permission denied; check its permissions, or choose another path"
    )
    assert explain(OSError(errno.ENOENT, "Failed to open local file 'a b'. Detail: none")) == (
        "a b: no such file or directory; check the path"
    )
    assert explain(OSError(errno.ENOENT, "")) is None
    assert "free space" in str(explain(OSError(errno.ENOSPC, "")))
