"""One cache for all these tests: the demo's pictures are drawn once."""

import pytest


@pytest.fixture(scope="session")
def _shared_home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def own_home(_shared_home, monkeypatch):
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("JAXSODE_HOME", str(_shared_home))
    return _shared_home
