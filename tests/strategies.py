"""Hypothesis strategies for operations and logs, shared by the tests of the profile and of the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from personalagent.profile import Cardinality, Evidence, OpKind, Polarity, ProfileDelta, SlotOp, Source

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PATHS = {"basics.place.city": Cardinality.ONE, "food.taste.likes": Cardinality.MANY}
VALUES = ["Rome", "rome city", "Rome, Italy", "Paris", "city of light", "light", "♥", "the", "寿司"]

times = st.integers(0, 10**12).map(lambda us: NOON + timedelta(microseconds=us))
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@st.composite
def operations(draw: st.DrawFn, kinds: tuple[OpKind, ...] = tuple(OpKind), *, free_text: bool = False) -> SlotOp:
    """Draw an operation on one of two slots; few values, so that they meet."""
    kind = draw(st.sampled_from(kinds))
    path = draw(st.sampled_from(sorted(PATHS)))
    value = draw(texts.filter(str.strip) if free_text else st.sampled_from(VALUES))
    if kind not in (OpKind.ADD, OpKind.UPDATE) and draw(st.booleans()):
        value = draw(st.sampled_from(["", value]))
    quote = draw(texts if free_text else st.just(f"I said {value}"))
    return SlotOp(
        op=kind,
        path=path,
        value=value,
        at=draw(times),
        polarity=draw(st.sampled_from(Polarity)),
        source=draw(st.sampled_from((Source.STATED, Source.IMPLIED, Source.ELICITED))),
        cardinality=draw(st.sampled_from([PATHS[path], PATHS[path], Cardinality.ONE, Cardinality.MANY])),
        evidence=draw(st.none() | st.builds(Evidence, st.just(quote), st.just("s1"), st.integers(0, 9))),
    )


LEARNED = (OpKind.ADD, OpKind.UPDATE, OpKind.RETRACT, OpKind.CONFIRM)
"""What a turn may do: everything but forget."""


def deltas(*, free_text: bool = False) -> st.SearchStrategy[ProfileDelta]:
    """Draw what one turn reveals."""
    return st.builds(ProfileDelta, st.lists(operations(LEARNED, free_text=free_text), max_size=4).map(tuple))
