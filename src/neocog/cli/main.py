"""The command line. `--help` imports no torch: a command's module is loaded when the command is called."""

import importlib
import sys
import traceback

import typer
from typer.exceptions import TyperException

from neocog import __version__
from neocog.core.errors import NeocogError, did_you_mean, one_line

COMMANDS = {
    "train": "Train a network on your pictures and report on it.",
    "val": "Evaluate a run again, on its own pictures or on others.",
    "predict": "Label pictures: class, probability, file name.",
    "resume": "Continue a stopped run exactly where it stopped.",
    "check": "Audit a data set: what is there, what would be left out.",
    "cost": "See what networks cost before training: layers, memory, parameters, MACs, receptive fields.",
    "models": "List the networks: parameters, cost, input, published accuracy.",
    "data": "List and download named data sets.",
    "demo": "Train on the built-in digits and name the report.",
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
    except BrokenPipeError:
        sys.stderr.close()  # the reader, perhaps `head`, has seen enough
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except Exception as error:
        if debug:
            raise
        kind = type(error).__name__
        fail(f"neocog has a bug: {kind}: {str(error).splitlines()[0] if str(error) else ''}; see it with --debug", 1)


def fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)
