"""Options that every command has."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from sjd_dask.cli import app

_ALL = typer.main.get_command(app).commands
COMMANDS = {
    f"{name} {below}".strip(): command
    for name, group in _ALL.items()
    for below, command in getattr(group, "commands", {"": group}).items()
}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_json_quiet_and_verbose(name):
    options = {word for parameter in COMMANDS[name].params for word in parameter.opts}
    assert {"--json", "-q", "--quiet", "-v", "--verbose"} <= options


def test_quiet_and_verbose_where_a_command_does_not_ask_for_them(sjd, tmp_path: Path):
    path = tmp_path / "cohort"
    assert sjd("init", path, "-q").code == 0
    assert sjd("info", path, "--json", "--quiet").code == 0
    failed = sjd("info", tmp_path / "other", "-v")
    assert failed.code == 2 and "Traceback" in failed.err
    assert "Traceback" not in sjd("info", tmp_path / "other", "-q").err
