"""Where numba finds no folder for its cache."""

import os
import tempfile

import numba
import pytest

from hrlib.support import compiled as module
from hrlib.support.compiled import compiled


def doubled(x):
    return 2 * x


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_without_a_writable_home_the_code_is_kept_in_a_temporary_folder(monkeypatch, tmp_path):
    usual = module._cached

    def no_place(function, options):
        if not numba.config.CACHE_DIR:
            raise RuntimeError("cannot cache function: no locator available")
        return usual(function, options)

    monkeypatch.setattr(module, "_cached", no_place)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert compiled()(doubled)(21) == 42
    own = tmp_path / f"hrlib-numba-{os.getuid()}"
    assert list(own.rglob("*.nbc")) and own.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    own.chmod(0o777)  # another user could exchange the code: it is compiled for this run alone
    assert compiled()(doubled)(4) == 8 and not numba.config.CACHE_DIR
