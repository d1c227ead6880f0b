"""The cache is the user's alone, or it is not used."""

import os
from pathlib import Path

import pytest

from atomsml.cache import cache_folder, is_private

posix = pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    for name in ("ATOMSML_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_the_own_setting_comes_before_that_of_the_desktop(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "atomsml"
    monkeypatch.setenv("ATOMSML_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("ATOMSML_CACHE", "~/here")
    assert cache_folder() == tmp_path / "home" / "here"


@pytest.mark.parametrize(("platform", "place"), [("linux", ".cache"), ("darwin", "Library/Caches")])
def test_the_place_of_the_system(monkeypatch, tmp_path, platform, place):
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder() == tmp_path / "home" / place / "atomsml"


def test_windows_knows_its_place(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert cache_folder() == tmp_path / "Local" / "atomsml"


@posix
def test_it_is_made_for_the_user_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        folder = cache_folder()
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700


@posix
@pytest.mark.parametrize(("mode", "private"), [(0o755, True), (0o775, False), (0o702, False), (0o1777, False)])
def test_a_folder_that_others_may_write_to_is_refused(mode, private):
    cache_folder().chmod(mode)
    if private:
        assert is_private(cache_folder().stat())
    else:
        with pytest.raises(OSError, match=r"others may write to it; .*chmod go-w .*ATOMSML_CACHE"):
            cache_folder()


@posix
def test_a_folder_of_another_user_is_refused(monkeypatch):
    folder = cache_folder()
    monkeypatch.setattr("os.getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(OSError, match="belongs to another user"):
        cache_folder()


def test_a_cache_that_cannot_be_made_is_one_line(monkeypatch, tmp_path):
    Path(tmp_path / "file").write_text("")
    monkeypatch.setenv("ATOMSML_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match=r"cannot be made \(Not a directory\); set ATOMSML_CACHE") as error:
        cache_folder()
    assert "\n" not in str(error.value)
