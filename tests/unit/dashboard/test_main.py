from __future__ import annotations

from typing import Any

import pytest
from streamlit.web import bootstrap

from maskwright.dashboard.__main__ import is_loopback, main, server_options


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.1.1.1", False),
    ],
)
def test_which_addresses_only_this_computer_reaches(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


@pytest.mark.parametrize(
    ("words", "read_only"),
    [(["x"], False), (["x", "--read-only"], True), (["x", "--host", "0.0.0.0"], True)],
)
def test_beyond_this_computer_it_is_read_only(
    words: list[str], read_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(bootstrap, "run", lambda *given: seen.append(given))
    monkeypatch.setattr(bootstrap, "load_config_options", seen.append)
    main(words)
    options, (script, _, arguments, _) = seen
    assert ("--read-only" in arguments) is read_only
    assert script.endswith("script.py")
    assert options["server_address"] == (words[-1] if "--host" in words else "127.0.0.1")


def test_the_server_sends_nothing_home_and_keeps_its_guards() -> None:
    options = server_options("127.0.0.1", 8501, browser=False)
    assert options["browser_gatherUsageStats"] is False
    assert options["server_headless"] is True
    assert not {"server_enableXsrfProtection", "server_enableCORS"} & options.keys()
