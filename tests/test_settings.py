"""Settings: where values come from, what is allowed, and what an error says."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipe.errors import SettingsError, UsageError
from pipe.language.names import TopicName
from pipe.language.quantities import GIB, KIB, MIB, format_size, parse_size
from pipe.settings import (
    Lane,
    LogFormat,
    LogLevel,
    Settings,
    Signup,
    default_text,
    describe,
    load,
    option_name,
)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("PIPE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The place of a settings file."""
    return tmp_path / "pipe.toml"


def complaint(options: dict[str, object], config: Path | None = None) -> str:
    """Load settings that cannot be used, and return what the error says."""
    with pytest.raises(SettingsError) as caught:
        load(options, config)
    return caught.value.message


def test_defaults() -> None:
    """Without any source the settings are those of the design."""
    settings = load({})
    assert (settings.host, settings.port) == ("127.0.0.1", 2222)
    assert (settings.metrics_host, settings.metrics_port) == ("127.0.0.1", 9222)
    assert (settings.web_host, settings.web_port) == ("127.0.0.1", 8222)
    assert settings.web_url is None
    assert settings.data_dir == Path("data")
    assert (settings.log_format, settings.log_level) == (LogFormat.CONSOLE, LogLevel.INFO)
    assert (settings.drain, settings.stall_timeout) == (30, 60)
    assert (settings.buffer, settings.window, settings.rekey_bytes) == (MIB, MIB, GIB)
    assert (settings.lane, settings.trusted_ca) == (Lane.FAST, None)
    assert (settings.login_timeout, settings.keepalive_interval) == (20, 30)
    assert (settings.keepalive_count, settings.max_auth_tries) == (3, 6)
    assert (settings.max_sessions_per_connection, settings.claims_per_day) == (10, 3)
    assert settings.trusted_sources == "127.0.0.0/8,::1"
    assert settings.max_unauthenticated == 100
    assert settings.max_unauthenticated_per_address == 10
    assert (settings.penalty_refused, settings.penalty_no_login, settings.penalty_timeout) == (
        5,
        1,
        10,
    )
    assert (settings.penalty_min, settings.penalty_max) == (15, 600)
    assert (settings.idle_timeout, settings.rekey_timeout) == (60, 30)
    assert (settings.max_unsent, settings.unread_timeout) == (8 * MIB, 30)
    assert (settings.memory_alarm, settings.max_rate_per_user) == (None, 0)
    assert (settings.public_host, settings.public_port) == (None, None)
    assert settings.log_topics is False


def test_precedence(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option beats the environment, that beats the file, and that beats the default."""
    config.write_text('port = 1\nmetrics-port = 1\ndrain = "1s"\n')
    monkeypatch.setenv("PIPE_PORT", "2")
    monkeypatch.setenv("PIPE_METRICS_PORT", "2")
    settings = load({"port": "3", "metrics_port": None}, config)
    assert (settings.port, settings.metrics_port, settings.drain, settings.buffer) == (3, 2, 1, MIB)


def test_config_variable(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PIPE_CONFIG names the file where no option does."""
    config.write_text("port = 7\n")
    monkeypatch.setenv("PIPE_CONFIG", str(config))
    assert load({}).port == 7


def test_direct_construction_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings made directly have their arguments and defaults, whatever the environment says."""
    monkeypatch.setenv("PIPE_PORT", "7")
    assert Settings(drain=1.5).model_dump(include={"port", "drain"}) == {"port": 2222, "drain": 1.5}


def test_frozen() -> None:
    """A setting cannot change after the start."""
    settings = load({})
    with pytest.raises(ValidationError):
        settings.port = 1


def test_file_spells_names_with_dash_or_underscore(config: Path) -> None:
    """A TOML key may be spelt as the option or as the field, and numbers are in base units."""
    config.write_text('stall-timeout = 5\nlogin_timeout = "1m30s"\nbuffer = 65536\n')
    settings = load({}, config)
    assert (settings.stall_timeout, settings.login_timeout, settings.buffer) == (5, 90, 64 * KIB)


def test_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable leaves the default, as container files need it."""
    monkeypatch.setenv("PIPE_SIGNUP", "")
    assert load({}).signup is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("port", "70000", "bad value '70000' for port (--port): use 0 to 65535 (0: any free port)"),
        ("port", "-1", "bad value '-1' for port"),
        ("port", "2222.0", "bad value '2222.0' for port"),
        ("port", True, "bad value 'True' for port"),
        ("trusted_sources", "10.0.0.0/33", "use networks such as 10.0.0.0/8,::1, or none"),
        ("trusted_sources", "everybody", "bad value 'everybody' for trusted-sources"),
        ("max_rate_per_user", "1MiB/s", "bad value '1MiB/s' for max-rate-per-user"),
        ("drain", "7", "use 0s to 1h, such as 90s or 1h30m"),
        ("drain", float("nan"), "bad value 'nan' for drain"),
        ("drain", "2h", "bad value '2h' for drain"),
        ("stall_timeout", "0s", "bad value '0s' for stall-timeout (--stall-timeout): use 100ms"),
        ("buffer", "63KiB", "use 64KiB to 64MiB"),
        ("buffer", "1GiB", "use 64KiB to 64MiB"),
        ("buffer", "1 meg", "bad value '1 meg' for buffer"),
        ("signup", "maybe", "use open or closed"),
        ("lane", "slow", "use fast or asyncssh"),
        ("log_level", "loud", "use debug or info or warning or error"),
        ("public_port", "0", "bad value '0' for public-port (--public-port): use 1 to 65535"),
        ("public_port", "ssh", "bad value 'ssh' for public-port"),
        ("web_port", "65536", "use 0 to 65535 (0: no HTTP)"),
        (
            "web_url",
            "pipe.example.org",
            "bad value 'pipe.example.org' for web-url (--web-url): use",
        ),
        *(
            ("web_url", url, "use https://host or http://host:port, without a path")
            for url in (
                "",
                "https://",
                "https:///x",
                "ftp://host",
                "https://host/pipe",
                "https://host?x",
                "https://host#x",
                "https://me@host",
                "https://host:0",
                "https://host:99999",
                "https://host:x",
                "https://a b",
                "https://h\u00f6st",
                "https://[::1",
                "javascript:alert(1)",
            )
        ),
        *(
            ("registry_url", url, "use http://host:port or https://host, perhaps with a path")
            for url in (
                "",
                "host:5000",
                "ftp://host",
                "http://",
                "http://a?b",
                "http://a#b",
                "http://a b",
            )
        ),
        *(
            ("log_drain", topic, f"bad value '{topic}' for log-drain (--log-drain): use a topic")
            for topic in ("", "log-drain", "public/x", "ops/", "Ops/x", "ops/*", "ops//x")
        ),
        ("log_topics", "maybe", "bad value 'maybe' for log-topics (--log-topics): use yes or no"),
        ("log_topics", 1, "bad value '1' for log-topics"),
        ("host", "", "bad value '' for host"),
        ("host", "a b", "bad value 'a b' for host"),
        ("data_dir", "a\0b", r"bad value 'a\x00b' for data-dir"),
    ],
)
def test_bad_value(name: str, value: object, expected: str) -> None:
    """A bad value is one line that names setting, source, value and what is allowed."""
    message = complaint({name: value})
    assert expected in message
    assert "\n" not in message


def test_log_drain() -> None:
    """The log drain is a topic in somebody's space, or none."""
    assert load({}).log_drain_topic is None
    assert load({"log_drain": "ops/log-drain"}).log_drain_topic == TopicName("ops", ("log-drain",))


def test_switch(config: Path) -> None:
    """A switch is yes or no, and in TOML also a truth value."""
    assert load({"log_topics": "yes"}).log_topics is True
    for text, expected in {"true": True, '"yes"': True, "false": False, '"no"': False}.items():
        config.write_text(f"log-topics = {text}\n")
        assert load({}, config).log_topics is expected


def test_one_line_per_bad_value(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several bad values are told at once, each with the source that it came from."""
    config.write_text('lane = "x"\n')
    monkeypatch.setenv("PIPE_DRAIN", "x")
    lines = complaint({"port": "x"}, config).splitlines()
    assert [line.split("(")[1].split(")")[0] for line in lines] == [
        "--port",
        "PIPE_DRAIN",
        str(config),
    ]


def test_password_is_not_repeated() -> None:
    """Neither an error nor the settings' text shows a database URL, which may have a password."""
    assert "secret" not in complaint({"database_url": "mysql://me:secret@host/db"})
    assert "secret" not in complaint({"registry_url": "ftp://me:secret@host"})
    assert "secret" not in repr(load({"registry_url": "http://me:secret@host"}))
    assert "secret" not in repr(load({"database_url": "postgresql://me:secret@host/db"}))


def test_unknown_key(config: Path) -> None:
    """An unknown key in the file is an error that guesses what was meant."""
    config.write_text("prot = 1\nzzzz = 2\n")
    first, second = complaint({}, config).splitlines()
    assert first == f"unknown setting in {config}: 'prot'; did you mean port?"
    assert second == f"unknown setting in {config}: 'zzzz'"


def test_unknown_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown PIPE_ variable is an error that guesses what was meant."""
    monkeypatch.setenv("PIPE_PROT", "1")
    assert complaint({}) == "unknown environment variable 'PIPE_PROT'; did you mean PIPE_PORT?"


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "No such file"), (b"port = ", "not valid TOML"), (b"port = '\xff'", "not valid TOML")],
)
def test_unusable_file(config: Path, content: bytes | None, expected: str) -> None:
    """A file that is missing or is no TOML stops the start with one line that names it."""
    if content is not None:
        config.write_bytes(content)
    message = complaint({}, config)
    assert expected in message
    assert str(config) in message
    assert "\n" not in message


def test_what_is_wrong_in_a_file_can_be_read(config: Path) -> None:
    """The parser's words are told as they are, and a heading as what it is."""
    config.write_text('host = "a\nb"\n')
    assert r"Illegal character '\n' (at line 1, column 10)" in complaint({}, config)
    config.write_bytes(b"host = '\xff'")
    assert complaint({}, config) == f"{config} is not valid TOML: it is not in UTF-8"
    config.write_text("[serve]\nport = 22\n")
    assert complaint({}, config) == (
        f"unknown setting in {config}: 'serve'; settings stand there without a [heading]"
    )


def test_the_documented_file(config: Path) -> None:
    """The example of docs/operations.md can be used, and sets what it says."""
    guide = (Path(__file__).parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    config.write_text(example)
    settings = load({}, config)
    assert (settings.host, settings.log_format) == ("::", LogFormat.JSON)
    assert (settings.log_topics, settings.drain, settings.buffer) == (False, 90, 512 * KIB)
    assert settings.max_sessions_per_user == 500
    assert settings.trusted_sources == "127.0.0.0/8,::1,10.0.0.5"


def test_networks_as_a_list(config: Path) -> None:
    """A file may give networks as TOML's own list, too."""
    config.write_text('trusted-sources = ["10.0.0.0/8", "::1"]\n')
    assert load({}, config).trusted_sources == "10.0.0.0/8,::1"
    config.write_text("trusted-sources = []\n")
    assert load({}, config).trusted_sources == "none"
    config.write_text("trusted-sources = [1, 2]\n")
    assert "use networks such as" in complaint({}, config)


@pytest.mark.parametrize(
    ("host", "signup"),
    [
        ("127.0.0.1", Signup.OPEN),
        ("127.8.8.8", Signup.OPEN),
        ("::1", Signup.OPEN),
        ("localhost", Signup.OPEN),
        ("0.0.0.0", Signup.CLOSED),  # noqa: S104 - nothing is bound
        ("::", Signup.CLOSED),
        ("localhost.example.org", Signup.CLOSED),
    ],
)
def test_signup_follows_the_host(host: str, signup: Signup) -> None:
    """Sign-up is open on a loopback host only, unless a setting says otherwise."""
    assert load({"host": host}).resolved_signup is signup
    assert load({"host": host, "signup": "closed"}).resolved_signup is Signup.CLOSED
    assert load({"host": host, "signup": "open"}).resolved_signup is Signup.OPEN


def test_derived_values(tmp_path: Path) -> None:
    """The database and the host key are in the data folder; the public host is the host."""
    settings = load({"data_dir": str(tmp_path), "host": "::1"})
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/pipe.db"
    assert settings.host_key_path == tmp_path / "host_key"
    assert settings.resolved_public_host == "::1"
    for everybody in ("0.0.0.0", "::"):  # noqa: S104 - nothing is bound
        assert Settings(host=everybody).resolved_public_host == socket.gethostname()
    given = load({"database_url": "postgresql://host/db", "public_host": "pipe.example.org"})
    assert given.resolved_database_url == "postgresql://host/db"
    assert given.resolved_public_host == "pipe.example.org"


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "http://127.0.0.1:8222"),
        ({"web_port": "80", "web_host": "::1"}, "http://[::1]:80"),
        (
            {"web_host": "0.0.0.0", "public_host": "pipe.example.org"},  # noqa: S104
            "http://pipe.example.org:8222",
        ),
        ({"web_host": "::", "public_host": "2001:db8::1"}, "http://[2001:db8::1]:8222"),
        ({"web_url": "https://Pipe.example.org/"}, "https://pipe.example.org"),
        ({"web_url": "http://[::1]:8080"}, "http://[::1]:8080"),
        ({"web_url": "https://pipe.example.org", "web_port": "0"}, ""),
    ],
)
def test_web_url(options: dict[str, object], url: str) -> None:
    """Where the web pages are follows from where the server listens, unless a setting says it."""
    assert load(options).resolved_web_url == url


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000000", 10**6),
        ("64KiB", 65536),
        ("1.5GiB", 3 * GIB // 2),
        ("2MB", 2 * 10**6),
        ("57777777777GB", 57777777777 * 10**9),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """A size is a number with a binary, a decimal or no unit."""
    assert parse_size(text) == size
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("text", ["", "KiB", "1kib", "-1", "1.5", "1e6", "٣", "1..5KiB", "9" * 21])
def test_bad_sizes(text: str) -> None:
    """What is no whole number of bytes is refused."""
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    """Each setting has a description, a word for its value, and a default that it accepts."""
    kind, allowed = describe(name)
    assert kind
    assert allowed
    assert Settings.model_fields[name].description
    assert option_name(name) == "--" + name.replace("_", "-")
    if default := default_text(name):
        assert getattr(load({name: default}), name) == Settings.model_fields[name].default
