"""The `drig` command: parse, call, print. Every verb takes --help, --config FILE and --dry-run."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from drig import config as configs
from drig.commands.album import AlbumBuildConfig, AlbumCheckConfig, album_build, album_check
from drig.commands.driving import DriveConfig, drive
from drig.commands.editing import EditConfig, ShowcaseConfig, edit, showcase
from drig.commands.identities import IdentitiesConfig, identities
from drig.commands.inspection import InspectConfig, inspect
from drig.commands.released import ExportConfig, ImportConfig, export_released, import_released


def main(argv: Sequence[str] | None = None) -> int:
    """Run `drig VERB ...`; returns the exit code: 0, or 2 for something the user can fix."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_usage("drig", VERBS))
        return 0 if words else 2
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        print(f"drig: error: unknown verb {verb!r}; choose from {', '.join(VERBS)}", file=sys.stderr)
        return 2
    # Ray reads this when it is imported: a line that Serve's stop prints although it went well.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "ServeController.graceful_shutdown failed")
    return VERBS[verb].run(f"drig {verb}", rest)


@dataclass(frozen=True)
class Verb:
    """What `drig VERB` does, and the function (prog, argv) -> exit code that does it."""

    summary: str
    run: Callable[[str, Sequence[str]], int]


def _here(
    config_class: type, program: Callable[..., int | None], *, positional: Sequence[str] = ()
) -> Callable[[str, Sequence[str]], int]:
    """A verb of `drig.commands`."""
    description = config_class.__doc__ or ""
    return lambda prog, argv: configs.run(
        config_class, program, argv, prog=prog, description=description, positional=positional
    )


def _album(prog: str, argv: Sequence[str]) -> int:
    """The verb `album`, which has verbs of its own."""
    word = argv[0] if argv else "--help"
    if word in ALBUM_VERBS:
        return ALBUM_VERBS[word].run(f"{prog} {word}", argv[1:])
    if word in ("-h", "--help"):
        print(_usage(prog, ALBUM_VERBS))
        return 0 if argv else 2
    print(f"{prog}: error: unknown verb {word!r}; choose from {', '.join(ALBUM_VERBS)}", file=sys.stderr)
    return 2


def _pipeline(module: str) -> Callable[[str, Sequence[str]], int]:
    """A verb that is a pipeline's or a deployment's `main(argv, prog)`; imported only when it is called."""
    return lambda prog, argv: int(importlib.import_module(module).main(argv, prog=prog))


ALBUM_VERBS = {
    "build": Verb(
        "photos and videos -> an album of one person", _here(AlbumBuildConfig, album_build, positional=("sources",))
    ),
    "check": Verb("is an album fit to be trained on?", _here(AlbumCheckConfig, album_check, positional=("album",))),
}
VERBS = {
    "quickstart": Verb("everything once, on this machine, with a report", _pipeline("pipelines.quickstart")),
    "inspect": Verb("look at what is found in photos", _here(InspectConfig, inspect, positional=("photos",))),
    "album": Verb("build an album of one person, or check one before training", _album),
    "synth": Verb("render synthetic people", _pipeline("pipelines.synthesize")),
    "extract": Verb("photos -> store of physical buffers", _pipeline("pipelines.extract_buffers")),
    "stage1": Verb("train the base rig on many people", _pipeline("pipelines.stage1")),
    "personalize": Verb("train a rig for each of many people", _pipeline("pipelines.personalize")),
    "evaluate": Verb("measure edits whose true answers are known", _pipeline("pipelines.evaluate")),
    "edit": Verb("edit a photo", _here(EditConfig, edit, positional=("photo",))),
    "drive": Verb("let a video drive a photo", _here(DriveConfig, drive, positional=("photo", "video"))),
    "showcase": Verb("a sheet of edits of a photo", _here(ShowcaseConfig, showcase, positional=("photo",))),
    "identities": Verb("list, register or delete personalised people", _here(IdentitiesConfig, identities)),
    "import": Verb("released model or data set -> drig's", _here(ImportConfig, import_released, positional=("path",))),
    "export": Verb("drig's -> released model or data set", _here(ExportConfig, export_released, positional=("path",))),
    "serve": Verb("host every identity over HTTP", _pipeline("deployments.serve")),
    "keys": Verb("make, list or revoke the server's API keys", _pipeline("deployments.access.command")),
}


def _usage(prog: str, verbs: Mapping[str, Verb]) -> str:
    lines = [f"  {name:<12} {verb.summary}" for name, verb in verbs.items()]
    return "\n".join([f"usage: {prog} VERB [--help] [OPTIONS]", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
