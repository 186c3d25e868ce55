"""LangMem's manager on the run's models: a chat model of LangChain whose tool calls are JSON held to a schema."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import langsmith
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.store.memory import InMemoryStore
from langmem import create_memory_store_manager

from personalagent.bench.conversation import in_turns
from personalagent.bench.systems.memories import MemoryModels
from personalagent.dialogue import Message, Role
from personalagent.prompts import load_prompt

NAMESPACE = ("memories",)
_ID = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}(?![0-9A-Za-z])")
_ROLES: Mapping[str, Role] = {"system": "system", "ai": "assistant"}
Tool = Mapping[str, Any]
logging.getLogger("extraction").setLevel(logging.CRITICAL)  # trustcall's errors quote what users said


class Manager:
    """LangMem for one example."""

    def __init__(self, models: MemoryModels, dimensions: int) -> None:
        self._models = models
        self._model = ChatModel(models=models, names={})
        store = InMemoryStore(index={"dims": dimensions, "embed": models.vectors})
        self._manager = create_memory_store_manager(self._model, namespace=NAMESPACE, store=store)

    @property
    def unreadable(self) -> int:
        """Answers of the model that held no calls that can be read."""
        return self._model.unreadable

    async def read(self, messages: Sequence[Message]) -> None:
        """Let it remember what bears on the user. Raises LLMError, and what LangMem raises."""
        said = [AIMessage(each.content) if each.role == "assistant" else HumanMessage(each.content) for each in messages]
        with langsmith.tracing_context(enabled=False):
            await self._manager.ainvoke({"messages": said})
        if self._models.error is not None:  # LangMem goes on where a repair of its calls failed
            raise self._models.error

    async def search(self, request: str, limit: int) -> list[str]:
        """Return the memories nearest to a request, nearest first."""
        with langsmith.tracing_context(enabled=False):
            found = await self._manager.asearch(query=request, limit=limit)
        return [str(item.value.content) for item in found]


class ChatModel(BaseChatModel):  # type: ignore[misc]  # the package is not there when types are checked
    """The run's model as LangChain knows one."""

    models: Any
    """The MemoryModels of the example."""
    names: dict[str, str]
    """Random id → what the model reads instead: an id of the same form that follows from its place."""
    unreadable: int = 0

    @property
    def _llm_type(self) -> str:
        return "personalagent"

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: str | None = None, **_: Any) -> Runnable[Any, Any]:
        """Return the model with tools that it may call; with a choice, one of them at least."""
        described = [convert_to_openai_tool(tool)["function"] for tool in tools]
        return self.bind(tools=described, has_to_call=tool_choice is not None)

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError("expected an awaited call, got a blocking one; use ainvoke")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        *,
        tools: Sequence[Tool] = (),
        has_to_call: bool = False,
        **_: Any,
    ) -> ChatResult:
        sent = in_turns([self._message(each) for each in messages])
        head = sent.pop(0).content if sent and sent[0].role == "system" else ""
        listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        choice = "At least one call." if has_to_call else 'Without a call: {"calls": []}.'
        system = f"{head}\n\n{load_prompt('langmem_tools').fill(tools=listed, choice=choice)}".strip()
        text = await self.models.write([Message("system", system), *sent], calls_schema(tools, has_to_call=has_to_call))
        answer = self._answer(text, len(messages))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _message(self, message: BaseMessage) -> Message:
        """Return a message of LangChain as ours; calls are shown as the model wrote them."""
        text = str(message.content)
        calls = getattr(message, "tool_calls", None)
        if calls:
            text = json.dumps({"calls": [{"id": c["id"], "name": c["name"], "arguments": c["args"]} for c in calls]})
        elif message.type == "tool":
            text = f"Result of the call {message.tool_call_id}: {text}"
        return Message(_ROLES.get(message.type, "user"), _ID.sub(lambda found: self._name(found[0]), text))

    def _name(self, random_id: str) -> str:
        name = uuid.uuid5(uuid.NAMESPACE_OID, str(len(self.names)))
        return self.names.setdefault(random_id, str(name) if "-" in random_id else name.hex)

    def _answer(self, text: str, place: int) -> AIMessage:
        """Read calls; the ids that they name are LangMem's own again."""
        ids = {name: random_id for random_id, name in self.names.items()}
        try:
            calls = [
                {
                    "name": str(call["name"]),
                    "args": {
                        key: ids.get(value, value) if isinstance(value, str) else value
                        for key, value in call["arguments"].items()
                    },
                    "id": f"call-{place}-{number}",
                    "type": "tool_call",
                }
                for number, call in enumerate(json.loads(text)["calls"], 1)
            ]
        except (ValueError, TypeError, KeyError, AttributeError):
            self.unreadable += 1
            return AIMessage(text)
        return AIMessage("", tool_calls=calls)


def calls_schema(tools: Sequence[Tool], *, has_to_call: bool) -> dict[str, object]:
    """Return the JSON schema of an answer that calls tools."""
    kinds = [
        {
            "type": "object",
            "properties": {"name": {"const": tool["name"]}, "arguments": tool["parameters"]},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    calls = {"type": "array", "items": {"anyOf": kinds}, "minItems": int(has_to_call)}
    return {"type": "object", "properties": {"calls": calls}, "required": ["calls"], "additionalProperties": False}
