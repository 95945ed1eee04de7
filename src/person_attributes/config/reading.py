"""Reads `params.yaml` and other YAML files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from person_attributes.config.params import Params, check_params
from person_attributes.config.quotes import describe_unquoted
from person_attributes.errors import ParamsError, one_line


def read_params(path: Path) -> Params:
    """Reads and checks a parameter file.

    Args:
        path: A YAML 1.2 file.

    Returns:
        The checked parameters.

    Raises:
        ParamsError: If the file is missing or is not YAML, if a key is unknown or missing, or if a
            value is invalid. One line for each fault names the key, the expected and the received
            value.
    """
    folder = Path.cwd()
    name = path.relative_to(folder) if path.is_relative_to(folder) else path
    try:
        return check_params(read_yaml(path), str(name))
    except ParamsError:
        unquoted = describe_unquoted(_parse(path, YAML(typ="safe").compose))
        if not unquoted:
            raise
    raise ParamsError("\n".join(f"{name}: {line}" for line in unquoted))


def read_yaml(path: Path) -> Any:
    """Reads a YAML 1.2 file.

    Raises:
        ParamsError: If it is missing or is not YAML.
    """
    return _parse(path, YAML(typ="safe").load)


def _parse(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(
            f"{path}: no such file. Run the command in the project's folder, or copy a file from "
            "recipes/ there."
        ) from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = one_line(error.problem, 200)
        quotes = "single quotes" if "escape character" in problem else "quotes"
        raise ParamsError(
            f"{path}:{line}: not valid YAML: {problem}. Correct the line; put text with special "
            f"characters in {quotes}."
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ParamsError(f"{path}:{line}: not UTF-8 text. Save the file as UTF-8.") from None
    except RecursionError:
        raise ParamsError(
            f"{path}: not valid YAML: too deeply nested. Correct brackets and indentation."
        ) from None
    except YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {one_line(error, 200)}.") from None
