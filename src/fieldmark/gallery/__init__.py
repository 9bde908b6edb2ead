"""Galleries: pictures with their embeddings, kept safely and searched by likeness.

`log.py` is the file that is the truth, `folder.py` the store around it, with exact search (`vectors.py`) and a cache
for many pictures (`approximate.py`). Databases are other stores (`postgres.py`, `qdrant.py`); `store.py` says what each
can do, `opening.py` which one a name means. `Gallery` is what users hold.
"""
