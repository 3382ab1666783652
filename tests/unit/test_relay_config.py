"""relay.toml: what is accepted, what stops the start."""

from pathlib import Path

import pytest

from contract.broker import BrokerAddress, MqttSettings
from contract.config import load_config
from contract.errors import ConfigError
from edge_relay.command_line import check_root, main
from edge_relay.config import RelayConfig

LEAST = (
    'name = "home"\ndata = "data"\n[site]\nurl = "https://site.example"\nroot = "root.json"\nmodels = ["household"]\n'
)


def load(folder: Path, text: str) -> RelayConfig:
    path = folder / "relay.toml"
    path.write_text(text)
    return load_config(path, RelayConfig)


def test_the_least_configuration_has_the_documented_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, LEAST)
    assert (config.http.listen, config.http.port) == ("0.0.0.0", 8480)
    assert (config.site.channels, config.site.poll_s) == (("stable",), 900.0)
    assert config.mqtt.broker == "mqtt://localhost:1883"
    assert config.cache.bytes == 2_000_000_000
    assert config.data == tmp_path / "data"
    assert config.site.root == tmp_path / "root.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[site]", "[sites]"), "did you mean site"),
        (("url = ", "ulr = "), "did you mean url"),
        (("https://site.example", "ftp://site.example"), "not http"),
        (("https://site.example", "site.example"), "not http"),
        (('"household"', '"house/hold"'), "not a plain name"),
        (('"household"', '"snapshot"'), "top-level role"),
        (('["household"]', "[]"), "at least one"),
        (('["household"]', '["household", "household"]'), "none twice"),
        (('"home"', '"#"'), "not a plain name"),
        (("[site]", "[http]\nport = 70000\n[site]"), "port 70000"),
        (("[site]", '[mqtt]\nbroker = "tcp://here"\n[site]'), "a broker is written mqtt://"),
        (("[site]", '[mqtt]\nbroker = "mqtt://here:x"\n[site]'), "mqtt"),
        (("[site]", "[cache]\nbytes = 1000\n[site]"), "at least 1000000"),
        (("[site]", "[site]\npoll_s = 0.0"), "poll_s"),
    ],
)
def test_a_wrong_value_stops_the_start_and_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    text = LEAST.replace(*change)
    assert text != LEAST
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("mqtt://broker", BrokerAddress("broker", 1883)),
        ("mqtts://broker", BrokerAddress("broker", 8883, tls=True)),
        ("mqtt://me:p%40ss@10.0.0.2:1999", BrokerAddress("10.0.0.2", 1999, False, "me", "p@ss")),
    ],
)
def test_a_broker_url_gives_host_port_and_account(url: str, endpoint: BrokerAddress) -> None:
    assert MqttSettings(url).address() == endpoint


@pytest.mark.parametrize("text", [None, "no json", "{}"])
def test_a_root_that_is_no_root_metadata_is_a_configuration_error(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "root.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"site\.root"):
        check_root(path)


def test_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "--config" in text
    assert "--json-logs" in text


def test_a_missing_option_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == 2
    assert "--config" in capsys.readouterr().err
