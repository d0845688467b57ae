"""The `gsp-deploy` command."""
