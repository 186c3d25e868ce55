"""MemBank: what is written, what fades, what is recalled."""

from __future__ import annotations

import random

import pytest

from personalagent.bench.metering import MeteredLLM, Phase
from personalagent.bench.systems.base import open_system
from personalagent.bench.systems.membank import Bank, Chunk, Memory, chunks_of, retention
from personalagent.dialogue import Turn
from personalagent.llm.scripted import ScriptedLLM
from tests.bench.systems.parts import LENGTH, SEASICK, example, parts


class Chance(random.Random):
    """Numbers that are written beforehand."""

    def __init__(self, *numbers: float) -> None:
        super().__init__(0)
        self._numbers = list(numbers)

    def random(self) -> float:
        """Return the next of them."""
        return self._numbers.pop(0)


def bank(*memories: Memory, chance: random.Random | None = None, is_bug_compatible: bool = False) -> Bank:
    """A bank with one chunk a memory; the first is at (1, 0, …), the second at (0, 1, …)."""
    chunks = [Chunk(m, m.text, tuple(float(i == n) for i in range(8))) for n, m in enumerate(memories)]
    return Bank(chance or Chance(), is_bug_compatible, chunks)


def test_a_memory_fades_with_time_and_slower_the_stronger_it_is() -> None:
    assert retention(0, 1) == 1
    assert retention(1, 1) == pytest.approx(0.8187, abs=1e-4)
    assert retention(1, 2) == pytest.approx(0.9048, abs=1e-4)
    assert retention(5, 1) == pytest.approx(0.3679, abs=1e-4)


def test_in_the_published_code_a_strong_memory_fades_faster() -> None:
    assert retention(1, 1, is_bug_compatible=True) == retention(1, 1)
    assert retention(1, 2, is_bug_compatible=True) == pytest.approx(0.6703, abs=1e-4)


def test_a_text_is_cut_between_words_into_chunks_of_200_characters() -> None:
    assert chunks_of("one two three", 7) == ["one two", "three"]
    assert chunks_of("one two three", 8) == ["one two", "three"]
    assert chunks_of("abcdefgh ij", 4) == ["abcd", "efgh", "ij"]
    assert chunks_of(" \n") == []
    assert [len(part) for part in chunks_of("word " * 100)] == [199, 199, 99]


def test_a_turn_is_kept_where_the_number_drawn_is_not_above_its_retention() -> None:
    """After a day at strength 1: 0.81 keeps the first, 0.82 drops the second."""
    first, second = Memory(1, "a", recalled_on=1), Memory(1, "b", recalled_on=1)
    remembered = bank(first, second, chance=Chance(0.81, 0.82))
    remembered.begin_day(2)
    assert [chunk.memory for chunk in remembered.chunks] == [first]
    assert remembered.forgotten == 1


def test_a_recalled_turn_is_stronger_and_new_again() -> None:
    first, second = Memory(1, "a", recalled_on=1), Memory(1, "b", recalled_on=1)
    remembered = bank(first, second, chance=Chance(0.9, 0.9))
    assert remembered.recall((1, 0, 0, 0, 0, 0, 0, 0), 2)[0].memory is first
    assert (first.strength, first.recalled_on) == (2, 2)
    second.strength, second.recalled_on = 1, 1
    remembered.begin_day(3)  # 0.905 for the first, 0.670 for the second
    assert [chunk.memory for chunk in remembered.chunks] == [first]


def test_a_turn_of_two_chunks_is_strengthened_once() -> None:
    memory = Memory(1, "a", recalled_on=1)
    remembered = Bank(Chance(), False, [Chunk(memory, "a1", (1.0,)), Chunk(memory, "a2", (1.0,))])
    assert len(remembered.recall((1.0,), 2)) == 2
    assert memory.strength == 2


def test_at_most_six_chunks_are_recalled() -> None:
    remembered = bank(*(Memory(1, str(n), recalled_on=1) for n in range(8)))
    assert len(remembered.recall((1,) * 8, 2)) == 6


def test_a_summary_goes_with_the_last_turn_of_its_day_and_is_never_strengthened() -> None:
    turn, summary = Memory(1, "a", recalled_on=1), Memory(1, "s", is_summary=True, recalled_on=1)
    remembered = bank(turn, summary, chance=Chance(0.5, 0.99))
    remembered.recall((0, 1, 0, 0, 0, 0, 0, 0), 1)
    assert summary.strength == 1
    remembered.begin_day(2)
    assert len(remembered.chunks) == 2
    turn.strength = 1
    remembered.begin_day(9)
    assert remembered.chunks == []


async def test_the_days_are_summed_up_and_the_request_is_answered_from_memory() -> None:
    second = (Turn("Which tent for the boat?", "A light one."),)
    replies = ["sum 1", "likes 1", "sum 2", "likes 2", "sum of all", "likes land", "Take the train."]
    llm = MeteredLLM(inner := ScriptedLLM(replies))
    reply = await open_system("membank", parts(seed=3)).answer(example(SEASICK, second, request="Which boat?"), llm)
    assert reply.text == "Take the train."
    assert [len(call.messages) for call in inner.calls] == [6, 6, 4, 4, 2, 2, 2]
    assert [call.max_tokens for call in inner.calls] == [400] * 6 + [300]
    assert "<days>\nDay 1: sum 1\nDay 2: sum 2\n</days>" in inner.calls[4].messages[-1].content
    assert "Day 2: likes 2" in inner.calls[5].messages[-1].content
    system, request = inner.calls[6].messages
    assert "<personality>\nlikes land\n</personality>\n<summary>\nsum of all\n</summary>" in system.content
    assert request.content == f"Which boat?{LENGTH}"
    assert llm.meter.spent(Phase.HISTORY).calls == 6 and llm.meter.spent(Phase.REQUEST).calls == 1
    # day 1: two turns, a summary; day 2: the utterance that recalls, a turn, a summary; then the request.
    assert llm.meter.spent(Phase.HISTORY).embedded_texts == 3 + 3
    assert llm.meter.spent(Phase.REQUEST).embedded_texts == 1


async def test_the_same_seed_and_example_remember_the_same() -> None:
    session = tuple(Turn(f"Turn {number} about a boat.", "Yes.") for number in range(12))

    async def memories(seed: int, name: str) -> str:
        llm = ScriptedLLM(["s", "p", "os", "op", "answer"])
        reply = await open_system("membank", parts(seed=seed)).answer(example(session, request="Which boat?", name=name), llm)
        return f"{reply.trace} {llm.calls[-1].messages[0].content}"

    assert await memories(1, "a") == await memories(1, "a")
    assert len({await memories(seed, "a") for seed in range(6)}) > 1


async def test_without_a_history_there_is_one_call() -> None:
    llm = ScriptedLLM(["Take the train."])
    reply = await open_system("membank:bug-compatible", parts()).answer(example(), llm)
    assert (reply.text, len(llm.calls)) == ("Take the train.", 1)
    assert "nothing was said before" in llm.calls[0].messages[0].content
