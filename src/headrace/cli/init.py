"""init: a new project folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from headrace.errors import SettingError

PROJECTS = Path(__file__).parent.parent / "projects"
IGNORED = shutil.ignore_patterns("__pycache__", ".headrace", "*.pyc")


def templates() -> list[str]:
    """Names of the projects that come with Headrace."""
    return sorted(f.parent.name for f in PROJECTS.glob("*/project.py"))


def write(folder: Path, template: str) -> None:
    """Copies a template into an empty or new folder; raises SettingError HR0601."""
    if template not in templates():
        raise SettingError("HR0601", f"no template '{template}'", help="one of " + ", ".join(templates()))
    if folder.exists() and any(folder.iterdir()):
        raise SettingError("HR0601", f"{folder} is not empty", help="name a new folder")
    shutil.copytree(PROJECTS / template, folder, ignore=IGNORED, dirs_exist_ok=True)
    (folder / ".gitignore").write_text(".headrace/\nlanding/\n")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--template", default="blank", show_default=True, help="blank, or a project that comes with Headrace.")
def init(folder: str, template: str) -> None:
    """Write a new project into FOLDER."""
    target = Path(folder)
    write(target, template)
    click.echo(f"{target} is a project. Next:\n")
    click.echo(f"  cd {target}")
    click.echo("  headrace check      # everything wrong, at once, offline")
    click.echo("  headrace gen        # sample data into landing/")
    click.echo("  headrace run        # land, refine, aggregate, publish")
    click.echo("  headrace query      # what can be asked")
