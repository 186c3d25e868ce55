"""AdamW with float32 master weights."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from personalagent.train.optimizer import MasterAdamW  # noqa: E402

pytestmark = pytest.mark.train


def gradients(steps: int) -> list[torch.Tensor]:
    """Return the gradients of some steps."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, generator=generator) for _ in range(steps)]


def start(dtype: torch.dtype = torch.float32) -> torch.nn.Parameter:
    """Return the parameter before the first step."""
    return torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(4, 3).to(dtype))


def run(optimizer: torch.optim.Optimizer, param: torch.nn.Parameter, grads: list[torch.Tensor]) -> torch.Tensor:
    """Take a step for each gradient and return the parameter."""
    for grad in grads:
        param.grad = grad.to(param.dtype)
        optimizer.step()
    return param.detach()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_on_float32_parameters_it_is_torchs_own_adamw(weight_decay: float) -> None:
    ours, theirs = start(), start()
    kwargs = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": weight_decay}
    got = run(MasterAdamW([ours], **kwargs), ours, gradients(20))
    expected = run(torch.optim.AdamW([theirs], eps=1e-8, **kwargs), theirs, gradients(20))
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)


def test_the_first_step_moves_every_weight_by_the_learning_rate_against_its_gradient() -> None:
    param = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    got = run(MasterAdamW([param], lr=0.1), param, [torch.tensor([3.0, -0.5])])
    torch.testing.assert_close(got, torch.tensor([0.9, 1.1]))


def test_steps_too_small_for_bfloat16_add_up() -> None:
    """Near 1 a bfloat16 step is 1/256 down: ten steps of 1e-3 would each be rounded away."""
    ours, naive = (torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16)) for _ in range(2))
    grads = [torch.ones(1)] * 10
    assert run(torch.optim.AdamW([naive], lr=1e-3, weight_decay=0.0), naive, grads).item() == 1.0
    assert run(MasterAdamW([ours], lr=1e-3), ours, grads).item() == pytest.approx(0.99, abs=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_resumes_exactly(dtype: torch.dtype) -> None:
    grads = gradients(10)
    whole = start(dtype)
    expected = run(MasterAdamW([whole], lr=1e-2), whole, grads)

    first = start(dtype)
    optimizer = MasterAdamW([first], lr=1e-2)
    run(optimizer, first, grads[:4])
    saved_param, saved = first.detach().clone(), copy.deepcopy(optimizer.state_dict())

    second = torch.nn.Parameter(saved_param)
    resumed = MasterAdamW([second], lr=1e-2)
    resumed.load_state_dict(saved)
    assert resumed.state[second]["master"].dtype is torch.float32
    assert torch.equal(run(resumed, second, grads[4:]), expected)


def test_a_parameter_without_a_gradient_stays_as_it_is() -> None:
    moved, still = start(), start()
    optimizer = MasterAdamW([moved, still], lr=1e-2)
    run(optimizer, moved, gradients(1))
    assert torch.equal(still, start())
    assert still not in optimizer.state


def test_a_closure_recomputes_the_loss() -> None:
    param = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = MasterAdamW([param], lr=0.5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    assert param.item() == pytest.approx(1.5)
