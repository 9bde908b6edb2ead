"""Published data sets by name, and the one function with which every command reads data.

>>> import fieldmark
>>> fieldmark.read("flowers102", root="data/")  # or any path
>>> from fieldmark.data.sets import DATASETS
>>> DATASETS["flowers102"].num_classes

There is one file for each data set. It says what the data set is and how its official files become a `Catalog`.
"""

from fieldmark.data.sets.copies import copy_of, find, read
from fieldmark.data.sets.dataset import Dataset, Layout, Tell
from fieldmark.data.sets.known import DATASETS

__all__ = ["DATASETS", "Dataset", "Layout", "Tell", "copy_of", "find", "read"]
