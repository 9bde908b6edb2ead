"""One function for each thing a user does. The command line, services and notebooks call them."""
