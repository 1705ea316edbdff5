"""Names of encoders: OpenAI's short ones, hub names, folders and files; and where weights lie."""

import json
import re
from pathlib import Path

from prefixcap.clip_resnet import OPENAI_SIZES, ClipResNetSizes
from prefixcap.config import EncoderConfig
from prefixcap.errors import InputError
from prefixcap.hub import CONFIG_FILE, looks_local, model_file
from prefixcap.imagenet_resnet import SIZES as IMAGENET_RESNETS
from prefixcap.transformer_encoders import kind_of, model_type

OPENAI_VITS = {
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
}
# OpenAI's ResNets as the timm authors republished them, under OpenAI's weight names.
OPENAI_RESNETS = {
    "RN50": "timm/resnet50_clip.openai",
    "RN101": "timm/resnet101_clip.openai",
    "RN50x4": "timm/resnet50x4_clip.openai",
    "RN50x16": "timm/resnet50x16_clip.openai",
    "RN50x64": "timm/resnet50x64_clip.openai",
}
RESNET_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
OPENAI_CACHE = Path("~/.cache/clip")  # where OpenAI's own package keeps RN50.pt and the others
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
# torchvision's first ImageNet weights, as torch.hub keeps them; timm's tv_in1k are the same.
TORCHVISION_FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
}
MOBILENET_NAME = re.compile(r"mobilenet_v2(?:[.-].*)?|(?:timm/)?mobilenetv2_100(?:[.-].*)?")
TORCHVISION_MOBILENET = "mobilenet_v2-b0353104.pth"  # its first weights
TORCHVISION_CACHE = Path("~/.cache/torch/hub/checkpoints")
TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
IMAGENET_RESNET_NAME = re.compile(r"(?:timm/)?resnet(?:18|34|50|101|152)(?:[.-].*)?")


def resolve_encoder(name: str) -> EncoderConfig:
    """Encoder that a name means.

    A name is one of OpenAI's ("ViT-B/32", "RN50x4"), a hub name or folder of a CLIP, SigLIP or
    DINOv2 model, a weights file of a CLIP ResNet, a ResNet of torchvision or timm ("resnet50",
    "timm/resnet50.a1_in1k", a file called so), or MobileNetV2: "mobilenet_v2",
    "timm/mobilenetv2_100.ra_in1k", a file called so, or an npz of int8 weights.

    Raises:
        InputError: the name means none of these, or the hub is needed to tell and is not there.
    """
    if name in OPENAI_VITS:
        return EncoderConfig(kind="clip", name=OPENAI_VITS[name])
    if name in OPENAI_RESNETS:
        return EncoderConfig(kind="clip_resnet", name=name)
    path = Path(name).expanduser()
    if IMAGENET_RESNET_NAME.fullmatch(path.name if looks_local(name) else name):
        return EncoderConfig(kind="imagenet_resnet", name=name)
    if MOBILENET_NAME.fullmatch(path.name if looks_local(name) else name):
        return EncoderConfig(kind="mobilenetv2", name=name)
    if path.suffix in WEIGHT_SUFFIXES and not path.is_dir():
        return EncoderConfig(kind="clip_resnet", name=name)
    if names_int8(name):
        return EncoderConfig(kind="mobilenetv2", name=name)
    kind = _kind_by_name(name) or _kind_by_config(name)
    return EncoderConfig.model_validate({"kind": kind, "name": name})


def clip_resnet_file(name: str, revision: str | None = None) -> Path:
    """Weights file of a CLIP ResNet: a path, or one of OpenAI's names.

    OpenAI's files are looked for where its own package keeps them, then on the hub.

    Raises:
        InputError: there is no such file, and the name is none of OpenAI's or the hub is away.
    """
    if name not in OPENAI_RESNETS:
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise InputError(
            f"{name}: no such file; expected weights of a CLIP ResNet (.pt, .safetensors) or one "
            f"of {', '.join(OPENAI_RESNETS)}"
        )
    cached = OPENAI_CACHE.expanduser() / f"{name}.pt"
    if cached.is_file():
        return cached
    for filename in RESNET_FILES:
        found = _resnet_from_hub(name, filename, revision)
        if found is not None:
            return found
    raise InputError(f"{name}: {OPENAI_RESNETS[name]} on the hub has no {RESNET_FILES[0]}")


def imagenet_resnet_file(name: str, revision: str | None = None) -> Path:
    """Weights file of a ResNet trained on ImageNet: a path, a folder, a hub name, or "resnet50".

    A bare name means torchvision's first weights: from torch.hub's cache, else timm's copy of them.

    Raises:
        InputError: there is no such file, or the hub is away.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if name in IMAGENET_RESNETS:
        cached = TORCHVISION_CACHE.expanduser() / TORCHVISION_FILES[name]
        if cached.is_file():
            return cached
        name = f"timm/{name}.tv_in1k"
    found = _timm_file(name, revision)
    if found is not None:
        return found
    raise InputError(
        f"{name}: has no {TIMM_FILES[0]}; give a weights file of torchvision, or one of "
        f"{', '.join(IMAGENET_RESNETS)}"
    )


def _timm_file(name: str, revision: str | None) -> Path | None:
    """Weights that timm saved in a folder or on the hub, None where there are none."""
    found = (model_file(name, filename, revision) for filename in TIMM_FILES)
    return next((path for path in found if path is not None), None)


def names_int8(name: str | None) -> bool:
    """Whether a MobileNetV2's name is that of an npz of int8 weights."""
    return Path(name or "").suffix == ".npz"


def mobilenet_file(name: str, revision: str | None = None) -> Path:
    """Weights file of a MobileNetV2: a path, a folder, a hub name, or "mobilenet_v2".

    The last means torchvision's first weights, from torch.hub's cache.

    Raises:
        InputError: there is no such file, or the hub is away.
    """
    path = Path(name).expanduser()
    if name == "mobilenet_v2" and not path.exists():
        path = TORCHVISION_CACHE.expanduser() / TORCHVISION_MOBILENET
    if path.is_file():
        return path
    found = None if name == "mobilenet_v2" else _timm_file(name, revision)
    if found is not None:
        return found
    raise InputError(
        f"{name}: no weights of MobileNetV2 there ({path}); give torchvision's file "
        f"{TORCHVISION_MOBILENET}, timm/mobilenetv2_100.ra_in1k, or an npz of int8 weights"
    )


def sizes_of(name: str) -> ClipResNetSizes:
    """Sizes of a CLIP ResNet by OpenAI's name.

    Raises:
        InputError: it is none of OpenAI's.
    """
    if name in OPENAI_SIZES:
        return OPENAI_SIZES[name]
    raise InputError(
        f"encoder clip_resnet {name!r}: its sizes are known from its weights only; load it from "
        f"its file, or name one of {', '.join(OPENAI_SIZES)}"
    )


def sizes_beside(file: Path) -> int | None:
    """Number of attention heads that a JSON file beside a weights file tells, if there is one.

    No weight's shape tells it. OpenAI's models have one head per 64 of width, which is assumed
    where nothing else is said.

    Raises:
        InputError: the JSON file is damaged or its heads are no number.
    """
    beside = file.with_suffix(".json")
    if not beside.is_file():
        return None
    try:
        heads = json.loads(beside.read_text(encoding="utf-8")).get("heads")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{beside}: is not a JSON object of sizes ({error})") from error
    if heads is not None and (not isinstance(heads, int) or heads < 1):
        raise InputError(f"{beside}: heads is {heads!r}, expected a whole number above 0")
    return heads


def _resnet_from_hub(name: str, filename: str, revision: str | None) -> Path | None:
    """A file of OpenAI's ResNet on the hub, None where it is not there."""
    try:
        return model_file(OPENAI_RESNETS[name], filename, revision)
    except InputError as error:
        where = OPENAI_CACHE / f"{name}.pt"
        raise InputError(
            f"{name}: is not at {where}, and {OPENAI_RESNETS[name]} cannot be fetched from the "
            f"hub. Put OpenAI's file there, or give its path"
        ) from error


def _kind_by_name(name: str) -> str | None:
    """Kind that a hub name says, so that settings can be made without a network."""
    if looks_local(name) or "/" not in name:
        return None
    owner, model = name.lower().split("/")
    published = {"google": "siglip", "facebook": "dinov2", "openai": "clip"}
    return published[owner] if owner in published and published[owner] in model else None


def _kind_by_config(name: str) -> str:
    """Kind that a folder's or hub model's own `config.json` says."""
    file = None if not looks_local(name) and "/" not in name else model_file(name, CONFIG_FILE)
    if file is None:
        raise InputError(
            f"{name}: is no encoder known here. Give one of {', '.join(OPENAI_VITS)}, "
            f"{', '.join(OPENAI_RESNETS)}, a hub name, a model folder or a weights file"
        )
    found = model_type(file.parent, name)
    kind = kind_of(found)
    if kind is None:
        raise InputError(
            f"{name}: is a model of type {found!r}, expected CLIP, SigLIP (of fixed size) or DINOv2"
        )
    return kind
