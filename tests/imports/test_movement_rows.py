"""A line of a movements file has to follow the same rules as the body of a request."""

import csv
import io
from datetime import UTC, datetime
from typing import Any

import hypothesis
from hypothesis import example, given
from hypothesis import strategies as st

from erp_service import validation
from erp_service.imports import movement_rows
from erp_service.imports.csv_table import Table
from erp_service.imports.files.faults import Faults
from erp_service.imports.movement_rows import LAYOUT
from erp_service.inventory.posting.schemas import Movements

AT = "2026-01-15T12:00:00Z"

words = st.sampled_from(["", "A", "x" * 100, "x" * 101])
numbers = st.sampled_from(["", "0", "1", "-1", "1.5", "+1", "1e3", "NaN", "0.0000001", "0.00001", "9" * 13, "9" * 15])
times = st.sampled_from(
    ["", AT, AT.lower(), "2026-01-15 12:00:00+01:00", "2026-01-15T12:00:00", "2026-13-15T12:00:00Z", "20260115T120000Z"]
)


@hypothesis.settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "transaction_type": st.sampled_from(["IN", "OUT", "TRANSFER", "ADJUSTMENT", "OTHER", ""]),
            "occurred_at": times,
            "sku": words,
            "location": words,
            "quantity": numbers,
            "to_location": st.sampled_from(["", "B", "x" * 101]),
            "unit_cost": numbers,
            "reference_no": words,
            "notes": st.sampled_from(["", "n", "x" * 2000, "x" * 2001]),
            "reason": st.sampled_from(["", "r", "x" * 500, "x" * 501]),
        }
    ),
    st.sampled_from(["", "v", "x" * 500, "x" * 501]),
)
@example(
    {"transaction_type": "IN", "occurred_at": AT, "sku": "A", "location": "B", "quantity": "1", "to_location": ""}
    | {"unit_cost": "1.5", "reference_no": "r", "notes": "", "reason": ""},
    "v",
)
def test_a_line_is_right_when_a_request_with_it_would_be(line: dict[str, str], extra: str) -> None:
    written = io.StringIO()
    writer = csv.writer(written)
    names = ["type" if name == "transaction_type" else name for name in line]
    writer.writerows([[*names, "extra"], [*line.values(), extra]])
    hypothesis.assume("".join([*line.values(), extra]))  # a row of nothing is passed over
    faults = Faults()
    table = Table(io.BytesIO(written.getvalue().encode()), LAYOUT, faults)
    (read,) = movement_rows.rows(table, faults, datetime.now(UTC))

    body: dict[str, Any] = {name: value for name, value in line.items() if value}
    body |= {"metadata": {"extra": extra}} if extra else {}
    if body.get("transaction_type") == "TRANSFER":
        body["from_location"] = body.pop("location", "")
        body.setdefault("to_location", "")
    else:
        body.setdefault("location", "")
    body.setdefault("sku", "")
    # what the importer requires, or adds, beyond the schema
    body.setdefault("occurred_at", "")
    if body.get("transaction_type") == "ADJUSTMENT":
        body.setdefault("reason", "imported")
    wrong = list(validation.faults(Movements, {"movements": [body]}))
    zero = line["transaction_type"] == "ADJUSTMENT" and line["quantity"] == "0"
    assert (read is None) == bool(wrong or zero), (faults.first, wrong)
    assert (read is None) == (faults.total > 0)
