"""Forms, as `curl -F` and browsers send them."""

from __future__ import annotations

import pytest

from .served import Served, request_head

FORM = {"Content-Type": "multipart/form-data; boundary=xyz"}


def form(*parts: tuple[str, bytes], end: bytes = b"--xyz--\r\n") -> bytes:
    """Write a form."""
    body = b""
    for disposition, data in parts:
        body += f"--xyz\r\nContent-Disposition: form-data; {disposition}\r\n".encode()
        body += b"Content-Type: text/csv\r\n\r\n" + data + b"\r\n"
    return body + end


FILE = 'name="file"; filename="a.csv"'


async def test_first_file_is_the_stream(served: Served) -> None:
    """The first file's bytes are published, whatever fields come before or after."""
    data = b"1,2\r\n--xy\r\n" * 100_000
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    body = form(('name="note"', b"hello"), (FILE, data), (FILE, b"second"))
    sent = await served.ask("POST", "/topic/build", body, headers=FORM)
    got = await reader.response()
    assert got.body == data
    assert got.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="a.csv"' in got.headers["content-disposition"]
    assert sent.text == f"sent {len(data)} bytes to 1 subscriber\n"


@pytest.mark.parametrize(
    "body",
    [
        form(('name="note"', b"hello")),
        b"",
        b"nothing of a form",
        form(*[('name="note"', b"x")] * 40),
        form(('name="note"', b"x" * 100_000), (FILE, b"data")),
    ],
)
async def test_form_without_a_file(served: Served, body: bytes) -> None:
    """What is no form with a file is a 400 that says so."""
    got = await served.ask("POST", "/topic/build?block=false", body, headers=FORM)
    assert (got.status, got.headers["pipe-outcome"]) == (400, "usage")


async def test_form_that_is_cut_is_a_broken_stream(served: Served) -> None:
    """A form that ends before its last boundary is no whole stream."""
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    body = form((FILE, b"some"), end=b"")[:-2]
    sent = await served.ask("POST", "/topic/build", body, headers=FORM)
    got = await reader.response()
    assert sent.status == 400
    assert not (got.status == 200 and got.whole)


async def test_body_that_cannot_be_read_is_refused(served: Served) -> None:
    """A body that no handler could read is the client's mistake, and no fault of ours."""
    conn = await served.connect()
    head = request_head("POST", "/api/tokens", headers={"Transfer-Encoding": "chunked"})
    await conn.send(head + b"1\r\n{\r\n")
    await conn.send(b"zz\r\n")
    assert (await conn.response()).status == 400


async def test_body_that_is_cut_is_a_broken_stream(served: Served) -> None:
    """A body with a bad chunk breaks the stream."""
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    writer = await served.connect()
    head = request_head("PUT", "/topic/build", headers={"Transfer-Encoding": "chunked"})
    await writer.send(head + b"4\r\nsome\r\n")
    assert (await reader.head())[0] == 200
    assert await reader.chunk() == b"some"
    await writer.send(b"zz\r\n")
    assert await reader.chunk() is None
