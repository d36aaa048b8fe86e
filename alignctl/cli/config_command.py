"""The subcommands of `alignctl config`: what studies there are, and whether one is valid."""

from pathlib import Path
from typing import Annotated

import typer

from alignctl.cli.command_classes import Command, group
from alignctl.cli.options import Overrides

config_app = group("List, show, check and convert studies.")


@config_app.command("list", cls=Command)
def config_list() -> None:
    """The ready-made studies."""
    from alignctl.cli.terminal import print_line
    from alignctl.commands import study_list as command

    studies = command.descriptions()
    width = max(map(len, studies), default=0)
    for name, text in studies.items():
        print_line(f"{name:<{width}}  {text}".rstrip())


@config_app.command("show", cls=Command)
def config_show(name: str, overrides: Overrides = None) -> None:
    """A study as it would run, every default written out."""
    from alignctl.cli.terminal import print_notice, print_text
    from alignctl.config.load import load_study, to_yaml

    print_text(to_yaml(load_study(name, overrides or (), notify=print_notice)))


@config_app.command("validate", cls=Command)
def config_validate(
    file: str,
    overrides: Overrides = None,
    images: Annotated[
        bool, typer.Option("--images", help="Read every image, and list those that cannot be.")
    ] = False,
) -> None:
    """Check a study without running it."""
    from alignctl.cli.terminal import print_line, print_notice
    from alignctl.commands import study_list as command
    from alignctl.config.load import load_study

    study = load_study(file, overrides or (), notify=print_notice)
    found = f", and {command.readable_images(study):,} images that can be read" if images else ""
    print_line(f"{file}: a valid study of {', '.join(study.objective_names)}{found}")


@config_app.command("convert", cls=Command)
def config_convert(
    file: Annotated[str, typer.Argument(help="A config of understanding-ssl-v2.")],
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option(help="A new file to write.", show_default="standard output")
    ] = None,
) -> None:
    """Print a config of the original code as a study of ours."""
    from alignctl.cli.terminal import print_line, print_notice, print_text
    from alignctl.commands import study_list as command

    text = command.convert(file, overrides or (), output=output, notify=print_notice)
    if output is None:
        print_text(text)
    else:
        print_line(f"{output}: written; next: alignctl pretrain {output}")


@config_app.command("schema", cls=Command)
def config_schema() -> None:
    """The JSON Schema of a study, for editors."""
    from alignctl.cli.terminal import print_json
    from alignctl.config import StudyConfig

    print_json(StudyConfig.model_json_schema())
