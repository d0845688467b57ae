"""API keys: what a file holds, and who is let in."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsp_deploy.errors import UsageError
from gsp_deploy.serving.keys import ApiKeys, read_api_keys

FIRST, SECOND = b"first-key-0123456789", b"second-key-0123456789"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> ApiKeys:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_bytes(b"# ours\n\n" + FIRST + b"\r\n  " + SECOND + b"\n")
    path.chmod(0o600)
    found, warnings = read_api_keys(path)
    assert warnings == []
    return found


@pytest.mark.parametrize(
    ("header", "value", "who"),
    [
        (b"authorization", b"Bearer " + FIRST, 0),
        (b"authorization", b"bearer  " + SECOND, 1),
        (b"x-api-key", SECOND, 1),
        (b"authorization", FIRST, None),
        (b"authorization", b"Basic " + FIRST, None),
        (b"authorization", b"Bearer ", None),
        (b"x-api-key", FIRST[:-1], None),
        (b"x-api-key", FIRST + b"0", None),
        (b"x-api-key", b"# ours", None),
        (b"x-api-key", b"", None),
        (b"cookie", FIRST, None),
    ],
)
def test_who_a_request_is_from(keys, header, value, who) -> None:
    assert keys.who([(b"host", b"x"), (header, value)]) == who


@given(st.binary(max_size=60))
def test_no_other_bytes_are_a_key(keys, value) -> None:
    assert (keys.who([(b"x-api-key", value)]) is None) == (value.strip() not in (FIRST, SECOND))


def test_a_file_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(FIRST)
    path.chmod(0o644)
    assert read_api_keys(path)[1] == [
        f"other users can read or write {path} (mode 644); run: chmod 600 {path}"
    ]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "one a line, got none"),
        (b"# only\n\n", "one a line, got none"),
        (b"short", "key 1"),
        (FIRST + b"\nwith a space 0123456789\n", "key 2"),
        (FIRST + b"\n" + "schlüssel-0123456789".encode(), "key 2"),
    ],
)
def test_files_without_usable_keys(tmp_path: Path, content, named) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=named) as caught:
        read_api_keys(path)
    assert "0123456789" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the API keys"):
        read_api_keys(tmp_path)
