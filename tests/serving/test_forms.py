"""Forms of files: any names, any contents, any damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsp_deploy.errors import RequestError
from gsp_deploy.serving.forms import LONGEST_NAME, count_parts, files_in_form

from .servers import form, tried

KIND = "multipart/form-data; boundary=edge"
NAME_BYTES = st.binary(max_size=150).filter(lambda name: not set(name) & set(b'\r\n"\\'))
CONTENTS = st.binary(max_size=60).filter(lambda content: b"--edge" not in content)


def part(name: bytes, content: bytes) -> bytes:
    disposition = b'Content-Disposition: form-data; name="i"; filename="' + name + b'"'
    return b"--edge\r\n" + disposition + b"\r\n\r\n" + content + b"\r\n"


@given(st.lists(st.tuples(NAME_BYTES, CONTENTS), min_size=1, max_size=5))
def test_names_of_any_bytes_and_contents_of_any_bytes(files) -> None:
    body = b"".join(part(*file) for file in files) + b"--edge--\r\n"
    found = files_in_form(body, KIND, 5)
    assert [upload.content for upload in found] == [content for _, content in files]
    for upload in found:
        assert upload.name.isprintable()
        assert 0 < len(upload.name) <= LONGEST_NAME
    assert count_parts(body, KIND) == len(files)


@given(start=st.integers(0, 400), length=st.integers(0, 30), other=st.binary(max_size=12))
def test_damaged_forms_are_read_or_refused(start, length, other) -> None:
    body, kind = form(("a.png", bytes(range(100))), ("b.png", b"--edg"), ("c.png", b""))
    tried(files_in_form, body[:start] + other + body[start + length :], kind, 3)


# A header reaches the application as latin-1.
@given(body=st.binary(max_size=200), kind=st.text(st.characters(max_codepoint=255), max_size=60))
def test_no_bytes_are_a_fault_of_the_servers(body, kind) -> None:
    for content_type in (kind, KIND, "multipart/form-data; boundary=" + kind):
        tried(files_in_form, body, content_type, 3)
        assert count_parts(body, content_type) >= 1


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (part(b"a", b"x") * 4 + b"--edge--\r\n", 413, "at most 3 files"),
        (part(b"a", b"x"), 400, "ends before its last boundary"),
        (b"--edge\r\n" + b"a: b\r\n" * 17 + b"\r\n\r\n--edge--\r\n", 400, "cannot be read"),
        (b"--edge\r\na: " + b"b" * 5000 + b"\r\n\r\n\r\n--edge--\r\n", 400, "cannot be read"),
        (b"--edge\r\nContent-Disposition: form-data\r\n\r\n\r\n--edge--\r\n", 400, '"name"'),
        (b"--edge--\r\n", 400, "expected files in the form"),
        (b"", 400, "expected files in the form"),
    ],
)
def test_forms_that_are_refused(body, status, named) -> None:
    with pytest.raises(RequestError, match=named) as caught:
        files_in_form(body, KIND, 3)
    assert caught.value.status == status


def test_fields_that_are_no_files_are_passed_over() -> None:
    field = b'--edge\r\nContent-Disposition: form-data; name="text"\r\n\r\nhello\r\n'
    found = files_in_form(field + part(b"a", b"x") + field + b"--edge--\r\n", KIND, 3)
    assert [(upload.name, upload.content) for upload in found] == [("a", b"x")]
