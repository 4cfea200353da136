"""What the environment and the file may say, and what an operator is told when they are wrong."""

from pathlib import Path

import pytest

from streams.errors import ConfigurationError
from streams.settings import load


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"FLASHCAST_BUCKET_MS": "abc"}, "FLASHCAST_BUCKET_MS = 'abc'"),
        ({"FLASHCAST_PARTITIONER": "murmur3"}, "'murmur2', 'crc32' or 'none'"),
        ({"FLASHCAST_ALOWED_LATENESS_MS": "1"}, "did you mean FLASHCAST_ALLOWED_LATENESS_MS"),
        ({"FLASHCAST_SERVICES": '[{"name":"shop"}'}, "FLASHCAST_SERVICES = .* must be JSON"),
        ({"FLASHCAST_SERVICES": '[{"name":"A"}]'}, r"FLASHCAST_SERVICES\[0\]\[name\] = 'A'"),
        ({"KAFKA_SASL_MECHANISM": "FOO"}, "KAFKA_SASL_MECHANISM = 'FOO'"),
        ({"KAFKA_SASL_USERNAME": "x"}, "KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
        ({"KAFKA_SASL_PASSWORD": "x"}, "KAFKA_SASL_PASSWORD is set, but .* PLAINTEXT"),
        ({"KAFKA_SSL_CERTIFICATE_FILE": "x"}, "it must be SASL_SSL or SSL"),
        ({"KAFKA_SSL_CAFILE": "x"}, "did you mean KAFKA_SSL_CA_FILE"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"),
        ({"FLASHCAST_WEB_HOST": "0.0.0.0"}, "FLASHCAST_WEB_TOKEN"),
        ({"FLASHCAST_FORECAST_INTERVAL_MS": "25000"}, "multiple of FLASHCAST_BUCKET_MS 10000"),
        ({"FLASHCAST_CONFIG": "nowhere.toml"}, "nowhere.toml"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=said):
        load()


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = [
        "KAFKA_SASL_PASSWORD",
        "KAFKA_SSL_KEY_PASSWORD",
        "FLASHCAST_WEB_TOKEN",
        "FLASHCAST_PSEUDONYM_KEY",
    ]
    for name in secrets:
        monkeypatch.setenv(name, "hunter2-hunter2-hunter2")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "x")
    shown = f"{load()!r} {load()} {load().model_dump()} {load().model_dump_json()}"
    assert "hunter2" not in shown
    monkeypatch.delenv("KAFKA_SASL_USERNAME")
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert "hunter2" not in str(caught.value)


def test_names_that_other_programs_use_are_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "a:1")
    monkeypatch.setenv("BOOTSTRAP_SERVERS", "elsewhere:1")
    monkeypatch.setenv("SECURITY_PROTOCOL", "SSL")
    monkeypatch.setenv("KAFKA_HEAP_OPTS", "-Xmx1g")
    settings = load()
    assert (settings.bootstrap_servers, settings.security_protocol) == ("a:1", "PLAINTEXT")


@pytest.mark.parametrize("name", ["FLASHCAST_WEB_TOKEN", "FLASHCAST_PSEUDONYM_KEY"])
def test_a_short_secret_is_refused_without_being_shown(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "hunter2")
    with pytest.raises(ConfigurationError, match=f"{name}: .*at least 16") as caught:
        load()
    assert "hunter2" not in str(caught.value)


def test_a_misspelt_secret_in_the_file_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "flashcast.toml"
    file.write_text('web_tokn = "hunter2-hunter2-hunter2"\n[sasl_password]\nis = "hunter2"\n')
    monkeypatch.setenv("FLASHCAST_CONFIG", str(file))
    with pytest.raises(ConfigurationError, match="FLASHCAST_WEB_TOKN") as caught:
        load()
    assert "hunter2" not in str(caught.value)


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "flashcast.toml"
    file.write_text(
        'kafka_bootstrap_servers = "a:1"\nbucket_ms = 1000\nallowed_lateness_ms = 7\n'
        '[[services]]\nname = "api"\n'
    )
    monkeypatch.setenv("FLASHCAST_CONFIG", str(file))
    monkeypatch.setenv("FLASHCAST_BUCKET_MS", "2000")
    settings = load()
    assert (settings.bucket_ms, settings.allowed_lateness_ms) == (2_000, 7)
    assert settings.bootstrap_servers == "a:1"
    assert [service.name for service in settings.services] == ["api"]
    file.write_text("bukcet_ms = 5\n")
    with pytest.raises(ConfigurationError, match="FLASHCAST_BUKCET_MS: Extra inputs"):
        load()
