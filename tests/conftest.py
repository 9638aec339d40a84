"""Strict numerics for every test, and where the real data are."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pictures, weights and reference values; the test is skipped where there is none."""
    folder = os.environ.get("JAXSODE_TEST_DATA")
    if not folder:
        pytest.skip("JAXSODE_TEST_DATA is not set: no real pictures and weights here")
    return Path(folder)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("JAXSODE_HOME", str(home))
    return home
