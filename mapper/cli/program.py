"""Program: all commands under one name, and errors as one line."""

import logging
import sys
from typing import NoReturn

import typer
from rich.markup import escape

from mapper.cli.catalog import catalog_app
from mapper.cli.cluster import cluster_app
from mapper.cli.composite import composite_app
from mapper.cli.explain import explain_app
from mapper.cli.export import export_app
from mapper.cli.learning import learning_app
from mapper.cli.maps import maps_app
from mapper.cli.presets import presets_app
from mapper.cli.printing import notify
from mapper.cli.pyramid import pyramid_app
from mapper.cli.report import report_app
from mapper.cli.serve import serve_app
from mapper.cli.status import status_app
from mapper.cli.storage import storage_app
from mapper.cluster.secret_files import load_secrets
from mapper.errors import MapperError
from mapper.redaction import redact

app = typer.Typer(
    help="From a STAC query to a continental, guided-super-resolved Zarr map with provenance.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(maps_app)
app.add_typer(explain_app)
app.add_typer(composite_app)
app.add_typer(pyramid_app)
app.add_typer(status_app)
app.add_typer(learning_app)
app.add_typer(presets_app)
app.add_typer(serve_app)
app.add_typer(export_app)
app.add_typer(report_app)
app.add_typer(catalog_app, name="catalog")
app.add_typer(cluster_app, name="cluster")
app.add_typer(storage_app, name="store")


_logger = logging.getLogger(__name__)


class _Redacted(logging.Formatter):
    """Format of log lines, those of libraries too, in which addresses have no secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a line, or several with a traceback."""
        return redact(super().format(record))


def main() -> None:
    """Run the command line; what the world or the request got wrong becomes one line and an exit code."""
    screen = logging.StreamHandler()
    screen.setLevel(logging.WARNING)  # libraries set levels of their own loggers
    screen.setFormatter(_Redacted("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[screen])
    try:
        load_secrets()
        app()
    except MapperError as error:
        _end(str(error), error.exit_code)
    except OSError as error:  # a folder that is missing or read-only, a full disk, a name that no file can have
        _logger.debug("no file or folder", exc_info=True)
        _end(_describe(error), MapperError.exit_code)


def _end(text: str, exit_code: int) -> NoReturn:
    notify(f"[red]error:[/red] {escape(' '.join(text.split()))}")
    sys.exit(exit_code)


def _describe(error: OSError) -> str:
    """Return what the operating system refused, and of which file."""
    names = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    reason = error.strerror or str(error) or type(error).__name__
    return f"{names}: {reason}" if names else reason
