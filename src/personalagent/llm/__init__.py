"""Language models behind one interface: `open_llm(spec, role, settings)`."""

from personalagent.llm.base import LLM, Completion, FinishReason, LLMRole, TokenLogprob, Usage, open_llm

__all__ = ["LLM", "Completion", "FinishReason", "LLMRole", "TokenLogprob", "Usage", "open_llm"]
