from __future__ import annotations

from pathlib import Path

import pytest

from settings import Settings, SettingsError, parse_settings


def problems(**environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        parse_settings(environ)
    return caught.value.problems


def test_nothing_set_is_fine() -> None:
    settings = parse_settings({"PATH": "/bin"})
    assert settings.port == 8000
    assert settings.model == Path("/models/silero-vad/silero_vad_16k_sequence.onnx")
    assert settings.workers >= 1
    assert settings.admitted == settings.workers + 256
    assert settings.max_bytes <= settings.held <= 1 << 30


def test_every_setting_is_read_and_typed() -> None:
    settings = parse_settings(
        {
            "SPEECH_MODEL": "/m.onnx",
            "SPEECH_PROFILES": "/profiles",
            "SPEECH_HOST": "::",
            "SPEECH_PORT": "81",
            "SPEECH_LOG_LEVEL": "debug",
            "SPEECH_ACCESS_LOG": "false",
            "SPEECH_WORKERS": "3",
            "SPEECH_THREADS": "2",
            "SPEECH_MAX_WAITING": "0",
            "SPEECH_MAX_WAIT": "2.5",
            "SPEECH_MAX_IDLE": "17",
            "SPEECH_MAX_BYTES": "2MiB",
            "SPEECH_MAX_HELD": "8MiB",
            "SPEECH_MAX_SECONDS": "90.5",
            "SPEECH_UPLOAD_TIMEOUT": "5",
            "SPEECH_KEEP_ALIVE": "9",
            "SPEECH_DRAIN_SECONDS": "0.5",
            "SPEECH_SHUTDOWN_TIMEOUT": "3",
            "SPEECH_THRESHOLD": "0.4",
            "SPEECH_MIN_SPEECH_MS": "1",
            "SPEECH_MIN_SILENCE_MS": "2",
            "SPEECH_PAD_MS": "3",
        }
    )
    assert settings.model_dump() == {
        "model": Path("/m.onnx"),
        "profiles": Path("/profiles"),
        "host": "::",
        "port": 81,
        "log_level": "debug",
        "access_log": False,
        "workers": 3,
        "threads": 2,
        "max_waiting": 0,
        "max_wait": 2.5,
        "max_idle": 17,
        "max_bytes": 2 * 1024 * 1024,
        "max_held": 8 * 1024 * 1024,
        "max_seconds": 90.5,
        "upload_timeout": 5.0,
        "keep_alive": 9,
        "drain_seconds": 0.5,
        "shutdown_timeout": 3,
        "threshold": 0.4,
        "min_speech_ms": 1,
        "min_silence_ms": 2,
        "pad_ms": 3,
        "cache": "",
        "cache_password_file": None,
        "cache_seconds": 86_400,
        "journal": "",
        "journal_password_file": None,
    }
    elsewhere = {"cache", "cache_password_file", "cache_seconds", "journal", "journal_password_file"}
    assert settings.model_fields_set == set(Settings.model_fields) - elsewhere


def test_one_body_always_fits_into_what_is_held() -> None:
    settings = parse_settings({"SPEECH_MAX_BYTES": "2MiB", "SPEECH_MAX_HELD": "1MiB"})
    assert settings.held == 2 * 1024 * 1024


def test_every_problem_is_told_at_once_with_its_variable_and_its_value() -> None:
    lines = problems(SPEECH_PORT="http", SPEECH_THRESHOLD="nan", SPEECH_MAX_BYTES="2 parrots", SPEECH_TREADS="1")
    assert [line.split(":")[0] for line in lines] == [
        "SPEECH_TREADS",
        "SPEECH_PORT",
        "SPEECH_MAX_BYTES",
        "SPEECH_THRESHOLD",
    ]
    assert "did you mean SPEECH_THREADS?" in lines[0]
    assert "'http'" in lines[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", ""),
        ("WORKERS", "0"),
        ("THRESHOLD", "0"),
        ("THRESHOLD", "1"),
        ("MAX_BYTES", "1023"),
        ("MAX_BYTES", "-1"),
        ("MAX_SECONDS", "inf"),
        ("UPLOAD_TIMEOUT", "0"),
        ("PAD_MS", "-1"),
        ("PAD_MS", "1.5"),
        ("LOG_LEVEL", "loud"),
        ("ACCESS_LOG", "perhaps"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: str) -> None:
    (line,) = problems(**{f"SPEECH_{name}": value})
    assert line.startswith(f"SPEECH_{name}: ")


def test_what_kubernetes_sets_for_a_service_named_speech_is_no_misspelling() -> None:
    parse_settings(
        {
            "SPEECH_SERVICE_HOST": "10.0.0.1",
            "SPEECH_SERVICE_PORT": "8000",
            "SPEECH_PORT_8000_TCP": "tcp://10.0.0.1:8000",
            "SPEECH_PORT_8000_TCP_ADDR": "10.0.0.1",
            "SPEECH_SAMPLE": "/a.wav",
        }
    )
    (line,) = problems(SPEECH_PORT="tcp://10.0.0.1:8000")
    assert "enableServiceLinks" in line


def test_addresses_and_their_password_files_are_read(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret\n", "utf-8")
    settings = parse_settings(
        {
            "SPEECH_CACHE": "redis://redis:6379/0",
            "SPEECH_CACHE_PASSWORD_FILE": str(file),
            "SPEECH_CACHE_SECONDS": "60",
            "SPEECH_JOURNAL": "postgresql://app@postgres/app",
            "SPEECH_JOURNAL_PASSWORD_FILE": str(file),
        }
    )
    assert (settings.cache, settings.cache_seconds) == ("redis://redis:6379/0", 60)
    assert (settings.journal, settings.journal_password_file) == ("postgresql://app@postgres/app", file)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SPEECH_CACHE", "http://redis", "must be an address such as redis://host"),
        ("SPEECH_CACHE", "redis:///0", "must be an address such as redis://host"),
        ("SPEECH_CACHE", "redis://:hidden@redis", "SPEECH_CACHE_PASSWORD_FILE names a file with it"),
        ("SPEECH_CACHE", "redis://:pa/hidden@redis", "must be an address such as redis://host"),
        ("SPEECH_CACHE", "redis://:a:hidden@redis", "must hold no password"),
        ("SPEECH_CACHE", "redis://:a@hidden@redis", "must hold no password"),
        ("SPEECH_CACHE", "user:hidden@redis", "must be an address such as redis://host"),
        ("SPEECH_CACHE", "redis://redis?password=a&hidden", "must hold no password"),
        ("SPEECH_CACHE", "redis://redis?password=hidden", "SPEECH_CACHE_PASSWORD_FILE names a file with it"),
        ("SPEECH_JOURNAL", "mysql://db", "must be an address such as postgresql://host"),
        ("SPEECH_JOURNAL", "postgresql://app:hidden@db/app", "SPEECH_JOURNAL_PASSWORD_FILE names a file with it"),
        ("SPEECH_CACHE_PASSWORD_FILE", "/nowhere", "cannot be read: No such file or directory"),
        ("SPEECH_JOURNAL_PASSWORD_FILE", "/dev/null", "holds no password"),
    ],
)
def test_a_bad_address_or_password_file_is_one_line_that_shows_no_password(name: str, value: str, said: str) -> None:
    (line,) = problems(**{name: value})
    assert line.startswith(f"{name}: ")
    assert said in line
    assert "hidden" not in line
