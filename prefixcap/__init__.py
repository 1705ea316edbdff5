"""prefixcap: image captions from CLIP prefixes (ClipCap, arXiv 2111.09734)."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Caption", "Captioner", "ClipCap", "DecodeOptions", "InputError", "__version__"]

if TYPE_CHECKING:
    from prefixcap.captioner import Caption, Captioner
    from prefixcap.config import DecodeOptions
    from prefixcap.errors import InputError
    from prefixcap.model import ClipCap

_HOMES = {
    "Caption": "prefixcap.captioner",
    "Captioner": "prefixcap.captioner",
    "ClipCap": "prefixcap.model",
    "DecodeOptions": "prefixcap.config",
    "InputError": "prefixcap.errors",
}


def __getattr__(name: str) -> Any:
    """Public object `name`, imported on first use so that `prefixcap --help` needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'prefixcap' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
