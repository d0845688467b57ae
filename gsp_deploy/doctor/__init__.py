"""What this machine has for gsp-deploy, what is missing for which command, and a self-test."""
