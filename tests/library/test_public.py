"""The public names, and what importing them costs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import pipe

ROOT = Path(__file__).resolve().parents[2]

PUBLIC = [
    *("BlockingDuplex", "BlockingReader", "BlockingServer", "BlockingWriter"),
    *("AccessDenied", "Broken", "Broker", "ConnectionLost", "CutOff", "Dropped", "Duplex"),
    *(
        "Interrupted",
        "Limited",
        "LoginRefused",
        "PipeError",
        "PublisherFailed",
        "Reader",
        "Receipt",
        "Server",
    ),
    *("ServerFailed", "Statistics", "TimedOut", "TooLate", "TopicInfo", "Unavailable"),
    *("Undelivered", "UsageError", "Writer", "connect", "connect_blocking"),
]
"""To take one away, or to give it another meaning, needs a major version."""


def test_public_names() -> None:
    """There are just these, and all of them are there."""
    assert sorted(pipe.__all__) == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(pipe))
    with pytest.raises(AttributeError, match="has no attribute 'brokers'"):
        pipe.brokers  # noqa: B018  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", PUBLIC)
def test_names_are_described(name: str) -> None:
    """Each has a docstring, and so has each public method of a class."""
    found = getattr(pipe, name)
    assert inspect.getdoc(found)
    for word, method in inspect.getmembers(found, inspect.isfunction):
        if not word.startswith("_"):
            assert inspect.getdoc(method), word


@pytest.mark.parametrize("name", PUBLIC)
def test_errors_have_one_base(name: str) -> None:
    """Whatever can be raised is a `PipeError`, with a status."""
    found = getattr(pipe, name)
    if inspect.isclass(found) and issubclass(found, Exception):
        assert issubclass(found, pipe.PipeError)
        assert isinstance(inspect.getattr_static(found, "exit_status"), property)


def test_importing_costs_nothing() -> None:
    """Neither the start of a server nor a program that only looks at the version pays for it."""
    code = "import sys, pipe; print(sorted(name for name in sys.modules if name[:5] == 'pipe.'))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("module", ["pipe.library.broker"])
def test_examples(module: str) -> None:
    """What docstrings show is what happens."""
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried
    assert not failed
