"""A convolution and its batch-norm as one convolution, where nothing is learned."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Folded:
    """Weight and bias of the one convolution, and of what, unchanged since, they were made."""

    weight: Tensor
    bias: Tensor
    sources: tuple[tuple[Tensor, int], ...]

    def is_of(self, sources: tuple[Tensor, ...]) -> bool:
        """Whether `sources` are those tensors, of the same type, changed by nobody since."""
        return all(
            now.data_ptr() == then.data_ptr() and now.dtype == then.dtype and version(now) == seen
            for now, (then, seen) in zip(sources, self.sources, strict=True)
        )


_FOLDED: WeakKeyDictionary[nn.BatchNorm2d, Folded] = WeakKeyDictionary()


def conv_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """norm(conv(x)), (B, out, H', W') from (B, in, H, W).

    In evaluation mode and without gradients the batch-norm is folded into the convolution, which is
    then the only one to read and write the feature map. It is folded on the first call, and again
    when a weight or a statistic has changed, moved or been cast.
    """
    if norm.training or torch.is_grad_enabled():
        return norm(conv(x))
    sources = (conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    sources += (norm.num_batches_tracked,)  # counts the changes of the two before it, they do not
    folded = _FOLDED.get(norm)
    if folded is None or not folded.is_of(sources):
        folded = _FOLDED[norm] = _fold(sources, norm.eps)
    return F.conv2d(
        x, folded.weight, folded.bias, conv.stride, conv.padding, conv.dilation, conv.groups
    )


def version(weight: Tensor) -> int:
    """Count of in-place changes; tensors made in inference mode keep none, nor are they trained."""
    return 0 if weight.is_inference() else weight._version


def _fold(sources: tuple[Tensor, ...], eps: float) -> Folded:
    """The one convolution of a convolution without bias and its batch-norm, computed in float32."""
    weight, gain, shift, mean, variance, _ = (source.detach().float() for source in sources)
    factor = gain * (variance + eps).rsqrt()  # (out,)
    dtype = sources[0].dtype
    return Folded(
        (weight * factor[:, None, None, None]).to(dtype),
        (shift - mean * factor).to(dtype),
        # Holding on to the sources keeps their addresses from being given to other tensors.
        tuple((source.detach(), version(source)) for source in sources),
    )
