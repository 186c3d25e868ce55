"""PersonalAgent: an agent that learns what one user is like, knows what it does not know, and asks.

```python
from personalagent import PersonalAgent

agent = PersonalAgent()
reply = agent.chat_sync("alice", "Any ideas for dinner tonight?")
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from personalagent.agent import PersonalAgent
    from personalagent.config import Settings
    from personalagent.dialogue import Message
    from personalagent.errors import PersonalAgentError
    from personalagent.llm.scripted import ScriptedLLM
    from personalagent.profile import Profile, SlotValue
    from personalagent.reply import Reply
    from personalagent.schema import ProfileSchema, load_schema

__version__ = "0.1.0"

_HOMES = {
    "Message": "personalagent.dialogue",
    "PersonalAgent": "personalagent.agent",
    "PersonalAgentError": "personalagent.errors",
    "Profile": "personalagent.profile",
    "ProfileSchema": "personalagent.schema",
    "Reply": "personalagent.reply",
    "ScriptedLLM": "personalagent.llm.scripted",
    "Settings": "personalagent.config",
    "SlotValue": "personalagent.profile",
    "load_schema": "personalagent.schema",
}

__all__ = [
    "Message",
    "PersonalAgent",
    "PersonalAgentError",
    "Profile",
    "ProfileSchema",
    "Reply",
    "ScriptedLLM",
    "Settings",
    "SlotValue",
    "__version__",
    "load_schema",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import personalagent`` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'personalagent' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
