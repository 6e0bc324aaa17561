"""The datasets that can be exported, by name, as the features register them."""

from collections.abc import Mapping

from erp_service.features import FEATURES
from erp_service.registry.datasets import Dataset
from erp_service.registry.feature import load

DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in load(FEATURES, "datasets", Dataset)}
