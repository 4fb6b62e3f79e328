"""The plugin ``testing`` has no hooks: what it gives is for tests to import."""
