"""Whose page sent a request: which cookies count, and what reaches a tunnel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.web.origin import Site, accepts_in_tunnel, is_loopback, parse_host, same_origin

SITE = Site("https://pipe.example.org")
LOCAL = Site("http://127.0.0.1:8222")

OWN = "https://pipe.example.org"

FOREIGN = [
    "https://evil.example",
    "http://pipe.example.org",
    "https://pipe.example.org:8443",
    "https://www.pipe.example.org",
    "https://pipe.example.org.evil.example",
    "https://evil@pipe.example.org",
    "https://pipe.example.org/",
    "null",
    "",
    "file://",
    "https://",
]


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
def test_a_cookie_with_another_origin_counts_as_absent(origin: str, method: str) -> None:
    """Whatever the method: a GET joins a stream, so it is an act as well."""
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert not SITE.accepts_cookie(method, headers)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "anything"])
@pytest.mark.parametrize("origin", [{}, {"Origin": OWN}])
def test_a_cookie_that_another_site_had_sent_counts_as_absent(
    site: str, origin: dict[str, str]
) -> None:
    """An image, a frame or a link of another page brings no Origin, but says so here."""
    assert not SITE.accepts_cookie("GET", {"Sec-Fetch-Site": site, **origin})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "get", "anything"])
def test_what_is_not_safe_needs_the_origin(method: str) -> None:
    """A browser names it with each of these, so one without it is none of our page's."""
    assert not SITE.accepts_cookie(method, {"Sec-Fetch-Site": "same-origin"})
    assert SITE.accepts_cookie(method, {"Origin": OWN, "Sec-Fetch-Site": "same-origin"})


def test_a_websocket_needs_the_origin() -> None:
    """It is a GET, and no rule of browsers keeps other pages from opening one."""
    assert not SITE.accepts_cookie("GET", {}, upgrade=True)
    assert not SITE.accepts_cookie("GET", {"Sec-Fetch-Site": "none"}, upgrade=True)
    assert SITE.accepts_cookie("GET", {"Origin": OWN}, upgrade=True)


def test_a_cookie_under_a_foreign_name_counts_as_absent() -> None:
    """A name of somebody else's may point here, and a page of theirs is its own origin."""
    assert not SITE.accepts_cookie("GET", {"Host": "rebound.example"})
    assert SITE.accepts_cookie("GET", {"Host": "pipe.example.org"})


def test_our_own_page_may_read() -> None:
    """By fetch, by a link of ours, by an address that was typed, by an old browser."""
    assert SITE.accepts_cookie("GET", {"Sec-Fetch-Site": "same-origin"})
    assert SITE.accepts_cookie("GET", {"Sec-Fetch-Site": "none"})
    assert SITE.accepts_cookie("GET", {})


def test_the_cookie_of_a_tls_site_is_bound_to_its_host() -> None:
    """Its prefix has browsers refuse one that a subdomain or plain HTTP would set."""
    assert SITE.cookie_name == "__Host-pipe"
    assert LOCAL.cookie_name == "pipe"


@pytest.mark.parametrize(
    "host",
    [
        *("pipe.example.org", "pipe.example.org:443", "PIPE.example.org", "pipe.example.org."),
        *("localhost", "localhost:9999", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:8222"),
    ],
)
def test_the_own_host_and_loopback_names_are_accepted(host: str) -> None:
    """The latter for those who come by ``ssh -L`` or are on the machine."""
    assert SITE.accepts_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "pipe.example.org:80", "pipe.example.org:", "localhost.evil.example"),
        *("127.0.0.1.evil.example", "evil.localhost", "10.0.0.1", "", "[::1", "a b"),
        *(
            "pipe.example.org/",
            "x@pipe.example.org",
            "pipe.example.org:x",
            "pipe.example.org:99999",
        ),
    ],
)
def test_another_host_is_refused(host: str) -> None:
    """A name of an attacker's that was pointed at this machine shows itself here."""
    assert not SITE.accepts_host(host)


def test_a_site_has_to_be_an_origin() -> None:
    """A setting that no request could ever match must not pass."""
    for url in ("pipe.example.org", "ftp://pipe.example.org", "https://"):
        with pytest.raises(ValueError, match="no origin"):
            Site(url)


TUNNEL = {"Host": "localhost:1338"}


@pytest.mark.parametrize("host", ["localhost:1338", "127.0.0.1:1338", "[::1]:99", "pipe", "pipe:7"])
def test_a_tunnel_takes_programs_and_its_own_pages(host: str) -> None:
    """Under the names that a forwarded port has, and with the same name as Origin."""
    assert accepts_in_tunnel({"Host": host})
    assert accepts_in_tunnel(
        {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example:1338"},
        TUNNEL | {"Origin": "https://evil.example"},
        TUNNEL | {"Origin": "http://localhost:3000"},
        TUNNEL | {"Origin": "https://localhost:1338"},
        TUNNEL | {"Origin": "null"},
        TUNNEL | {"Sec-Fetch-Site": "cross-site"},
        TUNNEL | {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost:1338"},
    ],
)
def test_a_tunnel_refuses_foreign_pages(headers: dict[str, str]) -> None:
    """There is no cookie to withhold: whoever reaches the port is the user."""
    assert not accepts_in_tunnel(headers)


@given(st.text())
def test_no_host_makes_it_fail(text: str) -> None:
    """What is no host is refused, and what is one is its own origin."""
    place = parse_host(text, 80)
    assert SITE.accepts_host(text) in {True, False}
    if place:
        assert same_origin(f"http://{text}", f"http://{text}")
        assert place.host.isprintable()


PARTS = ["https", "http", "://", "pipe.example.org", ":443", ":80", ":", ".", "@", "/", "evil", " "]


@given(
    st.lists(st.sampled_from(PARTS), max_size=6).map("".join) | st.text(),
    st.sampled_from(["GET", "POST"]),
    st.booleans(),
)
def test_only_the_own_origin_is_the_own_origin(text: str, method: str, upgrade: bool) -> None:
    """However it is written, an Origin that counts names our scheme, host and port."""
    if SITE.accepts_cookie(method, {"Origin": text}, upgrade=upgrade):
        assert text.lower() in {OWN, f"{OWN}:443", f"{OWN}.", f"{OWN}.:443"}


@given(st.from_regex(r"[a-z0-9.]{1,30}", fullmatch=True))
def test_only_loopback_is_loopback(host: str) -> None:
    """A name with letters is one only if it is ``localhost``."""
    if is_loopback(host):
        assert host == "localhost" or host.startswith("127.")
