"""Requests: Go's and GNU's flag forms, one line for every mistake, help from the same table."""

from __future__ import annotations

import dataclasses
import enum
import re
import shlex
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.errors import UsageError
from pipe.language.account_requests import (
    AddKey,
    GrantAccess,
    ListGrants,
    ListKeys,
    RemoveKey,
    RevokeAccess,
)
from pipe.language.durations import MAX_DURATION, format_duration
from pipe.language.flags import HELP_WIDTH, Command
from pipe.language.requests import (
    COMMANDS,
    DEFAULT_TIMEOUT,
    Dispatch,
    Explain,
    Framing,
    Help,
    List,
    OnSlow,
    Pipe,
    Publish,
    Request,
    Subscribe,
    Version,
    WhoAmI,
    help_text,
    parse,
    ssh_command,
)
from pipe.language.token_requests import (
    AddToken,
    ListTokens,
    LogIn,
    MakeLink,
    RemoveToken,
)

if TYPE_CHECKING:
    from random import Random

FINGERPRINT = "SHA256:" + "aB3/+" * 8 + "xyz"
ACCESS = st.none() | st.lists(
    st.sampled_from(["bob", "carol-2", "@users", FINGERPRINT]), min_size=1, unique=True
).map(tuple)
WORDS = st.text(min_size=1, max_size=12)
FLAG_WORDS = st.sampled_from(
    [
        spelling
        for spec in COMMANDS
        for flag in spec.all_flags
        for spelling in flag.spellings.split()
    ]
)


def result_of(command: str) -> Request | UsageError:
    """Parse a command and return the UsageError that it raises, if it does."""
    try:
        return parse(command)
    except UsageError as error:
        return error


def written(spec: Command, request: Request, random: Random) -> str:
    """Write a request as a command, each flag in one of its forms, the topic anywhere."""
    groups = []
    for flag in spec.flags:
        value = getattr(request, flag.field)
        if value is None:
            continue
        spelling = random.choice(flag.spellings.split())
        text = as_text(value)
        forms = [[f"{spelling}={text}"]]
        if not flag.is_boolean:
            forms.append([spelling, text])
        elif value:
            forms.append([spelling])
        groups.append(random.choice(forms))
    random.shuffle(groups)
    words: list[str] = []
    for argument in spec.arguments:
        word = getattr(request, argument.field)
        words += word if argument.many else [word] if word else []
    if any(word.startswith("-") for word in words):
        groups.append(["--", *words])
    else:
        groups.insert(random.randint(0, len(groups)), words)
    return shlex.join([*spec.name.split(), *(word for group in groups for word in group)])


def as_text(value: object) -> str:
    """Write a flag's value."""
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, float):
        return format_duration(value)
    return ",".join(value) if isinstance(value, tuple) else str(value)


def assert_fits(text: str) -> None:
    """Check that text is whole lines of help: narrow enough, ended by LF alone."""
    assert text.endswith("\n")
    assert "\r" not in text
    for line in text.split("\n"):
        assert len(line) <= HELP_WIDTH
        assert line == line.rstrip()


@pytest.mark.parametrize(
    ("command", "request_"),
    [
        ("", Help()),
        ("  \t\n", Help()),
        ("help", Help()),
        ("-h", Help()),
        ("--help", Help()),
        ("help pub", Help("pub")),
        ("pub -h", Help("pub")),
        ("sub --help", Help("sub")),
        ("sub --help a b c", Help("sub")),
        ("pub -ch", Help("pub")),
        ("help -h", Help("help")),
        ("version -h", Help("version")),
        ("version", Version()),
        ("whoami", WhoAmI()),
        ("whoami --json", WhoAmI(json=True)),
        ("ls", List()),
        ("ls --json 'bob/*'", List("bob/*", json=True)),
        ("keys", ListKeys()),
        ("keys --json", ListKeys(json=True)),
        ("keys -h", Help("keys")),
        ("keys add", AddKey()),
        ("keys add -h", Help("keys add")),
        ("keys rm abcd", RemoveKey("abcd")),
        ("keys rm --force abcd", RemoveKey("abcd", force=True)),
        ("grant x bob", GrantAccess("x", ("bob",))),
        (
            f"grant --read x bob --for 1h {FINGERPRINT} @users bob",
            GrantAccess("x", ("bob", FINGERPRINT, "@users"), read=True, duration=3600.0),
        ),
        ("grant x bob --write", GrantAccess("x", ("bob",), write=True)),
        ("revoke x bob carol", RevokeAccess("x", ("bob", "carol"))),
        ("grants", ListGrants()),
        ("tokens", ListTokens()),
        ("tokens --json", ListTokens(json=True)),
        ("tokens add --read x", AddToken(read=("x",))),
        (
            "tokens add --write 'ci-*, bob/x,ci-*' --for 1h --name 'my laptop' --admin",
            AddToken(write=("ci-*", "bob/x"), duration=3600.0, name="my laptop", admin=True),
        ),
        ("tokens add --registry --write x", AddToken(write=("x",), registry=True)),
        ("tokens add", AddToken()),
        ("tokens rm abcd", RemoveToken("abcd")),
        ("login", LogIn()),
        ("login --for 30d --admin", LogIn(duration=30 * 86_400.0, admin=True)),
        ("link x", MakeLink("x")),
        (
            "link x --write --for 365d -n 3 --qr",
            MakeLink("x", write=True, duration=365 * 86_400.0, uses=3, qr=True),
        ),
        ("explain x --json", Explain("x", json=True)),
        ("pub", Publish()),
        ("pub x", Publish("x")),
        ("sub x", Subscribe("x")),
        ("pipe", Pipe()),
        ("pipe -r x", Pipe("x", replay=True)),
        ('pub "a b"', Publish("a b")),
        ("pub 'a'\\''b'", Publish("a'b")),
        ("pub -", Publish("-")),
        ("pub -- -x", Publish("-x")),
        ("pub -c -- x", Publish("x", clean=True)),
        ("pub -cv --size 1KiB x", Publish("x", clean=True, progress=True, size=1024)),
        ("sub --progress x", Subscribe("x", progress=True)),
        ("pub -h=false x", Publish("x")),
    ],
)
def test_commands(command: str, request_: Request) -> None:
    """Each command makes its request; nothing at all, -h and --help ask for help."""
    assert parse(command) == request_


@pytest.mark.parametrize(
    ("command", "request_"),
    [
        ("pub -b x", Publish("x")),
        ("pub -b=false x", Publish("x", block=False)),
        ("pub -b=0 x", Publish("x", block=False)),
        ("pub -b=F x", Publish("x", block=False)),
        ("pub -b=True x", Publish("x")),
        ("pub --block=false x", Publish("x", block=False)),
        ("pub --block x", Publish("x")),
        ("pub x -b=false", Publish("x", block=False)),
        ("pub -b false", Publish("false")),
        ("pub -c true", Publish("true", clean=True)),
        ("pub -t 10s x", Publish("x", timeout=10.0)),
        ("pub -t=10s x", Publish("x", timeout=10.0)),
        ("pub -t10s x", Publish("x", timeout=10.0)),
        ("pub --timeout 1h30m x", Publish("x", timeout=5400.0)),
        ("pub --timeout=1h30m x", Publish("x", timeout=5400.0)),
        ("pub x -t 10s", Publish("x", timeout=10.0)),
        ("pub -t 0 x", Publish("x", timeout=0.0)),
        ("pub -m3 x", Publish("x", min_subscribers=3)),
        ("pub -m 10000 x", Publish("x", min_subscribers=10_000)),
        ("pub -x 255 x", Publish("x", exit_status=255)),
        ("pub --exit=0 x", Publish("x")),
        ("pub -e -p x", Publish("x", empty=True, public=True)),
        ("pub -epc x", Publish("x", empty=True, public=True, clean=True)),
        ("pub -pm3 x", Publish("x", public=True, min_subscribers=3)),
        ("pub -pm 3 x", Publish("x", public=True, min_subscribers=3)),
        ("pub -cb=false x", Publish("x", clean=True, block=False)),
        ("pub -m 2 -m 5 x", Publish("x", min_subscribers=5)),
        ("pub -p -p=false x", Publish("x")),
        ("pub -a bob x", Publish("x", access=("bob",))),
        ("pub -a 'bob, carol,bob' x", Publish("x", access=("bob", "carol"))),
        (f"sub x --access={FINGERPRINT},bob", Subscribe("x", access=(FINGERPRINT, "bob"))),
        ("pub -w x", Publish("x", whole=True)),
        ("pub -w -b=true x", Publish("x", whole=True)),
        ("sub -kw x", Subscribe("x", keep_alive=True, whole=True)),
        ("sub --whole -s disconnect x", Subscribe("x", whole=True, on_slow=OnSlow.DISCONNECT)),
        ("pub -d round_robin x", Publish("x", dispatch=Dispatch.ROUND_ROBIN)),
        ("pub --frame line x", Publish("x", framing=Framing.LINE)),
        (
            "pipe --dispatch=round_robin --frame=nul x",
            Pipe("x", dispatch=Dispatch.ROUND_ROBIN, framing=Framing.NUL),
        ),
        ("sub -kc x", Subscribe("x", keep_alive=True, clean=True)),
        ("sub x --keep-alive", Subscribe("x", keep_alive=True)),
        ("sub -s drop x", Subscribe("x", on_slow=OnSlow.DROP)),
        ("pipe -sdisconnect x", Pipe("x", on_slow=OnSlow.DISCONNECT)),
    ],
)
def test_flag_forms(command: str, request_: Request) -> None:
    """Go's and GNU's forms work before and after the topic; the last of two flags wins."""
    assert parse(command) == request_


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "pubb x",
            "unknown command 'pubb'; did you mean 'pub'? 'ssh HOST help' lists the commands",
        ),
        (
            "subscribe x",
            "unknown command 'subscribe'; did you mean 'sub'? 'ssh HOST help' lists the commands",
        ),
        ("reboot now", "unknown command 'reboot'; 'ssh HOST help' lists the commands"),
        ("PUB x", "unknown command 'PUB'; did you mean 'pub'? 'ssh HOST help' lists the commands"),
        (
            "help pip",
            "unknown command 'pip'; did you mean 'pipe'? 'ssh HOST help' lists the commands",
        ),
        ("''", "unknown command ''; 'ssh HOST help' lists the commands"),
        ("\x1b[2J", r"unknown command '\x1b[2J'; 'ssh HOST help' lists the commands"),
        ("pub -q x", "unknown flag '-q'; 'ssh HOST pub -h' lists the flags"),
        ("pub -bq x", "unknown flag '-q'; 'ssh HOST pub -h' lists the flags"),
        (
            "pub --timeot 3s x",
            "unknown flag '--timeot'; did you mean '--timeout'? 'ssh HOST pub -h' lists the flags",
        ),
        (
            "pub -public x",
            "unknown flag '-u'; did you mean '--public'? 'ssh HOST pub -h' lists the flags",
        ),
        ("sub -j x", "unknown flag '-j'; 'ssh HOST sub -h' lists the flags"),
        ("pub x -t", "flag -t needs a value: -t DUR"),
        ("pub x --min-subs", "flag --min-subs needs a value: --min-subs N"),
        (
            "pub -t 5 x",
            "flag -t has the value '5': a duration needs a unit: "
            "write it like 90s, 1h30m, 30d or 300ms",
        ),
        (
            "pub --timeout=-5s x",
            "flag --timeout has the value '-5s': a duration cannot be negative: "
            "write it like 90s, 1h30m, 30d or 300ms",
        ),
        ("pub -m 0 x", "flag -m has the value '0': it takes a whole number from 1 to 10000"),
        ("pub -m10001 x", "flag -m has the value '10001': it takes a whole number from 1 to 10000"),
        ("pub -m=1_0 x", "flag -m has the value '1_0': it takes a whole number from 1 to 10000"),
        ("pub -m= x", "flag -m has the value '': it takes a whole number from 1 to 10000"),
        ("pub -x 256 x", "flag -x has the value '256': it takes a whole number from 0 to 255"),
        ("pub -x -1 x", "flag -x has the value '-1': it takes a whole number from 0 to 255"),
        (
            "pub -x \u0661 x",
            "flag -x has the value '\u0661': it takes a whole number from 0 to 255",
        ),
        ("pub -b=no x", "flag -b has the value 'no': a boolean is true, false, t, f, 1 or 0"),
        ("pub -b= x", "flag -b has the value '': a boolean is true, false, t, f, 1 or 0"),
        ("pub -d all x", "flag -d has the value 'all': it takes multicast or round_robin"),
        ("pub --frame LINE x", "flag --frame has the value 'LINE': it takes none, line or nul"),
        ("sub -s wait x", "flag -s has the value 'wait': it takes block, drop or disconnect"),
        (
            "pub -a '' x",
            "flag -a has the value '': the list has an empty entry: write it like bob,carol",
        ),
        (
            "pub -a bob,,carol x",
            "flag -a has the value 'bob,,carol': "
            "the list has an empty entry: write it like bob,carol",
        ),
        (
            "pub -a root x",
            "flag -a has the value 'root': user name 'root' is reserved: choose another one; "
            "a key is SHA256: and 43 base64 characters, @users is everyone",
        ),
        (
            "keys ad",
            "unknown command 'keys ad': there are keys, keys add, keys rm; "
            "'ssh HOST keys -h' says more",
        ),
        ("keys add x", "keys add takes no argument, and 'x' is too many"),
        ("keys rm", "keys rm needs a FINGERPRINT; 'ssh HOST keys rm -h' says more"),
        (
            "tokens ad",
            "unknown command 'tokens ad': there are tokens, tokens add, tokens rm; "
            "'ssh HOST tokens -h' says more",
        ),
        ("tokens rm", "tokens rm needs an ID; 'ssh HOST tokens rm -h' says more"),
        (
            "tokens add --read x,",
            "flag --read has the value 'x,': the list has an empty entry: write it like "
            "build,ci-web",
        ),
        (
            "tokens add --read x --for 366d",
            "flag --for has the value '366d': it has to last, and can for 365d at most",
        ),
        (
            "tokens add --read x --for 0",
            "flag --for has the value '0': it has to last, and can for 365d at most",
        ),
        (
            rb"tokens add --name '\x1b[2J'".decode("unicode_escape"),
            r"flag --name has the value '\x1b[2J': a name has at most 64 characters that can be "
            "printed",
        ),
        ("tokens add x", "tokens add takes no argument, and 'x' is too many"),
        (
            "tokens add --reed x",
            "unknown flag '--reed'; did you mean '--read'? 'ssh HOST tokens add -h' lists the "
            "flags",
        ),
        (
            "login --for 31d",
            "flag --for has the value '31d': it has to last, and can for 30d at most",
        ),
        (
            "logn",
            "unknown command 'logn'; did you mean 'login'? 'ssh HOST help' lists the commands",
        ),
        ("link", "link needs a TOPIC; 'ssh HOST link -h' says more"),
        ("link x -n 0", "flag -n has the value '0': it takes a whole number from 1 to 10000"),
        ("grant", "grant needs a TOPIC; 'ssh HOST grant -h' says more"),
        ("grant x", "grant needs a WHO; 'ssh HOST grant -h' says more"),
        ("grant x bob ''", "grant has an empty WHO: write a name"),
        (
            "grant x Bob",
            "user name 'Bob' has 'B' in it: use a letter a-z, then up to 31 of a-z 0-9 _ -; "
            "a key is SHA256: and 43 base64 characters, @users is everyone",
        ),
        (
            "grant x bob --for 0",
            "flag --for has the value '0': a grant has to last; revoke takes one back",
        ),
        ("revoke x", "revoke needs a WHO; 'ssh HOST revoke -h' says more"),
        ("explain", "explain needs a TOPIC; 'ssh HOST explain -h' says more"),
        ("sub", "sub needs a TOPIC; 'ssh HOST sub -h' says more"),
        ("sub -k", "sub needs a TOPIC; 'ssh HOST sub -h' says more"),
        ("sub ''", "sub has an empty TOPIC: write a name"),
        ("pub ''", "pub has an empty TOPIC: write a name"),
        ("sub -ws drop x", "--on-slow drop leaves bytes out: choose that or --whole"),
        (
            "pub -w -d round_robin x",
            "with --dispatch round_robin nobody gets the whole: leave out --whole",
        ),
        (
            "pub -wb=false x",
            "--whole needs readers to wait for: leave out --block=false",
        ),
        ("pipe -w x", "unknown flag '-w'; 'ssh HOST pipe -h' lists the flags"),
        ("sub a b", "sub takes one TOPIC, and 'b' is too many"),
        (
            "pub -b false x",
            "pub takes one TOPIC, and 'x' is too many; "
            "a flag such as -b takes its value after '=', as in -b=false",
        ),
        ("pub x -- -y", "pub takes one TOPIC, and '-y' is too many"),
        ("version x", "version takes no argument, and 'x' is too many"),
        ("pub 'x", "the command cannot be split into words: no closing quotation"),
        ("pub x\\", "the command cannot be split into words: no escaped character"),
        ("pub " + "x" * 4093, "the command has 4097 bytes: at most 4096 are allowed"),
        ("pub " + "\u00e9" * 2047, "the command has 4098 bytes: at most 4096 are allowed"),
    ],
)
def test_mistakes(command: str, message: str) -> None:
    """A mistake gets one line: what is wrong, the value with controls escaped, what is allowed."""
    with pytest.raises(UsageError) as caught:
        parse(command)
    assert caught.value.message == message


@pytest.mark.parametrize(
    "entry", ["Bob", "public", "SHA256:", FINGERPRINT[:-1], FINGERPRINT + "x", "MD5:00", "b\x07b"]
)
def test_bad_access_entries(entry: str) -> None:
    """An entry of -a that is neither a user's name nor a whole fingerprint is refused."""
    with pytest.raises(UsageError, match=r"flag -a .* a key is SHA256: and 43 base64 characters"):
        parse(shlex.join(["pub", "-a", f"bob,{entry}", "x"]))


def test_longest_command() -> None:
    """A command of exactly 4096 bytes is read."""
    assert parse("pub " + "x" * 4092) == Publish("x" * 4092)


@given(
    st.builds(
        Publish,
        topic=st.none() | WORDS,
        block=...,
        timeout=st.integers(0, int(MAX_DURATION)).map(float),
        min_subscribers=st.integers(1, 10_000),
        empty=...,
        public=...,
        access=ACCESS,
        dispatch=...,
        framing=...,
        clean=...,
        exit_status=st.integers(0, 255),
    )
    | st.builds(Publish, topic=WORDS, whole=st.just(True), empty=..., framing=..., clean=...)
    | st.builds(Subscribe, topic=WORDS, whole=st.just(True), clean=..., keep_alive=...)
    | st.builds(
        Subscribe, topic=WORDS, public=..., access=ACCESS, clean=..., keep_alive=..., on_slow=...
    )
    | st.builds(
        Pipe,
        topic=st.none() | WORDS,
        replay=...,
        public=...,
        access=ACCESS,
        clean=...,
        dispatch=...,
        framing=...,
        on_slow=...,
    )
    | st.builds(List, pattern=st.none() | WORDS, json=...)
    | st.builds(
        GrantAccess,
        topic=WORDS,
        grantees=ACCESS.filter(bool),
        read=...,
        write=...,
        duration=st.none() | st.integers(1, int(MAX_DURATION)).map(float),
    )
    | st.builds(RemoveKey, fingerprint=WORDS, force=...),
    st.randoms(use_true_random=False),
)
def test_round_trip(
    request_: Publish | Subscribe | Pipe | List | GrantAccess | RemoveKey, random: Random
) -> None:
    """Each request comes back from every way to write it: short, long, joined, in any order."""
    spec = next(spec for spec in COMMANDS if spec.request is type(request_))
    assert parse(written(spec, request_, random)) == request_


@given(st.text() | st.lists(FLAG_WORDS | WORDS | st.sampled_from(["--", "-"])).map(shlex.join))
def test_any_text_is_a_request_or_a_usage_error(text: str) -> None:
    """No command raises anything but a UsageError of one line without control characters."""
    for spec in COMMANDS:
        for command in (text, f"{spec.name} {text}"):
            result = result_of(command)
            assert not isinstance(result, UsageError) or result.message.isprintable()


@pytest.mark.parametrize("spec", COMMANDS, ids=lambda spec: spec.name)
def test_table_fits_the_requests(spec: Command) -> None:
    """Flags and arguments of a command set each field of its request once, and clash nowhere."""
    fields = [flag.field for flag in spec.flags] + [word.field for word in spec.arguments]
    assert sorted(fields) == sorted(field.name for field in dataclasses.fields(spec.request))
    spellings = [spelling for flag in spec.all_flags for spelling in flag.spellings.split()]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize("spec", COMMANDS, ids=lambda spec: spec.name)
def test_help_of_a_command(spec: Command) -> None:
    """A command's help shows every spelling of its flags, in lines that fit and end with LF."""
    text = help_text(spec.name, "ssh -p 2222 alice@example.org")
    assert text.startswith(f"usage: ssh -p 2222 alice@example.org {spec.name} [FLAGS]")
    for flag in spec.all_flags:
        assert f"{flag.usage}  " in text
    assert_fits(text)


def test_help_shows_defaults() -> None:
    """Help states the defaults that the request classes have."""
    text = help_text("pub", "ssh example.org")
    assert f"(default {format_duration(DEFAULT_TIMEOUT)})" in text
    assert "(default multicast)" in text
    assert "(default 1)" in text
    assert "false)" not in text


def test_help_lists_commands() -> None:
    """Help without a command has a line for each, and examples that can be pasted."""
    text = help_text(None, "ssh example.org")
    for spec in COMMANDS:
        assert re.search(rf"^  {re.escape(spec.usage)}(  .*|)$", text, re.MULTILINE)
        assert spec.summary in text
    assert text.count("ssh example.org ") == 6
    assert_fits(text)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("example.org", 22, ""), "ssh example.org"),
        (("example.org", 2222, ""), "ssh -p 2222 example.org"),
        (("example.org", 22, "alice"), "ssh alice@example.org"),
        (("::1", 2222, "alice"), "ssh -p 2222 alice@::1"),
    ],
)
def test_ssh_command(words: tuple[str, int, str], command: str) -> None:
    """How a server is reached has what `ssh` would not know by itself."""
    assert ssh_command(*words) == command


def test_help_of_an_unknown_command() -> None:
    """Help for a command that does not exist is a UsageError."""
    with pytest.raises(UsageError, match="unknown command 'nope'"):
        help_text("nope", "ssh example.org")
