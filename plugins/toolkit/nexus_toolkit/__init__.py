"""What several plugins share and the core does not need: a library, not a plugin. It registers no hook."""
