from pathlib import Path

import pytest

from tinyllama.files import new_directory


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
