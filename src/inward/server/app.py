"""The application: what may be asked, and the page."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

from inward.errors import InwardError
from inward.server import routes
from inward.server.forms import OptionError
from inward.server.security import Guard, TooLongError, policy, refusal
from inward.server.settings import Settings
from inward.server.state import Server
from inward.server.turns import TooManyError
from inward.version import VERSION

STATIC = Path(__file__).with_name("static")
_UNBUILT = (
    "<!doctype html><html lang=en><title>inward</title><p>The page is not built. In a checkout of inward, run "
    "<code>make page</code>, then load this again; a wheel brings it along. The interface is there all the same: "
    "<a href='api/session'>api/session</a>."
)

_NOWHERE = "<!doctype html><html lang=en><title>inward: no such page</title><p>There is no page at this address."


def create_app(settings: Settings, static: Path = STATIC) -> FastAPI:
    """The application of a server.

    Args:
        settings: its networks, folders and bounds.
        static: the folder of the built page.

    Raises InwardError where the folder of results cannot be written.
    """
    server = Server(settings)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        yield
        server.close()

    app = FastAPI(
        title="inward",
        version=VERSION,
        lifespan=running,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        description="Networks, pictures, and what methods find in them. A cookie carries the token.",
    )
    app.state.server = server
    app.include_router(routes.router, prefix="/api")
    _handle_errors(app)
    _handle_connections(app)

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        nonce = secrets.token_urlsafe(16)
        index = static / "index.html"
        text = index.read_text("utf-8").replace("__CSP_NONCE__", nonce) if index.is_file() else _UNBUILT
        return HTMLResponse(
            text,
            headers={"Content-Security-Policy": policy(nonce, framed=settings.framed), "Cache-Control": "no-store"},
        )

    if static.is_dir():
        app.mount("/", _Page(directory=static), name="page")
    app.add_middleware(Guard, settings=settings)
    return app


class _Page(StaticFiles):
    """The built page; its files have names that change with what is in them."""

    async def get_response(self, path: str, scope: Any) -> Response:
        answer = await super().get_response(path, scope)
        if path.startswith("assets"):
            answer.headers["Cache-Control"] = "private, max-age=31536000, immutable"
        return answer


def _handle_errors(app: FastAPI) -> None:
    """Every error is one sentence under ``error``."""

    @app.exception_handler(InwardError)
    def refused(_: Request, error: InwardError) -> Response:
        return refusal(_status(error), " ".join(str(error).split()), **_option(error))

    @app.exception_handler(RequestValidationError)
    def unfitting(_: Request, error: RequestValidationError) -> Response:
        return refusal(422, _said(error.errors()))

    @app.exception_handler(HTTPException)
    def missing(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404 and "text/html" in request.headers.get("accept", ""):
            # In a notebook the way back has the token in it, which this page does not know.
            way = "" if app.state.server.settings.framed else " <a href='/'>Open inward</a>."
            return HTMLResponse(
                _NOWHERE + way, status_code=404, headers={"Content-Security-Policy": "default-src 'none'"}
            )
        if isinstance(error.__cause__, TooLongError):
            return refusal(413, str(error.__cause__))
        words = {
            400: "this is no request that can be read",
            404: "there is no such page",
            405: "this cannot be done here",
        }
        return refusal(error.status_code, words.get(error.status_code, str(error.detail)))

    @app.exception_handler(TooManyError)
    def crowded(_: Request, __: TooManyError) -> Response:
        return refusal(429, "too much is being computed; ask again in a moment")

    @app.exception_handler(TooLongError)
    def long(_: Request, error: TooLongError) -> Response:
        return refusal(413, str(error))

    @app.exception_handler(Exception)
    def broken(_: Request, error: Exception) -> Response:
        return refusal(500, f"the server failed ({type(error).__name__}); what it printed says where")

    @app.exception_handler(MemoryError)
    def full(_: Request, __: MemoryError) -> Response:
        return refusal(503, "there is not enough memory; ask again when less is running")


def _handle_connections(app: FastAPI) -> None:
    """What breaks off, or comes too slowly."""

    @app.exception_handler(ClientDisconnect)
    def gone(_: Request, __: ClientDisconnect) -> Response:
        return refusal(400, "the connection was closed before all of it had come")

    @app.exception_handler(TimeoutError)
    def slow(_: Request, __: TimeoutError) -> Response:
        return refusal(408, "this did not come whole in time; send it again")


def _status(error: InwardError) -> int:
    """What an error says of itself, else that what was asked for does not fit."""
    return getattr(error, "status", 422)


def _option(error: InwardError) -> dict[str, str]:
    return {"option": error.option} if isinstance(error, OptionError) and error.option else {}


def _said(errors: Sequence[Any]) -> str:
    first = errors[0] if errors else {"loc": (), "msg": "this cannot be read"}
    place = ".".join(str(each) for each in first["loc"] if each not in ("body", "query", "path"))
    return f"{place}: {str(first['msg']).lower()}" if place else str(first["msg"]).lower()
