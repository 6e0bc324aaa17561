"""What the company's settings may refuse. API users read the docstrings, at `/problems/{slug}`."""

from erp_service import errors


class CurrencyInUse(errors.Refused):
    """The ledger has entries, and their values are in the company's currency: with another one they would be wrong.

    Books in another currency need a company, and a database, of their own."""

    status, slug, title = 409, "currency-in-use", "The currency cannot be changed any more"
