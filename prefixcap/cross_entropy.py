"""Cross-entropy of a linear layer's outputs, without ever holding all of them.

A cross-entropy is the logarithm of the summed exponentials of the logits, less the logit expected
of the targets. The first needs every logit: they are formed a part of the vocabulary at a time,
which stays in the processor's cache. The second is linear in the word vectors, so that the
targets, smoothing and teachers cost a few products of vectors and nothing of the vocabulary's size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from prefixcap.products import linear
from prefixcap.row_steps import Parts, joined, step_or_join

ROWS_AT_ONCE = 512  # rows of logits in memory: 512 x 50,257 bfloat16 are 51 MB
WORDS_AT_ONCE = 4096  # of which a product forms the logits
ROWS_IN_CACHE = 32  # rows of those, turned into float32 exponentials at once: 0.5 MB


@dataclass(frozen=True)
class Taught:
    """What teachers expect, learned beside the tokens themselves (Hinton et al. 2015, section 2).

    Attributes:
        probabilities: (n, V) float, the teachers' for each row of logits; they get no gradient.
        share: of the loss that is the cross-entropy against them, 0 to 1.
    """

    probabilities: Tensor
    share: float


@dataclass(frozen=True)
class Targets:
    """What rows of logits should predict: N tokens, one or more for each row.

    Attributes:
        ids: (N,) int64, all in 0..V-1.
        rows: (N,) int64, the row of logits that predicts each.
        weights: (N,) float32, what each cross-entropy is multiplied by; may be negative, and get no
            gradient.
        smoothing: share of the target's probability spread evenly over the vocabulary
            (Szegedy et al. 2016, section 7).
        taught: what teachers expect; its share and the smoothing are taken off the target's.
    """

    ids: Tensor
    rows: Tensor
    weights: Tensor
    smoothing: float = 0.0
    taught: Taught | None = None

    def part(self, start: int, stop: int) -> "Targets":
        """The targets of the rows from `start` to before `stop`, counted from `start`."""
        here = (self.rows >= start) & (self.rows < stop)
        taught = self.taught and Taught(self.taught.probabilities[start:stop], self.taught.share)
        rows = self.rows[here] - start
        return Targets(self.ids[here], rows, self.weights[here], self.smoothing, taught)


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Targets,
    *,
    matrix: Tensor | None = None,
    late: "LateGradient | None" = None,
) -> Tensor:
    """Sum of the cross-entropies of `hidden @ weight.T + bias` against `targets`, float32 scalar.

    Args:
        hidden: (n, W) float.
        weight: (V, W) float.
        bias: (V,) float, or None.
        targets: of the n rows.
        matrix: `weight` in the type of the products, or another one with the same differences
            between its rows; None is `weight` itself. Softmax and sums are float32 at least.
        late: where the gradient on the weight goes; None is the weight itself.
    """
    layer = _Layer(weight.detach() if matrix is None else matrix, bias)
    options = _Options(layer, torch.is_grad_enabled(), late)
    return _ChunkedCrossEntropy.apply(hidden, weight, bias, targets, options)


class LateGradient:
    """The loss's gradient on its weight, formed once `WordVectors` of that weight has its own.

    Between the two lies the backward pass of all layers, with their activations in memory. A
    gradient for every word is as large as many of them, what it is formed of is a third of it.
    """

    def __init__(self) -> None:
        self._form: Callable[[], Parts] | None = None

    def put(self, form: Callable[[], Parts]) -> None:
        """Take over a gradient that `form` makes."""
        self._form = form

    def take(self, weight: Tensor) -> Parts:
        """The gradient (V, W) in parts of its rows, 0 where the loss has none."""
        form, self._form = self._form, None
        return iter([(slice(0, len(weight)), torch.zeros_like(weight))]) if form is None else form()


class WordVectors(torch.autograd.Function):
    """Rows of a weight (V, W) that a loss with a late gradient has as its output layer."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, late: LateGradient) -> Tensor:
        """Vectors (..., W) of `ids` (...) int64."""
        ctx.save_for_backward(ids)
        ctx.weight, ctx.late = weight, late
        return weight[ids]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient on the weight; None where it was stepped by its parts."""
        ids, own = ctx.saved_tensors[0].flatten(), gradient.flatten(0, -2)  # (n,), (n, W)
        parts = ((part, _with_rows(f, part, ids, own)) for part, f in ctx.late.take(ctx.weight))
        return step_or_join(ctx.weight, parts), None, None


def _with_rows(found: Tensor, part: slice, ids: Tensor, rows: Tensor, factor: float = 1) -> Tensor:
    """`found` (part, W), with those of the `rows` (n, W) added whose `ids` are in that part."""
    here = (ids >= part.start) & (ids < part.stop)
    return found.index_add_(0, ids[here] - part.start, rows[here], alpha=factor)


class _Layer:
    """The linear layer: `matrix` (V, W) in the type of the products, `bias` (V,) exact or None."""

    def __init__(self, matrix: Tensor, bias: Tensor | None) -> None:
        self.matrix = matrix
        self.exact = torch.promote_types(matrix.dtype, torch.float32)  # of exponentials and sums
        self.bias = None if bias is None else bias.detach().to(self.exact)

    def parts(self) -> list[slice]:
        """The vocabulary, part after part."""
        size = len(self.matrix)
        # a GPU has no such cache to stay in, and waits for each of many small steps
        step = WORDS_AT_ONCE if self.matrix.device.type == "cpu" else size
        return [slice(start, min(size, start + step)) for start in range(0, size, step)]


@dataclass(frozen=True)
class _Options:
    """How a loss is formed: its layer, whether with gradients, and where the weight's goes."""

    layer: _Layer
    wants_gradient: bool
    late: LateGradient | None


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Forms each chunk's gradient while its logits are there; the backward pass only scales it.

    So nothing is computed twice, and nothing of size (N, V) is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Targets,
        options: _Options,
    ) -> Tensor:
        layer = options.layer
        wanted = [options.wants_gradient and needed for needed in ctx.needs_input_grad[:3]]
        grads = _Gradients(layer, *wanted)
        total = hidden.new_zeros((), dtype=layer.exact)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), ROWS_AT_ONCE):
                inputs = hidden[start : start + ROWS_AT_ONCE].to(layer.matrix.dtype)
                total += _loss_of(inputs, layer, targets.part(start, start + len(inputs)), grads)
        ctx.gradients, ctx.late = grads, options.late
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        grads, ctx.gradients = ctx.gradients, None
        if grads is None:
            raise RuntimeError("chunked_cross_entropy: backward a second time; call it again first")
        hidden, bias = (None if g is None else g.mul_(scale) for g in (grads.hidden, grads.bias))
        weight = None
        if grads.weight is not None and ctx.late is not None:
            ctx.late.put(partial(grads.weight.parts, scale))
        elif grads.weight is not None:
            weight = joined(grads.weight.shape, grads.weight.parts(scale))
        return hidden, weight, bias, None, None


def _loss_of(inputs: Tensor, layer: _Layer, targets: Targets, grads: "_Gradients") -> Tensor:
    """Summed loss of rows `inputs` (n, W), whose gradients are added to `grads`."""
    aim = _Aim(inputs, layer, targets)
    tables, peaks = [], []  # logits (n, part), and the highest of each row (n,)
    for part in layer.parts():
        table = linear(inputs, layer.matrix[part])
        if layer.bias is not None:
            table += layer.bias[part]
        tables.append(table)
        peaks.append(table.amax(dim=1))  # at once, while it is in the cache
    peaks = torch.stack(peaks).amax(dim=0).to(layer.exact)  # (n,)
    sums = torch.zeros_like(peaks)
    mean = torch.zeros_like(aim.word)  # (n, W) word vectors, times the exponential of each
    for part, table in zip(layer.parts(), tables, strict=True):
        sums += _exponentials(table, peaks)
        if grads.hidden_wanted:
            mean += linear(table, layer.matrix[part].T)
    if grads.wanted:
        grads.add(tables, aim.weight / sums, mean, aim)
    return aim.weight @ (peaks + sums.log()) - aim.logits


def _exponentials(table: Tensor, peaks: Tensor) -> Tensor:
    """Sums (n,) of exp(table - peaks), which take the place of `table` (n, m)."""
    sums = torch.empty_like(peaks)
    step = min(len(table), ROWS_IN_CACHE) if table.device.type == "cpu" else len(table)
    exact = peaks.new_empty(step, table.shape[1])
    parts = (tensor.split(max(1, step)) for tensor in (table, peaks[:, None], sums))
    for logits, peak, total in zip(*parts, strict=True):
        part = exact[: len(logits)].copy_(logits).sub_(peak).exp_()
        torch.sum(part, dim=1, out=total)
        logits.copy_(part)
    return sums


class _Aim:
    """What the targets of n rows expect, all that is linear in the logits.

    Attributes:
        weight: (n,) weights of a row's targets, summed.
        word: (n, W) the expected word vectors, weighted and summed.
        logits: scalar, the expected logits, weighted and summed over all rows.
        inputs: (n, W) what the logits were formed of.
        weights: (N,) of each target.
        spread: of each target's probability, how much every word of the vocabulary has.
        certain: how much of it is the target's own.
    """

    def __init__(self, inputs: Tensor, layer: _Layer, targets: Targets) -> None:
        exact, rows, ids = layer.exact, targets.rows, targets.ids
        self.targets, self.inputs = targets, inputs.to(exact)
        self._dtype = layer.matrix.dtype
        share = targets.taught.share if targets.taught else 0
        self.certain = 1 - targets.smoothing - share
        self.spread = targets.smoothing / len(layer.matrix)
        self.weights = targets.weights.to(exact)  # (N,)
        self.weight = self.weights.new_zeros(len(inputs)).index_add_(0, rows, self.weights)
        own = (self.certain * self.weights)[:, None] * layer.matrix[ids].to(exact)  # (N, W)
        self.word = torch.zeros_like(self.inputs).index_add_(0, rows, own)
        if self.spread:
            self.word += self.weight[:, None] * self.spread * layer.matrix.sum(dim=0, dtype=exact)
        for part in layer.parts() if targets.taught else []:
            self.word += linear(self.taught(part), layer.matrix[part].T)
        self.logits = (self.inputs * self.word).sum()
        if layer.bias is not None:
            own = self.certain * self.weights @ layer.bias[ids]
            self.logits += own + self.spread * self.weight.sum() * layer.bias.sum()
            for part in layer.parts() if targets.taught else []:
                self.logits += (self.taught(part).to(exact) @ layer.bias[part]).sum()

    def taught(self, part: slice) -> Tensor:
        """What teachers expect of a part of the vocabulary, (n, part), weighted."""
        taught = self.targets.taught
        share = (taught.share * self.weight)[:, None]
        return (share * taught.probabilities[:, part]).to(self._dtype)


class _Gradients:
    """Gradients on hidden, weight and bias, collected chunk by chunk, in float32 at least.

    Attributes:
        hidden: (N, W), None where it is not wanted; so are the others.
        weight: (V, W).
        bias: (V,).
    """

    def __init__(self, layer: _Layer, hidden: bool, weight: bool, bias: bool) -> None:
        self.hidden_wanted, self.wanted = hidden, hidden or weight or bias
        self._hidden: list[Tensor] = []
        self._parts = layer.parts()
        self.weight = _WeightGradient(layer) if weight else None
        words = len(layer.matrix)
        self.bias = layer.matrix.new_zeros(words, dtype=layer.exact) if bias else None

    @property
    def hidden(self) -> Tensor | None:
        """(N, W), all chunks."""
        return torch.cat(self._hidden) if self._hidden else None

    def add(self, tables: list[Tensor], scale: Tensor, mean: Tensor, aim: _Aim) -> None:
        """Add those of one chunk of n rows.

        Args:
            tables: exponentials of the logits, (n, part) for each part of the vocabulary.
            scale: (n,) what makes probabilities of them, times the weight of the row.
            mean: (n, W) word vectors, times the exponential of each.
            aim: what the rows' targets expect.
        """
        if self.hidden_wanted:
            self._hidden.append(mean.mul_(scale[:, None]).sub_(aim.word))
        if self.weight is not None:
            self.weight.add(tables, scale, aim)
        if self.bias is not None:
            for part, table in zip(self._parts, tables, strict=True):
                self.bias[part] += scale @ table.to(scale.dtype)
                if aim.targets.taught:
                    self.bias[part] -= aim.taught(part).sum(dim=0, dtype=scale.dtype)
            self.bias -= aim.spread * aim.weight.sum()
            self.bias.index_add_(0, aim.targets.ids, aim.certain * aim.weights, alpha=-1)


class _WeightGradient:
    """Gradient on the weight, of which the last chunk is formed when all of it is asked for.

    So a loss of a single chunk keeps its exponentials until then, which take a third of the memory
    of the gradient in bfloat16.
    """

    def __init__(self, layer: _Layer) -> None:
        self.shape, self._parts = layer.matrix.shape, layer.parts()
        self._zeros = partial(torch.zeros, dtype=layer.exact, device=layer.matrix.device)
        self._total: Tensor | None = None  # (V, W)
        self._last: tuple[list[Tensor], Tensor, _Aim] | None = None

    def add(self, tables: list[Tensor], scale: Tensor, aim: _Aim) -> None:
        """Add that of a chunk of rows, see `_Gradients.add`."""
        if self._last is not None:
            self._total = joined(self.shape, self.parts(torch.ones_like(scale[0])))
        self._last = tables, scale, aim

    def parts(self, factor: Tensor) -> Parts:
        """The gradient of all chunks, times a factor, in parts of its rows; asked for once."""
        if self._last is None:  # there was no row
            for part in self._parts:
                yield part, self._zeros(part.stop - part.start, self.shape[1])
            return
        (tables, scale, aim), self._last = self._last, None
        plain = factor * aim.inputs  # (n, W)
        inputs = (scale[:, None] * plain).to(tables[0].dtype).T  # (W, n)
        own = (aim.certain * aim.weights)[:, None] * plain[aim.targets.rows]  # (N, W)
        for number, part in enumerate(self._parts):
            # a third faster in bf16, with the copy, than from the transpose itself
            found = linear(tables[number].T.contiguous(), inputs).to(plain.dtype)  # (part, W)
            tables[number] = None
            if self._total is not None:
                found += factor * self._total[part]
            if aim.targets.taught:
                expected = aim.taught(part)
                found -= linear(expected.T.contiguous(), plain.to(expected.dtype).T)
            if aim.spread:
                found -= aim.spread * (aim.weight @ plain)
            yield part, _with_rows(found, part, aim.targets.ids, own, -1)
