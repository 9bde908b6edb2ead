"""One function per thing a user does; the command line, services and notebooks call these."""
