"""Page of a run: one HTML file that holds its pictures, asks nothing of the network and runs no script."""

import html
import tempfile
from importlib import resources
from pathlib import Path

from mapper import __version__
from mapper.cost.prices import Prices
from mapper.errors import StoreError
from mapper.report.contents import Contents, read_contents
from mapper.report.sections import describe_run

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content security policy: a browser may load nothing."""


def write_report(location: str | Path, out: Path, *, prices: Prices | None = None) -> Path:
    """Write the page of a run, whole or not at all; a page that is there is replaced.

    Args:
        location: Directory, or s3://, gs://, az:// location of the store.
        out: File that is written.
        prices: Prices of the cost section; None leaves it out.

    Returns:
        The path.

    Raises:
        InputError: If the store holds a guide.
        StoreError: If there is no store, or the page cannot be written.
    """
    page = make_page(read_contents(location, prices=prices))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            draft = Path(folder) / "page.html"
            draft.write_text(page, encoding="utf-8")
            draft.replace(out)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror}") from error
    return out


def make_page(contents: Contents) -> str:
    """Return the page as text."""
    style = resources.files("mapper.report").joinpath("page.css").read_text(encoding="utf-8")
    title = html.escape(f"{contents.status.name}: report")
    body = "".join(map(str, describe_run(contents)))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{title}</title><style>{style}</style></head><body><main>{body}"
        f"<footer>Written by mapper {__version__} on {contents.status.now:%Y-%m-%d %H:%M} UTC from snapshot "
        f"{html.escape(contents.status.snapshot)}.</footer></main></body></html>\n"
    )
