"""What makes a spreadsheet read a text as a formula."""

FORMULA_STARTS = "=+-@\t\r\n＝＋－＠\ufeff"
"""The first characters of a formula (OWASP, CSV Injection), also in full width; and the byte order mark, which readers
remove at the beginning of a file, so that the next character is the first."""
