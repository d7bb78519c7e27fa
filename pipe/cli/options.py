"""Commands that take settings: an option for each, made from its description in `Settings`."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

HELP_COLUMN = 26
"""Where the texts begin; longer options get their own line."""

_STORE_SETTINGS = ("data_dir", "database_url")

_REPEATED = {"join"}
"""Settings whose option may be given again; elsewhere commas stand between the values."""


class SettingsCommand(click.Command):
    """A command that takes settings: its function gets the loaded ones as ``settings``.

    Attributes:
        setting_names: The settings that it has an option for; empty means all.
    """

    setting_names: Sequence[str] = ()

    @cached_property
    def setting_options(self) -> list[click.Parameter]:
        """An option for each setting, made from its description in `Settings`."""
        from pipe.settings import CONFIG_VARIABLE, setting_names

        names = self.setting_names or setting_names()
        config = click.Option(
            ["--config"],
            type=click.Path(),
            metavar="FILE",
            help=f"TOML file of settings, below options and environment.  [env: {CONFIG_VARIABLE}]",
        )
        return [*map(_setting_option, names), config]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The parameters of the command itself, then the settings."""
        *own, last = super().get_params(ctx)
        if isinstance(last, click.Option) and "--help" in last.opts:
            return [*own, *self.setting_options, last]
        return [*own, last, *self.setting_options]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under headings: there are too many for one list."""
        from pipe.limits.bounds import Limits
        from pipe.settings import Settings

        headings = dict.fromkeys(Limits.model_fields, "Limits")
        headings |= {name: "Settings" for name in Settings.model_fields if name not in headings}
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Settings": [], "Limits": []}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record and isinstance(option, click.Option):
                sections[headings.get(str(option.name), "Options")].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records, col_max=HELP_COLUMN)

    def invoke(self, ctx: click.Context) -> object:
        """Load the settings, then run the function."""
        from pipe.settings import load

        config = ctx.params.pop("config")
        names = [option.name for option in self.setting_options]
        options = {name: ctx.params.pop(name) for name in names if name in ctx.params}
        options = {name: _joined(value) for name, value in options.items()}
        ctx.params["settings"] = load(options, Path(config) if config else None)
        return super().invoke(ctx)


class StoreCommand(SettingsCommand):
    """A command on the accounts: it takes the settings that say where they are."""

    setting_names = _STORE_SETTINGS


def _setting_option(name: str) -> click.Option:
    """Make a setting's option; it takes any text, and `pipe.settings.load` checks all sources."""
    from pipe.settings import Settings, default_text, describe, option_name

    default = default_text(name)
    shown = f"  [default: {default}]" if default else ""
    why = str(Settings.model_fields[name].description)
    kind = describe(name)[0]
    words = kind.split("|") if "|" in kind else []
    return click.Option(
        [option_name(name)],
        type=click.Path() if kind == "PATH" else None,
        metavar=kind,
        multiple=name in _REPEATED,
        help=f"{why[0].upper()}{why[1:]}.{shown}",
        shell_complete=(lambda _context, _option, start: [w for w in words if w.startswith(start)])
        if words
        else None,
    )


def _joined(value: object) -> object:
    """One text of an option that was given several times; None if it was not given."""
    return ",".join(value) or None if isinstance(value, tuple) else value
