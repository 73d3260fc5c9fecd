"""Command that explains the detail of a map around a pixel: `mapper explain`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mapper.cli.options import JsonOption, MapArgument
from mapper.cli.printing import notify, print_json

explain_app = typer.Typer(rich_markup_mode="markdown")


@explain_app.command("explain", context_settings={"ignore_unknown_options": True})
def explain_command(  # noqa: PLR0913 - the choices of an explanation
    map_path: MapArgument,
    x: Annotated[float, typer.Argument(help="Longitude in degrees, or easting in units of --crs.")],
    y: Annotated[float, typer.Argument(help="Latitude in degrees, or northing in units of --crs.")],
    *,
    crs: Annotated[str, typer.Option(help="CRS of X and Y, as EPSG:CODE.")] = "EPSG:4326",
    out: Annotated[Path | None, typer.Option(help="File for the picture; default: **MAP.explain.png**.")] = None,
    window: Annotated[
        int, typer.Option(min=3, help="Edge of the window whose detail is explained, in target pixels, odd.")
    ] = 15,
    detail: Annotated[
        Literal["gradient", "contrast"],
        typer.Option(help="**gradient**, differences of neighbours; or **contrast**, the pixel less its window."),
    ] = "gradient",
    band: Annotated[list[str] | None, typer.Option(help="Band of the target; more than once for several.")] = None,
    reach: Annotated[int, typer.Option(min=1, help="Source pixels around the window that the model sees.")] = 24,
    sigma: Annotated[float, typer.Option(help="Blur that the path begins with, in source pixels.")] = 2.0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the path; more for contributions that add up.")] = 16,
    shuffles: Annotated[int, typer.Option(min=1, help="Shuffles of each part, whose changes are averaged.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the shuffles.")] = 0,
    device: Annotated[str, typer.Option(help="Device of the network: auto, cpu, cuda, cuda:1 ...")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Explain which dates, bands and neighbours the detail of a map around a pixel is from.

    The map need not have been run: its inputs are read around the pixel, and its model is asked. Two answers stand
    side by side. **Contributions** say which pixels of which input the detail comes from as they come back from a blur
    (integrated gradients); they add up to the detail that is gained. **Changes** say how far the output moves, in units
    of the map, when one date, band, season or the source is blurred, or shuffled in space, and all else is as it is.
    Where no gradient flows to an input that matters, only its change counts, and the answer says so.

    Fields of many dates may take minutes: a smaller **--reach** and fewer **--steps** are faster, and the answer says
    what they leave out. For example: `mapper explain map.yaml 11.5 50.0 --window 21 --out why.png`
    """
    from mapper.evaluation.attribution_plot import plot_attribution
    from mapper.run.explainer import explain
    from mapper.run.explanation import ExplainOptions

    options = ExplainOptions(
        window_px=window,
        detail=detail,
        bands=tuple(band or ()),
        reach=reach,
        sigma=sigma,
        steps=steps,
        shuffles=shuffles,
        seed=seed,
        device=device,
    )
    found = explain(map_path, x, y, crs=crs, options=options)
    path = plot_attribution(found, out or map_path.with_suffix(".explain.png"))
    print_json(found.to_dict()) if as_json else typer.echo(found.to_text())
    notify(f"picture: {path}")
