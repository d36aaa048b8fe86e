"""What Typer says of a wrong command line, as one line of ours."""

from typing import Any, cast

import typer

from alignctl.errors import ConfigError

# The class of all these errors, which Typer does not export.
UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])


def wrong_usage(error: BaseException) -> ConfigError | None:
    """An error of Typer's as one of ours; None for any other, and for a group's help.

    A group without a subcommand prints its help, which Typer raises as an error of usage.
    """
    if not isinstance(error, UsageError) or type(error).__name__ == "NoArgsIsHelpError":
        return None
    context: Any = getattr(error, "ctx", None)
    return ConfigError(f"{place_of(context)}{_message(error, context)}")


def place_of(context: Any) -> str:
    """`sweep temperature: `, the words that name a context's command; empty for alignctl's own."""
    words = _words(context)
    return f"{' '.join(words)}: " if words else ""


def _words(context: Any) -> list[str]:
    if context is None or context.parent is None:
        return []
    return [*_words(context.parent), str(context.info_name)]


def _message(error: Exception, context: Any) -> str:
    from alignctl.config.validation import nearest

    if context is not None and hasattr(error, "possibilities"):
        option = str(getattr(error, "option_name", ""))
        known = [name for each in context.command.get_params(context) for name in each.opts]
        command = " ".join(["alignctl", *_words(context)])
        return f"'{option}' is not an option{nearest(option, known)} (see {command} --help)"
    text = " ".join(str(cast("Any", error).format_message()).split()).removesuffix(".")
    return text[:1].lower() + text[1:]
