"""The Memobase layer through Memobase's own clients, against a running server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI
from openapi_spec_validator import validate

from personalagent.errors import LLMUnreachable
from personalagent.profile import Polarity
from personalagent.server.memobase_wire import PREFIX
from personalagent.store.erasure import ERASED
from tests.server.endpoint import Endpoint
from tests.server.serving import NOTHING, VEGAN, Served, serving

pytest.importorskip("memobase", reason="needs the dev extra")

from memobase import AsyncMemoBaseClient, ChatBlob, MemoBaseClient
from memobase.core.blob import BlobType, DocBlob
from memobase.error import ServerError
from memobase.patch.openai import openai_memory
from memobase.utils import string_to_uuid

SAID = [
    {"role": "user", "content": "I'm vegan", "created_at": "2023-05-08T13:56:00"},
    {"role": "assistant", "content": "Noted.", "created_at": "2023-05-08T13:57:00"},
    {"role": "user", "content": "Hello"},
]
THAI = "<classification>\nconsumption_lifestyle.diet.cuisines | add | like | Thai | I love Thai food\n</classification>"
DOWN = LLMUnreachable("expected an endpoint, got no connection; start it")


def client_of(served: Served, key: str = "secret") -> MemoBaseClient:
    """Return the official client."""
    return MemoBaseClient(project_url=served.address, api_key=key)


def two_facts(prompt: str) -> str:
    """Answer as a policy that finds a diet and a cuisine."""
    last = prompt.rpartition("Message: ")[2]
    return VEGAN if "I'm vegan" in last else THAI if "Thai" in last else NOTHING


@pytest.fixture
def client(served: Served) -> MemoBaseClient:
    """A client of a server without keys."""
    served.policy.infer = two_facts
    return client_of(served)


@pytest.fixture
def user(client: MemoBaseClient) -> Any:
    """A user of whom a diet and a cuisine are known."""
    found = client.get_user(client.add_user())
    found.insert(
        ChatBlob(messages=[{"role": "user", "content": "I'm vegan"}, {"role": "user", "content": "I love Thai food"}]), sync=True
    )
    return found


def test_the_life_of_a_user(served: Served, client: MemoBaseClient) -> None:
    assert client.ping()
    uid = client.add_user({"name": "Gus"})
    assert uuid.UUID(uid).version == 4
    fields = client.get_user(uid).fields
    assert (fields["id"], fields["data"]) == (uid, {"name": "Gus"})
    assert datetime.fromisoformat(fields["created_at"]).tzinfo is not None
    assert client.update_user(uid, {"tags": ["a", 1]}) == uid
    assert client.get_user(uid).fields["data"] == {"tags": ["a", 1]}
    assert client.update_user(uid) == uid
    assert client.get_user(uid).fields["data"] is None
    named = str(uuid.uuid5(uuid.NAMESPACE_DNS, "alice"))
    assert client.get_or_create_user(named).user_id == named
    assert client.get_or_create_user(named).user_id == named
    assert set(served.agent.store.users()) == {uid, named}
    with pytest.raises(ServerError, match="expected a user who is new"):
        client.add_user(id=named)
    assert client.delete_user(uid)
    assert served.agent.store.users() == (named,)
    with pytest.raises(ServerError, match="got none of that id"):
        client.get_user(uid)


def test_what_is_inserted_is_learned_and_comes_back(served: Served, client: MemoBaseClient) -> None:
    found = client.get_or_create_user("alice")
    blob = found.insert(ChatBlob(messages=SAID))
    assert found.flush(sync=True)
    (entry,) = found.profile()
    assert (entry.topic, entry.sub_topic, entry.content) == ("diet", "pattern", "vegan")
    assert entry.created_at.tzinfo is not None
    assert found.profile(need_json=True)["diet"]["pattern"]["content"] == "vegan"
    assert "- pattern: vegan\n" in found.context()
    kept = found.get(blob)
    assert [(message.role, message.content) for message in kept.messages] == [
        ("user", "I'm vegan"),
        ("assistant", "Noted."),
        ("user", "Hello"),
    ]
    assert kept.messages[0].created_at == "2023-05-08T13:56:00+00:00", "it was said when the message says"
    assert found.get_all(BlobType.chat) == found.buffer(BlobType.chat, "done") == [blob]
    assert found.get_all(BlobType.chat, page=1) == found.get_all(BlobType.doc) == []
    values = served.agent.store.load_profile("alice").values("consumption_lifestyle.diet.pattern")
    assert [(proof.quote, proof.session_id) for value in values for proof in value.evidence] == [("I'm vegan", blob)]


def test_an_insert_that_does_not_wait_is_learned_by_the_worker(served: Served, client: MemoBaseClient) -> None:
    client.get_or_create_user("alice").insert(ChatBlob(messages=SAID))
    served.wait_until_inferred("alice")
    assert served.values("alice") == ["vegan"]


async def test_the_async_client(served: Served) -> None:
    client = AsyncMemoBaseClient(project_url=served.address, api_key="secret")
    assert await client.ping()
    found = await client.get_or_create_user("alice")
    await found.insert(ChatBlob(messages=SAID), sync=True)
    assert [entry.content for entry in await found.profile()] == ["vegan"]
    assert "vegan" in await found.context(max_token_size=500)
    await client.delete_user("alice")
    with pytest.raises(ServerError):
        await found.profile()


def test_the_calls_of_the_memos_evaluation(served: Served, client: MemoBaseClient) -> None:
    """Its client: a UUID of the name, two messages a blob, each waited for and flushed; then a context of 100 tokens a memory."""
    served.policy.infer = two_facts
    uid = str(uuid.uuid5(uuid.NAMESPACE_DNS, "locomo_exp_user_0memobase_client"))
    with pytest.raises(ServerError):
        client.delete_user(uid)
    messages = [
        {"role": "assistant", "content": "Hi!", "created_at": "2023-05-08T13:56:00+00:00"},
        {"role": "assistant", "content": "How are you?", "created_at": "2023-05-08T13:56:00+00:00"},
        {"role": "user", "content": "I love Thai food", "created_at": "2023-05-08T13:57:00+00:00"},
        {"role": "assistant", "content": "Me too", "created_at": "2023-05-08T13:57:00+00:00"},
        {"role": "user", "content": "I'm vegan", "created_at": "2023-05-08T13:58:00+00:00"},
    ]
    ingesting = client.get_or_create_user(uid)
    for start in range(0, len(messages), 2):
        ingesting.insert(ChatBlob(messages=messages[start : start + 2]), sync=True)
        ingesting.flush(sync=True)
    context = client.get_user(uid, no_get=True).context(
        max_token_size=20 * 100,
        chats=[{"role": "user", "content": "What R&B or food does Caroline like? 100% #1"}],
        event_similarity_threshold=0.2,
        fill_window_with_events=True,
    )
    assert "cuisines (like): Thai" in context and "pattern: vegan" in context
    assert client.delete_user(uid)
    assert served.agent.store.users() == ()


def test_an_openai_client_that_memobase_patches(served: Served, client: MemoBaseClient, endpoint: Endpoint) -> None:
    """Its own patch asks for the context, puts it into the prompt, and inserts question and answer in a thread."""
    patched = openai_memory(OpenAI(base_url=endpoint.address, api_key="none", max_retries=0), client)
    uid = string_to_uuid("alice")
    patched.chat.completions.create(model="tiny", user_id="alice", messages=[{"role": "user", "content": "I'm vegan"}])
    served.wait_until_inferred(uid)
    patched.flush("alice")
    assert [entry.content for entry in patched.get_profile("alice")] == ["vegan"]
    patched.chat.completions.create(model="tiny", user_id="alice", messages=[{"role": "user", "content": "Dinner?"}])
    assert "- pattern: vegan" in endpoint.last["messages"][0]["content"]
    served.wait_for(lambda: [turn.utterance for turn in served.turns(uid)] == ["I'm vegan", "Dinner?"])
    served.wait_for(lambda: [turn.response for turn in served.turns(uid)] == ["Try a curry.", "Try a curry."])


def test_users_are_learned_from_side_by_side(served: Served, client: MemoBaseClient) -> None:
    """As evaluations do: many users in a pool of threads, each waiting for what it inserted."""
    served.policy.infer = two_facts

    def ingest(name: str) -> list[str]:
        found = client.get_or_create_user(name)
        for said in ("I'm vegan", "Hello", "I love Thai food"):
            found.insert(ChatBlob(messages=[{"role": "user", "content": f"{said} {name}"}]), sync=True)
        return sorted(entry.content for entry in found.profile())

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ingest, [f"user-{number}" for number in range(8)]))
    assert found == [["Thai (like)", "vegan"]] * 8
    assert len(served.agent.policy.calls) == 24, "nothing was inferred twice"


def test_a_profile_is_filtered_and_cut(user: Any) -> None:
    user.add_profile("Porto", "location", "city")

    def slots(**wanted: Any) -> list[str]:
        return [f"{entry.topic}.{entry.sub_topic}" for entry in user.profile(**wanted)]

    assert slots() == ["location.city", "diet.cuisines", "diet.pattern"], "what changed last comes first"
    assert slots(prefer_topics=["diet", "location"]) == ["diet.cuisines", "diet.pattern", "location.city"]
    assert slots(only_topics=["location"]) == ["location.city"]
    assert slots(max_subtopic_size=1) == ["location.city", "diet.cuisines"]
    assert slots(max_subtopic_size=1, topic_limits={"diet": 2}) == ["location.city", "diet.cuisines", "diet.pattern"]
    assert slots(max_token_size=10) == ["location.city"]
    assert slots(chats=[{"role": "user", "content": "Which city do I live in?"}]) == ["location.city"]


def test_a_context_fits_its_budget_and_its_template(user: Any) -> None:
    whole = user.context()
    assert "cuisines (like): Thai" in whole and "pattern: vegan" in whole and "not instructions" in whole
    assert user.context(max_token_size=5) == ""
    assert user.context(only_topics=["travel"]) == ""
    template = "Known:\n{profile_section}\n{event_section}Be kind & brief."
    assert (
        user.context(customize_context_prompt=template) == "Known:\n- cuisines (like): Thai\n- pattern: vegan\nBe kind & brief."
    )
    assert user.context(customize_context_prompt="{profile_section}", max_token_size=10) == "- cuisines (like): Thai"
    asked = [{"role": "user", "content": "Which cuisines do I love?"}]
    assert "Thai" in user.context(chats=asked, full_profile_and_only_search_event=False)


def test_entries_are_added_changed_and_erased(served: Served, user: Any) -> None:
    store, path = served.agent.store, "consumption_lifestyle.diet.cuisines"
    added = user.add_profile("Ethiopian; pizza (avoid)", "diet", "cuisines")
    entry = next(each for each in user.profile() if each.sub_topic == "cuisines")
    assert (str(entry.id), entry.content) == (added, "Thai (like); Ethiopian; pizza (avoid)")
    assert user.update_profile(added, "Thai (like); Peruvian", "diet", "cuisines")
    held = store.load_profile(user.user_id).values(path)
    assert [(value.value, value.polarity) for value in held] == [("Thai", Polarity.LIKE), ("Peruvian", Polarity.NEUTRAL)]
    assert user.update_profile(added, "Porto", "location", "city")
    assert {each.sub_topic: each.content for each in user.profile()} == {"city": "Porto", "pattern": "vegan"}
    city = next(each for each in user.profile() if each.sub_topic == "city")
    assert user.delete_profile(str(city.id))
    assert "Porto" not in [op.value for op in store.operations(user.user_id)], "erased, not taken back"
    for bad in (added, str(city.id), "nonsense"):
        with pytest.raises(ServerError, match="got no such entry"):
            user.delete_profile(bad)
    for nothing in (" ; ", " "):
        with pytest.raises(ServerError, match="expected a content with a value in it"):
            user.add_profile(nothing, "diet", "cuisines")
    with pytest.raises(ServerError, match=r"did you mean diet\.cuisines"):
        user.add_profile("Thai", "diet", "cuisine")


def test_a_policy_that_is_down_is_told_and_nothing_is_lost(served: Served, client: MemoBaseClient) -> None:
    found = client.get_or_create_user("alice")
    served.policy.infer = lambda prompt: DOWN
    with pytest.raises(ServerError, match="got LLMUnreachable for 2 of 2 messages") as raised:
        found.insert(ChatBlob(messages=SAID), sync=True)
    (blob,) = found.get_all(BlobType.chat)
    assert f"kept as {blob}: do not send it again" in str(raised.value)
    assert found.buffer(BlobType.chat, "done") == []
    served.policy.infer = two_facts
    assert found.flush(sync=True)
    assert [entry.content for entry in found.profile()] == ["vegan"]


def test_a_flush_brings_back_what_was_given_up(tmp_path: Path, endpoint: Endpoint) -> None:
    with serving(tmp_path, endpoint, worker=False) as served:
        found = client_of(served).get_or_create_user("alice")
        found.insert(ChatBlob(messages=SAID))
        store = served.agent.store
        (job,) = store.lease_jobs("w", 1, 30)
        (blob,) = found.buffer(BlobType.chat, "processing")
        store.fail_job(job, "unreadable", None)
        assert (found.buffer(BlobType.chat), found.buffer(BlobType.chat, "failed")) == ([], [blob])
        assert found.flush()
        assert found.buffer(BlobType.chat) == [blob]
        assert found.flush(sync=True)
        assert found.buffer(BlobType.chat, "done") == [blob]


def test_data_of_the_application_goes_with_what_is_forgotten(served: Served, client: MemoBaseClient, user: Any) -> None:
    client.update_user(user.user_id, {"about": [{"Thai lover": "I love Thai food!"}], "n": 1})
    exported = httpx.get(f"{served.address}/v1/users/{user.user_id}/export").json()
    assert exported["data"]["n"] == 1, "an export holds everything that is kept"
    cuisines = next(each for each in user.profile() if each.sub_topic == "cuisines")
    user.delete_profile(str(cuisines.id))
    assert client.get_user(user.user_id).fields["data"] == {"about": [{f"{ERASED} lover": f"{ERASED}!"}], "n": 1}
    with pytest.raises(ServerError, match="at most 20000 characters"):
        client.update_user(user.user_id, {"about": "x" * 20_000})


def test_what_is_not_supported_says_so(served: Served, client: MemoBaseClient, user: Any) -> None:
    blob = user.get_all(BlobType.chat)[0]
    assert "topic: diet" in client.get_config() and "name: cuisines" in client.get_config()
    calls = (
        lambda: client.update_config("language: en"),
        client.get_usage,
        client.get_daily_usage,
        client.get_all_users,
        lambda: user.delete(blob),
        user.event,
        lambda: user.search_event("food"),
        lambda: user.search_event_gist("food"),
        lambda: user.search_event_by_tags(["mood"]),
        lambda: user.update_event("e", {}),
        lambda: user.delete_event("e"),
        lambda: user.insert(DocBlob(content="I'm vegan")),
        lambda: user.insert(ChatBlob(messages=SAID, fields={"from": "app"})),
    )
    for call in calls:
        with pytest.raises(ServerError, match=r"expected .+, got .+; .+"):
            call()
    assert user.get(blob).messages[0].content == "I'm vegan"
    assert user.get_all(BlobType.chat) == [blob]


def test_wrong_ids_and_bodies(served: Served, client: MemoBaseClient) -> None:
    ghost = client.get_user("nobody", no_get=True)
    for call in (
        ghost.profile,
        ghost.context,
        ghost.flush,
        lambda: ghost.insert(ChatBlob(messages=SAID)),
        lambda: ghost.get("b"),
    ):
        with pytest.raises(ServerError, match="got none of that id"):
            call()
    assert served.agent.store.users() == ()
    known = client.get_or_create_user("alice")
    with pytest.raises(ServerError, match="got no such blob"):
        known.get(str(uuid.uuid4()))
    url = f"{served.address}{PREFIX}"
    for body in (
        {"blob_type": "chat", "blob_data": {"messages": [{"role": "system", "content": "x"}]}},
        {"blob_type": "tune"},
        {},
    ):
        answer = httpx.post(f"{url}/blobs/insert/alice", json=body)
        assert (answer.status_code, answer.json()["errno"], answer.json()["data"]) == (200, 422, None)
        assert answer.json()["errmsg"].startswith("expected")
    assert httpx.get(f"{url}/users/profile/alice?topic_limits_json=[").json()["errno"] == 422
    assert served.turns("alice") == ()


def test_nothing_of_a_blob_is_kept_where_a_message_cannot_be(served: Served, client: MemoBaseClient) -> None:
    known = client.get_or_create_user("alice")
    with pytest.raises(ServerError, match="NUL"):
        known.insert(ChatBlob(messages=[{"role": "user", "content": "I'm vegan"}, {"role": "assistant", "content": "a\0b"}]))
    assert (served.turns("alice"), known.get_all(BlobType.chat)) == ((), [])


@pytest.fixture
def keyed(tmp_path: Path, endpoint: Endpoint) -> Iterator[Served]:
    """A server with keys; alice, of tenant acme, is vegan."""
    with serving(tmp_path, endpoint) as served:
        secret, _ = served.agent.store.create_key("acme", ["chat", "profile:read", "profile:write"])
        served.headers["acme"] = secret
        client_of(served, secret).get_or_create_user("alice").insert(ChatBlob(messages=SAID), sync=True)
        yield served


def test_a_key_of_another_tenant_sees_nothing(keyed: Served) -> None:
    assert [entry.content for entry in client_of(keyed, keyed.headers["acme"]).get_user("alice").profile()] == ["vegan"]
    secret, _ = keyed.agent.store.create_key("other", ["chat", "profile:read", "profile:write"])
    others = client_of(keyed, secret)
    with pytest.raises(ServerError, match="got none of that id"):
        others.get_user("alice")
    with pytest.raises(ServerError, match="got none of that id"):
        others.delete_user("alice")
    assert others.get_or_create_user("alice").profile() == [], "an alice of its own"
    assert others.delete_user("alice")
    assert keyed.agent.for_tenant("acme").store.users() == ("alice",)


def test_a_key_of_a_user_makes_nobody_else(keyed: Served) -> None:
    secret, _ = keyed.agent.store.create_key("acme", ["chat", "profile:read", "profile:write"], user_id="bob")
    bobs = client_of(keyed, secret)
    with pytest.raises(ServerError, match="use a service key"):
        bobs.add_user(id="carol")
    assert bobs.add_user() == "bob"
    assert keyed.agent.for_tenant("acme").store.users() == ("alice", "bob")


def test_a_wrong_key_is_an_http_error_in_the_envelope(keyed: Served) -> None:
    wrong = client_of(keyed, "pa_live_wrong")
    assert wrong.ping(), "the health of a server is nobody's secret"
    with pytest.raises(httpx.HTTPStatusError) as raised:
        wrong.get_user("alice")
    answer = raised.value.response
    assert (answer.status_code, answer.json()["errno"], answer.headers["WWW-Authenticate"]) == (401, 401, "Bearer")
    secret, _ = keyed.agent.store.create_key("acme", ["profile:read"])
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        client_of(keyed, secret).delete_user("alice")


def test_too_many_requests_are_an_http_error_with_retry_after(tmp_path: Path, endpoint: Endpoint) -> None:
    with serving(tmp_path, endpoint, rate_limit="1/day") as served:
        client_of(served).add_user(id="alice")
        with pytest.raises(httpx.HTTPStatusError) as raised:
            client_of(served).get_user("alice")
        answer = raised.value.response
        assert (answer.status_code, answer.json()["errno"]) == (429, 429)
        assert int(answer.headers["Retry-After"]) > 0


def test_the_layer_can_be_switched_off(tmp_path: Path, endpoint: Endpoint) -> None:
    with serving(tmp_path, endpoint, memobase_layer=False) as served:
        assert httpx.get(f"{served.address}{PREFIX}/healthcheck").status_code == 404
        assert not [path for path in served.get("/openapi.json").json()["paths"] if path.startswith(PREFIX)]


def test_the_description_is_valid_and_shows_what_is_sent(served: Served) -> None:
    document = served.get("/openapi.json").json()
    validate(document)
    schemas = document["components"]["schemas"]
    bodies = [
        part["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for path, item in document["paths"].items()
        if path.startswith(PREFIX)
        for operation in item.values()
        for part in (operation.get("requestBody"), operation["responses"]["200"])
        if part
    ]
    assert len(bodies) > 20
    assert [name for name in bodies if not schemas[name].get("examples")] == []
