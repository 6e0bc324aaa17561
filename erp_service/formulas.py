"""What makes a spreadsheet take a text for a formula."""

FORMULA_STARTS = "=+-@\t\r\n＝＋－＠\ufeff"
"""The first characters of a formula (OWASP, CSV Injection), also in full width, and behind a byte order mark, which
readers remove at the beginning of a file."""
