"""Check this machine: what is installed, what each command still needs, and a self-test."""
