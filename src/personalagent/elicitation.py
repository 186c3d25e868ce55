"""What a reply says about the question that came before it: a value, nothing in particular, a refusal, or something else.

A reply to a question can be a single word. The policy is told which slot was asked for and infers what it can; this
module settles by rules what needs no model, so that "rather not" is never a value and "don't mind" never asked about again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from personalagent.inference import Gate
from personalagent.parsing import Fact
from personalagent.profile import Evidence, OpKind, Polarity, SlotOp, Source
from personalagent.schema import Slot, SlotType

INDIFFERENT = "no preference"
"""The value that is kept where the user has none."""
NOTHING_OF_THE_KIND = "none known"
"""The value that is kept where the user has nothing of what was asked for: no allergies, no children."""
MAX_ANSWER_WORDS = 6
"""Up to so many words, a reply to a question is taken for the answer where the policy found none in it."""
MAX_BARE_WORDS = 3
"""Up to so many, also where the policy files the reply under another slot: it answers what was asked."""


class AnswerKind(StrEnum):
    """What a reply to a question is."""

    VALUE = "value"
    INDIFFERENT = "indifferent"
    NOTHING = "nothing"
    YES = "yes"
    """Agreement and nothing else: it confirms a value that was asked about, and says nothing where none was."""
    UNSURE = "unsure"
    """The user does not know."""
    DECLINED = "declined"
    OTHER = "other"
    """Longer than an answer, or a message of its own: the policy's business."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply as an answer to the question for one slot."""

    kind: AnswerKind
    value: str = ""
    """What to keep in the slot; empty where nothing is kept."""

    @property
    def is_settled(self) -> bool:
        """Whether the reply says this and nothing else, so that the policy has nothing to find in it."""
        return self.kind in (AnswerKind.INDIFFERENT, AnswerKind.NOTHING, AnswerKind.YES, AnswerKind.UNSURE)


def _whole(pattern: str) -> re.Pattern[str]:
    """Match a reply that says this and nothing else, courtesies apart."""
    lead = (
        r"(?:(?:oh|um+|uh|er+|hm+|well|sorry|honestly|actually|nah?|no|nope|thanks|thank you|please|i(?:'d| would) say)[ ,.…]*)*"
    )
    tail = r"(?:[ ,.]*(?:thanks|thank you|thx|please|really|tbh|honestly|to be honest|sorry|mate|dear|lol|though|at all))*"
    return re.compile(rf"{lead}(?:{pattern}){tail}[ .!…]*", re.IGNORECASE)


_DECLINED = re.compile(
    r"\b(?:rather not|prefer not|pass on that|not (?:telling|saying|going to (?:say|tell))|none of your (?:business|concern)|"
    r"mind your (?:own|beeswax)|(?:that|it|this)(?:'s| is) (?:private|personal)|is private|(?:do not|don't|dont|won't|"
    r"will not|wont|not) "
    r"(?:want|wish|care|wanna) (?:to )?(?:say|share|answer|tell|talk about (?:it|that))|(?:not|never) (?:something|a thing) i "
    r"(?:share|discuss|tell|talk about)|keep (?:that|it|this) to myself|(?:that|it) stays (?:with|between) (?:me|us)|"
    r"not answering|"
    r"i(?:'ll| will) pass|(?:can|could|must|do) we (?:not\b|"
    r"have to)|must we\b|leave it out|"
    r"(?:do not|don't|doesn't|does not) discuss|prefer we (?:did not|didn't|do not|don't)|(?:not|none of) your (?:thing|"
    r"business|concern)|"
    r"plead the fifth|does it (?:even |really )?matter\?|no comment|nice try|forget the whole thing|skip (?:it|that|this)|let's not)(?![\w'])",
    re.IGNORECASE,
)
_DECLINED_WHOLE = re.compile(
    r"(?:no[, ]+(?:thanks|thank you|thx)|skip|pass|next|no way|(?:nah?|no)[, ]+leave it|no and that'?s that)[ .!]*", re.IGNORECASE
)
_INDIFFERENT = _whole(
    r"(?:i )?(?:do not|don'?t|dont) (?:really )?(?:mind|care)(?: either way)?|(?:i )?(?:have )?no (?:particular |real |"
    r"strong )?preferences?|"
    r"(?:i'm |im |i am )?not (?:too )?(?:fussy|bothered|picky|fussed|particular)|(?:it )?(?:does not|doesn'?t|"
    r"doesnt) matter(?: to me)?|"
    r"whatever(?: you (?:like|think|want))?|any(?:thing|one|where| of them)?(?: is| will)? ?(?:fine|ok|okay|goes|works|do)?|"
    r"either(?: is fine| one)?|"
    r"up to you|you (?:choose|decide|pick)|surprise me|all the same(?: to me)?|i(?:'m| am) easy"
)
_NOTHING = _whole(
    r"no|nope|nah|none|nothing|not (?:any|one|really|that i know(?: of)?|particularly|at all)|no[,.]? (?:none|nothing|"
    r"i (?:don'?t|do not|haven'?t))|"
    r"i (?:don'?t|do not|haven'?t)(?: have)?(?: any| one)?|nothing (?:special|in particular)|never"
)
_YES = _whole(
    r"(?:(?:yes|yeah|yep|yup)[,. ]+)?(?:yes|yeah|yep|yup|sure|correct|right|that'?s right|exactly|still|still (?:is|do|am|"
    r"the same)|same|(?:it|"
    r"i) (?:is|do|am|still (?:do|am))|ok(?:ay)?)"
)
_UNSURE = _whole(
    r"(?:i )?(?:do not|don'?t|dont) know(?: yet)?|dunno|idk|no idea|not sure(?: yet)?|(?:i'm |i am )?(?:un)?sure yet|"
    r"hard to say|no clue|can'?t say|who knows"
)
_COMMAND = r"(?:^|[.!,;:] *|\b(?:please|just|ok|okay|now|and|but|can you|could you|you to|you) )"
_STOP = re.compile(
    _COMMAND + r"(?:(?:stop|quit|cut out|enough(?: of| with)?|no more) ?(?:with )?(?:(?:all )?(?:the|these|those|your|of) ){0,2}"
    r"(?:asking|aksing|questions?|questioning|quizzing)\b|(?:do not|don'?t|dont|never) (?:ever )?ask me "
    r"(?:anything|things|stuff|questions?|again|so (?:much|many)|any ?more)\b)|"
    r"\byou (?:do )?(?:ask|pry) (?:(?:me )?(?:too (?:much|many)|so (?:much|many))|don'?t you)|\b(?:refrain from|"
    r"enough (?:of|with) (?:the|your|all) ?)"
    r" ?(?:questions|asking|interrogat\w+|enquir\w+|inquir\w+)|\bno more q'?s\b|"
    r"\bfrom now on,? just answer\b|"
    r"\bpreferred it when you did(?:n't| not) (?:ask|enquire|inquire)\b",
    re.IGNORECASE,
)
_RESUME = re.compile(
    r"\b(?:you|u) (?:can|may|could|are allowed to) ask (?:me )?(?:(?:things|questions|stuff|something) ?)?(?:again|"
    r"if (?:you|u))\b|"
    r"\bask me (?:things|questions) again\b|"
    r"\bquestions are (?:ok|okay|fine|allowed|welcome)(?: again)?\b|\bask away\b|\bdo (?:ask|enquire|inquire),? should you\b",
    re.IGNORECASE,
)
_OWN_MESSAGE = re.compile(
    r"\?|^(?:what|how|why|where|when|who|which|can|could|would|will|is|are|do|does|please|tell|write|find|give|make|help|show|"
    r"book)\b",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:(?:oh|um+|uh|er+|hm+|well|probably|maybe|mostly|mainly|usually|about|around|roughly|just|i(?:'d| would) say|i guess|"
    r"i think|let's say|"
    r"it(?:'s| is)|that(?:'s| is| would be)|i(?:'m| am)|yes|yeah|yep)[ ,:]+)+",
    re.IGNORECASE,
)


def stops_asking(utterance: str) -> bool:
    """Tell whether the user wants no more questions: "stop asking me things"."""
    return bool(_STOP.search(_plain(utterance)))


def resumes_asking(utterance: str) -> bool:
    """Tell whether the user takes that back: "you may ask me things again"."""
    return bool(_RESUME.search(_plain(utterance)))


def read_answer(utterance: str, slot: Slot) -> Answer:
    """Read a reply to the question for a slot; what is kept is in the user's own words, not yet in the form of the slot's type."""
    text = _plain(utterance)
    if _DECLINED.search(text) or _DECLINED_WHOLE.fullmatch(text) or stops_asking(text):
        return Answer(AnswerKind.DECLINED)
    if _UNSURE.fullmatch(text):
        return Answer(AnswerKind.UNSURE)
    if _INDIFFERENT.fullmatch(text):
        return Answer(AnswerKind.INDIFFERENT, "" if slot.type in (SlotType.INT, SlotType.ENUM) else INDIFFERENT)
    if _NOTHING.fullmatch(text):
        return Answer(AnswerKind.NOTHING, _nothing(slot))
    if _YES.fullmatch(text):
        return Answer(AnswerKind.YES)
    value = _LEAD.sub("", text).strip(" .!,")
    if not value or len(text.split()) > MAX_ANSWER_WORDS or _OWN_MESSAGE.search(text):
        return Answer(AnswerKind.OTHER)
    return Answer(AnswerKind.VALUE, value)


def _nothing(slot: Slot) -> str:
    """Return what "no" means as a value of the slot; empty where it means none of its values."""
    if slot.type is SlotType.INT:
        return "0" if slot.path.endswith(".count") else ""
    if slot.type is SlotType.ENUM:
        return next((value for value in slot.values if value in ("none", "no", "never")), "")
    return NOTHING_OF_THE_KIND


def _plain(text: str) -> str:
    return " ".join(text.replace("’", "'").split())


def settle(answer: Answer, slot: Slot, inferred: tuple[SlotOp, ...], gate: Gate) -> tuple[SlotOp, ...]:
    """Return the operations of a turn that replies to the question for a slot.

    What the policy found for the slot is taken as elicited. Where it found nothing, a short reply fills the slot. "Yes" confirms
    a value that was asked about because it may be out of date, "no" retracts it. A slot that the user declines stays empty.
    """
    here = tuple(replace(op, source=Source.ELICITED) for op in inferred if op.path == slot.path)
    elsewhere = tuple(op for op in inferred if op.path != slot.path)
    held = gate.profile.values(slot.path)
    if answer.kind is AnswerKind.DECLINED:
        return elsewhere
    if here:
        return (*here, *elsewhere)
    if held and answer.kind in (AnswerKind.YES, AnswerKind.NOTHING):
        kind = OpKind.CONFIRM if answer.kind is AnswerKind.YES else OpKind.RETRACT
        proof = Evidence(_plain(gate.utterance), gate.session_id, gate.turn_index)
        return (SlotOp(kind, slot.path, "", gate.at, source=Source.ELICITED, cardinality=slot.cardinality, evidence=proof),)
    is_bare = len(answer.value.split()) <= MAX_BARE_WORDS
    if not answer.value or (elsewhere and not is_bare):
        return elsewhere
    polarity = Polarity.LIKE if slot.type is SlotType.PREF and answer.kind is AnswerKind.VALUE else Polarity.NEUTRAL
    delta, _, _ = gate.run([Fact(slot.path, answer.value, gate.utterance, OpKind.ADD, polarity)])
    return tuple(replace(op, source=Source.ELICITED) for op in delta.operations) or elsewhere


def _phrases(*phrases: str) -> re.Pattern[str]:
    """Match a message made of these phrases and nothing else."""
    return re.compile(rf"(?:(?:{'|'.join(phrases)})[\s,.!;:…)(-]*)+", re.IGNORECASE)


_SMALL_TALK = _phrases(
    r"(?:hi|hello|hey|hiya|howdy|yo|good (?:morning|afternoon|evening|day)|morning|evening)(?: (?:there|again|everyone|you))?\b",
    r"(?:many )?(?:thanks|thank you|thankyou|thx|ty|cheers|ta)(?: (?:so|very|a) (?:much|lot|bunch))?(?: (?:again|anyway|mate|"
    r"man|dear))?"
    r"(?: for (?:the |your |all (?:the |your )?)?(?:help|advice|answer|info|tips?|time|that|this))?\b",
    r"(?:ok|okay|k|alright|right|great|perfect|lovely|nice|cool|super|brilliant|awesome|excellent|wonderful|fine|good|got it|"
    r"i see|noted|understood|"
    r"will do|sounds good|makes sense|fair enough|no worries|no problem|never ?mind|you(?:'re| are) (?:right|welcome|the best)|"
    r"that(?:'s| is) "
    r"(?:all|great|good|perfect|fine|lovely|helpful|it|enough)|that help(?:s|ed)|good (?:idea|point|to know)|well done|wow|"
    r"ha(?:ha)+|lol|hm+|oh|ah|yes|no|sure)"
    r"(?: (?:then|for now|a lot|today))?\b",
    r"(?:bye|goodbye|good night|night|ta-?ra|cheerio|gtg|gotta go|need sleep|off to bed|see you|see ya|"
    r"talk (?:soon|later)|take care|later)(?: (?:soon|later|tomorrow|for now|now|all))?\b",
    r"why (?:do|d'?) ?(?:you|u|ya) (?:need|want) (?:to|2) know(?: (?:that|this|it))?\??",
    r"how (?:are|r) (?:you|u|things)(?: (?:doing|today))?\??|what'?s up\??|how(?:'s| is) it going\??",
)
_EMERGENCY = re.compile(
    r"\b(?:not breathing|stopped breathing|(?:can'?t|cannot|can not|struggling to) breathe|unconscious|(?:just )?collapsed|"
    r"heart attack|having a (?:stroke|seizure)|"
    r"chest pains?|choking|overdos\w*|bleeding (?:badly|heavily|a lot|out)|won'?t stop bleeding|(?:is|are|'s) on fire|"
    r"there(?:'s| is) (?:a )?(?:fire|smoke|gas)|"
    r"smells? (?:of |like )?gas|gas leak|carbon monoxide|kill(?:ing)? (?:myself|himself|herself|themsel\w+)|suicid\w*|(?:want|"
    r"going) to die|hurt(?:ing)? myself|"
    r"(?:someone|somebody|he|she|they)(?:'s| is| are) (?:breaking in|following me)|intruder|swallowed (?:a )?(?:bleach|battery|"
    r"magnet|poison|pills?|detergent)|"
    r"ambul[ae]nce|when (?:she|he) takes? air|rotten eggs|hissing|(?:up in|gone up|in) flames|lips? (?:is|are) (?:swelling|"
    r"becoming|getting)|face (?:has |is )?(?:slipped|droop\w*)|"
    r"(?:words|speech) (?:is|are) (?:\w+ )?(?:muddled|slurred)|(?:cannot|can'?t) lift (?:his|her|my|their)|gr[ae]y and sweaty|"
    r"better off (?:if i was(?:n'?t| not)|without me)|(?:on|off) the bridge by|he(?:'s| has) been drinking|"
    r"locked (?:the door|myself in)|he'?ll hear|"
    r"brake pedal|brakes (?:have )?failed|(?:eaten|ate|swallowed) (?:an? |the )?(?:entire |whole )?(?:\w+ of )?(?:raisins|"
    r"grapes|chocolate|pills|"
    r"batter(?:y|ies)|bleach)|flat batter(?:y|ies)|police are|fire brigade|put to sleep|"
    r"electrocuted|drowning|anaphyla\w+|throat is (?:closing|swelling)|call (?:999|911|112|an ambulance))\b",
    re.IGNORECASE,
)


_REQUEST = re.compile(
    r"\?|\b(?:what|which|how|where|when|who|why|whose|whats|wheres|hows|ideas?|suggest\w*|recommend\w*|recs?|tips?|advice|"
    r"advise|help|need|want|wanna|"
    r"would like|i'?d like|should|shall|shd|looking for|look for|search|require|thinking (?:of|about)|any|please|pls|plz|"
    r"kindly|can (?:you|u|i)|"
    r"could (?:you|u|i)|gimme|let(?:'s| me| us)|yes or no|or|some(?:thing|where|one)|for (?:me|us|my|our|the|\d+|a|an|two|"
    r"three|four|tonight|tomorrow)|worth|"
    r"lend|arrange|fill|pack|clean|shortlist|have a look|to (?:ask|call|read|watch|eat|sleep|wear|do))\b|^(?:is|are|am|do|"
    r"does|did|has|have|will|would|wot|wetin)\b|(?:^|[.!,;:] *|\b(?:and|then|so|ok|okay|now|just|me|us) )(?:a |an |the |"
    r"some |another |next )?(?:give|tell|plan|"
    r"write|make|find|show|explain|book|draft|list|pick|choose|name|compare|rewrite|translate|sum\w*|describe|design|build|"
    r"cook|organi[sz]e|order|prepare|"
    r"set|sort|teach|put|turn|create|do|get|walk|talk|check|fix|compose|outline|propose|rank|rate|review|decide|calculate|"
    r"convert|estimate|work out|"
    r"come up with|remind|schedule|map|sketch|edit|shorten|word|phrase|answer|read|send|buy|start|best|dinner|lunch|breakfast|present|gift)\b",
    re.IGNORECASE,
)
CALM_AFTER = 6
"""Turns after an emergency before anything is asked again in that session."""


def is_emergency(utterance: str) -> bool:
    """Tell whether someone is in danger or distress: a question would cost time or hurt."""
    return bool(_EMERGENCY.search(_plain(utterance)))


def needs_nothing(utterance: str) -> bool:
    """Tell whether no preference can matter: small talk, what asks for nothing, and emergencies."""
    text = _plain(utterance)
    return bool(_SMALL_TALK.fullmatch(text)) or is_emergency(text) or not _REQUEST.search(text)
