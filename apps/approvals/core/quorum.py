"""Who counts for what: rules such as "2 of finance and 1 of legal".

A person fills one place only, whatever groups they are in, so the rules are a matching between people and
places; the best one is looked for, so that nobody is blocked by the order in which people answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    count: int = 1
    of: str = ""
    """Name of a group; empty means anybody who may decide."""

    @property
    def text(self) -> str:
        return f"{self.count} of {self.of or 'anybody who may decide'}"


@dataclass(frozen=True)
class Person:
    key: str
    """Id of the user; the same person counts once."""
    email: str = ""
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RuleState:
    rule: Rule
    have: int

    @property
    def is_met(self) -> bool:
        return self.have >= self.rule.count


@dataclass(frozen=True)
class Tally:
    rules: tuple[RuleState, ...]

    @property
    def is_met(self) -> bool:
        return all(state.is_met for state in self.rules)

    @property
    def missing(self) -> str:
        """What is still needed, for a person: "1 more of legal"."""
        return " and ".join(
            f"{state.rule.count - state.have} more of {state.rule.of or 'anybody who may decide'}"
            for state in self.rules
            if not state.is_met
        )


def rules_from(quorum: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """The rules of a request; without any, one person who may decide is enough."""
    rules = tuple(Rule(int(rule.get("count", 1)), str(rule.get("of") or "")) for rule in quorum)
    return rules or (Rule(),)


def evaluate(rules: Sequence[Rule], approvers: Iterable[Person]) -> Tally:
    """Fill as many places as possible with distinct people.

    Source: augmenting paths for bipartite matching (H. W. Kuhn, 1955).
    """
    people = list({person.key: person for person in approvers}.values())
    places = [index for index, rule in enumerate(rules) for _ in range(min(rule.count, len(people)))]
    seated: dict[int, int] = {}

    def seat(person: int, tried: set[int]) -> bool:
        for place, rule_index in enumerate(places):
            if place in tried or not _fits(people[person], rules[rule_index]):
                continue
            tried.add(place)
            if place not in seated or seat(seated[place], tried):
                seated[place] = person
                return True
        return False

    for person in range(len(people)):
        seat(person, set())
    return Tally(
        tuple(
            RuleState(rule, sum(1 for place in seated if places[place] == index))
            for index, rule in enumerate(rules)
        )
    )


def counts_for(person: Person, rules: Sequence[Rule]) -> bool:
    """Whether this person's approval can fill a place at all."""
    return any(_fits(person, rule) for rule in rules)


def is_asked(person: Person, assign: Mapping[str, Any], rules: Sequence[Rule]) -> bool:
    """Whether a request is this person's to answer.

    Without an assignment and without groups in the rules it is everybody's.
    """
    groups, users = set(assign.get("groups") or ()), {u.lower() for u in assign.get("users") or ()}
    named = groups | {rule.of for rule in rules if rule.of}
    if users or groups:
        return person.email.lower() in users or bool(person.groups & named)
    return any(not rule.of for rule in rules) or bool(person.groups & named)


def _fits(person: Person, rule: Rule) -> bool:
    return not rule.of or rule.of in person.groups
