"""Items and locations as clients change them: the bodies of PUT and PATCH, and the lines of a bulk request."""

from erp_service.inventory.schemas import ItemBody, ItemOut, LocationBody, LocationOut
from erp_service.web.merge_patch import MergePatch, Replacement


class ItemReplacement(Replacement[ItemBody, ItemOut]):
    pass


class ItemPatch(MergePatch[ItemBody, ItemOut]):
    pass


class LocationReplacement(Replacement[LocationBody, LocationOut]):
    pass


class LocationPatch(MergePatch[LocationBody, LocationOut]):
    either = frozenset({"parent", "parent_id"})
