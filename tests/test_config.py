"""Settings: who wins, and what is refused."""

from pathlib import Path

import pytest

from ecsnet import config
from ecsnet.config import SETTINGS, Settings, resolve
from ecsnet.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "ecsnet.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_anything_given_every_setting_has_its_default() -> None:
    assert resolve(environ={}) == Settings()


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    file = written(tmp_path, '[node]\nlisten = "tcp://1.1.1.1:1"\nseed = 1\nhz = 20\n')
    environ = {"ECSNET_NODE_LISTEN": "tcp://2.2.2.2:2", "ECSNET_NODE_SEED": "2"}

    settings = resolve({"node.listen": "tcp://3.3.3.3:3", "node.seed": None}, file=file, environ=environ)

    assert settings.node.listen == "tcp://3.3.3.3:3"
    assert settings.node.seed == 2
    assert settings.node.hz == 20
    assert settings.log.level == "info"


def test_a_file_in_the_working_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, '[log]\nlevel = "debug"\n')
    monkeypatch.chdir(tmp_path)

    assert resolve(environ={}).log.level == "debug"


def test_the_environment_names_another_file(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text("[limits]\nclients_max = 7\n", encoding="utf-8")

    assert resolve(environ={"ECSNET_CONFIG": str(path)}).limits.clients_max == 7


def test_an_unknown_key_is_refused_with_file_line_and_what_was_meant(tmp_path: Path) -> None:
    """A misspelt limit that is silently ignored is a limit that is not there."""
    file = written(tmp_path, "[limits]\n# so many\nclient_max = 7\n")

    with pytest.raises(ConfigError) as caught:
        resolve(file=file, environ={})

    assert caught.value.key == "limits.client_max"
    assert caught.value.line == 3
    assert caught.value.hint == "did you mean limits.clients_max?"
    assert f"{file}:3" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("[nodes]\nlisten = 'tcp://1.1.1.1:1'\n", "nodes", 1),
        ("node = 3\n", "node", 1),
        ("[node]\nseed = true\n", "node.seed", 2),
        ("[node]\n\nseed = 1.5\n", "node.seed", 3),
        ("[limits]\nhandshake_deadline_s = nan\n", "limits.handshake_deadline_s", 2),
        ("[limits]\nhandshake_deadline_s = 'x'\n", "limits.handshake_deadline_s", 2),
        ("node.seed = -1\n", "node.seed", 1),
        ("[limits]\nclients_max = 70000\n", "limits.clients_max", 2),
        ("[log]\nlevel = 'loud'\n", "log.level", 2),
        ("[log]\nlevel = 1\n", "log.level", 2),
        ("[log\n", "", 1),
    ],
)
def test_a_bad_file_is_refused_with_key_and_line(tmp_path: Path, text: str, key: str, line: int) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(file=written(tmp_path, text), environ={})

    assert (caught.value.key, caught.value.line) == (key, line)


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        resolve(file=tmp_path / "nowhere.toml", environ={})


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ECSNET_NODE_LISTENS", "x", "did you mean ECSNET_NODE_LISTEN"),
        ("ECSNET_NODE_SEED", "many", "expected a whole number, found 'many'"),
        ("ECSNET_NODE_SEED", "-1", "expected at least 0, found -1"),
        ("ECSNET_LIMITS_HANDSHAKE_DEADLINE_S", "nan", "expected at least 0.1"),
    ],
)
def test_a_bad_variable_is_refused_by_its_name(variable: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(environ={variable: value})

    assert variable in str(caught.value)


def test_variables_of_the_build_and_of_others_are_left_alone() -> None:
    assert resolve(environ={"ECSNET_BUILD_PLATFORM": "win_amd64", "PATH": "/bin"}) == Settings()


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises(ConfigError, match="command line"):
        resolve({"node.lisen": "tcp://1.1.1.1:1"}, environ={})


def test_every_default_is_within_its_own_range() -> None:
    for setting in SETTINGS.values():
        assert setting.doc
        if setting.default is not None:
            assert config._checked(setting, config._Given(setting.default, "default")) == setting.default


def test_a_whole_number_will_do_where_any_is_asked_for(tmp_path: Path) -> None:
    file = written(tmp_path, "[limits]\nhandshake_deadline_s = 2\n")

    assert resolve(file=file, environ={}).limits.handshake_deadline_s == 2.0


def test_a_limit_against_strangers_may_be_lowered_and_not_raised() -> None:
    """The cores hold to the numbers of `ecsnet.limits`: a greater one would be a promise that nobody keeps."""
    assert resolve({"limits.clients_max": 8}, environ={}).limits.clients_max == 8

    with pytest.raises(ConfigError, match="expected at most"):
        resolve({"limits.clients_max": SETTINGS["limits.clients_max"].default + 1}, environ={})
