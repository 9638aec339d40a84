"""One at a time, and a folder that can't be locked is told."""

import threading
import time

import pytest

from jaxsode.backbones.lock import locked
from jaxsode.errors import OutputError


def test_the_lock_is_held_by_one_thread_at_a_time(tmp_path):
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        for _ in range(20):
            with locked(tmp_path / "new" / "folder"):
                inside += 1
                most = max(most, inside)
                time.sleep(1e-4)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_a_folder_that_can_not_be(tmp_path):
    (tmp_path / "file").touch()
    places = pytest.raises(OutputError, match=r"can't write .*file/folder.*JAXSODE_HOME")
    with places, locked(tmp_path / "file" / "folder"):
        pass
