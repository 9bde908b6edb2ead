"""Published data sets by name, and one function for every command that takes data.

>>> from fieldmark import datasets
>>> datasets.read("flowers102", root="data/")  # or any path: fieldmark.read is this function
>>> datasets.DATASETS["flowers102"].num_classes

One file for each data set: what it is, and how its official files become a `Catalog`.
"""

from fieldmark.data.sets.copies import copy_of, find, read
from fieldmark.data.sets.dataset import Dataset, Layout, Tell
from fieldmark.data.sets.known import DATASETS

__all__ = ["DATASETS", "Dataset", "Layout", "Tell", "copy_of", "find", "read"]
