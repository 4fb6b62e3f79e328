"""Plugins: found through entry points, listed without being imported, loaded one by one, rolled back whole."""
