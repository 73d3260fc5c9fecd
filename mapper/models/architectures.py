"""Networks by name, those of other packages among them: entry points of the group ``mapper.models``."""

from collections.abc import Mapping
from typing import Any

from mapper.errors import WeightsError
from mapper.models.band_fusion import BandFusion
from mapper.models.bare_earth import BareEarth
from mapper.models.burst_fusion import BurstFusion
from mapper.models.dkn import DKN, FDKN
from mapper.models.edsr import EDSR
from mapper.models.ensemble import Ensemble
from mapper.models.fdsr import FDSR
from mapper.models.flow_s2 import FlowS2
from mapper.models.highres_net import HighResNet
from mapper.models.hrnet import HRNet
from mapper.models.joint_bilateral import JointBilateral
from mapper.models.jspsr import JSPSR
from mapper.models.latent_diffusion import LatentDiffusion
from mapper.models.model import Network
from mapper.models.msg import MSG
from mapper.models.mtg import MTG
from mapper.models.piunet import PIUnet
from mapper.models.pixelwise import Pixelwise
from mapper.models.srresnet import SRResNet, SRResNetOfBands
from mapper.models.stacked_dates import StackedDates
from mapper.models.unet import UNet
from mapper.registry import Registry

ARCHITECTURES: Registry[type[Network]] = Registry(
    "mapper.models",
    {
        "band-fusion": BandFusion,
        "bare-earth": BareEarth,
        "burst-fusion": BurstFusion,
        "dkn": DKN,
        "edsr": EDSR,
        "fdkn": FDKN,
        "fdsr": FDSR,
        "flow-s2": FlowS2,
        "highres-net": HighResNet,
        "hrnet": HRNet,
        "joint-bilateral": JointBilateral,
        "jspsr": JSPSR,
        "latent-diffusion": LatentDiffusion,
        "msg": MSG,
        "mtg": MTG,
        "piunet": PIUnet,
        "pixelwise": Pixelwise,
        "srresnet": SRResNet,
        "srresnet-bands": SRResNetOfBands,
        "stacked": StackedDates,
        "unet": UNet,
    },
    kind=type[Network],
)
"""Network by name of its architecture; called with guide channels, scale and options."""


def build_network(architecture: str, *, guide_channels: int, scale: int, options: Mapping[str, Any]) -> Network:
    """Return an untrained network.

    Args:
        architecture: One of :data:`ARCHITECTURES`.
        guide_channels: Channels of the guide.
        scale: Source pixel / target pixel.
        options: Of the architecture; ``members`` above 1 makes an ensemble of so many.

    Raises:
        WeightsError: If the architecture is unknown or does not take the options.
        InputError: If a package offers an architecture that cannot be imported.
    """
    if architecture not in ARCHITECTURES:
        raise WeightsError(f"unknown architecture {architecture!r}: expected one of {', '.join(sorted(ARCHITECTURES))}")
    own = {name: value for name, value in options.items() if name != "members"}
    members = int(options.get("members", 1))
    try:
        networks = [ARCHITECTURES[architecture](guide_channels, scale, **own) for _ in range(members)]
        return networks[0] if members == 1 else Ensemble(networks)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"architecture {architecture} does not take {dict(options)}: {error}") from error
