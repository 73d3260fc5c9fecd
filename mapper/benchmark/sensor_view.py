"""What the sensor of a scene sees of a finer image, and how an image is tied to what it saw."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from mapper.arrays import Float32Array, Float64Array, FloatArray
from mapper.evaluation.fidelity import find_residual
from mapper.models.weights import load_model
from mapper.spec import ModelSpec
from mapper.synthetic.bursts import PROTOCOL_SD, degrade
from mapper.training.sample import Sample
from mapper.training.scene_config import PsfConfig
from mapper.training.trainer import predict_sample


@dataclass(frozen=True, kw_only=True)
class SensorView:
    """A sensor that sees one band of a target through its point spread function, edges reflected."""

    scale: int
    psf: PsfConfig

    @classmethod
    def of(cls, sample: Sample) -> "SensorView":
        """Return that of a site as methods know it: what its data declare, or that of published tables."""
        published = PsfConfig(sd=PROTOCOL_SD, aperture_px=2 - sample.scale % 2)
        return cls(scale=sample.scale, psf=sample.psf or published)

    @classmethod
    def which_made(cls, sample: Sample) -> "SensorView":
        """Return the one that the source of a site was simulated through; where it was not, that of :meth:`of`."""
        if sample.seen_through is None:
            return cls.of(sample)
        return cls(scale=sample.scale, psf=sample.seen_through)

    def apply(self, value: FloatArray) -> Float64Array:
        """Return what it sees of a target (y, x): (y / scale, x / scale), NaN where that is missing nearby."""
        seen = degrade(value[None], self.scale, psf_sd=self.psf.sd, aperture_px=self.psf.aperture_px)
        return np.asarray(seen[0], np.float64)


def tie_to_source(value: Float32Array, sample: Sample, *, rounds: int) -> Float32Array:
    """Return an image (band, y, x) after rounds of back-projection, which the sensor sees more and more as it saw."""
    return next(islice(tie_by_rounds(value, sample), rounds, None))


def tie_by_rounds(value: Float32Array, sample: Sample) -> Iterator[Float32Array]:
    """Return an image (band, y, x), and what each round makes of it: x += bicubic(source - seen)."""
    views = [SensorView.of(sample)] * len(sample.source)
    while True:
        yield value
        residual = np.nan_to_num(find_residual(value, sample.source, views)).astype(np.float32)
        value = value + interpolate(replace(sample, source=residual))


def interpolate(sample: Sample) -> Float32Array:
    """Return the source of a scene, interpolated bicubically, (band, y, x)."""
    return predict_sample(load_model(ModelSpec(name="bicubic")), replace(sample, stack=None)).mean
