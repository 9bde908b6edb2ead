"""Where a person's labels count most: what was probably labelled wrongly, and what to label next.

`confidence`, `neighbours`, `doubts` and `choosing` are arithmetic on arrays; `collecting` gathers what they need from a
run, and `page` is where a person decides.
"""
