"""Settings: command line over `ECSNET_*` over `ecsnet.toml` over defaults.

A setting has a dotted key, `section.name`. In `ecsnet.toml` that is `name` under `[section]`, in the environment
`ECSNET_SECTION_NAME`, on the command line whatever option a command declares for it. The dataclasses below are the
only list of them: type, default, range and meaning.

Invariants:
- an unknown key is refused, wherever it was found, with "did you mean";
- an error names the file and line, the variable or the option that the bad value came from;
- resolving reads the given file and environment and nothing else, and starts nothing.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import tomli

from ecsnet import limits
from ecsnet.errors import ConfigError, did_you_mean

DEFAULT_FILE = "ecsnet.toml"
ENVIRONMENT_PREFIX = "ECSNET_"
FILE_VARIABLE = "ECSNET_CONFIG"
"""Names another file than `ecsnet.toml` in the working directory."""

# Read by the build of the package (hatch_build.py), not settings of a running one.
_FOREIGN_PREFIXES = ("ECSNET_BUILD_",)


def _setting(
    kind: type,
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    about = {"kind": kind, "doc": doc, "minimum": minimum, "maximum": maximum, "choices": choices}
    return field(default=default, metadata=about)


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How a node runs. None leaves a matter to the world."""

    listen: str = _setting(
        str, "tcp://127.0.0.1:7777", "address to listen on; 0.0.0.0 is every IPv4 interface, port 0 any that is free"
    )
    hz: int | None = _setting(
        int, None, "ticks a second, in place of the world's own", minimum=limits.HZ_MIN, maximum=limits.HZ_MAX
    )
    seed: int | None = _setting(
        int, None, "seed of the world's random generators, in place of its own", minimum=0, maximum=2**63 - 1
    )
    data: str | None = _setting(str, None, "directory that the world lives in; without one it is in memory")
    durability: str = _setting(
        str,
        "relaxed",
        "of a world on disk: memory answers at once, relaxed when it is written, strict and paranoid when it is synced",
        choices=("memory", "relaxed", "strict", "paranoid"),
    )
    linger_s: float = _setting(
        float,
        limits.LINGER_S_DEFAULT,
        "seconds that a session waits for a client that lost its connection",
        minimum=0.0,
        maximum=limits.LINGER_S_MAX,
    )
    compress: str = _setting(
        str,
        "auto",
        "auto compresses for clients that can read that, where it makes blocks smaller; off never does",
        choices=("auto", "off"),
    )


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Limits against strangers that a node may lower. The defaults, which are also the greatest values but for
    `links_per_address_max`, and the reasons for them are in `ecsnet.limits`; the cores hold to those in any case."""

    clients_max: int = _setting(int, limits.CLIENTS_MAX, "clients at once", minimum=1, maximum=limits.CLIENTS_MAX)
    links_per_address_max: int = _setting(
        int,
        limits.LINKS_PER_ADDRESS_MAX,
        "links of one address; more where a proxy stands before the node",
        minimum=1,
        maximum=limits.CLIENTS_MAX,
    )
    accepts_per_s: int = _setting(
        int, limits.ACCEPTS_PER_S_MAX, "new links a second", minimum=1, maximum=limits.ACCEPTS_PER_S_MAX
    )
    handshake_deadline_s: float = _setting(
        float,
        limits.HANDSHAKE_DEADLINE_NS / limits.NS_PER_S,
        "seconds for a handshake",
        minimum=0.1,
        maximum=limits.HANDSHAKE_DEADLINE_NS / limits.NS_PER_S,
    )


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Who clients are. A world that has a function of its own for that takes no secret."""

    secret_file: str | None = _setting(
        str, None, "file with the secret of those who issue tokens; without one everybody is a player"
    )


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What a node proves itself with to clients of tls://. Files in PEM."""

    certificate: str | None = _setting(str, None, "file with the certificate, and after it those that signed it")
    key: str | None = _setting(str, None, "file with its private key; without one it is in the certificate's file")


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Figures for a monitoring system."""

    listen: str | None = _setting(str, None, "host:port to serve Prometheus at, over HTTP, to whoever asks there")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, on standard error."""

    level: str = _setting(str, "info", "least severe level", choices=("debug", "info", "warning", "error"))
    format: str = _setting(str, "text", "a line of text, or of JSON, for each record", choices=("text", "json"))


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, resolved."""

    node: NodeSettings = field(default_factory=NodeSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    log: LogSettings = field(default_factory=LogSettings)


_SECTIONS: dict[str, type[Any]] = {
    "node": NodeSettings,
    "limits": LimitSettings,
    "auth": AuthSettings,
    "tls": TlsSettings,
    "metrics": MetricsSettings,
    "log": LogSettings,
}


class Setting(NamedTuple):
    """What one setting is, for help texts and documentation."""

    key: str
    variable: str
    kind: type
    default: Any
    doc: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]


def _described() -> dict[str, Setting]:
    settings = {}
    for section, group in _SECTIONS.items():
        for item in fields(group):
            key = f"{section}.{item.name}"
            settings[key] = Setting(
                key=key,
                variable=f"{ENVIRONMENT_PREFIX}{section.upper()}_{item.name.upper()}",
                default=item.default,
                **item.metadata,
            )
    return settings


SETTINGS = _described()
"""Every setting by its dotted key."""

_BY_VARIABLE = {setting.variable: setting for setting in SETTINGS.values()}


class _Given(NamedTuple):
    """A value and where it came from."""

    value: Any
    source: str
    line: int | None = None


def resolve(
    overrides: Mapping[str, Any] | None = None,
    *,
    file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Settle every setting.

    Args:
        overrides: From the command line, by dotted key; a None is an option that was not given.
        file: A settings file that must exist. Without it `ECSNET_CONFIG` names one, and without that `ecsnet.toml` in
            the working directory is read if it is there.
        environ: In place of `os.environ`.

    Raises:
        ConfigError: An unknown key, a value of the wrong type or out of range, or a file that cannot be read.
    """
    environ = os.environ if environ is None else environ
    given: dict[str, _Given] = {}
    path = Path(file) if file is not None else Path(environ.get(FILE_VARIABLE) or DEFAULT_FILE)
    if file is not None or environ.get(FILE_VARIABLE) or path.is_file():
        given.update(_read_file(path))
    given.update(_read_environment(environ))
    for key, value in (overrides or {}).items():
        if value is not None:
            given[key] = _Given(value, "command line")

    groups: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for key, one in given.items():
        setting = SETTINGS.get(key)
        if setting is None:
            raise _unknown(one.source, key, one.line)
        section, name = key.split(".", 1)
        groups[section][name] = _checked(setting, one)
    return Settings(**{section: _SECTIONS[section](**values) for section, values in groups.items()})


def _unknown(source: str, key: str, line: int | None, candidates: Mapping[str, Any] = SETTINGS) -> ConfigError:
    meant = did_you_mean(key, candidates)
    hint = f"did you mean {meant}?" if meant else f"known: {', '.join(sorted(candidates))}"
    return ConfigError(source, key, "unknown setting", line=line, hint=hint)


def _read_file(path: Path) -> dict[str, _Given]:
    source = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(source, "", f"cannot read the settings file: {reason}") from error
    try:
        document = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError(source, "", f"not TOML: {error.msg}", line=error.lineno) from error

    lines = _key_lines(text)
    given = {}
    for section, values in document.items():
        if section not in _SECTIONS:
            raise _unknown(source, section, lines.get(section), _SECTIONS)
        if not isinstance(values, dict):
            raise ConfigError(
                source, section, "is a section, not a value", line=lines.get(section), hint=f"write it as [{section}]"
            )
        for name, value in values.items():
            key = f"{section}.{name}"
            given[key] = _Given(value, source, lines.get(key))
    return given


def _key_lines(text: str) -> dict[str, int]:
    """The line of each key, as well as a line-wise look can tell: the file has been parsed, this only serves errors."""
    lines: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            section = header[1]
            lines.setdefault(section, number)
        elif assignment := re.match(r"""\s*["']?([\w.-]+)["']?\s*=""", line):
            key = f"{section}.{assignment[1]}" if section else assignment[1]
            lines.setdefault(key, number)
            lines.setdefault(key.split(".", 1)[0], number)
    return lines


def _read_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    given = {}
    for variable, value in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == FILE_VARIABLE:
            continue
        if variable.startswith(_FOREIGN_PREFIXES):
            continue
        setting = _BY_VARIABLE.get(variable)
        if setting is None:
            raise _unknown("environment", variable, None, {**_BY_VARIABLE, FILE_VARIABLE: None})
        given[setting.key] = _Given(_parsed(setting, value), variable)
    return given


def _parsed(setting: Setting, text: str) -> Any:
    """The value that `text` spells; what spells none is left as text, for `_checked` to refuse."""
    try:
        return setting.kind(text)
    except ValueError:
        return text


def _checked(setting: Setting, given: _Given) -> Any:
    """The value in the setting's own type, within its range."""

    def refuse(expected: str) -> ConfigError:
        return ConfigError(given.source, setting.key, f"expected {expected}, found {given.value!r}", line=given.line)

    value: Any = given.value
    if setting.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not setting.kind:  # a bool is an int to isinstance
        raise refuse({int: "a whole number", float: "a number", str: "a text"}[setting.kind])
    checked: Any = value  # mypy has narrowed `value` to an object by now
    if setting.choices and checked not in setting.choices:
        raise refuse("one of " + ", ".join(setting.choices))
    # Written so that a NaN, which compares as neither, is refused.
    if setting.minimum is not None and not checked >= setting.minimum:
        raise refuse(f"at least {setting.minimum:g}")
    if setting.maximum is not None and not checked <= setting.maximum:
        raise refuse(f"at most {setting.maximum:g}")
    return checked
