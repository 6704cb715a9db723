"""What may not happen at the same time goes to one process."""

from __future__ import annotations

from pathlib import Path

from tests.dividing import BROKER, LONG, group_of, turn_of

ROOT = Path(__file__).resolve().parent.parent


def test_what_rings_on_the_shared_brokers_is_never_side_by_side() -> None:
    ringing = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests").rglob("test_*.py")
        if "BROKER_URL=" in (text := file.read_text()) or 'settings["BROKER_URL"]' in text
        if "redis_url" in text or "amqp_url" in text
        if file != Path(__file__).resolve()
    }
    assert ringing == BROKER
    assert len({group_of(f"{path}::test_x[a-b]") for path in BROKER}) == 1


def test_a_file_shares_its_product_and_a_fault_the_installation_of_its_shape() -> None:
    journey = "tests/journeys/test_deciding.py::"
    assert group_of(f"{journey}test_a") == group_of(f"{journey}test_b[server]") != "broker"
    one, other = "tests/faults/test_workers.py::test_a", "tests/faults/test_crash_points.py::test_b"
    assert group_of(f"{one}[server]") == group_of(f"{other}[server-after_call]")
    assert group_of(f"{one}[file]") != group_of(f"{one}[server]")
    # Every file starts its own `mn up`, so nothing is gained by keeping the files together.
    assert group_of(f"{one}[laptop]") != group_of(f"{other}[laptop-after_call]")


def test_what_takes_long_is_there_and_goes_first() -> None:
    files = {str(file.relative_to(ROOT)) for file in (ROOT / "tests").rglob("test_*.py")}
    named = {part.removesuffix("::") for part in LONG if part.endswith((".py", "::"))}
    assert named <= files
    assert turn_of(f"{min(BROKER)}::test_a") < turn_of("tests/journeys/test_deciding.py::test_a") == len(LONG)
