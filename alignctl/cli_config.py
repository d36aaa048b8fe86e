"""The subcommands of `alignctl config`: what studies there are, and whether one is valid."""

import typer

from alignctl.cli_options import Overrides, group

config_app = group("List, show and check studies.")


@config_app.command("list")
def config_list() -> None:
    """The ready-made studies."""
    from alignctl.commands import config as command
    from alignctl.console import print_line

    for line in command.descriptions():
        print_line(line)


@config_app.command("show")
def config_show(name: str, overrides: Overrides = None) -> None:
    """A study as it would run, every default written out."""
    from alignctl.config.load import load_study, to_yaml

    typer.echo(to_yaml(load_study(name, overrides or ())), nl=False)


@config_app.command("validate")
def config_validate(file: str, overrides: Overrides = None) -> None:
    """Check a study without running it."""
    from alignctl.config.load import load_study

    study = load_study(file, overrides or ())
    typer.echo(f"{file}: a valid study of {', '.join(study.objective_names)}")


@config_app.command("schema")
def config_schema() -> None:
    """The JSON Schema of a study, for editors."""
    from alignctl.config import StudyConfig
    from alignctl.console import print_json

    print_json(StudyConfig.model_json_schema())
