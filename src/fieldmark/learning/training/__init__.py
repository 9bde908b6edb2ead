"""How weights are found: by gradients (`loop`) or by logistic regression on frozen features (`probe`)."""
