"""A broker's address: a password with signs in it is either read right or refused with what to write."""

from pathlib import Path

import pytest

from agent.config import RelaySettings
from contract.broker import BrokerAddress, MqttSettings, parse_broker
from contract.checks import check_http_url
from contract.config import load_config
from contract.errors import ConfigError, InputError
from edge_relay.config import RelayConfig


@pytest.mark.parametrize("password", ["p@ss:w/rd#1?%", "p#ss", "100%sure", "p%zz", "p%40ss", " ", "[", "Grüße"])
def test_a_password_in_its_own_key_is_taken_as_it_is(password: str) -> None:
    address = MqttSettings("mqtt://127.0.0.1", "cam", password).address()
    assert address == BrokerAddress("127.0.0.1", 1883, False, "cam", password)
    assert password not in repr(MqttSettings("mqtt://127.0.0.1", "cam", password)) or password == " "


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("mqtt://cam:p%40ss%3Aw%2Frd%231%3F%25@127.0.0.1:1883", "p@ss:w/rd#1?%"),
        ("mqtt://cam:100%25sure@127.0.0.1:1883", "100%sure"),
        ("mqtt://cam:p%zz@127.0.0.1:1883", "p%zz"),
        ("mqtt://cam:p@ss@127.0.0.1:1883", "p@ss"),
    ],
)
def test_a_password_in_the_url_is_read(url: str, password: str) -> None:
    assert parse_broker(url) == BrokerAddress("127.0.0.1", 1883, False, "cam", password)


@pytest.mark.parametrize(
    "password", ["p@ss:w/rd#1?%", "s3cr#t", "12#34", "12?34", "12/34", "s3c/ret", "[s3cr", "s3cr]"]
)
def test_a_url_that_a_sign_cuts_is_refused_and_the_error_says_how_to_write_it(password: str) -> None:
    url = f"mqtt://cam:{password}@127.0.0.1:1883"
    with pytest.raises(InputError, match="write # as %23, / as %2F, . as %3F, @ as %40") as caught:
        parse_broker(url)
    with pytest.raises(InputError, match="or give them in the keys user and password") as told:
        MqttSettings(url)
    for text in (str(caught.value), str(told.value)):
        assert password not in text


def test_two_users_or_a_password_alone_are_refused() -> None:
    with pytest.raises(InputError, match="there is a user in broker already"):
        MqttSettings("mqtt://me:secret@host", "cam", "other")
    with pytest.raises(InputError, match="a password needs a user"):
        MqttSettings("mqtt://host", password="secret")


def test_the_keys_are_those_of_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    text = (
        'name="home"\ndata="d"\n[site]\nurl="http://x"\nroot="r"\nmodels=["m"]\n[mqtt]\nuser="cam"\npassword="a#b"\n'
    )
    path.write_text(text)
    assert load_config(path, RelayConfig).mqtt.address().password == "a#b"
    path.write_text(text + 'broker="mqtt://u:p#q@host"\n')
    with pytest.raises(ConfigError, match="mqtt: a broker is written .*%23"):
        load_config(path, RelayConfig)


@pytest.mark.parametrize("url", ["http://me:s3cr#t@host", "ftp://me:s3cret@host/x", "http://me:s3cret@host:0"])
def test_an_error_about_a_sites_url_shows_no_password(url: str) -> None:
    with pytest.raises(ValueError, match="is not http://host:port") as caught:
        check_http_url(url)
    assert "s3cr" not in str(caught.value)
    with pytest.raises(ValueError, match="is not"):
        RelaySettings(Path("root"), url)
