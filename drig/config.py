"""The one config system of the command line and the pipelines.

A run is described by a frozen, keyword-only dataclass whose fields are plain values or the config dataclasses of the
components that the run uses. Values come, each overriding the one before, from the field defaults, a named preset
(`--preset tiny`), a YAML file (`--config run.yaml`) and the command line (`--training.samples 1000`), wherever they
stand on the line. The help text of an option is the docstring under its field; a check across fields lives in the
dataclass's `__post_init__` and raises `DrigError`. jsonargparse converts and checks the values.
"""

import argparse
import dataclasses
import difflib
import enum
import errno
import json
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import yaml

from drig import logs
from drig.errors import DrigError

Config = TypeVar("Config")
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def run(
    config_class: type[Config],
    program: Callable[[Config], int | None],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str,
    presets: Mapping[str, Mapping[str, Any]] = types.MappingProxyType({}),
    positional: Sequence[str] = (),
) -> int:
    """Parse, print the resolved config, stop there under `--dry-run`, otherwise call `program`; returns the exit code,
    which is 0 unless the program returns another.

    A `DrigError` of the parser, of the config's own checks or of the program becomes one message and exit code 2, and
    so does a disk that is full or may not be written. Ctrl-C and SIGTERM, which Ray makes SystemExit of, are 130.
    """
    try:
        config, dry_run = parse(
            config_class, argv, prog=prog, description=description, presets=presets, positional=positional
        )
        logs.configure()
        print(to_yaml(config), end="", flush=True)
        if not dry_run:
            try:
                with logs.run(prog):
                    return program(config) or 0
            except (KeyboardInterrupt, SystemExit):
                print(f"{prog}: interrupted", file=sys.stderr)
                return 130
    except DrigError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = "the disk" if error.filename is None else error.filename
        print(f"{prog}: error: {where}: {error.strerror}. Make room, or choose another folder.", file=sys.stderr)
        return 2
    return 0


def parse(
    config_class: type[Config],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str,
    presets: Mapping[str, Mapping[str, Any]] = types.MappingProxyType({}),
    positional: Sequence[str] = (),
) -> tuple[Config, bool]:
    """The config that the command line asks for, and whether `--dry-run` was given.

    `argv` is without the program's name (None = that of this process). A preset maps field names of `config_class` to
    values, for example `{"rig": RIG_PRESETS["tiny"]}`. `positional` names fields that may be given without `--name`, in
    order; a tuple among them takes all the words that are left. A bare flag of a bool field means true; a tuple field
    takes `a,b` or `[a,b]`. Raises `DrigError` for anything unknown, mistyped or contradictory; `--help` prints and
    exits as argparse does.
    """
    options = _options(config_class)
    parser = _parser(config_class, prog, description, presets, positional)
    given = _split(sys.argv[1:] if argv is None else argv, options, positional)
    if "help" in given:
        parser.parse_args(["--help"])
    if (preset := given.pop("preset", None)) is not None:
        if preset not in presets:
            raise DrigError(f"--preset {preset}: {_choices(preset, presets)}")
        parser.set_defaults(dict(_leaves(presets[preset])))
    if (file := given.pop("config", None)) is not None:
        _check_file(file, options)
    dry_run = given.pop("dry-run", "false") == "true"
    tokens = [f"--config={file}"] * (file is not None) + [f"--{name}={value}" for name, value in given.items()]
    try:
        values = parser.instantiate(parser.parse_args(tokens))
        config = config_class(**{name: values[name] for name in options if "." not in name})
    except argparse.ArgumentError as error:
        raise DrigError(f"{' '.join(str(error).split())}. See {prog} --help.") from None
    return config, dry_run


def to_dict(config: Any) -> dict[str, Any]:
    """The config as nested dicts of JSON and YAML values: tuples become lists, paths and enums strings."""
    plain = _plain(config)
    assert isinstance(plain, dict)
    return plain


def flatten(config: Any) -> dict[str, Any]:
    """The config as one level of dotted names, as experiment trackers log it: `{"training.samples": 1000, ...}`."""
    return {name: _plain(value) for name, value in _leaves(config)}


def to_yaml(config: Any) -> str:
    """The resolved config as YAML that `--config` reads back."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def save(config: Any, folder: Path) -> Path:
    """Write the resolved config to `folder/config.yaml` (made if missing, or DrigError) and return that path."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DrigError(f"cannot make the folder {folder}: {error.strerror}. Choose another one.") from error
    path = folder / "config.yaml"
    temporary = path.with_suffix(".yaml.tmp")
    temporary.write_text(to_yaml(config))
    return temporary.replace(path)


def _parser(
    config_class: type,
    prog: str,
    description: str,
    presets: Mapping[str, Mapping[str, Any]],
    positional: Sequence[str],
) -> jsonargparse.ArgumentParser:
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    usage = " ".join(
        [prog, *(name.upper() for name in positional), "[--preset NAME] [--config FILE] [--OPTION VALUE ...]"]
    )
    parser = jsonargparse.ArgumentParser(
        prog=prog, usage=usage, description=description, exit_on_error=False, allow_abbrev=False
    )
    if presets:
        parser.add_argument("--preset", metavar="NAME", help=f"named values to start from: {', '.join(presets)}")
    parser.add_argument("--config", action="config", metavar="FILE", help="YAML file of values; overrides the preset")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    parser.add_class_arguments(config_class)
    return parser


def _split(argv: Sequence[str], options: Mapping[str, Any], positional: Sequence[str]) -> dict[str, str]:
    """The words of the command line as {option: value}. DrigError, naming its neighbours, for an unknown option."""
    known = {**options, "preset": str, "config": str, "dry-run": bool}
    given: dict[str, str] = {}
    words = list(argv)
    places, rest = list(positional), list[str]()
    while words:
        word = words.pop(0)
        if word in ("-h", "--help"):
            return {"help": "true"}
        if not word.startswith("--"):
            if not places:
                raise DrigError(f"unexpected argument {word!r}: options are given as --name value")
            if _is_tuple(options[places[0]]):
                rest.append(word)
                given[places[0]] = json.dumps(rest)
            else:
                given[places.pop(0)] = word
            continue
        name, equals, value = word[2:].partition("=")
        if name not in known:
            raise DrigError(f"unknown option --{name}: {_choices(name, known)}")
        if not equals:
            if known[name] is bool:
                value = words.pop(0) if words and words[0] in ("true", "false") else "true"
            elif not words:
                raise DrigError(f"--{name} needs a value: --{name} VALUE")
            else:
                value = words.pop(0)
        given[name] = f"[{value}]" if _is_tuple(known[name]) and value != "null" and value[:1] != "[" else value
    return given


def _check_file(file: str, options: Mapping[str, Any]) -> None:
    """Raise for a config file that is missing, is not a mapping, or holds a name that is not an option."""
    try:
        values = yaml.safe_load(Path(file).read_text())
    except OSError as error:
        raise DrigError(f"--config {file}: {error.strerror}; give the path of a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DrigError(f"--config {file}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise DrigError(f"--config {file}: expected lines of 'name: value', found {type(values).__name__}")

    def check(values: Mapping[str, Any], prefix: str) -> None:
        for key, value in values.items():
            name = f"{prefix}{key}"
            if name not in options:
                raise DrigError(f"--config {file}: unknown option {name}: {_choices(name, options)}")
            if isinstance(value, dict) and _dataclass(options[name]) is not None:
                check(value, f"{name}.")

    check(values, "")


def _choices(given: str, allowed: Mapping[str, Any]) -> str:
    """'did you mean ...' for names near the given one, otherwise every name allowed there."""
    near = difflib.get_close_matches(given, allowed, n=3, cutoff=0.6)
    near = near or [name for name in allowed if name.rpartition(".")[2] == given.rpartition(".")[2]]
    return f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(allowed) or 'none'}"


def _options(config_class: type, prefix: str = "") -> dict[str, Any]:
    """{dotted name: type} of every field, those of nested config dataclasses included."""
    hints = typing.get_type_hints(config_class)
    options: dict[str, Any] = {}
    for field in dataclasses.fields(config_class):
        hint = hints[field.name]
        options[prefix + field.name] = hint
        if (nested := _dataclass(hint)) is not None:
            options |= _options(nested, f"{prefix}{field.name}.")
    return options


def _dataclass(hint: Any) -> type | None:
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def _is_tuple(hint: Any) -> bool:
    return typing.get_origin(hint) is tuple or any(typing.get_origin(arm) is tuple for arm in typing.get_args(hint))


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of the values below a config dataclass or a preset's mapping of its fields."""
    fields = (
        value if isinstance(value, Mapping) else {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    )
    for name, item in fields.items():
        if dataclasses.is_dataclass(item):
            yield from _leaves(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.name
    return str(value) if isinstance(value, Path) else value
