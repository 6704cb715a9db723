"""What the grounding check promises; it runs in `check` nodes and success criteria."""

from __future__ import annotations

import pytest

from apps.runs.core.checks import check_schema, grounded, numbers
from apps.runs.core.text import sentences

SOURCES = [
    {
        "document": "profile.md",
        "quote": "Northwind Traders operates 14 warehouses across Norway. "
        "It opened two of them in March 2026.",
    },
    {
        "document": "renewal.md",
        "quote": "Renewal is worth $48,000 and is due on 2026-12-01. They have not signed.",
    },
]

SUPPORTED = [
    '- "Northwind Traders operates 14 warehouses across Norway."',
    "Northwind Traders runs 14 warehouses across Norway.",
    "The renewal, worth 48000 USD, is due on 1 December 2026.",
    "They have not signed.",
    "Dear Dana Reed,\n\nI hope you are well. Would next week suit you?\n\nKind regards,\nThe team",
    "I am writing to follow up. Please let me know what you think.",
]
UNSUPPORTED = [
    "Northwind Traders runs 15 warehouses across Norway.",
    "Northwind operates 14 warehouses in Sweden.",
    "The renewal is worth $48 million.",
    "The renewal is worth 48,000 euros.",
    "They have signed.",
    "We cut costs by 45%.",
    "Please note that they have signed.",
    "I am writing because our product is the market leader in logistics.",
    'As they said, "Northwind Traders will operate in Sweden".',
    "Did you know that we cut costs by 45%?",
    "Kind regards,\nJo\nWe saved customers 30% last year.",
]


@pytest.mark.parametrize("claim", SUPPORTED)
def test_supported_text_passes(claim: str) -> None:
    assert grounded(claim, SOURCES).passed


@pytest.mark.parametrize("claim", UNSUPPORTED)
def test_unsupported_text_fails_and_names_the_sentence(claim: str) -> None:
    result = grounded(claim, SOURCES)
    assert not result.passed
    assert result.unsupported and result.unsupported[0] in claim


def test_nothing_is_supported_without_sources() -> None:
    assert not grounded("Northwind Traders operates 14 warehouses.", []).passed


def test_an_empty_claim_fails() -> None:
    assert not grounded("  ", SOURCES).passed


def test_amounts_keep_their_unit_and_may_leave_it_out() -> None:
    assert numbers("$1,200.50") == {"1200.5 $", "1200.5"}
    assert numbers("3 March 2026") == numbers("2026-03-03") == numbers("March 3, 2026")


def test_sentences_are_slices_and_wrapped_lines_stay_together() -> None:
    text = (
        "# Notes\n\nDr. Smith of Acme Inc. met us on Tuesday and spoke for a very long time about the new\n"
        "warehouse. It opens soon.\n- first point\n- second point\n"
    )
    assert [text[a:b] for a, b in sentences(text)] == [
        "Notes",
        "Dr. Smith of Acme Inc. met us on Tuesday and spoke for a very long time about the new\nwarehouse.",
        "It opens soon.",
        "first point",
        "second point",
    ]


def test_a_value_that_does_not_fit_names_every_place() -> None:
    result = check_schema(
        {"a": 1}, {"type": "object", "required": ["b"], "properties": {"a": {"type": "string"}}}
    )
    assert not result.passed
    assert len(result.unsupported) == 2


def test_a_day_before_its_month_and_a_table_row_are_not_cut() -> None:
    text = "Der Vertrag endet am 30. Juni 2026. Das ist bald."
    cut = [text[a:b] for a, b in sentences(text)]
    assert cut == ["Der Vertrag endet am 30. Juni 2026.", "Das ist bald."]
    rows = "date: 2026-01-04; account: Acme; note: Asked\ndate: 2026-02-20; account: Bell; note: Left"
    assert len(sentences(rows)) == 2
