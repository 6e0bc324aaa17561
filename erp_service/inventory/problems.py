"""What inventory may refuse."""

from erp_service import errors


class SkuTaken(errors.Conflict):
    """Another item has this sku. A deleted item keeps its sku, so that the ledger stays readable: choose another."""

    slug, title = "sku-taken", "The sku is taken"


class CodeTaken(errors.Conflict):
    """Another location has this code. A deleted location keeps its code: choose another."""

    slug, title = "code-taken", "The code is taken"


class NegativeStock(errors.Conflict):
    """Stock is below zero here, so negative stock must stay allowed. Correct the stock first, then try again."""

    slug, title = "negative-stock", "Stock is negative here"


class AlreadyReversed(errors.Conflict):
    """The document was reversed before; that is possible once. The reversal itself can be reversed."""

    slug, title = "already-reversed", "The document is already reversed"
