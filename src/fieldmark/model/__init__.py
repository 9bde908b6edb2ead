"""The contract of a method, and the backbones that methods stand on."""
