from __future__ import annotations

import csv
import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.agents.documents.tables import amount, read_table, to_csv
from apps.agents.tools.base import StepError
from apps.agents.tools.matching import Rules, match
from apps.agents.tools.names import similarity
from apps.agents.tools.tables import MATCH_RECORDS, READ_TABLE
from tests.agents.tools.conftest import make_call

GALLERY = Path(__file__).parents[3] / "blueprints" / "invoice_reconciliation" / "inputs"


class TestReadTable:
    def test_gives_rows_with_text_and_amounts(self) -> None:
        data = b"Invoice No;Date;Amount\nINV-17;31.01.2026;1.234,50\nINV-18;1.2.2026;(20,00)\n"
        found = READ_TABLE.run(make_call({"file": "a.csv"}, {"a.csv": data}))
        assert [(c["key"], c["type"]) for c in found["columns"]] == [
            ("invoice_no", "text"),
            ("date", "date"),
            ("amount", "number"),
        ]
        assert found["rows"] == [
            {
                "row": 2,
                "invoice_no": "INV-17",
                "date": "2026-01-31",
                "amount": "1234.50",
                "amounts": {"amount": 1234.5},
            },
            {
                "row": 3,
                "invoice_no": "INV-18",
                "date": "2026-02-01",
                "amount": "-20.00",
                "amounts": {"amount": -20.0},
            },
        ]
        assert (found["total"], found["notes"]) == (2, [])

    @pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
    def test_delimiter_and_encoding_are_found_out(self, mark: str, encoding: str) -> None:
        text = mark.join(["name", "city"]) + "\r\n" + mark.join(["Groß & Co", "Zürich"]) + "\r\n"
        found = READ_TABLE.run(make_call({"file": "a.csv"}, {"a.csv": text.encode(encoding)}))
        assert (found["rows"][0]["name"], found["rows"][0]["city"]) == ("Groß & Co", "Zürich")

    def test_too_many_rows_are_said_plainly(self) -> None:
        data = b"a,b\n" + b"1,2\n" * 30
        found = READ_TABLE.run(make_call({"file": "a.csv", "limit": 10}, {"a.csv": data}))
        assert (len(found["rows"]), found["total"]) == (10, 30)
        assert found["notes"] == ["Only the first 10 of 30 rows were read."]

    def test_an_unclear_date_stays_text_until_somebody_says(self) -> None:
        text = "day\n01/02/2026\n03/04/2026\n"
        unclear = read_table(text)
        assert (unclear.columns[0].type, unclear.rows[0]["day"]) == ("text", "01/02/2026")
        assert "cannot be told apart" in unclear.notes[0]
        assert read_table(text, dates="day_first").rows[0]["day"] == "2026-02-01"
        assert read_table(text, dates="month_first").rows[0]["day"] == "2026-01-02"
        assert read_table(text + "13/05/2026\n").rows[0]["day"] == "2026-02-01"

    def test_references_are_no_numbers(self) -> None:
        table = read_table(
            "a,b,c,d\nINV-17,00042,12345678901234567,PO 7\nINV-18,00043,12345678901234568,PO 8\n"
        )
        assert [c.type for c in table.columns] == ["text"] * 4

    def test_awkward_headers_get_usable_keys(self) -> None:
        table = read_table("Amount,amount,,Row,1st\nx,y,z,v,w\n")
        assert [c.key for c in table.columns] == ["amount", "amount_2", "column_3", "row_2", "c_1st"]

    @pytest.mark.parametrize(
        ("name", "data", "said"),
        [
            ("a.csv", b"", "no line with column names"),
            ("a.csv", b"\n\n", "no line with column names"),
            ("a.xlsx", b"PK\x03\x04", "save the table as CSV"),
            ("a.csv", b"\x00\x01\x02" * 50, "not a text file"),
        ],
    )
    def test_what_is_no_table_is_said(self, name: str, data: bytes, said: str) -> None:
        with pytest.raises(StepError, match=said) as caught:
            READ_TABLE.run(make_call({"file": name}, {name: data}))
        assert caught.value.permanent

    @given(st.text(max_size=400))
    def test_any_text_is_a_table_or_a_clear_refusal(self, text: str) -> None:
        try:
            table = read_table(text)
        except ValueError as exc:
            assert str(exc).endswith(".")
        else:
            keys = {c.key for c in table.columns} | {"row", "amounts"}
            assert all(set(row) == keys for row in table.rows)

    @given(
        st.lists(
            st.fixed_dictionaries({"a": st.text(max_size=10), "b": st.integers()}), min_size=1, max_size=5
        )
    )
    def test_written_rows_can_be_read_again(self, rows: list[dict[str, Any]]) -> None:
        written = list(csv.reader(io.StringIO(to_csv(rows), newline="")))
        assert len(written) == len(rows) + 1
        assert all(cell[:1] not in {"=", "@"} for line in written[1:] for cell in line)


@pytest.mark.parametrize(
    ("text", "comma", "value"),
    [
        ("1,234.50", False, "1234.50"), ("1.234,50", True, "1234.50"), ("1 234,50", True, "1234.50"),
        ("€ 5", False, "5"), ("-5", False, "-5"), ("(5.10)", False, "-5.10"), ("5.10-", False, "-5.10"),
        ("EUR -5", False, "-5"), ("1'000.00 CHF", False, "1000.00"), ("\u22127", False, "-7"),
        ("12 %", False, "12"),
        ("INV-17", False, None), ("PAY 4", False, None), ("1.2.3", False, None), ("", False, None),
        ("x", False, None),
        ("(5", False, None), ("2026-01-05", False, None), ("nan", False, None), ("1e5", False, None),
    ],
)  # fmt: skip
def test_amounts(text: str, comma: bool, value: str | None) -> None:
    assert amount(text, comma) == (None if value is None else Decimal(value))


BOTH = Rules("ref", "ref", "amount", "amount")
ALL = Rules("ref", "ref", "amount", "amount", Decimal("0.01"), "name", "name", 0.75, "day", "day", 30)


def rows(*values: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [
        dict(zip(("ref", "amount", "name", "day"), v, strict=False)) | {"row": i + 2}
        for i, v in enumerate(values)
    ]


class TestMatch:
    def test_same_reference_and_amount(self) -> None:
        found = match(rows(("INV-1", "10.00")), rows(("inv 1", "10")), BOTH)
        assert [(e["left"]["ref"], e["by"], e["difference"]) for e in found.matched] == [
            ("INV-1", "reference", "0.00")
        ]

    def test_a_tolerance_is_exact_to_the_cent(self) -> None:
        close = Rules("ref", "ref", "amount", "amount", Decimal("0.1"))
        assert match(rows(("A1x", "0.3")), rows(("A1x", "0.2")), close).matched
        assert match(rows(("A1x", "0.31")), rows(("A1x", "0.2")), close).partial

    def test_same_reference_other_amount_is_partial(self) -> None:
        found = match(rows(("INV-1", "10")), rows(("INV-1", "8")), BOTH)
        assert found.partial[0]["difference"] == "-2"
        assert found.partial[0]["reasons"] == ["same reference, but the right side is 2 less"]
        assert (found.unmatched_left, found.unmatched_right) == ([], [])

    def test_a_payment_may_name_several_invoices(self) -> None:
        found = match(rows(("INV-1", "10"), ("INV-2", "5")), rows(("Payment INV-1, INV-2", "15")), BOTH)
        assert [e["left"]["ref"] for e in found.matched] == ["INV-1", "INV-2"]
        assert found.matched[0]["left_rows"] == [2, 3]

    def test_an_invoice_may_be_paid_in_parts(self) -> None:
        found = match(rows(("INV-1", "10")), rows(("INV-1", "4"), ("INV-1", "6")), BOTH)
        assert found.matched[0]["right_rows"] == [2, 3]

    def test_a_second_payment_of_the_same_is_a_duplicate(self) -> None:
        found = match(rows(("INV-1", "10")), rows(("INV-1", "10"), ("INV-1", "10")), BOTH)
        assert len(found.matched) == 1
        assert [d["side"] for d in found.duplicates] == ["right"]
        assert found.unmatched_right[0]["reasons"] == ["repeats row 2"]

    def test_a_shared_word_is_no_reference(self) -> None:
        found = match(rows(("Invoice 17", "10")), rows(("Invoice 18", "10")), BOTH)
        assert found.matched == []
        assert [e["by"] for e in found.partial] == ["amount"]

    def test_a_reference_of_several_words_is_found(self) -> None:
        assert match(rows(("Invoice 17", "10")), rows(("Payment of invoice 17", "10")), BOTH).matched

    def test_without_reference_amount_name_and_date_decide(self) -> None:
        left = rows(("", "10", "Halden Marine GmbH", "2026-04-01"), ("", "10", "Orrin Ltd", "2026-04-01"))
        right = rows(("", "10", "ORRIN LIMITED", "2026-04-09"), ("", "10", "Halden Marine", "2026-04-03"))
        found = match(left, right, ALL)
        assert [(e["left"]["name"], e["right"]["name"]) for e in found.matched] == [
            ("Halden Marine GmbH", "Halden Marine"),
            ("Orrin Ltd", "ORRIN LIMITED"),
        ]
        assert found.matched[0]["reasons"] == ["same amount", "2 days apart", "counterparty 1.00 alike"]

    def test_too_far_in_time_is_no_match(self) -> None:
        found = match(rows(("", "10", "Orrin", "2026-01-01")), rows(("", "10", "Orrin", "2026-06-01")), ALL)
        assert (found.matched, found.partial) == ([], [])

    def test_two_that_fit_equally_well_are_left_to_a_person(self) -> None:
        right = rows(("", "10", "Orrin", "2026-04-01"), ("", "10", "Orrin", "2026-04-01"))
        found = match(rows(("", "10", "Orrin", "2026-04-01")), right, ALL)
        assert (found.matched, found.partial[0]["right_rows"]) == ([], [2, 3])
        assert "none was chosen" in found.partial[0]["reasons"][-1]

    def test_the_amount_alone_is_only_partial(self) -> None:
        found = match(rows(("", "10")), rows(("", "10")), Rules(left_amount="amount", right_amount="amount"))
        assert "nothing but the amount" in found.partial[0]["reasons"][-1]

    def test_an_unreadable_amount_is_said(self) -> None:
        found = match(rows(("A-1", "ten")), rows(("B-1", "10")), BOTH)
        assert found.unmatched_left[0]["reasons"] == ["has no amount that can be read"]

    def test_thousands_of_equal_rows_end_soon(self) -> None:
        many = rows(*[("2026", "9.99", "Orrin", "2026-04-01")] * 3_000)
        found = match(many, many, ALL)
        assert len(found.matched) + len(found.partial) + len(found.unmatched_left) == 3_000


cell = st.sampled_from(["", "A-1", "A-2", "B-77", "A-1 A-2", "pay A-1", "x"])
money = st.sampled_from(["", "1", "2", "3", "3.00", "-1", "z"])
name = st.sampled_from(["", "Orrin Ltd", "Orrin", "Halden Marine"])
day = st.sampled_from(["", "2026-04-01", "2026-04-20", "2026-12-01"])
table = st.lists(st.tuples(cell, money, name, day), max_size=9).map(lambda v: rows(*v))
rules = st.builds(
    lambda by_reference, by_amount: Rules(
        *(("ref", "ref") if by_reference else ("", "")),
        *(("amount", "amount") if by_amount else ("", "")),
        *(Decimal("0.5"), "name", "name", 0.75, "day", "day", 30),
    ),
    st.booleans(),
    st.booleans(),
)


@given(table, table, rules)
def test_every_row_is_accounted_for_exactly_once(left: Any, right: Any, rule: Rules) -> None:
    found = match(left, right, rule)
    lefts = [e["left"]["row"] for e in (*found.matched, *found.partial)] + [
        r["row"] for r in found.unmatched_left
    ]
    assert sorted(lefts) == [row["row"] for row in left]
    settled = {tuple(e["left_rows"]): e["right_rows"] for e in found.matched}
    taken = [r for group in settled.values() for r in group]
    assert len(taken) == len(set(taken))
    named = {r for e in (*found.matched, *found.partial) for r in e["right_rows"]}
    alone = [r["row"] for r in found.unmatched_right]
    assert sorted(named | set(alone)) == [row["row"] for row in right]
    assert not named & set(alone)
    assert match(left, right, rule) == found


class TestMatchRecords:
    def test_the_gallerys_tables_reconcile(self) -> None:
        files = {n: (GALLERY / n).read_bytes() for n in ("invoices.csv", "payments.csv")}
        tables = {n: READ_TABLE.run(make_call({"file": n}, files))["rows"] for n in files}
        options = {
            "left_key": "invoice",
            "right_key": "invoice",
            "left_amount": "amount",
            "right_amount": "amount",
        }
        by_rows = MATCH_RECORDS.run(
            make_call({"left": tables["invoices.csv"], "right": tables["payments.csv"], **options})
        )
        refs = [{"id": f"id-{n}"} for n in files]
        assert MATCH_RECORDS.run(make_call({"left": refs[0], "right": refs[1], **options}, files)) == by_rows
        total = sum(len(by_rows[k]) for k in ("matched", "partial", "unmatched_left"))
        assert total == len(tables["invoices.csv"]) == by_rows["totals"]["left_rows"]
        assert by_rows["matched"]
        assert by_rows["unmatched_left"]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({}, "Neither a reference nor an amount"),
            ({"left_key": "ref"}, "Only one of left_key and right_key"),
            ({"left_key": "nr", "right_key": "ref"}, 'no column "nr". Its columns are: ref, amount'),
            ({"left_key": "ref", "right_key": "ref", "tolerance": "much"}, "no amount"),
        ],
    )
    def test_wrong_columns_are_named(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(StepError) as caught:
            MATCH_RECORDS.run(make_call({"left": rows(("a", "1")), "right": rows(("a", "1")), **options}))
        assert said in str(caught.value)
        assert caught.value.permanent


def test_names_are_compared_without_their_legal_form() -> None:
    assert similarity("Halden Marine GmbH & Co. KG", "HALDEN MARINE") == 1.0
    assert similarity("Müller AG", "Muller") == 1.0
    assert similarity("Halden", "Halden Marine") == 0.85
    assert similarity("Orrin", "Halden") < 0.6
    assert similarity("", "Halden") == 0.0
