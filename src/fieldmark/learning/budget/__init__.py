"""Training within a budget: what fits into it is measured, tried on validation images, and chosen."""
