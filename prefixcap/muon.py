"""Muon: all directions of a convolution's step count alike.

Jordan et al. 2024, kellerjordan.github.io/posts/muon.
"""

from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the post's Newton-Schulz polynomial
ITERATIONS = 4
MOMENTUM = 0.9
SIZE = 0.2  # root mean square of a step at rate 1, as AdamW's is (Liu et al. 2025, section 2.2)


class Muon(torch.optim.AdamW):
    """AdamW, but for groups with `orthogonal`: their weights (O, ...) step along all directions.

    The gradients' running mean (Nesterov's form), as a matrix (O, I), is brought near to the
    closest one with orthogonal rows or columns. Rates are those of AdamW.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of all groups; closures are AdamW's own."""
        for group in self.param_groups:
            if not group["orthogonal"]:
                continue
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._orthogonal_step(parameter, group)
                    parameter.grad = None  # AdamW leaves it alone
        return super().step(closure)

    def _orthogonal_step(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        """Decay and move one weight; its mean is kept under AdamW's names, which resume knows."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
        state["step"] += 1
        mean = state["exp_avg"].lerp_(parameter.grad, 1 - MOMENTUM)
        ahead = parameter.grad.lerp(mean, MOMENTUM).flatten(1)  # (O, I)
        move = orthogonal(ahead) * (SIZE * max(ahead.shape) ** 0.5)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(move.view(parameter.shape), alpha=-group["lr"])


def orthogonal(matrix: Tensor) -> Tensor:
    """Matrix (O, I) with the same singular vectors and all singular values near 1 (0.7 to 1.2).

    The polynomial is applied to the smaller of its two square products, which costs less than
    applying it to the matrix and gives the same.
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonal(matrix.T).T
    matrix = matrix / (matrix.norm() + 1e-7)
    first, third, fifth = COEFFICIENTS
    square = matrix @ matrix.T  # (O, O)
    factor = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    for _ in range(ITERATIONS):
        each = torch.addmm(square, square, square, beta=third, alpha=fifth)
        each.diagonal().add_(first)
        factor = each @ factor
        square = each @ square @ each
    return factor @ matrix
