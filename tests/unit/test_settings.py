"""Settings come from the environment whole, or not at all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tanda.cli.target import Target
from tanda.embedded import runfile
from tanda.settings import Settings, check, from_environment, llm_prices


def test_each_setting_has_its_variable() -> None:
    """Also those whose names begin like a tool's own (TANDA_API_KEYS beside TANDA_API_KEY)."""
    environ = {"TANDA_API_KEYS": "acme:secret", "TANDA_PORT": "1234", "TANDA_S3_SECURE": "true", "HOME": "/"}
    settings = from_environment(environ)
    assert (settings.api_keys, settings.port, settings.s3_secure) == ("acme:secret", 1234, True)


@pytest.mark.parametrize("name", ["TANDA_URL", "TANDA_API_KEY", "TANDA_NATS_BIN", "TANDA_TEST_STACK"])
def test_the_tools_own_variables_are_passed_over(name: str) -> None:
    assert from_environment({name: "x"}) == Settings()


def test_an_unknown_name_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ValueError, match="Did you mean TANDA_NATS_URL"):
        from_environment({"TANDA_NATS_URI": "nats://x"})


def test_a_value_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        from_environment({"TANDA_PORT": "many"})


def test_without_keys_the_gateway_stays_on_loopback() -> None:
    with pytest.raises(ValueError, match="loopback"):
        check(Settings(host="0.0.0.0"))
    assert check(Settings(host="0.0.0.0", api_keys="acme:secret")).host == "0.0.0.0"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("http_endpoints", "publisher=https://", "name=url pairs"),
        ("http_endpoints", "publisher=http://host:many/", "name=url pairs"),
        ("anthropic_url", "api.anthropic.com", "TANDA_ANTHROPIC_URL must be an address"),
        ("openai_url", "http://", "TANDA_OPENAI_URL must be an address"),
        ("llm_prices", "claude-test-1=3", "TANDA_LLM_PRICES must be"),
        ("llm_prices", "claude-test-1=3/-15", "TANDA_LLM_PRICES must be"),
    ],
)
def test_a_provider_that_could_never_be_called_is_refused(name: str, value: str, words: str) -> None:
    """At the start, in one sentence, and not with every file."""
    with pytest.raises(ValueError, match=words):
        check(Settings(**{name: value}))


def test_a_key_that_no_header_can_carry_is_refused_without_being_told() -> None:
    """A line's end comes with many a file that holds a key."""
    with pytest.raises(ValueError, match="TANDA_OPENAI_API_KEY") as refused:
        check(Settings(openai_api_key="sk-secret\n"))
    assert "sk-secret" not in str(refused.value)


def test_prices_are_dollars_a_million_tokens() -> None:
    prices = llm_prices(Settings(llm_prices="claude-test-1=3/15, org/model:7b=0/0.5,"))
    assert prices == {"claude-test-1": (3.0, 15.0), "org/model:7b": (0.0, 0.5)}


FAILING = """
import structlog
from tanda import telemetry

telemetry.configure("test")
headers = {"authorization": "Bearer " + "yranac"[::-1]}
try:
    raise ValueError(len(headers))
except ValueError:
    structlog.get_logger("a").exception("It failed.")
"""


def test_a_traceback_has_no_variables() -> None:
    """The frames of a request hold its headers, and with them its key."""
    ran = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, check=True)
    (trace,) = json.loads(ran.stderr)["exception"]
    assert trace["exc_type"] == "ValueError" and trace["frames"]
    assert "canary" not in ran.stderr


def test_the_command_line_keeps_to_the_bound_of_a_log_on_a_small_disk(tmp_path: Path) -> None:
    """``tanda replay`` would give the log its default bound, which such a disk has no room for."""
    env = {"TANDA_EVENTS_BYTES_MAX": "107374182", "TANDA_NATS_URL": "nats://127.0.0.1:1"}
    runfile.write(tmp_path, url="", supervisor=1, pids={}, env=env)
    assert Target(data=tmp_path).settings().events_bytes_max == 107_374_182
