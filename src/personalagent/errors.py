"""What can go wrong, named for who must act.

```
PersonalAgentError              exit 1   something failed
├── UsageError                  exit 2   the caller: the input or the arguments are wrong
│   ├── ConfigError                      a setting: flag, environment variable or TOML key
│   ├── SchemaError                      the profile schema or the user's own YAML
│   ├── ProfileError                     a profile operation that cannot be applied
│   ├── DataError                        a data file or record
│   └── Conflict                         a change made for a state that moved on meanwhile
├── EnvironmentProblem          exit 3   whoever runs the machine: the input was fine
│   ├── ModelError                       weights of the embedded model
│   │   ├── ModelMissingError            not on this machine
│   │   ├── ModelDownloadError           could not be fetched, or the bytes are not the pinned ones
│   │   └── ModelLoadError               there, but llama.cpp cannot load them
│   ├── StoreError                       the database
│   └── LLMError                         an endpoint
│       ├── LLMUnreachable               no connection, or HTTP 5xx after the retries
│       ├── LLMTimeout                   no answer in time
│       ├── LLMRefused                   HTTP 4xx: key, model name, context length, unsupported option
│       └── LLMResponseError             an answer that is not a chat completion
└── JudgeError                  exit 1   a judge's verdict cannot be read: the row is unscored, never 0
```

A message says what was expected, what came (`got {x!r}`) and what to do. What a user said is never part of one, nor is
free text from an endpoint, which may echo it.
"""

from __future__ import annotations

from typing import ClassVar


class PersonalAgentError(Exception):
    """Anything this library raises on purpose."""

    exit_code: ClassVar[int] = 1
    """What the command line exits with: 1 failed, 2 usage, 3 environment."""


class UsageError(PersonalAgentError):
    """The input or the arguments are wrong; the caller must change them."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is unknown or has an impossible value."""


class SchemaError(UsageError):
    """A profile schema cannot be read or clashes with itself."""


class ProfileError(UsageError):
    """A profile operation cannot be applied."""


class DataError(UsageError):
    """A data file or one of its records cannot be used."""


class Conflict(UsageError):
    """A change was made for a version that is no longer the newest; read it again."""


class EnvironmentProblem(PersonalAgentError):
    """The input was fine; the machine, the network or a service was not."""

    exit_code = 3


class ModelError(EnvironmentProblem):
    """The weights of the embedded model cannot be used."""


class ModelMissingError(ModelError):
    """The weights are not on this machine."""


class ModelDownloadError(ModelError):
    """The weights could not be fetched, or what came is not what was pinned."""


class ModelLoadError(ModelError):
    """The weights are here, but llama.cpp cannot load them."""


class StoreError(EnvironmentProblem):
    """The database cannot be opened, migrated, read or written."""


class LLMError(EnvironmentProblem):
    """An LLM endpoint gave no usable answer."""


class LLMUnreachable(LLMError):
    """No connection could be made, or the endpoint kept answering HTTP 5xx."""


class LLMTimeout(LLMError):
    """The endpoint did not answer within `timeout_s`."""


class LLMRefused(LLMError):
    """The endpoint refused the request (HTTP 4xx)."""

    def __init__(self, message: str, *, status: int, is_too_long: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status of the endpoint's answer, e.g. 401, 404, 429."""
        self.is_too_long = is_too_long
        """Whether the endpoint said that the messages are longer than the model's context."""
        self.retry_after_s = retry_after_s
        """How long the endpoint asked to wait; None where it did not say."""


class LLMResponseError(LLMError):
    """The endpoint answered something that is not a chat completion."""


class JudgeError(PersonalAgentError):
    """A judge's answer holds no readable verdict, so what it judged stays unscored."""
