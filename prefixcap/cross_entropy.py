"""Cross-entropy of a linear layer's outputs, without ever holding all of them.

A cross-entropy is the logarithm of the summed exponentials of the logits, less the logit expected
of the targets. Logits are formed a part of the vocabulary at a time, and all that is wanted of them
is taken while they are in the processor's cache: exponentials are those of the differences to the
highest logit so far (Milakov and Gimelshein 2018, section 3), and are never divided by their sums,
since the products of vectors can be scaled instead. The targets' own exponentials are kept apart,
exact: where a target is nearly certain, its gradient is a small difference, which numbers in
bfloat16 would not hold.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from prefixcap.late_gradient import LateGradient, with_rows
from prefixcap.loss_targets import Targets
from prefixcap.products import linear
from prefixcap.row_steps import Parts, joined

ROWS_AT_ONCE = 512  # rows of logits in memory: 512 x 50,257 bfloat16 are 51 MB
WORDS_AT_ONCE = 6400  # of which a product forms the logits; an eighth of GPT-2's
ROWS_IN_CACHE = 16  # rows of those, turned into float32 exponentials at once: 0.4 MB


@dataclass(frozen=True)
class OutputLayer:
    """The linear layer whose outputs are logits.

    Attributes:
        weight: (V, W) float.
        bias: (V,) float, or None.
        matrix: a copy of `weight` in another type; None is `weight` itself.
        dtype: of the products, into which the matrix is cast part by part; None is its own.
            Softmax and sums are float32 at least.
    """

    weight: Tensor
    bias: Tensor | None = None
    matrix: Tensor | None = None
    dtype: torch.dtype | None = None


def chunked_cross_entropy(
    hidden: Tensor, layer: OutputLayer, targets: Targets, *, late: LateGradient | None = None
) -> Tensor:
    """Sum of the cross-entropies of a layer's outputs against `targets`, float32 scalar.

    Args:
        hidden: (n, W) float, what the layer makes logits of.
        layer: the layer.
        targets: of the n rows.
        late: where the gradient on the weight goes; None is the weight itself.
    """
    options = _Options(_Layer(layer, len(hidden)), torch.is_grad_enabled(), late)
    return _ChunkedCrossEntropy.apply(hidden, layer.weight, layer.bias, targets, options)


class _Layer:
    """The linear layer, as n rows are multiplied by it.

    Attributes:
        dtype: of the products.
        exact: type of exponentials and sums.
        bias: (V,) exact, or None.
        shape: (V, W).
        words: V.
        device: where the weight is.
    """

    def __init__(self, given: OutputLayer, count: int) -> None:
        matrix = (given.weight if given.matrix is None else given.matrix).detach()
        self.dtype = given.dtype or matrix.dtype
        # a single chunk of rows needs each part of it once, and no copy of the whole
        self._matrix = matrix if count <= ROWS_AT_ONCE else matrix.to(self.dtype)
        self.shape, self.words, self.device = matrix.shape, len(matrix), matrix.device
        self.exact = torch.promote_types(self.dtype, torch.float32)
        self.bias = None if given.bias is None else given.bias.detach().to(self.exact)

    def rows(self, which: slice | Tensor) -> Tensor:
        """Rows of the weight, (m, W), in the type of the products."""
        return self._matrix[which].to(self.dtype)

    def parts(self) -> list[slice]:
        """The vocabulary, part after part."""
        # a GPU has no such cache to stay in, and waits for each of many small steps
        step = WORDS_AT_ONCE if self.device.type == "cpu" else self.words
        return [slice(start, min(self.words, start + step)) for start in range(0, self.words, step)]


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
                inputs = hidden[start : start + ROWS_AT_ONCE].to(layer.dtype)
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
    sums = _Sums(len(inputs), layer)
    mean = torch.zeros_like(aim.inputs)  # (n, W) word vectors, times the exponential of each
    kept = []
    for part in layer.parts():
        matrix = layer.rows(part)
        table = linear(inputs, matrix)  # (n, part) logits
        if layer.bias is not None:
            table += layer.bias[part]
        aim.read(part, table)
        faded = sums.add(table)  # which are exponentials now
        aim.take_out(part, table)
        if grads.hidden_wanted:
            mean.mul_(faded[:, None]).add_(linear(table, matrix.T))
        if grads.tables_wanted:
            # now, while they are in the cache; products of the transpose itself are slower
            kept.append((table.T.contiguous(), sums.peaks))
    if grads.wanted:
        aim.weigh(sums)
        scale = aim.weight / sums.values  # makes chances of exponentials
        hidden = mean.mul_(scale[:, None]).add_(aim.words(layer)) if grads.hidden_wanted else None
        later = (scale * (peaks - sums.peaks).exp() for _, peaks in kept)
        tables = [_Table(words, found) for (words, _), found in zip(kept, later, strict=True)]
        grads.add(tables, hidden, aim)
    above = aim.weight * sums.peaks - aim.expected_logits  # by row: their sums would be rounded
    return (above + aim.weight * sums.values.log()).sum()


class _Sums:
    """Sums of exponentials of n rows, as far as parts of these were seen.

    Attributes:
        peaks: (n,) the highest logit so far, which all are taken relative to.
        values: (n,).
    """

    def __init__(self, count: int, layer: _Layer) -> None:
        lowest = torch.finfo(layer.exact).min  # finite: a row may begin with words of -inf
        self.peaks = torch.full((count,), lowest, dtype=layer.exact, device=layer.device)
        self.values = torch.zeros_like(self.peaks)

    def add(self, table: Tensor) -> Tensor:
        """Turn logits (n, m) into exponentials and add them to the sums.

        Returns:
            (n,) what exponentials of earlier parts are to be multiplied by from now on.
        """
        before, self.peaks = self.peaks, torch.empty_like(self.peaks)
        sums = torch.empty_like(self.values)
        step = min(len(table), ROWS_IN_CACHE) if table.device.type == "cpu" else len(table)
        exact = before.new_empty(step, table.shape[1])
        parts = (t.split(max(1, step)) for t in (table, before, self.peaks, sums))
        for logits, old, peak, total in zip(*parts, strict=True):
            part = exact[: len(logits)].copy_(logits)
            torch.maximum(old, part.amax(dim=1), out=peak)
            torch.sum(part.sub_(peak[:, None]).exp_(), dim=1, out=total)
            logits.copy_(part)
        faded = (before - self.peaks).exp_()
        self.values.mul_(faded).add_(sums)
        return faded


@dataclass(frozen=True)
class _Table:
    """Exponentials of a part of the vocabulary, for gradients on the layer.

    Attributes:
        words: (part, n), word by word, without the targets' own.
        scale: (n,) what makes chances of them, times the weight of the row.
    """

    words: Tensor
    scale: Tensor


class _Aim:
    """What the targets of n rows expect.

    Attributes:
        inputs: (n, W) what the logits are formed of.
        weight: (n,) weights of a row's targets, summed.
        ids: (U,) the targets of each row, each once, ascending.
        rows: (U,) their rows.
        gradients: (U,) on their logits; `weigh` sets them.
        spread: of each target's probability, how much every word of the vocabulary has.
        expected_logits: (n,) weighted.
    """

    def __init__(self, inputs: Tensor, layer: _Layer, targets: Targets) -> None:
        exact, count = layer.exact, max(1, len(inputs))
        self.inputs, self.teachers = inputs.to(exact), targets.taught
        weights = targets.weights.to(exact)  # (N,)
        self.weight = weights.new_zeros(len(inputs)).index_add_(0, targets.rows, weights)
        pairs, places = (targets.ids * count + targets.rows).unique(return_inverse=True)
        self.ids, self.rows = pairs // count, pairs % count
        certain = 1 - targets.smoothing - (targets.taught.share if targets.taught else 0)
        self._own = weights.new_zeros(len(pairs)).index_add_(0, places, certain * weights)
        self._logits = torch.empty_like(self._own)
        self.gradients = torch.zeros_like(self._own)
        self.spread = targets.smoothing / layer.words
        self.expected_logits = torch.zeros_like(self.weight)
        bounds = [0, *(part.stop for part in layer.parts())]
        firsts = torch.searchsorted(self.ids, torch.tensor(bounds, device=self.ids.device))
        self._first = dict(zip(bounds, firsts.tolist(), strict=True))

    def within(self, part: slice) -> tuple[slice, Tensor]:
        """Which of the targets are in a part of the vocabulary, and where in it."""
        here = slice(self._first[part.start], self._first[part.stop])
        return here, self.ids[here] - part.start

    def read(self, part: slice, table: Tensor) -> None:
        """Take note of the expected logits in a part of them, (n, part)."""
        here, places = self.within(part)
        self._logits[here] = table[self.rows[here], places].to(self._logits.dtype)
        self.expected_logits.index_add_(0, self.rows[here], self._own[here] * self._logits[here])
        if self.spread:
            sums = table.sum(dim=1, dtype=self.weight.dtype)
            self.expected_logits += self.spread * self.weight * sums
        if self.teachers:
            self.expected_logits += (self.taught(part) * table).sum(dim=1)

    def take_out(self, part: slice, table: Tensor) -> None:
        """Clear the targets' own exponentials in a part of them, (n, part)."""
        here, places = self.within(part)
        table[self.rows[here], places] = 0

    def weigh(self, sums: "_Sums") -> None:
        """Find the gradients on the targets' logits, given what a row's exponentials sum to."""
        chances = (self._logits - sums.peaks[self.rows]).exp() / sums.values[self.rows]
        self.gradients = self.weight[self.rows] * chances - self._own

    def words(self, layer: _Layer) -> Tensor:
        """Gradient (n, W) on the inputs, of all but the exponentials that were not taken out."""
        own = self.gradients[:, None] * layer.rows(self.ids).to(self.inputs.dtype)  # (U, W)
        found = torch.zeros_like(self.inputs).index_add_(0, self.rows, own)
        for part in layer.parts() if self.spread or self.teachers else []:
            rows = layer.rows(part)
            if self.spread:
                total = rows.sum(dim=0, dtype=self.inputs.dtype)  # (W,)
                found -= self.spread * self.weight[:, None] * total
            if self.teachers:
                found -= linear(self.taught(part).to(rows.dtype), rows.T)
        return found

    def taught(self, part: slice) -> Tensor:
        """What teachers expect of a part of the vocabulary, (n, part), weighted."""
        share = (self.teachers.share * self.weight)[:, None]
        return share * self.teachers.probabilities[:, part]


class _Gradients:
    """Gradients on hidden, weight and bias, collected chunk by chunk, in float32 at least.

    Attributes:
        hidden: (N, W), None where it is not wanted; so are the others.
        weight: (V, W).
        bias: (V,).
    """

    def __init__(self, layer: _Layer, hidden: bool, weight: bool, bias: bool) -> None:
        self.hidden_wanted, self.tables_wanted = hidden, weight or bias
        self._hidden: list[Tensor] = []
        self._parts = layer.parts()
        self.weight = _WeightGradient(layer) if weight else None
        zeros = partial(torch.zeros, dtype=layer.exact, device=layer.device)
        self.bias = zeros(layer.words) if bias else None

    @property
    def wanted(self) -> bool:
        """Whether any is."""
        return self.hidden_wanted or self.tables_wanted

    @property
    def hidden(self) -> Tensor | None:
        """(N, W), all chunks."""
        return torch.cat(self._hidden) if self._hidden else None

    def add(self, tables: list[_Table], hidden: Tensor | None, aim: _Aim) -> None:
        """Add those of one chunk of n rows.

        Args:
            tables: of each part of the vocabulary, where the weight or bias wants a gradient.
            hidden: (n, W) the gradient on the rows themselves, where it is wanted.
            aim: what the rows' targets expect.
        """
        if hidden is not None:
            self._hidden.append(hidden)
        if self.weight is not None:
            self.weight.add(tables, aim)
        if self.bias is not None:
            for part, table in zip(self._parts, tables, strict=True):
                self.bias[part] += table.words.to(table.scale.dtype) @ table.scale
                if aim.teachers:
                    self.bias[part] -= aim.taught(part).sum(dim=0)
            self.bias -= aim.spread * aim.weight.sum()
            self.bias.index_add_(0, aim.ids, aim.gradients)


class _WeightGradient:
    """Gradient on the weight, of which the last chunk is formed when all of it is asked for.

    So a loss of a single chunk keeps its exponentials until then, which take a third of the memory
    of the gradient in bfloat16.
    """

    def __init__(self, layer: _Layer) -> None:
        self.shape, self._parts = layer.shape, layer.parts()
        self._zeros = partial(torch.zeros, dtype=layer.exact, device=layer.device)
        self._total: Tensor | None = None  # (V, W)
        self._last: tuple[list[_Table | None], _Aim] | None = None

    def add(self, tables: list[_Table], aim: _Aim) -> None:
        """Add that of a chunk of rows, see `_Gradients.add`."""
        if self._last is not None:
            self._total = joined(self.shape, self.parts(torch.ones_like(aim.weight[0])))
        self._last = [*tables], aim

    def parts(self, factor: Tensor) -> Parts:
        """The gradient of all chunks, times a factor, in parts of its rows; asked for once."""
        if self._last is None:  # there was no row
            for part in self._parts:
                yield part, self._zeros(part.stop - part.start, self.shape[1])
            return
        (tables, aim), self._last = self._last, None
        plain = factor * aim.inputs  # (n, W)
        own = aim.gradients[:, None] * plain[aim.rows]  # (U, W)
        for number, part in enumerate(self._parts):
            table, tables[number] = tables[number], None
            inputs = (table.scale[:, None] * plain).to(table.words.dtype)  # (n, W)
            found = linear(table.words, inputs.T).to(plain.dtype)  # (part, W)
            if self._total is not None:
                found += factor * self._total[part]
            if aim.teachers:
                expected = aim.taught(part).to(inputs.dtype)
                found -= linear(expected.T.contiguous(), plain.to(expected.dtype).T)
            if aim.spread:
                found -= aim.spread * (aim.weight @ plain)
            yield part, with_rows(found, part, aim.ids, own)
