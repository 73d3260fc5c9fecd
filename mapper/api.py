"""The public face: what a person does with a map, in one call each; ``import mapper`` offers these names.

A map is named by its MAP.yaml or given as :func:`mapper.read_spec` reads it. With a MAP.yaml, what is found and planned
is kept in files beside it, as the commands do, and the next call goes on from there; a description alone is searched
anew. The command line calls the same functions.
"""

# what a function needs is imported when it runs: reading a store loads no torch, planning no web server
# ruff: noqa: PLC0415

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from mapper.errors import InputError
from mapper.spec import MapSpec, read_spec

if TYPE_CHECKING:
    import xarray as xr

    from mapper.catalog.items import Items
    from mapper.cluster.kubernetes.session import KubernetesOptions
    from mapper.cluster.open_executor import Cluster
    from mapper.cost.map_plan import MapPlan
    from mapper.evaluation.score_map import Comparison
    from mapper.events import Callback
    from mapper.models.card import Card
    from mapper.plan.context import RunOptions
    from mapper.run.commit_loop import RunPolicy
    from mapper.run.report import RunReport
    from mapper.serve.server import BackgroundServer
    from mapper.serve.settings import AppSettings
    from mapper.training.config import TrainConfig

_SERVE_EXTRA = ("fastapi", "fastapi_offline", "uvicorn")


def is_map(location: str | Path) -> bool:
    """Return True for what names a MAP.yaml, and not a store."""
    return str(location).endswith((".yaml", ".yml"))


def location_of(location: MapSpec | Path | str) -> str:
    """Return where a store is that is named by itself, by its MAP.yaml or by the map as read."""
    if isinstance(location, MapSpec):
        return location.store
    return read_spec(location).store if is_map(location) else str(location)


def search(spec: MapSpec | Path | str, *, refresh: bool = False) -> "Items":
    """Find the items of a map, and freeze them beside its MAP.yaml.

    For example::

        items = mapper.search("map.yaml")

    Args:
        spec: The map: its MAP.yaml, or as read; then nothing is kept.
        refresh: Ask the archive again, even if the items are frozen already.

    Returns:
        Items with absolute, unsigned locations; their query says what was asked, of whom and when.

    Raises:
        SpecError: If the map is described wrongly, or its provider does not describe a collection.
        SearchError: If a collection has no item, or the archive does not answer or not repeat itself.
    """
    from mapper.catalog.inventory import inventory_path, take_inventory
    from mapper.catalog.search import search as ask

    if isinstance(spec, MapSpec):
        return ask(spec)
    return take_inventory(read_spec(spec), inventory_path(Path(spec)), refresh=refresh)


def plan(
    spec: MapSpec | Path | str,
    *,
    only: str | None = None,
    refresh: bool = False,
    prices: Path | str | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    guide: str | None = None,
) -> "MapPlan":
    """Plan a map, and explain what a run would do and take; no tile is computed.

    For example::

        plan = mapper.plan("map.yaml", only="::50")
        print(plan)  # tiles, scenes, requests, memory, hours
        mapper.run(plan)

    Args:
        spec: The map: its MAP.yaml, beside which items and plan are kept, or as read.
        only: Tiles to take, for example ``3,7``, ``::10`` or ``failed``; None takes all.
        refresh: Ask the archive again, even if the items are frozen already.
        prices: File of prices, which adds the cost.
        device: Device that networks are to run on; None takes that of the tiles that have run.
        guide: Location of a guide that is composed already, whole or in part.

    Returns:
        The plan with its estimates; printed or shown in a notebook it explains itself.

    Raises:
        InputError: If anything is wrong with the request.
        SearchError: If items have to be searched, and the search fails.
        StoreMismatchError: If the store holds another map.
    """
    from mapper.cost.map_plan import MapPlan
    from mapper.cost.prices import read_prices
    from mapper.plan.job import prepare_job

    if device not in (None, "cpu", "cuda"):
        raise InputError(f"device is cpu, cuda or None, got {device!r}")
    price_list = read_prices(Path(prices)) if prices else None
    job = prepare_job(_as_source(spec), only=only, refresh=refresh)
    job.freeze()
    return MapPlan(job=job, prices=price_list, device=device, guide=guide)


def run(  # noqa: PLR0913 - the choices of `mapper run`
    spec: "MapSpec | Path | str | MapPlan",
    *,
    cluster: "Cluster" = "threads",
    workers: int = 0,
    only: str | None = None,
    refresh: bool = False,
    guide: str | None = None,
    progress: bool = True,
    callbacks: Sequence["Callback"] = (),
    options: "RunOptions | None" = None,
    policy: "RunPolicy | None" = None,
    kubernetes: "KubernetesOptions | None" = None,
) -> "RunReport":
    """Compute the tiles of a map that are due, and commit them; searches and plans first if that was not done.

    A run that was stopped resumes where it was; of a finished map there is nothing to do. For example::

        report = mapper.run("map.yaml", workers=4)

    Args:
        spec: The map: its MAP.yaml, as read, or as :func:`plan` planned it.
        cluster: ``threads``, ``serial``, ``local`` processes, ``kubernetes`` or ``kubernetes:POOL``, the address of a
            Dask scheduler, a Dask client, or an executor.
        workers: Threads or processes; 0 suits the machine.
        only: Tiles to take, as for :func:`plan`, which has chosen already where a plan is given.
        refresh: Ask the archive again, even if the items are frozen already.
        guide: Store of a guide that ``mapper composite`` wrote; the archives are not read for it then.
        progress: Show a progress bar.
        callbacks: Told of every event.
        options: Device, batch and patch of predictions.
        policy: When to commit, and when to give up.
        kubernetes: Settings of a cluster there; None takes the defaults.

    Returns:
        What was done; ``exit_code`` is 0 where no tile failed.

    Raises:
        InputError: If anything is wrong with the request; nothing was started.
        SearchError, StoreError, ClusterError: If the archive, the store or the cluster cannot be used.
    """
    from mapper.cluster.open_executor import memory_of_task, open_executor
    from mapper.cost.map_plan import MapPlan
    from mapper.monitor.progress import ProgressBar
    from mapper.plan.job import prepare_job
    from mapper.run.runner import run_plan
    from mapper.run.stored_guide import read_from_guide

    if not isinstance(spec, MapPlan):
        memory = memory_of_task(cluster, workers, kubernetes=kubernetes)
        job = prepare_job(_as_source(spec), only=only, refresh=refresh, options=options, worker_memory=memory)
        job.freeze()
    elif only or refresh or options:
        raise InputError("only, refresh and options belong to the plan that is given: run the MAP.yaml with them")
    else:
        job = spec.job
    context = read_from_guide(job, guide) if guide else job.context
    heard = [*([ProgressBar()] if progress else []), *callbacks]
    with open_executor(cluster, workers, kubernetes=kubernetes) as executor:
        return run_plan(job.plan, context, job.spec.store, executor, callbacks=heard, policy=policy)


def open_map(
    location: MapSpec | Path | str,
    ref: str = "main",
    *,
    level: int = 0,
    chunks: int | Mapping[str, int] | None = None,
) -> "xr.Dataset":
    """Open a map, or a level of its pyramid, for analysis: decoded values with coordinates and CRS.

    For example::

        agb = mapper.open_map("s3://maps/agb", chunks=2048)["agb"]

    Args:
        location: Directory, s3://, gs:// or az:// location, the MAP.yaml that names it, or the map as read.
        ref: Branch, tag or snapshot id.
        level: 0 is the map; a pixel of level k is 2^k pixels long and holds their reduction.
        chunks: Edge of a Dask chunk in pixels, or sizes by dimension; None reads what is asked for, without Dask.

    Returns:
        The bands of the map (y, x) in their units, NaN where missing.

    Raises:
        StoreError: If the store, the version or the level does not exist.
    """
    from mapper.store.map_store import open_map as open_location

    sizes = {"y": chunks, "x": chunks} if isinstance(chunks, int) else None if chunks is None else dict(chunks)
    return open_location(location_of(location), ref, level=level, chunks=sizes)


def train(  # noqa: PLR0913 - the choices of `mapper train`
    config: "TrainConfig | Path | str | None" = None,
    *,
    wald: Sequence[Path | str] = (),
    maps: Sequence[Path | str] = (),
    truth: str | None = None,
    out: Path | str | None = None,
    name: str | None = None,
    steps: int | None = None,
    progress: bool = True,
    command: str = "",
) -> "Card":
    """Train a model; writes its weights and card, and goes on with a training that was interrupted.

    For example::

        card = mapper.train("recipe.yaml", steps=2000, out="weights")
        card = mapper.train(wald=["map.yaml"])  # on the map itself, one scale coarser

    Args:
        config: What to train, from which sites, and how: a CONFIG.yaml, or as read.
        wald: Maps (MAP.yaml) to train on by Wald's protocol, where no truth is known.
        maps: Maps (MAP.yaml) to train on with their truth.
        truth: That truth, as COLLECTION:BAND.
        out: Directory for the weights.
        name: Name of the weights.
        steps: Steps of the training.
        progress: Show a progress bar.
        command: What started this, for the card.

    Returns:
        The card of the trained model.

    Raises:
        SpecError: If nothing says what to train on, or a description is wrong.
        MapperError: If the training diverges.
    """
    from mapper.training.config import Changes, TrainConfig, describe_training
    from mapper.training.progress import TrainingBar
    from mapper.training.trainer import train as fit_model

    if isinstance(config, TrainConfig):
        if wald or maps or truth or out or name or steps:
            raise InputError(
                "a description that is read already is trained as it is: change it, or give its CONFIG.yaml"
            )
        described = config
    else:
        described = describe_training(
            Path(config) if config else None,
            wald=[Path(path) for path in wald],
            maps=[Path(path) for path in maps],
            truth=truth,
            changes=Changes(out=Path(out) if out else None, name=name, steps=steps),
        )
    if not progress:
        return fit_model(described, command=command)
    with TrainingBar(described.steps) as bar:
        return fit_model(described, notify=bar.notify, watch=bar, command=command)


def evaluate(
    spec: MapSpec | Path | str,
    truth: str,
    *,
    clip: float | None = None,
    data_range: float | None = None,
    datum_shift: float | Path | None = None,
    overview: Path | str | None = None,
    plots: Path | str | None = None,
) -> "Comparison":
    """Score a finished map and plain interpolations of its source against a truth.

    For example::

        comparison = mapper.evaluate("map.yaml", "truth:agb", overview="overview.png")

    Args:
        spec: The map: its MAP.yaml, or as read.
        truth: COLLECTION:BAND of its catalogue.
        clip: Larger true values count as this one.
        data_range: Range of the values, in their units, that PSNR and SSIM refer to; None takes that of the target.
        datum_shift: Metres to add to a truth of heights to reach the vertical datum of the map: a number, or a GeoTIFF
            grid of metres.
        overview: File for a drawing of source, guide, map, truth and difference; of heights as hillshades.
        plots: Folder for scatter, error by class of the truth, and reliability; of heights also for hillshades and
            errors by land cover and slope.

    Returns:
        Scores by method; ``tables()`` are for people.

    Raises:
        SpecError: If the truth is not described, or its heights are in another vertical datum and no shift is given.
        SearchError: If the catalogue has no such item.
        StoreError: If there is no map yet.
    """
    from mapper.evaluation.overview import draw_overview
    from mapper.evaluation.score_map import draw_comparison, draw_relief, find_truth, score_map

    described = spec if isinstance(spec, MapSpec) else read_spec(spec)
    items = search(spec)
    known = find_truth(described, truth, clip=clip, data_range=data_range, datum_shift=datum_shift)
    comparison = score_map(described, items, known)
    if overview:
        draw_overview(described, items, Path(overview), truth=known)
    if plots:
        draw_comparison(comparison, Path(plots))
    if plots and described.target.heights is not None:
        draw_relief(described, items, known, Path(plots) / "relief.png")
    return comparison


@overload
def serve(
    location: MapSpec | Path | str,
    *,
    host: str = ...,
    port: int = ...,
    background: Literal[False] = ...,
    settings: "AppSettings | None" = ...,
    notify: Callable[[str], None] = ...,
    log_requests: bool = ...,
) -> None: ...
@overload
def serve(
    location: MapSpec | Path | str,
    *,
    host: str = ...,
    port: int = ...,
    background: Literal[True],
    settings: "AppSettings | None" = ...,
    notify: Callable[[str], None] = ...,
    log_requests: bool = ...,
) -> "BackgroundServer": ...
def serve(
    location: MapSpec | Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    background: bool = False,
    settings: "AppSettings | None" = None,
    notify: Callable[[str], None] = print,
    log_requests: bool = False,
) -> "BackgroundServer | None":
    """Serve a store over HTTP, read-only: until Ctrl-C, or in the background of a notebook.

    For example::

        with mapper.serve("map.yaml", port=0, background=True) as server:
            xr.open_dataset(f"{server.url}/zarr/main", engine="zarr")

    Args:
        location: Directory, s3://, gs:// or az:// location, the MAP.yaml that names it, or the map as read.
        host: Address to listen on; ``0.0.0.0`` for all of the machine.
        port: 0 takes any that is free.
        background: Return at once, and serve from a thread until ``stop()``.
        settings: Token, origins and limits.
        notify: Called with the URL once the port is taken.
        log_requests: Log every request.

    Returns:
        The server, if in the background.

    Raises:
        InputError: If the port cannot be had, or the extra ``mapper[serve]`` is not installed.
        StoreError: If there is no store, or it cannot be read.
    """
    try:
        from mapper.serve.app import make_app
        from mapper.serve.server import BackgroundServer, run_server
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in _SERVE_EXTRA:
            raise InputError(f"{error.name} is missing: install `mapper[serve]`") from error
        raise
    app = make_app(location_of(location), settings)
    if background:
        server = BackgroundServer(app, host=host, port=port, log_requests=log_requests)
        notify(server.url)
        return server
    run_server(app, host=host, port=port, on_ready=notify, log_requests=log_requests)
    return None


def _as_source(spec: MapSpec | Path | str) -> MapSpec | Path:
    return spec if isinstance(spec, MapSpec) else Path(spec)
