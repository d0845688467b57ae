"""The `gsp-deploy` command line: registers every command, and prints each error as one line."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, NoReturn

import typer

from gsp_deploy import __version__
from gsp_deploy.base.interrupts import remembered_interrupts
from gsp_deploy.base.platforms import install_line
from gsp_deploy.errors import GspDeployError
from gsp_deploy_cli.adopt import adopt
from gsp_deploy_cli.bench import bench
from gsp_deploy_cli.build import build
from gsp_deploy_cli.check import check
from gsp_deploy_cli.convert import convert
from gsp_deploy_cli.data import app as data_app
from gsp_deploy_cli.demo import demo
from gsp_deploy_cli.doctor import doctor
from gsp_deploy_cli.embed import embed
from gsp_deploy_cli.evaluate import evaluate
from gsp_deploy_cli.explain import explain
from gsp_deploy_cli.export import export
from gsp_deploy_cli.index import index
from gsp_deploy_cli.index_add import index_add
from gsp_deploy_cli.index_compact import index_compact
from gsp_deploy_cli.index_remove import index_remove
from gsp_deploy_cli.inspect import inspect
from gsp_deploy_cli.migrate_check import migrate_check
from gsp_deploy_cli.options.choices import Command
from gsp_deploy_cli.options.groups import unfolded
from gsp_deploy_cli.package import package
from gsp_deploy_cli.report import report
from gsp_deploy_cli.search import search
from gsp_deploy_cli.serve import serve
from gsp_deploy_cli.tables import show
from gsp_deploy_cli.train import train
from gsp_deploy_cli.tune import tune
from gsp_deploy_cli.verify import verify

app = typer.Typer(
    name="gsp-deploy",
    help="Export a Generalized Sum Pooling checkpoint to ONNX and TensorRT, check that the result "
    "gives the same embeddings, measure it, and run it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = (
    demo,
    train,
    convert,
    adopt,
    evaluate,
    export,
    build,
    tune,
    check,
    bench,
    embed,
    explain,
    inspect,
    doctor,
    package,
    verify,
    serve,
    index,
    index_add,
    index_remove,
    index_compact,
    search,
    migrate_check,
    report,
)

for command in COMMANDS:
    app.command(cls=Command)(unfolded(command))
app.add_typer(data_app, name="data")

INTERRUPTED = 130
# Packages that are not in the extra `train`, or that a smaller one has too.
EXTRAS = {
    "fastapi": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "python_multipart": "serve",
    "faiss": "search",
    "huggingface_hub": "hub",
    "fsspec": "cloud",
    "ray": "ray",
    "qdrant_client": "qdrant",
    "pymilvus": "milvus",
    "psycopg": "pgvector",
    "pgvector": "pgvector",
    "lancedb": "lance",
}


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"gsp-deploy {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Read the options that come before the command."""


def main() -> None:
    """Run the command line and exit with the code that DESIGN promises."""
    # Pillow warns about large images; this toolkit has a lower limit and refuses them in one line.
    warnings.filterwarnings("ignore", message="Image size .* could be decompression bomb")
    try:
        with remembered_interrupts():
            app()
    except GspDeployError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail_interrupted()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # Typer takes the interrupt and ends without a word
            _fail_interrupted()
        raise
    except ModuleNotFoundError as error:
        _fail(
            f"this command needs the package {error.name!r}, which is not installed: "
            + install_line(_extra_with(error.name or "")),
            4,
        )
    except BrokenPipeError:
        _leave_to_nobody()
        _fail("a connection ended before its answer was complete; run the command again", 1)
    except OSError as error:
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)


def _leave_to_nobody() -> None:
    """Exit if the reader of our output is gone, as `head` is after its lines."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            # Python flushes once more when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            sys.exit(1)


def _extra_with(module: str) -> str:
    return EXTRAS.get(module.partition(".")[0], "train")


def _printable(text: str) -> str:
    """Escape line breaks and control characters: a file's name or content may hold them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _fail_interrupted() -> NoReturn:
    _fail("interrupted; nothing half-written was left behind", INTERRUPTED)


def _fail(message: str, code: int) -> NoReturn:
    line = f"error: {_printable(message)}"
    show.err.print(line, style="red", soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
