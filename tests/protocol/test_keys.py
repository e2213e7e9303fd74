"""CURVE key files: what is made is right, what others could have changed or read is refused."""

import threading
from pathlib import Path

import pytest
import zmq
from click.testing import CliRunner

from tracker.cli.trackerd import trackerd
from tracker.errors import ConfigError
from tracker.protocol import keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keys.write_pair(tmp_path / "daemon.key", keys.new_pair())
    return tmp_path


def test_a_public_key_is_the_one_that_zeromq_derives() -> None:
    for _ in range(5):
        pair = keys.new_pair()
        assert zmq.curve_public(pair.secret.encode()).decode() == pair.public


def test_a_pair_comes_back_from_its_file_of_mode_0600(tmp_path: Path) -> None:
    pair = keys.new_pair(server=keys.new_pair().public)
    path = tmp_path / "new" / "a.key"
    keys.write_pair(path, pair)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert keys.read_pair(path) == pair
    assert pair.secret not in repr(pair)
    with pytest.raises(ConfigError, match="is there already"):
        keys.write_pair(path, pair)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no line 'public'"),
        ("public x\n", "no line 'secret'"),
        ("public x\nsecret y\n", "no key of 40"),
        (f"public {'0' * 40}\nsecret {'1' * 40}\n", "is not that of its secret"),
    ],
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "a.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=why):
        keys.read_pair(path)


def test_secrets_that_others_can_read_and_lists_that_others_can_write_are_refused(folder: Path) -> None:
    (folder / "daemon.key").chmod(0o640)
    with pytest.raises(ConfigError, match="others can read it"):
        keys.daemon_pair(folder)
    keys.allow(folder, "me", keys.new_pair().public)
    (folder / "control" / "me.pub").chmod(0o666)
    assert any("control/me.pub: others can write it" in problem for problem in keys.problems(folder))


def test_a_list_follows_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "RELOAD_S", 0)
    listed = keys.AllowList(folder, "control")
    public = keys.new_pair().public
    assert listed.name_of(public) is None
    keys.allow(folder, "me", public, ("control",))
    assert listed.name_of(public) == "me"
    assert keys.AllowList(folder, "publish").name_of(public) is None
    (folder / "control" / "me.pub").chmod(0o666)
    assert keys.AllowList(folder, "control").name_of(public) is None
    assert keys.revoke(folder, "me") == ["control"]
    assert listed.name_of(public) is None


def test_a_list_follows_the_modes_of_its_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "RELOAD_S", 0)
    listed = keys.AllowList(folder, "control")
    public = keys.new_pair().public
    keys.allow(folder, "me", public, ("control",))
    for mode, name in ((0o600, "me"), (0o666, None), (0o644, "me")):
        (folder / "control" / "me.pub").chmod(mode)
        assert listed.name_of(public) == name, oct(mode)


def test_changing_one_key_hides_no_other_and_not_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running daemon shuts the connections of whoever it does not find on its list."""
    monkeypatch.setattr(keys, "RELOAD_S", 0)
    mine, guests = keys.new_pair().public, keys.new_pair().public
    keys.allow(folder, "me", mine, ("control",))
    listed = keys.AllowList(folder, "control")
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            keys.allow(folder, "guest", guests, ("control",))
            keys.allow(folder, "me", mine, ("control",))
            keys.revoke(folder, "guest", ("control",))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        found = {listed.name_of(mine) for _ in range(2000)}
    finally:
        ended.set()
        changing.join()
    assert found == {"me"}


@pytest.mark.parametrize("name", ["../x", "", "A", "a/b"])
def test_names_that_are_none_are_refused(folder: Path, name: str) -> None:
    for change in (lambda: keys.allow(folder, name, keys.new_pair().public), lambda: keys.revoke(folder, name)):
        with pytest.raises(ConfigError, match="no name"):
            change()


@pytest.mark.parametrize(
    "public", ["-/7lSZDff@h}2=O@1uElTfN%z7%KZ}o1/ijEcTu.", "--lSZDff@h}2=O@1uElTfN%z7%KZ}o1/ijEcTu."]
)
def test_a_public_key_may_look_like_an_option(tmp_path: Path, public: str) -> None:
    arguments = ["keys", "allow", "me", public, "--dir", str(tmp_path)]
    done = CliRunner().invoke(trackerd, arguments)
    assert "Usage" not in done.output
    assert "No such option" not in done.output


def test_the_commands_make_allow_and_revoke(tmp_path: Path) -> None:
    def run(*arguments: object) -> str:
        done = CliRunner().invoke(trackerd, ["keys", *map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    server = run("new", "daemon", "--dir", tmp_path)
    public = run("new", "me", "--dir", tmp_path)
    assert keys.read_pair(tmp_path / "me.key").server == server
    assert run("show", tmp_path / "me.key") == public
    run("allow", "me", public, "--dir", tmp_path)
    assert keys.problems(tmp_path) == []
    run("revoke", "me", "--dir", tmp_path, "--for", "control")
    assert (tmp_path / "publish" / "me.pub").exists()
    assert not (tmp_path / "control" / "me.pub").exists()
