"""The client of an OpenID Connect or OAuth2 server."""
