"""Why A and not B: one mechanism of evidence, and everything built on it.

taps          places in a backbone where its map can be read and replaced
evidence      each cell's contribution to logit_A − logit_B
regions       cells → the regions that carry the margin, by part maps if a method has them
examples      the same region in known images: the most similar ones of A and of B
explanation   all of it for one image, and the margin measured with the region exchanged
drawing       the picture of an explanation

Whether it is true is measured in benchmarks/faithfulness.py.
"""
