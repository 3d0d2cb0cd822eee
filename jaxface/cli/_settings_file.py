"""A TOML file in place of flags: `jaxface analyze --config study.toml`."""

import argparse
import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_OPTION = "--config"


def expand_settings_files(
    parser: argparse.ArgumentParser, analyze: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Arguments with those of settings files in front, so that flags override them.

    Args:
        parser: ends the program with status 2 where a file cannot be used.
        analyze: of the command "analyze", whose long options are the keys.
        argv: of the process, without the program's name.
    Returns:
        The arguments, and the inputs that the files name.
    """
    if not argv or argv[0] != "analyze":
        return list(argv), []
    found: list[str] = []
    inputs: list[str] = []
    rest: list[str] = []
    following = iter(argv[1:])
    for argument in following:
        name, equals, value = argument.partition("=")
        if name != _OPTION:
            rest.append(argument)
            continue
        path = value if equals else next(following, None)
        if path is None:
            parser.error(f"{_OPTION}: expected a TOML file")
        flags, more = read_settings(parser, analyze, Path(path))
        found, inputs = [*found, *flags], [*inputs, *more]
    # Else an option that may be repeated would be both the file's and the command line's.
    flags = {argument.partition("=")[0] for argument in rest}
    found = [flag for flag in found if flag.partition("=")[0] not in flags]
    return ["analyze", *found, *rest], inputs


def read_settings(
    parser: argparse.ArgumentParser, analyze: argparse.ArgumentParser, path: Path
) -> tuple[list[str], list[str]]:
    """The settings of one file as arguments, and the inputs that it names.

    Args:
        parser: ends the program with status 2 where the file cannot be used.
        analyze: of the command "analyze", whose long options are the keys.
        path: a TOML file.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        parser.error(f"{path}: expected a TOML file, got {error.strerror or error}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        parser.error(f"{path}: expected a TOML file, got one that cannot be read ({error})")
    known = _options(analyze)
    arguments: list[str] = []
    inputs: list[str] = []
    for key, value in settings.items():
        if key == "inputs":
            values = value if isinstance(value, list) else [value]
            inputs += [_text(parser, path, key, item) for item in values]
        elif key in known:
            arguments += _one(parser, path, known[key], value)
        else:
            near = difflib.get_close_matches(key, ["inputs", *known], 1)
            hint = f"do you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            parser.error(f"{path}: unknown key {key}: {hint}")
    return arguments, inputs


def _options(analyze: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Options by their long name without dashes."""
    return {
        name[2:]: action
        for action in analyze._actions  # argparse tells them nowhere else
        for name in action.option_strings
        if name.startswith("--") and name not in (_OPTION, "--help")
    }


def _one(
    parser: argparse.ArgumentParser, path: Path, action: argparse.Action, value: Any
) -> list[str]:
    flag = action.option_strings[-1]
    if action.nargs == 0:
        if not isinstance(value, bool):
            parser.error(f"{path}: {flag[2:]}: expected true or false, got {value!r}")
        return [flag] if value else []
    if isinstance(value, bool) and action.nargs == "?":
        return [flag] if value else []
    values = value if isinstance(value, list) else [value]
    return [f"{flag}={','.join(_text(parser, path, flag[2:], item) for item in values)}"]


def _text(parser: argparse.ArgumentParser, path: Path, key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        parser.error(f"{path}: {key}: expected a text or a number, got {value!r}")
    return str(value)
