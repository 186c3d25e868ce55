"""When a message is inferred: before the answer or after it; and what a new user notices over days."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from personalagent.errors import LLMUnreachable
from tests.server.endpoint import Endpoint
from tests.server.serving import DIET_NEEDED, NOTHING, Served, serving

DOWN = LLMUnreachable("expected an endpoint, got no connection; start it")


def ask(served: Served, text: str, **more: Any) -> Any:
    """Say something as alice in a new session; return the extension object of the answer."""
    body = {"model": "tiny", "user": "alice", "messages": [{"role": "user", "content": text}], "personalagent": {}, **more}
    answer = served.post(body)
    assert answer.status_code == 200, answer.text
    return answer.json()["personalagent"]


def told(endpoint: Endpoint) -> str:
    return "\n".join(str(m["content"]) for m in endpoint.last["messages"] if m["role"] == "system")


def test_before_infers_first_so_that_the_very_answer_is_personal(tmp_path: Path, endpoint: Endpoint) -> None:
    with serving(tmp_path, endpoint, learn_mode="before", worker=False) as served:
        served.policy.needs = lambda prompt: DIET_NEEDED
        extension = ask(served, "I'm vegan. Dinner ideas?")
        assert "pattern: vegan" in told(endpoint)
        assert extension["learned"] == [{"slot": "consumption_lifestyle.diet.pattern", "value": "vegan", "polarity": "neutral"}]
        assert extension["slots_used"] == ["consumption_lifestyle.diet.pattern"]
        assert served.agent.store.pending_turns("alice") == ()


def test_before_asks_what_it_misses(tmp_path: Path, endpoint: Endpoint) -> None:
    with serving(tmp_path, endpoint, learn_mode="before") as served:
        served.policy.needs = lambda prompt: DIET_NEEDED
        assert ask(served, "Dinner ideas?")["question"].endswith("?")


def test_after_answers_first_and_knows_it_the_next_time(served: Served, endpoint: Endpoint) -> None:
    assert ask(served, "I'm vegan. Dinner ideas?")["learned"] == []
    assert told(endpoint) == ""
    served.wait_until_inferred("alice")
    assert ask(served, "And lunch ideas?")["slots_used"] == ["consumption_lifestyle.diet.pattern"]


def test_after_does_not_wait_for_a_policy_that_is_slow_to_ask(tmp_path: Path, endpoint: Endpoint) -> None:
    with serving(tmp_path, endpoint, question_wait_s=0, worker=False) as served:
        served.policy.needs = lambda prompt: DIET_NEEDED
        assert served.post({"messages": [{"role": "user", "content": "Dinner?"}], "user": "alice"}).status_code == 200


def test_a_policy_that_is_down_costs_only_the_learning(tmp_path: Path, endpoint: Endpoint) -> None:
    for mode in ("before", "after"):
        folder = tmp_path / mode
        folder.mkdir()
        with serving(folder, endpoint, learn_mode=mode) as served:
            ask(served, "I'm vegan.")
            served.wait_until_inferred("alice")
            served.policy.infer = served.policy.needs = lambda prompt: DOWN
            extension = ask(served, "Dinner ideas?")
            assert extension["slots_used"] == ["consumption_lifestyle.diet.pattern"]
            assert extension["question"] is None
            assert [turn.utterance for turn in served.agent.store.pending_turns("alice")] == ["Dinner ideas?"]


def test_what_was_said_before_a_question_is_no_reply_to_it(tmp_path: Path, endpoint: Endpoint) -> None:
    """In `after` mode the question is out before the turn that led to it is inferred."""
    with serving(tmp_path, endpoint) as served:
        served.policy.needs = lambda prompt: DIET_NEEDED
        served.policy.infer = lambda prompt: DOWN
        assert ask(served, "Dinner ideas, please: anything goes")["question"]
        asks = [(each.path, each.state) for each in served.agent.store.asks("alice")]
        served.policy.infer = lambda prompt: NOTHING
        served.wait_until_inferred("alice")
        assert [(each.path, each.state) for each in served.agent.store.asks("alice")] == asks


def test_what_a_new_user_said_in_the_first_session_shapes_the_answer_in_the_third(tmp_path: Path, endpoint: Endpoint) -> None:
    with serving(tmp_path, endpoint) as served:
        ask(served, "I'm vegan and new in town. Hello!")
        served.wait_until_inferred("alice")
    clock_days = 0
    for text in ("What is a good way to learn the piano?", "What shall I cook for dinner tonight?"):
        clock_days += 2
        with serving(tmp_path, endpoint) as served:  # a process started anew: only the database remembers
            served.clock.now += timedelta(days=clock_days)
            ask(served, text)
            served.wait_until_inferred("alice")
            turns = served.turns("alice")
    assert "- pattern: vegan" in told(endpoint)
    assert len({turn.session_id for turn in turns}) == 3
    assert [later.at - earlier.at >= timedelta(days=1, hours=23) for earlier, later in pairwise(turns)] == [
        True,
        True,
    ]
