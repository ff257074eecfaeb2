"""The command line. `--help` imports no torch: a command's module is loaded when the command is called."""

import contextlib
import importlib
import os
import sys
import traceback
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from neocog import __version__
from neocog.cli import started
from neocog.core.errors import NeocogError, did_you_mean, one_line
from neocog.core.files import is_full

COMMANDS = {
    "train": "Train a network on your pictures and report on it.",
    "val": "Evaluate a run again, on its own pictures or on others.",
    "predict": "Label pictures: class, probability, file name.",
    "explain": "See why: where a network looked, what for, and the training pictures behind an answer.",
    "resume": "Continue a stopped run exactly where it stopped.",
    "compare": "Compare networks on your pictures, fairly, inside a time budget.",
    "embed": "Write vectors of pictures: codes, or what a classifier's last layer sees.",
    "denoise": "Write what an autoencoder makes of pictures.",
    "generate": "Write pictures that an autoencoder makes up.",
    "interpolate": "Write the pictures between two pictures.",
    "traverse": "Write what each number of a picture's code does, and each class.",
    "grow": "Go on with a deeper network that begins as the trained one.",
    "check": "Audit a data set: what is there, what would be left out.",
    "cost": "See what networks cost before training: layers, memory, parameters, MACs, receptive fields.",
    "models": "List the networks: parameters, cost, input, published accuracy.",
    "data": "List and download named data sets.",
    "demo": "Train on the built-in digits and name the report.",
    "doctor": "Say what this machine has and what neocog will make of it.",
}


def build(wanted: str | None) -> typer.Typer:
    """The application, with the one wanted command loaded and only the help line of the others."""
    app = typer.Typer(
        name="neocog", add_completion=False, pretty_exceptions_enable=False,
        help="Convolutional networks on your own pictures: see the cost, train without being fooled, ship it.",
        context_settings={"help_option_names": ["-h", "--help"]},
        # rich's help pages load a Markdown parser, half of the time that `neocog --help` may take.
        rich_markup_mode="rich" if wanted else None,
    )  # fmt: skip

    @app.callback(invoke_without_command=True)
    def root(
        version: bool = typer.Option(False, "--version", help="Print the version."),
        debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    ) -> None:
        if version:
            print(__version__)
            raise typer.Exit

    for name, text in COMMANDS.items():
        if name == wanted:
            importlib.import_module(f"neocog.cli.{name}").add(app, text)
        else:
            app.command(name, help=text)(lambda: None)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and leaves with its exit code; an error is one line on stderr."""
    started.begin()
    arguments = sys.argv[1:] if arguments is None else arguments
    words = [word for word in arguments if not word.startswith("-")]
    wanted = words[0] if words else None
    if wanted is not None and wanted not in COMMANDS:
        hint = did_you_mean(wanted, COMMANDS) or f"the commands are {', '.join(COMMANDS)}"
        fail(f"there is no command called {wanted!r}; {hint}", 2)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names may hold bytes that are no UTF-8
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in arguments
    arguments = [word for word in arguments if word != "--debug"] or ["--help"]
    try:
        code = build(wanted)(arguments, standalone_mode=False)
        raise SystemExit(code if isinstance(code, int) else 0)
    except TyperException as error:
        name = f"neocog {wanted} --help" if wanted else "neocog --help"
        fail(f"{one_line(error.format_message()).rstrip('.')}; `{name}` lists what there is", 2)
    except NeocogError as error:
        if debug:
            traceback.print_exc()
        fail(str(error), error.exit_code)
    except MemoryError:
        fail("the machine ran out of memory; use a smaller --batch-size or --image-size", 6)
    except SystemExit as error:
        # rich and typer make their own exit, with code 1, of a pipe whose reader has gone.
        if isinstance(error.__context__, BrokenPipeError):
            leave_pipe()
        raise
    except BrokenPipeError:
        leave_pipe()
    except OSError as error:
        if debug:
            traceback.print_exc()
        fail(*explain(error))
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except Exception as error:
        if debug:
            raise
        kind = type(error).__name__
        fail(f"neocog has a bug: {kind}: {str(error).splitlines()[0] if str(error) else ''}; see it with --debug", 1)


def explain(error: OSError) -> tuple[str, int]:
    """(message, exit code) for what the operating system refused."""
    where = one_line(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else "the output"
    reason = error.strerror or str(error)
    if is_full(error):
        drop_output()
        return f"{where} could not be written ({reason}); make room and do it again", 6
    if error.filename is not None:
        return f"{where} cannot be used ({reason}); check that path, or see with --debug what wanted it", 2
    return f"neocog has a bug: {type(error).__name__}: {error}; see it with --debug", 1


def leave_pipe() -> NoReturn:
    """The reader, perhaps `head`, has seen enough: nothing more to say, and the exit code of a broken pipe."""
    drop_output()
    raise SystemExit(141)


def drop_output() -> None:
    """What could not be printed is forgotten; else Python would try once more on its way out, and complain."""
    with contextlib.suppress(OSError, ValueError):  # where the output is no real file, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str, code: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)
