"""Commands about models: train one, list them, compare them."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mapper import api
from mapper.cli.options import JsonOption
from mapper.cli.printing import (
    describe_card,
    describe_scores,
    notify,
    print_comparison,
    print_json,
    print_pairs,
    print_table,
)
from mapper.errors import SpecError
from mapper.models.card import model_names, read_card
from mapper.spec import ModelSpec

learning_app = typer.Typer(rich_markup_mode="markdown")


@learning_app.command()
def evaluate(  # noqa: PLR0913 - options of a command
    target: Annotated[str, typer.Argument(metavar="MAP.yaml|SUITE", help="A finished map, or a suite of methods.")],
    *,
    truth: Annotated[str | None, typer.Option(help="Map: COLLECTION:BAND of its catalogue to score against.")] = None,
    clip: Annotated[
        float | None, typer.Option(help="Map: largest true value, in the map's units; larger ones count as it.")
    ] = None,
    data_range: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Map: range of the values, in its units, that PSNR and SSIM refer to; default its target's."
        ),
    ] = None,
    datum_shift: Annotated[
        str | None,
        typer.Option(
            metavar="METRES|GRID.tif", help="Map: metres to add to true heights to reach the map's vertical datum."
        ),
    ] = None,
    overview: Annotated[
        Path | None, typer.Option(help="Map: PNG file for source, guide, map, truth, difference.")
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Map: draw scatter, errors by class, reliability, hillshades of heights here."
        ),
    ] = None,
    work: Annotated[Path | None, typer.Option(help="Suite: folder of the results; default benchmark/NAME.")] = None,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="Suite: take this method; repeatable. Default: all.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", "--chips", help="Suite: folder of its data.")] = None,
    slow: Annotated[bool, typer.Option("--slow/--no-slow", help="Suite: take slow methods too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Score a finished map against a truth, or compare methods.

    A map is compared with plain interpolations of its source:
    **mapper evaluate demo/map.yaml --truth truth:agb --overview overview.png**

    A suite trains what is to be trained, scores every method on every site, never on a truth that it was trained on,
    and writes suite.md, suite.csv, suite.json and pictures of maps:
    **mapper evaluate synthetic-x10** ·
    **mapper evaluate biomassters --data CHIPS --method bicubic --method mtg** ·
    **mapper evaluate multi-image --data DIR --json**, by dates · **mapper evaluate generative --data DIR**, samples ·
    **mapper evaluate my-suite.yaml --slow**
    """
    from mapper.benchmark.suite import is_suite

    if is_suite(target) or not target.endswith((".yaml", ".yml")):
        _evaluate_suite(target, work, data, methods or (), slow=slow, as_json=as_json)
        return
    if truth is None:
        raise SpecError(f"{target} is a map: say with --truth COLLECTION:BAND what to score it against")
    shift = _read_shift(datum_shift)
    comparison = api.evaluate(
        target, truth, clip=clip, data_range=data_range, datum_shift=shift, overview=overview, plots=plots
    )
    print_json(comparison.to_dict()) if as_json else print_comparison(comparison)


def _read_shift(text: str | None) -> float | Path | None:
    """Return a number of metres, or the path of a grid of them."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return Path(str(text))


@learning_app.command("train")
def train_command(  # noqa: PLR0913 - options of a command
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG.yaml", help="Description of the training: model, sites and settings."),
    ] = None,
    *,
    wald: Annotated[list[Path] | None, typer.Option(metavar="MAP.yaml", help="By Wald's protocol; repeatable.")] = None,
    maps: Annotated[
        list[Path] | None, typer.Option("--map", metavar="MAP.yaml", help="On this map's truth; repeatable.")
    ] = None,
    truth: Annotated[str | None, typer.Option(help="With --map: COLLECTION:BAND instead of CONFIG's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory for the weights instead of CONFIG's.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the weights instead of CONFIG's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Number of steps instead of CONFIG's.")] = None,
    scale: Annotated[
        int | None, typer.Option(min=2, help="Scale of chips and landscapes, instead of CONFIG's.")
    ] = None,
    chips: Annotated[Path | None, typer.Option(help="Folder of BioMassters chips, instead of CONFIG's.")] = None,
    start: Annotated[
        Path | None, typer.Option(help="Begin with these weights, of the same architecture, not with random ones.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model; writes NAME.safetensors, its card NAME.json, and checkpoints and curves to NAME.run/.

    Where a fine truth is known, CONFIG.yaml names it: **mapper train recipe.yaml**, on other sites
    **mapper train recipe.yaml --map a.yaml --map b.yaml --name mine --out weights**.

    Where none is known, a map is trained on itself, one scale coarser, where its source is the truth:
    **mapper train --wald map.yaml** writes weights/wald-NAME beside it; let the map's `model` name them.

    CONFIG's `loss` is l1, huber, mse, nll, l1-mse-gradient, bce, flow or latent; for a truth of another sensor
    registered or radiometric-consistency, which undo its shift and match its colours; or one that another package
    offers as an entry point of `mapper.losses`.

    The same command resumes a training that was interrupted, and leaves a finished one alone. Another training of the
    same name deletes nothing: what was there is called NAME.before-1 from then on. On several GPUs:
    **torchrun --nproc_per_node 4 -m mapper.cli train recipe.yaml**
    """
    if config is None and not wald:
        raise typer.BadParameter("give a CONFIG.yaml, or --wald MAP.yaml")
    from mapper.training.config import Changes, describe_training
    from mapper.training.distributed import is_first_process

    changes = Changes(out=out, name=name, steps=steps, start=start, scale=scale, chips=chips)
    request = describe_training(config, wald=wald or (), maps=maps or (), truth=truth, changes=changes)
    card = api.train(request, command=shlex.join(["mapper", *sys.argv[1:]]))
    if is_first_process():
        pairs = describe_card(card) | describe_scores(card) | {"weights": request.out / f"{card.name}.safetensors"}
        print_json(json.loads(card.to_json())) if as_json else print_pairs(card.name, pairs)


@learning_app.command("risk")
def risk_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="Sites with a truth, and how maps are made.")],
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    *,
    weights: Annotated[
        Path, typer.Option(metavar="FILE", help="Its weights (.safetensors); the card beside them (.json) is written.")
    ],
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the reliability curve here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the risk of hallucination of a model that gives a standard deviation, and write it into its card.

    Maps can then ask for it (`target.quality: [risk]`). Sites are described as those of a training; none that the
    model was trained or calibrated on is taken. Two of three are fitted to, the third is judged, by class of risk:
    **mapper risk mapper/training/recipes/risk/burst-fusion-x2.yaml burst-fusion-x2 --weights FILE --plot risk.png**
    """
    from mapper.training.risk import LEAST_PIXELS, add_risk, read_risk_config

    command = shlex.join(["mapper", *sys.argv[1:]])
    fitted = add_risk(
        read_risk_config(config), ModelSpec(name=model, weights=weights.absolute()), command=command, notify=notify
    )
    if plot:
        from mapper.evaluation.plots import plot_risk

        plot_risk(fitted.reliability, plot, name=f"risk of {model}", least_n=LEAST_PIXELS)
    if as_json:
        print_json(json.loads(json.dumps(dataclasses.asdict(fitted.risk))))
        return
    print_table(f"risk of {model}", ("predicted", "observed", "pixels"), fitted.reliability.table())
    worst = fitted.reliability.max_deviation(least_n=LEAST_PIXELS)
    told = f"mean {fitted.mean:.3f}, of whose variance {fitted.skill:.0%} are explained"
    typer.echo(f"largest difference {worst:.3f}, of classes with {LEAST_PIXELS} pixels or more; {told}")


@learning_app.command("models")
def models_command(
    *,
    speed: Annotated[
        bool, typer.Option("--speed", help="Measure every architecture, untrained, on this machine.")
    ] = False,
    device: Annotated[str, typer.Option(help="With --speed: auto, cpu, cuda, cuda:1 ...")] = "auto",
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With --speed: this architecture; repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models that a map can name and the architectures that can be trained, or measure how fast these are.

    **mapper models --speed --only msg --only mtg** prints millions of pixels in a second in fp32 and bf16, on the
    device and from host memory, and how far that is from what the arithmetic of the machine would allow.
    """
    if speed:
        from mapper.benchmark.speed import Load, measure_speed, to_text

        speeds = measure_speed(only or (), load=Load(device=device), notify=notify)
        print_json([entry.to_row() for entry in speeds]) if as_json else typer.echo(to_text(speeds, device=device))
        return
    cards = [read_card(ModelSpec(name=name)) for name in model_names()]
    if as_json:
        print_json([json.loads(card.to_json()) for card in cards])
        return
    rows = ([card.name, *describe_card(card).values()] for card in cards)
    print_table("models", ("name", *describe_card(cards[0])), rows)
    from mapper.models.architectures import ARCHITECTURES

    made = (
        (name, f"{network.__module__}.{network.__name__}", "yes" if network.tile_exact else "no: sees a whole patch")
        for name, network in ARCHITECTURES.items()
    )
    print_table("architectures, to be trained", ("name", "network", "makes maps"), made)


def _evaluate_suite(
    name: str, work: Path | None, data: Path | None, methods: Sequence[str], *, slow: bool, as_json: bool
) -> None:
    from mapper.benchmark.result_files import to_text, write_report
    from mapper.benchmark.runner import run_suite
    from mapper.benchmark.suite import read_suite

    work = work or Path("benchmark") / Path(name).stem
    suite = read_suite(name, work=work, folder=data)
    report = run_suite(suite, work=work, methods=methods, include_slow=slow, notify=notify)
    files = write_report(report, work)
    print_json(report.to_dict()) if as_json else typer.echo(to_text(report))
    notify(f"wrote {', '.join(files)} to {work}")
