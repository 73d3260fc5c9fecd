"""Speed of each architecture, and its distance from what the arithmetic of the machine would allow.

Untrained networks in their published configurations are measured: what they cost does not hang on what they learnt.
On a CPU everything is measured with one thread, as a map is made: several windows at once fill the other cores. Of
several calls the fastest counts: whatever else a machine is doing can only slow it down.
"""

import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from mapper.errors import SpecError
from mapper.evaluation.tables import Cell, Column, to_markdown
from mapper.models.architectures import ARCHITECTURES, build_network
from mapper.models.card import INTERPOLATIONS
from mapper.models.contract import BandNorm, Contract, Input, make_inputs, make_outputs
from mapper.models.model import GuidedModel, Model, Tensors
from mapper.models.stack_model import adapt
from mapper.models.weights import count_parameters, load_model
from mapper.predict.predictor import Predictor
from mapper.spec import ModelSpec
from mapper.training.sample import Sample
from mapper.training.trainer import predict_sample

Precision = Literal["fp32", "bf16"]

GUIDE_CHANNELS = 15
"""4 of Sentinel-1 and 11 of Sentinel-2: the guide that published speeds refer to."""
SCALES = (8, 10)

_COUNT_SCENE_PX = 128
_COUNT_PX = 64
"""Operations are counted on patches of about this edge."""
_COLUMNS = (
    Column(key="scale", title="scale"),
    Column(key="precision", title="precision"),
    Column(key="parameters", title="parameters"),
    Column(key="macs", title="MAC/px", digits=0),
    Column(key="device", title="on device", units="Mpx/s"),
    Column(key="host", title="from host memory", units="Mpx/s"),
    Column(key="floor", title="arithmetic alone", units="Mpx/s"),
    Column(key="ratio", title="times slower than that", digits=1),
)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One architecture at one scale and precision."""

    architecture: str
    scale: int
    precision: Precision
    parameters: int
    macs: float
    """Multiply-accumulates of convolutions and matrix products, per target pixel."""
    device_mpx: float
    """Millions of target pixels in a second, tensors on the device."""
    host_mpx: float
    """Millions of target pixels in a second from arrays in memory to arrays in memory."""
    peak_macs: float
    """Multiply-accumulates in a second that the device reached in this run, in large products and convolutions."""

    @property
    def floor_mpx(self) -> float:
        """Millions of target pixels in a second by these multiply-accumulates alone; infinite without any."""
        return self.peak_macs / self.macs / 1e6 if self.macs else float("inf")

    @property
    def ratio(self) -> float:
        """Factor by which it is slower than the arithmetic alone; NaN without any."""
        return self.floor_mpx / self.device_mpx if self.macs else float("nan")

    def to_row(self) -> dict[str, Cell]:
        """Return a row of a table, or for JSON."""
        return {
            "method": self.architecture,
            "scale": self.scale,
            "precision": self.precision,
            "parameters": self.parameters,
            "macs": self.macs,
            "device": self.device_mpx,
            "host": self.host_mpx,
            "floor": self.floor_mpx if self.macs else None,
            "ratio": self.ratio if self.macs else None,
        }


@dataclass(frozen=True, kw_only=True)
class Load:
    """Amount that is measured at once; None takes what suits the device."""

    device: str = "auto"
    patch_px: int | None = None
    """Edge of a network input."""
    window_px: int | None = None
    """Edge of a window from host memory; on a GPU it takes several patches, with their halos."""
    batch: int | None = None
    seconds: float = 1.0
    """Least time of each measurement, after a first run that is not counted."""
    guide_channels: int = GUIDE_CHANNELS

    def sizes(self, device: torch.device) -> tuple[int, int, int]:
        """Return edges of patch and window, in pixels, and the batch."""
        patch, window, batch = (512, 2048, 4) if device.type == "cuda" else (256, 256, 1)
        return self.patch_px or patch, self.window_px or window, self.batch or batch


def architecture_names() -> list[str]:
    """Return the names that can be measured."""
    guided = (name for name, network in ARCHITECTURES.items() if not getattr(network, "stacked", False))
    return [*INTERPOLATIONS, *sorted(guided)]


def measure_speed(
    names: Sequence[str] = (),
    *,
    scales: Sequence[int] = SCALES,
    precisions: Sequence[Precision] = ("fp32", "bf16"),
    load: Load | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> list[Speed]:
    """Measure architectures.

    Args:
        names: Which; all by default.
        scales: Source pixel / target pixel.
        precisions: ``bf16`` is autocast, as :class:`~mapper.predict.predictor.Predictor` does it.
        load: How much at once.
        notify: Gets a line on each measurement.

    Raises:
        SpecError: If a name is unknown.
    """
    load = load or Load()
    unknown = [name for name in names if name not in architecture_names()]
    if unknown:
        raise SpecError(f"no architecture {', '.join(unknown)}: there are {', '.join(architecture_names())}")
    device = Predictor(load_model(ModelSpec(name="nearest")), device=load.device).device
    speeds: list[Speed] = []
    for precision in precisions:
        peak = measure_peak(device, precision, seconds=load.seconds)
        measured: list[Speed] = []
        for name in names or architecture_names():
            for scale in scales:
                measured.append(_measure(name, scale, precision, device, load, peak))
                notify(f"{name} x{scale} {precision}: {measured[-1].device_mpx:.3f} Mpx/s")
        # a machine that others use too may have been slower at first
        peak = max(peak, measure_peak(device, precision, seconds=load.seconds))
        notify(f"{describe_device(device)}, {precision}: {peak / 1e12:.3f} T multiply-accumulates in a second")
        speeds += [replace(speed, peak_macs=peak) for speed in measured]
    return speeds


def to_text(speeds: Sequence[Speed], *, device: str = "auto") -> str:
    """Return the measurements as a Markdown table, below the device they were made on."""
    used = Predictor(load_model(ModelSpec(name="nearest")), device=device).device
    table = to_markdown([speed.to_row() for speed in speeds], _COLUMNS)
    return f"{describe_device(used)}, torch {torch.__version__}; {GUIDE_CHANNELS} guide channels\n\n{table}"


def describe_device(device: torch.device) -> str:
    """Return the name of a device, and of a CPU the number of threads that are measured."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {platform.machine()}, 1 thread"


def measure_peak(device: torch.device, precision: Precision, *, seconds: float = 1.0) -> float:
    """Return multiply-accumulates in a second of a large matrix product or convolution, whichever does more."""
    edge, side = (8192, 512) if device.type == "cuda" else (1024, 128)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.rand(2, edge, edge, device=device).to(dtype)
    image = torch.rand(1, 128, side, side, device=device).to(dtype, memory_format=torch.channels_last)
    kernel = torch.rand(128, 128, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
    with arithmetic(device, precision):
        product = edge**3 / min(_time(lambda: a @ b, device, seconds))
        convolution = (
            128 * 128 * 9 * side**2 / min(_time(lambda: torch.conv2d(image, kernel, padding=1), device, seconds))
        )
    return max(product, convolution)


def count_macs(model: Model, scale: int, guide_channels: int) -> float:
    """Return multiply-accumulates per target pixel, counted while a patch goes through."""
    step = model.contract.step(scale)
    edge = -(-_COUNT_PX // step) * step
    inputs = _inputs(1, guide_channels, edge, scale, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs)
    return float(counter.get_total_flops()) / 2 / edge**2


def count_sample_macs(name: str, scale: int, *, bands: int, steps: int) -> float:
    """Return multiply-accumulates per target pixel of one sample of all bands, by an untrained network of any bands.

    Back-projection before it has no weights and is not counted: some hundred sums for each pixel and band.

    Args:
        name: Architecture that draws samples.
        scale: Source pixel / target pixel.
        bands: Bands that are drawn.
        steps: Steps in which they are.
    """
    network = build_network(name, guide_channels=0, scale=scale, options={})
    source = Input(role="source", px=0)
    contract = Contract(
        model=name, inputs=(source,), outputs=(), scale=scale, halo_px=network.halo_px, noise_bands=1, band_sd=True
    )
    edge = -(-_COUNT_PX // scale)
    inputs = {
        "guide": torch.empty(1, 1, 0, edge * scale, edge * scale),
        "source": torch.rand(1, 1, bands, edge, edge),
        "noise": torch.randn(1, steps, bands, edge * scale, edge * scale),
    }
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        adapt(network, contract)(inputs)
    return float(counter.get_total_flops()) / 2 / (edge * scale) ** 2


def count_scene_macs(model: Model, sample: Sample, *, samples: int | None, steps: int | None) -> float:
    """Return multiply-accumulates per target pixel, of all bands, of what is predicted of a scene.

    They are counted on a corner of it: of a model that looks at a whole patch, whose attention grows with it, a bound
    from below.

    Args:
        model: That fits the scene.
        sample: The scene.
        samples: Number that are drawn, all of which count; None where the model is asked without noise.
        steps: In which each is drawn; None takes what its card says.
    """
    corner = sample.cut_corner(_COUNT_SCENE_PX)
    with FlopCounterMode(display=False) as counter:
        predict_sample(model, corner, device="cpu", samples=samples, steps=steps)
    return float(counter.get_total_flops()) / 2 / math.prod(corner.truth.shape[-2:])


@contextmanager
def arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Calculate as a map is calculated: no gradients, on a CPU one thread, on a GPU no TF32 in fp32."""
    threads = torch.get_num_threads()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"))
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=precision != "fp32"))
        else:
            torch.set_num_threads(1)
            stack.callback(torch.set_num_threads, threads)
        yield


def _measure(name: str, scale: int, precision: Precision, device: torch.device, load: Load, peak: float) -> Speed:
    model, parameters = _make(name, scale, load.guide_channels)
    macs = count_macs(model, scale, load.guide_channels)
    patch_px, window_px, batch = load.sizes(device)
    step = model.contract.step(scale)
    edge, window = (-(-size // step) * step for size in (patch_px, window_px))
    predictor = Predictor(model, device=str(device), precision=precision, patch_px=edge, batch=batch)
    inputs = _inputs(batch, load.guide_channels, edge, scale, device)
    with arithmetic(device, precision):
        on_device = min(_time(lambda: model(inputs), device, load.seconds))
    whole = _inputs(1, load.guide_channels, window, scale, torch.device("cpu"))
    arrays = {role: tensor[0].numpy() for role, tensor in whole.items()}
    from_host = min(_time(lambda: predictor.predict(arrays), device, load.seconds))
    return Speed(
        architecture=name,
        scale=scale,
        precision=precision,
        parameters=parameters,
        macs=macs,
        device_mpx=batch * edge**2 / on_device / 1e6,
        host_mpx=window**2 / from_host / 1e6,
        peak_macs=peak,
    )


def _make(name: str, scale: int, guide_channels: int) -> tuple[Model, int]:
    """Make an untrained model in its published configuration; return it and its number of parameters."""
    if name in INTERPOLATIONS:
        return load_model(ModelSpec(name=name)), 0
    network = build_network(name, guide_channels=guide_channels, scale=scale, options={})
    contract = Contract(
        model=name,
        inputs=make_inputs(
            tuple(BandNorm(name=f"band {number}", units="1") for number in range(guide_channels)),
            BandNorm(name="source", units="1"),
        ),
        outputs=make_outputs("target", "1", gives_sd=network.gives_sd),
        scale=scale,
        halo_px=network.halo_px,
        align_px=network.align_px,
        sees_source_sd=network.sees_source_sd,
        tile_exact=network.tile_exact,
    )
    return GuidedModel(network, contract).eval(), count_parameters(network)


def _inputs(batch: int, channels: int, edge: int, scale: int, device: torch.device) -> Tensors:
    """Return a random guide, source and standard deviation of the source, by role."""
    random = torch.Generator().manual_seed(0)
    guide = torch.rand(batch, channels, edge, edge, generator=random)
    source, sd = torch.rand(2, batch, 1, edge // scale, edge // scale, generator=random)
    images = {"guide": guide, "source": source, "source.sd": sd}
    return {role: t.to(device, memory_format=torch.channels_last)[:, None] for role, t in images.items()}


def _time(call: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """Return the seconds of each of the calls that together take so long."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    call()
    wait()
    taken: list[float] = []
    while sum(taken) < seconds or not taken:
        start = time.perf_counter()
        call()
        wait()
        taken.append(time.perf_counter() - start)
    return taken
