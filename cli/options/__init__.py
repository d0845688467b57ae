"""The options that commands share, panel by panel of their help."""
