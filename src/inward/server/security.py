"""What stands between a browser and the server: its host, its origin, its token, and how much it may send.

A page of another site can make a browser send requests to a loopback address (cross-site requests), also under a name
of its own (DNS rebinding). So a request has to name a host that the server knows, come from no other origin, and bring
the token, which only whoever has the printed link knows.
"""

from __future__ import annotations

import asyncio
import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inward.server.settings import Settings

_BODY = 64 * 1024
"""Bytes of a request that is no picture."""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; worker-src 'self'; connect-src 'self'; font-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; object-src 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def policy(nonce: str, *, framed: bool = False) -> str:
    """The content security policy of the page; other pages may show it where ``framed``."""
    told = _POLICY.format(nonce=nonce)
    return told.replace(" frame-ancestors 'self';", "") if framed else told


class Guard:
    """Refuses what does not come from whoever has the link, and bounds what is sent."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers in its place."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        inside = self._framed(scope)
        answer = self._refused(scope, headers) if inside is None else self._too_long(inside, headers)
        scope = inside or scope
        if answer is None:
            await self.app(scope, self._bounded(scope, headers, receive), _with_headers(send))
        else:
            await answer(scope, receive, _with_headers(send))

    def _framed(self, scope: Scope) -> Scope | None:
        """The request without the token in its address, where it has that: a secret that no other page knows."""
        prefix = f"/t/{self.settings.token}"
        given = str(scope["path"])[: len(prefix)]
        if not (self.settings.framed and hmac.compare_digest(given.encode(), prefix.encode())):
            return None
        return {**scope, "path": str(scope["path"])[len(prefix) :] or "/", "raw_path": b""}

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if host not in self.settings.hosts:
            return refusal(421, "this server is not called by that name; use the link that it printed")
        entering = scope["method"] == "GET" and scope["path"] == "/"
        if not _own(headers, f"{scope['scheme']}://{host}", entering=entering):
            return refusal(403, "this request comes from another site")
        if entering and (asked := parse_qs(scope["query_string"].decode("latin-1")).get("token")):
            return self._enter(asked[-1], host)
        if not self._known(headers, host):
            return refusal(401, "this page needs the link that inward serve printed")
        return self._too_long(scope, headers)

    def _too_long(self, scope: Scope, headers: Headers) -> Response | None:
        length = headers.get("content-length")
        if length is not None and not (length.isdecimal() and int(length) <= self._most(scope)):
            return refusal(413, f"this is more than {_told(self._most(scope))}; send less")
        return None

    def _enter(self, token: str, host: str) -> Response:
        """The link that was printed: the browser keeps the token, and the address bar does not."""
        if not hmac.compare_digest(token.encode(), self.settings.token.encode()):
            return refusal(401, "this link is of another run; use the one that inward serve printed last")
        # Lax: also where the link stands on a page of another site. What changes something asks for an own origin.
        answer = RedirectResponse("/", status_code=303, headers={"Cache-Control": "no-store"})
        answer.set_cookie(_cookie_of(host), self.settings.token, httponly=True, samesite="lax", path="/")
        return answer

    def _known(self, headers: Headers, host: str) -> bool:
        try:
            held = SimpleCookie(headers.get("cookie", "")).get(_cookie_of(host))
        except CookieError:
            return False
        return held is not None and hmac.compare_digest(held.value.encode(), self.settings.token.encode())

    def _most(self, scope: Scope) -> int:
        return self.settings.upload_bytes if scope["path"] == "/api/images" else _BODY

    def _bounded(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        """Ends a body that is longer than it said it would be, or that does not come."""
        most, taken = self._most(scope), 0
        until = asyncio.get_running_loop().time() + self.settings.slow
        done = False

        async def bounded() -> Message:
            nonlocal taken, done
            if done:
                return await receive()
            async with asyncio.timeout_at(until):
                message = await receive()
            taken += len(message.get("body", b""))
            done = not message.get("more_body", False)
            if taken > most:
                raise TooLongError(f"this is more than {_told(most)}; send less")
            return message

        return bounded


class TooLongError(Exception):
    """A body that is longer than is taken."""


def refusal(status: int, sentence: str, **more: str) -> JSONResponse:
    """An error as every error is told."""
    return JSONResponse({"error": sentence, **more}, status_code=status, headers={"Cache-Control": "no-store"})


def _own(headers: Headers, here: str, *, entering: bool) -> bool:
    """Whether the page that asks is ours; the first page may be opened from anywhere."""
    if headers.get("origin", here) != here:
        return False
    return entering or headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def _cookie_of(host: str) -> str:
    """Cookies are shared by all ports of a host: each server has its own."""
    return f"inward-{urlsplit(f'//{host}').port or 80}"


def _told(count: int) -> str:
    return f"{count // 2**20} MiB" if count >= 2**20 else f"{count // 1024} KiB"


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Content-Security-Policy", policy("none"))
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
