"""AdamW for parameters kept in bfloat16, with float32 master weights.

The base model and the adapter both compute in bfloat16 (on a CPU with AMX twice as fast as float32 adapters), but updates of
1e-4 would be rounded away there, so the optimiser steps a float32 copy and writes it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim.optimizer import Optimizer


class MasterAdamW(Optimizer):
    """AdamW whose state holds the float32 weights, so that a checkpoint resumes exactly."""

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; a closure, where given, recomputes the loss first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._step_one(param, group)
        return loss

    def _step_one(self, param: torch.nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[param]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["master"] = param.detach().to(torch.float32, copy=True)
            state["mean"] = torch.zeros_like(state["master"])
            state["square"] = torch.zeros_like(state["master"])
        beta1, beta2 = group["betas"]
        grad = param.grad.float() if param.grad is not None else torch.zeros_like(state["master"])
        state["step"] += 1
        step = float(state["step"])
        state["mean"].lerp_(grad, 1 - beta1)
        state["square"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        denominator = (state["square"] / (1 - beta2**step)).sqrt_().add_(group["eps"])
        state["master"].mul_(1 - group["lr"] * group["weight_decay"])
        state["master"].addcdiv_(state["mean"], denominator, value=-group["lr"] / (1 - beta1**step))
        param.copy_(state["master"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint; the base class casts state to the parameters' type, so the float32 copies are put back."""
        super().load_state_dict(state_dict)
        params = [param for group in self.param_groups for param in group["params"]]
        for index, saved in state_dict["state"].items():
            for name in ("master", "mean", "square"):
                self.state[params[int(index)]][name] = saved[name].to(torch.float32).clone()
