"""Generation with transformers behind veRL's own client, for tests; the trainer's weights are pushed to it after every step."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

import ray
import torch
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput


class HFServer:
    """One model, one request at a time."""

    def __init__(self, model_path: str, response_length: int) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        self.model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model_path)
        self.response_length, self.global_steps = response_length, 0
        self.turn = asyncio.Lock()

    async def ready(self) -> bool:
        return True

    async def nothing(self, *_: object, **__: object) -> None: ...

    wake_up = sleep = clear_kv_cache = resume_generation = nothing

    async def abort_all_requests(self, reject_request: bool = False) -> dict[str, Any]:
        return {}

    async def update_weights(self, state: dict[str, torch.Tensor], global_steps: int) -> None:
        _, unexpected = self.model.load_state_dict(state, strict=False)
        assert not unexpected, unexpected
        self.global_steps = global_steps

    async def generate(self, request_id: str, prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any) -> TokenOutput:
        async with self.turn:
            return await asyncio.to_thread(self._generate, list(prompt_ids), sampling_params)

    def _generate(self, prompt_ids: list[int], sampling: dict[str, Any]) -> TokenOutput:
        ids, temperature = torch.tensor([prompt_ids]), sampling.get("temperature", 1.0)
        with torch.no_grad():
            out = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=sampling.get("max_tokens", self.response_length),
                do_sample=temperature > 0,
                temperature=temperature or None,
                top_k=0,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=self.tokenizer.eos_token_id,
                return_dict_in_generate=True,
                output_logits=True,
            )
        new = out.sequences[0, len(prompt_ids) :]
        logprobs = torch.stack(out.logits, 1)[0].float().log_softmax(-1).gather(-1, new[:, None])[:, 0]
        fields = {"global_steps": self.global_steps}
        return TokenOutput(token_ids=new.tolist(), log_probs=logprobs.tolist(), stop_reason="completed", extra_fields=fields)


class HFReplica(RolloutReplica):  # type: ignore[misc]  # veRL carries no types
    """Starts a server for each worker."""

    async def launch_servers(self) -> None:
        config = self.model_config
        path = config.path if hasattr(config, "path") else config["path"]
        name = f"hf_server_{self.replica_rank}"
        server = (
            ray.remote(HFServer).options(name=name, num_cpus=0, max_concurrency=1000).remote(path, self.config.response_length)
        )
        await server.ready.remote()
        self.servers, self._server_handle, self._server_address = [server], server, name


class ServerAdapter(BaseRollout):  # type: ignore[misc]  # veRL carries no types
    """A worker's side of its server."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, *_: Any, **__: Any) -> None:
        super().__init__(config, model_config, device_mesh)
        self.rank = int(os.environ["RANK"])

    async def resume(self, tags: Any) -> None: ...

    async def release(self) -> None: ...

    async def update_weights(self, weights: Iterable[tuple[str, torch.Tensor]], global_steps: int = 0, **_: Any) -> None:
        state = {name: tensor.detach().float().cpu().clone() for name, tensor in weights}
        await ray.get_actor(f"hf_server_{self.rank}").update_weights.remote(state, global_steps)
