"""An issuer of tokens for tests: a real HTTP server with discovery, keys that can be rotated, introspection and logins.

Tests import it as ``token_issuer``; it needs ``joserfc``.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from joserfc import jws, jwt
from joserfc.jwk import KeySet, OctKey
from joserfc.registry import HeaderParameter

SECRET = "a secret of the tests, long enough for HS256"
AUDIENCE = "nexus"


def sign(claims, key, alg, *, typ="JWT", **header):
    """A token, whatever is in it."""
    registry = jws.JWSRegistry(
        algorithms=[alg],
        header_registry={name: HeaderParameter("anything", lambda _: None) for name in header},
    )
    registry.get_alg = lambda name: jws.JWSRegistry.algorithms[name]
    registry.check_header = lambda _: None
    registry.max_header_length = registry.max_payload_length = 10**7
    return jwt.encode({"alg": alg, **header}, claims, key, registry=registry, default_type=typ)


ISSUED = 1_577_836_800
"""When tokens are made, as they say: in 2020, the past for the clock of every process."""


def claims(**changes):
    """What a good token says; None takes a claim away."""
    now = int(time.time())
    good = {"sub": "alice", "exp": now + 600, "iat": ISSUED, "permissions": ["data.read"], "tenant_id": "acme"}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def secret_token(secret=SECRET, alg="HS256", *, header=None, **changes):
    return sign(claims(**changes), OctKey.import_key(secret), alg, **(header or {}))


def b64(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """An OpenID Connect server: discovery, keys, introspection, and the two ways to get a token.

    Attributes:
        keys: The keys that it publishes. Change the list to rotate them.
        asked: How often each path was asked for.
        answers: What a path answers in place of what it should: status, headers, body.
        gate: While it is not set, nothing is answered.
        delay: Seconds that each answer takes.
        name: What it calls itself.
    """

    def __init__(self, keys, port=0):
        self.keys = list(keys)
        self.asked = Counter()
        self.tokens = {}
        self.codes = {}
        self.revoked = []
        self.answers = {}
        self.gate = threading.Event()
        self.gate.set()
        self.delay = 0.0
        self.last_form = {}
        self.last_headers = {}
        self.connections = []
        self.paths = {
            "/.well-known/openid-configuration": self._discovery,
            "/jwks": lambda: KeySet(self.keys).as_dict(private=False),
        }
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                issuer.connections.append(self.connection)

            def do_GET(self):
                issuer.answer(self, urlsplit(self.path), {})

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
                issuer.answer(self, urlsplit(self.path), {name: each[0] for name, each in parse_qs(body).items()})

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

        self.server = Server(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.name = self.url
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self):
        """Be gone: connections that are open end too."""
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _discovery(self):
        names = {"jwks_uri": "jwks", "token_endpoint": "token", "authorization_endpoint": "authorize"}
        return {
            "issuer": self.name,
            **{name: f"{self.url}/{path}" for name, path in names.items()},
            "introspection_endpoint": f"{self.url}/introspect",
            "revocation_endpoint": f"{self.url}/revoke",
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def answer(self, handler, url, form):
        self.asked[url.path] += 1
        self.last_form, self.last_headers = form, {name.lower(): each for name, each in handler.headers.items()}
        self.gate.wait(20)
        time.sleep(self.delay)
        status, headers, body = self._reply(url, form, handler.headers)
        try:
            handler.send_response(status)
            for name, value in {"content-type": "application/json", "content-length": len(body), **headers}.items():
                handler.send_header(name, str(value))
            handler.end_headers()
            handler.wfile.write(body)
        except OSError:
            pass  # who asked has given up

    def _reply(self, url, form, headers):
        if url.path in self.answers:
            return self.answers[url.path]
        if url.path in self.paths:
            return 200, {}, json.dumps(self.paths[url.path]()).encode()
        if url.path == "/introspect":
            return 200, {}, json.dumps(self.tokens.get(form["token"], {"active": False})).encode()
        if url.path == "/revoke":
            self.revoked.append(form["token"])
            return 200, {}, b""
        if url.path == "/authorize":
            return self._authorize({name: each[0] for name, each in parse_qs(url.query).items()})
        if url.path == "/token":
            return self._token(form, headers)
        return 404, {}, b"{}"

    def _authorize(self, query):
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        location = f"{query['redirect_uri']}?code={code}&state={query['state']}&iss={self.name}"
        return 302, {"location": location}, b""

    def _token(self, form, headers):
        if form["grant_type"] == "authorization_code":
            asked = self.codes.pop(form["code"], None)
            digest = base64.urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest())
            fits = asked is not None and asked["code_challenge"] == digest.rstrip(b"=").decode()
            if not fits or asked["redirect_uri"] != form["redirect_uri"]:
                return 400, {}, b'{"error": "invalid_grant"}'
        elif form["grant_type"] == "client_credentials":
            if headers.get("authorization") != "Basic " + base64.b64encode(b"robot:robot-secret").decode():
                return 401, {}, b'{"error": "invalid_client"}'
        elif form.get("refresh_token") != "refresh-1":
            return 400, {}, b'{"error": "invalid_grant"}'
        reply = {"access_token": self.token(), "token_type": "Bearer", "expires_in": 600, "refresh_token": "refresh-1"}
        return 200, {}, json.dumps(reply).encode()

    def token(self, key=None, *, header=None, **changes):
        """A token that this issuer has signed."""
        key = key or self.keys[0]
        changes = {"iss": self.name, "aud": AUDIENCE, **changes}
        return sign(claims(**changes), key, algorithm_of(key), **{"kid": key.kid, **(header or {})})

    def introspected(self, token, **changes):
        """Let an opaque token be known."""
        self.tokens[token] = {"active": True, **claims(**changes)}
        return token


def algorithm_of(key):
    return {"RSA": "RS256", "EC": "ES256", "OKP": "Ed25519"}[key.key_type]
