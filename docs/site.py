"""Builds the documentation as a site, from the same files that a checkout shows.

python docs/site.py [FOLDER]      # default: pipe/web/docs, which the server shows

Nothing is written twice: pages are the files of this folder, sections of README.md, and the help of
the commands and settings.  Links are turned to where their targets are on the site, and a link or
an anchor that leads nowhere fails the build.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from posixpath import normpath, relpath
from typing import TYPE_CHECKING, Final

import click

from pipe.cli import program
from pipe.language.requests import COMMANDS, help_text

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH: Final = 100
"""Columns of the program's help."""

ROOT: Final = Path(__file__).resolve().parent.parent
CONFIG: Final = ROOT / "docs" / "site.yml"
SOURCE: Final = ROOT / "build" / "site-source"
SITE: Final = ROOT / "pipe" / "web" / "docs"

PAGES: Final = {
    "docs/tutorial.md": "tutorial.md",
    "docs/events.md": "how-to/events.md",
    "docs/operations.md": "how-to/operations.md",
    "client/README.md": "how-to/pipe-log.md",
    "docs/using.md": "reference/using.md",
    "docs/library.md": "reference/library.md",
    "CHANGELOG.md": "reference/changes.md",
    "docs/architecture.md": "explanation/architecture.md",
    "docs/reliability.md": "explanation/reliability.md",
    "docs/security.md": "explanation/security.md",
    "docs/threats.md": "explanation/threats.md",
    "docs/performance.md": "explanation/performance.md",
    "CONTRIBUTING.md": "explanation/contributing.md",
}
"""Where each file is on the site; `docs/site.yml` has the menu."""

SECTIONS: Final = {
    "quick-start": "tutorial.md",
    "commands": "reference/commands.md",
    "recipes": "how-to/recipes.md",
    "settings": "reference/settings.md",
    "from-a-program": "reference/library.md",
    "is-it-the-right-tool": "index.md#is-it-the-right-tool",
    "more": "index.md",
}
"""Where what stands below a heading of README.md is on the site."""

ASSETS: Final = ("docs/*.png", "docs/*.svg", "pipe/web/static/icon.svg")

HELP_SERVER: Final = "ssh pipe"
"""How help texts on the site reach the server: by the name that the recipes give it."""

_LINK: Final = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


class LostPageError(Exception):
    """A page has no place on the site, or a link no target."""


def pages() -> dict[str, str]:
    """Make all pages: the Markdown of each, by its place on the site.

    Raises:
        LostPageError: a file in docs/ has no place, or a link leads to nothing in the checkout.
    """
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    lost = sorted(files - PAGES.keys())
    if lost:
        raise LostPageError(f"{lost[0]} has no place on the site: give it one in docs/site.py")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    made = {
        place: _turn_links((ROOT / file).read_text(encoding="utf-8"), file, place)
        for file, place in PAGES.items()
    }
    made["index.md"] = _turn_links(_home(readme), "README.md", "index.md")
    recipes = "# Recipes\n" + _lift(section(readme, "Recipes"))
    made["how-to/recipes.md"] = _turn_links(recipes, "README.md", "how-to/recipes.md")
    made["reference/commands.md"] = "".join(_commands())
    made["reference/settings.md"] = "".join(_settings())
    return made


def section(text: str, title: str) -> str:
    """What stands below a heading of the second rank, up to the next one."""
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def build(folder: Path = SITE) -> None:
    """Build the site into a folder.

    Raises:
        LostPageError: see `pages`.
        CalledProcessError: a link or an anchor leads nowhere; mkdocs has said which.
    """
    shutil.rmtree(SOURCE, ignore_errors=True)
    for place, text in pages().items():
        path = SOURCE / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assets = SOURCE / "assets"
    assets.mkdir()
    for pattern in ASSETS:
        for path in ROOT.glob(pattern):
            shutil.copy(path, assets)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    subprocess.run(
        [*command, "--config-file", CONFIG, "--site-dir", folder.absolute()],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},  # of the theme's own future
        check=True,
    )


def _home(readme: str) -> str:
    """The first page: what it is, how to go on, and what else there is."""
    title, rest = readme.split("\n## ", 1)[0], section(readme, "Is it the right tool?")
    return (
        f"{title}\n\n"
        "- **[Tutorial](docs/tutorial.md)**: ten minutes, from an empty folder to a stream\n"
        "- **[Recipes](README.md#recipes)**: what people do with it, to copy\n"
        "- **[Using it](docs/using.md)**: every command, flag and exit status\n"
        "- **[Run a server](docs/operations.md)**: install, watch, back up, upgrade\n"
        "- **[How it is built](docs/architecture.md)**: and what a stream may rely on\n\n"
        f"## Is it the right tool?\n{rest}"
    )


def _lift(text: str) -> str:
    """Raise each heading by one rank."""
    return re.sub(r"^#(#+ )", r"\1", text, flags=re.MULTILINE)


def _commands() -> Iterator[str]:
    """What the help of each command says."""
    yield "# Commands\n\nWhat the server answers to `ssh pipe help`, and to `-h` after a command.\n"
    yield f"\n```text\n{help_text(None, HELP_SERVER)}```\n"
    for command in COMMANDS:
        yield f"\n## {command.name}\n\n```text\n{help_text(command.name, HELP_SERVER)}```\n"


def _settings() -> Iterator[str]:
    """What the help of the program and its commands says."""
    yield "# Settings\n\nWhat `pipe --help` and `pipe COMMAND --help` say on the server.\n"
    # As `pipe` itself makes it: click keeps the names of --help as they were at first.
    settings = {**program.context_settings, "max_content_width": WIDTH}
    context = click.Context(program, info_name="pipe", **settings)
    yield f"\n## pipe\n\n```text\n{program.get_help(context)}\n```\n"
    yield from _help_below(program, context)


def _help_below(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        below = click.Context(command, context, name, max_content_width=WIDTH)
        yield f"\n## {below.command_path}\n\n```text\n{command.get_help(below)}\n```\n"
        if isinstance(command, click.Group):
            yield from _help_below(command, below)


def _turn_links(text: str, file: str, place: str) -> str:
    """Turn a file's links to where their targets are, seen from a place on the site."""
    blocks = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    folder = file.rpartition("/")[0]

    def turn(match: re.Match[str]) -> str:
        bang, words, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        path = normpath(f"{folder}/{path}" if folder else path)
        found = _find(path, anchor)
        if found is None:
            if not (ROOT / path).exists():
                raise LostPageError(f"{file}: {target} is not there")
            return words  # a file of the checkout that is no page
        return f"{bang}[{words}]({_seen_from(place, found)})"

    return "".join(block if block.startswith("```") else _LINK.sub(turn, block) for block in blocks)


def _find(path: str, anchor: str) -> str | None:
    """Where a file of the checkout is on the site."""
    if path == "README.md":
        return SECTIONS.get(anchor, f"how-to/recipes.md#{anchor}") if anchor else "index.md"
    if path in PAGES:
        return f"{PAGES[path]}#{anchor}" if anchor else PAGES[path]
    if any(Path(path).match(pattern) for pattern in ASSETS):
        return f"assets/{Path(path).name}"
    return None


def _seen_from(place: str, target: str) -> str:
    path, hash_, anchor = target.partition("#")
    return f"{relpath(path, place.rpartition('/')[0] or '.')}{hash_}{anchor}"


if __name__ == "__main__":
    try:
        build(*map(Path, sys.argv[1:2]))
    except (LostPageError, subprocess.CalledProcessError) as error:
        sys.exit(f"docs: {error}")
