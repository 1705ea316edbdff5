"""The `prefixcap` command: parses, calls, prints; turns every error of the user's into one line."""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from prefixcap import __version__
from prefixcap.cli import (
    calibrate,
    caption,
    compare,
    data,
    demo,
    doctor,
    evaluate,
    explain,
    export,
    model,
    report,
    study,
    train,
    tune,
)
from prefixcap.cli import map as map_command
from prefixcap.cli.progress import Stopped
from prefixcap.errors import InputError

USAGE_ERROR, FAILED, INTERRUPTED = 2, 1, 130  # 130 = 128 + SIGINT, as shells report it
TRACEBACK_VARIABLE = "PREFIXCAP_TRACEBACK"

app = typer.Typer(
    name="prefixcap",
    help="Captions for photos: an image becomes a prefix that a language model continues.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(caption.caption)
app.command()(demo.demo)
app.command()(doctor.doctor)
app.command("import")(model.import_original)
app.command()(model.audit)
app.command()(train.embed)
app.command()(train.train)
app.command()(study.study)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(tune.tune)
app.command()(calibrate.calibrate)
app.command()(explain.explain)
app.command("map")(map_command.draw_map)
app.command()(export.export)
app.command()(report.report)
app.add_typer(data.app, name="data")


def _show_version(wanted: bool) -> None:
    """Print the version and stop, where `--version` was given."""
    if wanted:
        typer.echo(f"prefixcap {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options that stand before the command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 partly or not at all, 2 wrong usage, 130 interrupted."""
    if os.environ.get(TRACEBACK_VARIABLE):
        return _invoke(arguments)
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
        return _interrupted() if code == INTERRUPTED else code  # typer's own word for Ctrl-C
    except BrokenPipeError:  # the reader of our output left (`| head`): nothing is wrong
        _discard_stdout()
        return FAILED
    except InputError as error:
        return _say(str(error), USAGE_ERROR)
    except Stopped as stopped:
        return _say(str(stopped), INTERRUPTED)
    except typer.TyperException as error:
        return _say(_usage(error), USAGE_ERROR)
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # typer takes it for Ctrl-D; we ask nothing
            return _say(_unexpected_line(error.__cause__), FAILED)
        return _interrupted()
    except OSError as error:
        if error.filename is None and error.errno == errno.ENOSPC:
            _discard_stdout()  # what could not be printed would fail again at exit
        return _say(_system_line(error), FAILED)
    except Exception as error:
        return _say(_unexpected_line(error), FAILED)


def _invoke(arguments: Sequence[str] | None) -> int:
    """Exit code of the command in `arguments` (None: those of the process)."""
    list_of_words = None if arguments is None else list(arguments)
    code = app(args=list_of_words, prog_name="prefixcap", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _interrupted() -> int:
    """The exit code of a command that Ctrl-C ended, after a word on it."""
    return _say("interrupted; what is written so far is whole", INTERRUPTED)


def _say(message: str, code: int) -> int:
    """`code`, after `message` as one line on stderr; line ends inside it become spaces."""
    print(f"prefixcap: {' '.join(message.splitlines())}", file=sys.stderr)
    return code


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the command line, and where the right form is shown."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "prefixcap"
    return f"{error.format_message().rstrip('.')}. See {command} --help"


def _system_line(error: OSError) -> str:
    """What the operating system refused, on which path, and what mends the usual causes."""
    mends = {
        errno.ENOSPC: "Free some space, then run the command again: it continues",
        errno.EDQUOT: "Free some of your quota, then run the command again: it continues",
        errno.EFBIG: "Raise the limit of a file's size: ulimit -f unlimited",
        errno.EACCES: "Choose a path that you may read and write",
        errno.EPERM: "Choose a path that you may read and write",
        errno.EROFS: "Choose an output on a disk that can be written",
        errno.ENOENT: "Check the path",
        errno.EEXIST: "Choose another path for the output",
        errno.ENOTDIR: "Choose another path for the output",
        errno.EMFILE: "Raise the limit of open files: ulimit -n 4096",
    }
    where = f"{error.filename}: " if error.filename is not None else ""
    what = error.strerror or str(error) or type(error).__name__
    mend = mends.get(error.errno or 0)
    return f"{where}{what}." + (f" {mend}" if mend else "")


def _unexpected_line(error: Exception) -> str:
    """An error that is ours: what it was, and how to see where."""
    return (
        f"internal error, {type(error).__name__}: {error}. This is a fault of prefixcap; run again "
        f"with {TRACEBACK_VARIABLE}=1 to see where, and report that"
    )


def _discard_stdout() -> None:
    """Point stdout at nothing, so that the flush at exit cannot fail a second time."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
