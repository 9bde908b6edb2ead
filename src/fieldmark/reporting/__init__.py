"""The report of a run: one page that shows what the model answers, where it is wrong, and how it was trained.

    gather(run, catalog)      the contents of a run, as plain data (`material`)
    compose(material)         the page (`composition` lists its sections)

A section is a function from the material to blocks (`blocks`); `answers` and `training` hold them. Sections contain no
HTML: `pages/report.html` says how each kind of block looks. `slices` computes the statistics, and `groupings` lists
what to slice by. `parts`, `audit_page` and `preview_page` are pages of their own. Nothing is imported here, since an
audit needs no torch.
"""
