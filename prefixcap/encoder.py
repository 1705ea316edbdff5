"""Images become embeddings (B, D) or patch tokens (B, N, D), by one frozen encoder of any kind."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from prefixcap.clip_resnet import ClipResNet, ClipResNetSizes
from prefixcap.config import EncoderConfig, PreprocessConfig
from prefixcap.encoder_names import (
    clip_resnet_file,
    imagenet_resnet_file,
    mobilenet_file,
    names_int8,
    resolve_encoder,
    sizes_beside,
    sizes_of,
)
from prefixcap.errors import InputError
from prefixcap.hub import CONFIG_FILE, model_file
from prefixcap.imagenet_resnet import ImageNetResNet, ResNetSizes, sizes_named
from prefixcap.mbconv import MbConvNet
from prefixcap.mobilenet import MobileNetV2
from prefixcap.preprocess import pixels, preprocess_from_folder
from prefixcap.resnet import ResNet
from prefixcap.tensor_files import read_tensors
from prefixcap.transformer_encoders import (
    TransformerEncoder,
    build_transformer,
    load_transformer,
    transformer_of,
)

__all__ = ["ImageEncoder", "StatedEncoder", "build_encoder", "load_encoder", "resolve_encoder"]

# Input of MobileNetV2's int8 weights: level / 127.5 - 1, the whole photo squashed to 224 pixels.
MOBILENET_PREPROCESS = PreprocessConfig(
    resize="squash", resample="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)
# Input of torchvision's ResNets and MobileNetV2, and of timm's copies of them (tv_in1k).
IMAGENET_PREPROCESS = PreprocessConfig(
    crop_px=224,
    resize_px=256,
    resample="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
CONVOLUTIONS = {"clip_resnet", "imagenet_resnet", "resnet", "mbconv", "mobilenetv2"}
SMALL_BATCH, BATCH, GPU_BATCH = 8, 32, 256  # benchmarks/embeddings.py compares them
STATED = {"kind", "name", "revision", "output", "normalize"}  # what stated vectors depend on


class ImageEncoder(nn.Module):
    """A network with its preprocessing, what is taken from it, and whether that is normalised.

    The network is any module with `forward(pixels (B, 3, S, S)) -> (pooled (B, D), patches
    (B, N, D))` and `embedding_dim(output) -> int`.
    """

    def __init__(self, config: EncoderConfig, network: nn.Module) -> None:
        """`config.preprocess` has to be filled in.

        Raises:
            InputError: the photos would be cut to another size than the network takes.
        """
        super().__init__()
        if config.preprocess is None:
            raise ValueError(f"encoder {config.kind}: its preprocessing is not filled in")
        needed, found = getattr(network, "image_size", None), config.preprocess.crop_px
        if needed not in (None, found):
            raise InputError(
                f"encoder {config.name or config.kind}: takes {needed} px images, its "
                f"preprocessing gives {found} px. Set encoder.preprocess.crop_px={needed}"
            )
        self.config = config
        self.network = network
        self.embedding_dim: int = network.embedding_dim(config.output)
        self._cast_digests: tuple[str, str] | None = None  # of the weights after and before

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Embeddings (B, D) or patch tokens (B, N, D), float32, from pixels (B, 3, S, S).

        Pixels are normalised, of any float type; they are brought to that of the weights. With
        `config.mirrored` and in evaluation mode it is the mean over the photo and its mirror image.
        """
        seen = self._seen(pixel_values)
        if self.config.mirrored and not self.training:
            mirrored = self._seen(pixel_values.flip(3))
            if mirrored.ndim == 3:  # the patches of each row come from right to left
                side = math.isqrt(mirrored.shape[1])
                mirrored = mirrored.unflatten(1, (side, side)).flip(2).flatten(1, 2)
            seen = (seen + mirrored) / 2
        return F.normalize(seen, dim=-1) if self.config.normalize else seen

    def _seen(self, pixel_values: Tensor) -> Tensor:
        """What the network gives, pooled (B, D) or patches (B, N, D), float32."""
        pooled, patches = self.network(pixel_values.to(self.dtype))
        return (patches if self.config.output == "patches" else pooled).float()

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """Embeddings (B, D) or patch tokens (B, N, D), float32, of upright RGB images."""
        if not images:
            raise ValueError("encode() needs at least one image")
        batch = np.stack([pixels(image, self.config.preprocess) for image in images])
        return self(torch.from_numpy(batch).to(self.device))

    @property
    def dtype(self) -> torch.dtype:
        """Type that the network computes in."""
        return next(self.network.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device that the network is on."""
        return next(self.network.parameters()).device

    def cast(self, dtype: torch.dtype, device: str | torch.device = "cpu") -> "ImageEncoder":
        """This encoder, computing in `dtype` on `device`; its fingerprint stays that of float32."""
        if dtype == self.dtype:
            return self.to(device=device)
        before = self._weights_digest()
        self.to(device=device, dtype=dtype)
        self._cast_digests = (_digest(self.network), before)
        return self

    def fingerprint(self) -> str:
        """Hash, 64 hexadecimal digits, of all that its embeddings depend on.

        Kind, architecture, weights, preprocessing, output and normalisation; not the type or device
        that it computes in, so that a store made in bfloat16 serves a model that runs in float32.
        """
        facts = {
            "kind": self.config.kind,
            "architecture": getattr(self.network, "architecture", ""),
            "preprocess": self.config.preprocess.model_dump(mode="json"),
            "output": self.config.output,
            "normalize": self.config.normalize,
            "weights": self._weights_digest(),
        }
        if self.config.mirrored:
            facts["mirrored"] = True
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def network_settings(self) -> dict[str, Any] | None:
        """What a network is built by that its `config` does not say, for `build_encoder`."""
        if isinstance(self.network, TransformerEncoder):
            return json.loads(self.network.model.config.to_json_string(use_diff=False))
        if isinstance(self.network, ClipResNet | ImageNetResNet):
            return asdict(self.network.sizes)
        return None

    def _weights_digest(self) -> str:
        """Hash of the weights, as they were before `cast` unless they changed after it."""
        digest = _digest(self.network)
        if self._cast_digests and self._cast_digests[0] == digest:
            return self._cast_digests[1]
        return digest


def fitting_batch(encoder: ImageEncoder) -> int:
    """Images encoded at a time: what is fast on the encoder's device.

    On a CPU the layers of a convolution network stay in the cache if few images pass at a time.
    """
    if encoder.device.type != "cpu":
        return GPU_BATCH
    return SMALL_BATCH if encoder.config.kind in CONVOLUTIONS else BATCH


class StatedEncoder(ImageEncoder):
    """An encoder whose vectors are at hand and whose weights are not; it encodes nothing.

    A model that is trained with it names the encoder, whose weights are then needed for photos.
    """

    def __init__(self, config: EncoderConfig) -> None:
        """`config.stated_dim` has to be filled in."""
        nn.Module.__init__(self)
        if config.stated_dim is None:
            raise ValueError(f"encoder {config.name}: its width is not stated")
        self.config = config.model_copy(update={"stated_dim": None})
        self.embedding_dim = config.stated_dim

    def forward(self, pixel_values: Tensor) -> NoReturn:
        """Nothing.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"encoder {self.config.name}: only its width is stated (encoder.stated_dim), so no "
            "photo can be encoded. Give a store or store_from with vectors of all photos, or leave "
            "stated_dim out where its weights can be had"
        )

    def fingerprint(self) -> str:
        """Hash, 64 hexadecimal digits, of what is said of the encoder."""
        facts = {**self.facts(), "dim": self.embedding_dim}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def facts(self) -> dict[str, str | bool | None]:
        """What its vectors depend on, as far as it is known."""
        return self.config.model_dump(mode="json", include=STATED)

    @property
    def dtype(self) -> torch.dtype:
        """Type of its vectors in computations."""
        return torch.float32

    @property
    def device(self) -> torch.device:
        """The CPU, where stores are read."""
        return torch.device("cpu")


def load_encoder(
    config: EncoderConfig, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> ImageEncoder:
    """Encoder with its weights, in evaluation mode, frozen; `config.preprocess` is filled in.

    Raises:
        InputError: the weights cannot be found or read, a tensor is missing or of another shape,
            or they are those of another kind of model.
    """
    if config.is_trained_here:
        raise InputError(
            f"an encoder of kind {config.kind!r} has its weights in a model folder or a run; "
            "load that model, or train it: prefixcap train RECIPE"
        )
    if not config.name:
        raise InputError(f"encoder {config.kind}: has no name; give a hub name, folder or file")
    network = _load_network(config)
    return _wrapped(config, network).eval().requires_grad_(False).cast(dtype, device)


def build_encoder(config: EncoderConfig, settings: Path | None = None) -> ImageEncoder:
    """Encoder with random weights, to be trained or filled from a model's `encoder.*` tensors.

    `settings` is a file of `ImageEncoder.network_settings`; None: sizes follow from `config`, or
    from the files that it names.

    Raises:
        InputError: its sizes cannot be found.
    """
    if settings is not None:
        return _wrapped(config, _network_of(config, settings))
    if config.kind == "resnet" and config.resnet is not None:
        return _wrapped(config, ResNet(config.resnet))
    if config.kind == "mbconv" and config.mbconv is not None:
        return _wrapped(config, MbConvNet(config.mbconv))
    if config.kind == "mobilenetv2":
        return _wrapped(config, MobileNetV2(symmetric=not names_int8(config.name)))
    if config.kind == "clip_resnet":
        return _wrapped(config, ClipResNet(sizes_of(config.name)))
    if config.kind == "imagenet_resnet":
        return _wrapped(config, ImageNetResNet(sizes_named(config.name)))
    file = model_file(config.name, CONFIG_FILE, config.revision)
    if file is None:
        raise InputError(f"{config.name}: has no {CONFIG_FILE}, which says the encoder's sizes")
    return _wrapped(config, build_transformer(config.kind, file.parent, config.name))


def stored_encoder(config: EncoderConfig, settings: Path | None) -> ImageEncoder | None:
    """Frozen encoder to be filled from its model's own file; None where its weights are elsewhere.

    `settings` as in `build_encoder`.

    Raises:
        InputError: its sizes cannot be found.
    """
    return build_encoder(config, settings).requires_grad_(False) if config.stored else None


def _network_of(config: EncoderConfig, settings: Path) -> nn.Module:
    """Network of a kind with weights still to come, built by what it was saved with.

    Raises:
        InputError: the file is damaged, or of a network of another kind.
    """
    try:
        values = json.loads(settings.read_text(encoding="utf-8"))
        if config.kind == "clip_resnet":
            return ClipResNet(ClipResNetSizes(**{**values, "layers": tuple(values["layers"])}))
        if config.kind == "imagenet_resnet":
            return ImageNetResNet(ResNetSizes(**{**values, "depths": tuple(values["depths"])}))
        return transformer_of(config.kind, values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{settings}: are no settings of an encoder of kind {config.kind!r} ({error}); copy it "
            "again"
        ) from error


def _load_network(config: EncoderConfig) -> nn.Module:
    """Network of a kind with its weights."""
    if config.kind == "mobilenetv2":
        if names_int8(config.name):
            return MobileNetV2.from_int8_npz(Path(config.name).expanduser())
        file = mobilenet_file(config.name, config.revision)
        return MobileNetV2.from_tensors(read_tensors(file), str(file))
    if config.kind == "clip_resnet":
        file = clip_resnet_file(config.name, config.revision)
        tensors = read_tensors(file)
        return ClipResNet.from_tensors(tensors, str(file), heads=sizes_beside(file))
    if config.kind == "imagenet_resnet":
        file = imagenet_resnet_file(config.name, config.revision)
        return ImageNetResNet.from_tensors(read_tensors(file), str(file))
    return load_transformer(config.kind, config.name, config.revision)


def _wrapped(config: EncoderConfig, network: nn.Module) -> ImageEncoder:
    """Encoder around a network, with the network's own preprocessing where none is set."""
    preprocess = config.preprocess or _own_preprocess(config, network)
    return ImageEncoder(config.model_copy(update={"preprocess": preprocess}), network)


def _own_preprocess(config: EncoderConfig, network: nn.Module) -> PreprocessConfig:
    """Preprocessing that a network's weights were trained with."""
    if config.kind == "mobilenetv2":
        return MOBILENET_PREPROCESS if names_int8(config.name) else IMAGENET_PREPROCESS
    if config.kind == "imagenet_resnet":
        return IMAGENET_PREPROCESS
    if isinstance(network, ClipResNet):
        size = network.sizes.image_size
        return PreprocessConfig(crop_px=size, resize_px=size)
    if config.is_trained_here:
        raise InputError(
            f"encoder of kind {config.kind!r}: set its [encoder.preprocess], such as crop_px"
        )
    return preprocess_from_folder(config.name, config.revision)


def _digest(network: nn.Module) -> str:
    """Hash of the names, shapes and float32 values of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue  # counts training steps, plays no part in an embedding
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()
