"""The page's server: on 127.0.0.1 alone, for whoever knows the address that was drawn for this run, and nobody else.

Every request must carry the token as the first part of its path and name this machine as its host, so that neither
another user's guess nor a name that was pointed here reaches anything; what changes something must come from the
page itself.
"""

import logging
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

import anyio
import numpy as np
import uvicorn
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from wilss.errors import ImageError, StoreError, WilssError

from .page_files import PAGE_FILES, page_text
from .session import Changed, ReviewSession, Undone

HOST = "127.0.0.1"
_MOST_BYTES = 64 << 20  # of a request
_FOREVER = "private, max-age=31536000, immutable"
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Guard:
    """Lets through what carries the token and comes from where it should; tells others nothing."""

    def __init__(self, app: Any, token: str, port: int) -> None:
        self._app, self._token = app, token.encode("ascii")
        self._hosts = frozenset(f"{name}:{port}".encode() for name in (HOST, "localhost"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            return
        token, slash, rest = scope["path"].removeprefix("/").partition("/")
        if not (slash and secrets.compare_digest(token.encode("utf-8", "replace"), self._token)):
            await PlainTextResponse("", 404)(scope, receive, send)
        elif problem := self._problem(scope):
            await PlainTextResponse(problem, 403)(scope, receive, send)
        else:
            inner = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode(), "root_path": ""}
            await self._app(inner, receive, _with_headers(send))

    def _problem(self, scope: Scope) -> str:
        headers = dict(scope["headers"])
        host, origin = headers.get(b"host", b""), headers.get(b"origin")
        if host not in self._hosts:
            return "this server answers for 127.0.0.1 alone"
        if origin is None and scope["method"] in ("GET", "HEAD"):
            return ""
        return "" if origin == b"http://" + host else "only the page itself may ask this"


def _with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            named = {name for name, _ in headers}
            more = {**_HEADERS, "cache-control": "no-store"}
            headers += [(n.encode(), v.encode()) for n, v in more.items() if n.encode() not in named]
            message = {**message, "headers": headers}
        await send(message)

    return sent


def create_app(session: ReviewSession, token: str, port: int) -> Guard:
    """The server of one session as an ASGI application, for requests to `http://127.0.0.1:<port>/<token>/`."""
    drawn = _drawn_by(max(os.cpu_count() or 2, 2))
    routes = [
        Route("/", _page_file(lambda request: "index.html")),
        Route("/{name}", _page_file(lambda request: request.path_params["name"])),
        Route("/api/index", _answer(lambda request: _json_bytes(session.index_json))),
        Route("/api/changes", _answer(lambda request: JSONResponse(session.changes_value(_since(request))))),
        Route("/api/disagreement", _answer(lambda request: _disagreement(session))),
        Route("/api/image/{image:int}", _answer(lambda request: JSONResponse(session.image_value(_image(request))))),
        Route("/api/regions/{image:int}", drawn(lambda request: _regions(session, _image(request)))),
        Route("/image/{image:int}.jpg", drawn(
            lambda request: _picture(session.pictures.jpeg(session.row(_image(request))), "image/jpeg"))),
        Route("/thumb/{image:int}-{category:int}.jpg", drawn(
            lambda request: _picture(session.thumbnail(_image(request), _category(request)), "image/jpeg"))),
        Route("/score/{image:int}-{category:int}.png", drawn(
            lambda request: _picture(session.heat("score", _image(request), _category(request)), "image/png"))),
        Route("/attention/{image:int}-{category:int}.png", drawn(
            lambda request: _picture(session.heat("attention", _image(request), _category(request)), "image/png"))),
        Route("/api/correct", _said(Changed, session.correct), methods=["POST"]),
        Route("/api/undo", _said(Undone, session.undo), methods=["POST"]),
    ]  # fmt: skip
    return Guard(Starlette(routes=routes, exception_handlers={HTTPException: _refused}), token, port)


def _page_file(name_of: Callable[[Request], str]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        name = name_of(request)
        if name not in PAGE_FILES:
            raise HTTPException(404)
        return Response(page_text(name), media_type=PAGE_FILES[name])

    return endpoint


def _answer(answer: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that works in a thread; what is wrong becomes a sentence."""

    async def endpoint(request: Request) -> Response:
        try:
            return await run_in_threadpool(answer, request)
        except (ImageError, StoreError) as error:
            return JSONResponse({"error": str(error)}, 404)
        except WilssError as error:
            return JSONResponse({"error": str(error)}, 400)

    return endpoint


def _drawn_by(count: int) -> Callable[[Callable[[Request], Response]], Callable[[Request], Awaitable[Response]]]:
    """Endpoints that decode images, `count` of them at once, so that what is said need not wait for pictures.

    A picture that nobody waits for any more, since the gallery was scrolled on, is not made.
    """
    places = anyio.CapacityLimiter(count)

    def drawn(answer: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
        made = _answer(answer)

        async def endpoint(request: Request) -> Response:
            async with places:
                return Response(status_code=499) if await request.is_disconnected() else await made(request)

        return endpoint

    return drawn


def _said(kind: type[BaseModel], act: Callable[[Any], dict[str, Any]]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for what a browser says, a JSON of `kind`."""

    async def endpoint(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return JSONResponse({"error": "this takes application/json."}, 415)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MOST_BYTES:
                return JSONResponse({"error": f"this takes {_MOST_BYTES >> 20} MB at most."}, 413)
        try:
            said = kind.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            return JSONResponse({"error": f"{where or 'the request'}: {first['msg']}."}, 422)
        try:
            return JSONResponse(await run_in_threadpool(act, said))
        except WilssError as error:
            return JSONResponse({"error": str(error)}, 409)

    return endpoint


async def _refused(request: Request, error: Exception) -> Response:
    return PlainTextResponse("", cast(HTTPException, error).status_code)


def _image(request: Request) -> int:
    return int(request.path_params["image"])


def _category(request: Request) -> int:
    category = int(request.path_params["category"])
    if category > np.iinfo(np.uint8).max:
        raise ImageError(f"there is no class {category}.")
    return category


def _since(request: Request) -> int:
    since = request.query_params.get("since", "0")
    if not (since.isascii() and since.isdigit() and len(since) < 16):
        raise HTTPException(400)
    return int(since)


def _json_bytes(data: bytes) -> Response:
    return Response(data, media_type="application/json")


def _picture(data: bytes, media_type: str) -> Response:
    """The address of a picture that changes says which one it is, so a browser may keep it."""
    return Response(data, media_type=media_type, headers={"cache-control": _FOREVER})


def _disagreement(session: ReviewSession) -> Response:
    """What was compared until now, float32 as bytes."""
    if session.comparison is None:
        raise HTTPException(404)
    return Response(session.comparison.values.astype("<f4").tobytes(), media_type="application/octet-stream")


def _regions(session: ReviewSession, place: int) -> Response:
    """Regions of an image: height and width as two int32, then their numbers, int32 row by row."""
    regions = session.pictures.regions(session.row(place))
    head = np.array(regions.shape, "<i4").tobytes()
    return Response(head + regions.astype("<i4").tobytes(), media_type="application/octet-stream",
                    headers={"cache-control": _FOREVER})  # fmt: skip


def bound_socket(port: int) -> socket.socket:
    """A socket that listens on 127.0.0.1; port 0 for any that is free. Raises StoreError where it is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise StoreError(
            f"port {port} of {HOST} cannot be used ({error.strerror}); name another with --port."
        ) from None
    return listener


def serve(session: ReviewSession, listener: socket.socket, token: str, *, open_browser: bool) -> None:
    """Answer until Ctrl-C or SIGTERM. Whatever was said before is on disk."""
    port = listener.getsockname()[1]
    if open_browser:
        threading.Thread(target=webbrowser.open, args=(address(port, token),), daemon=True).start()
    try:
        server_for(session, token, port).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn hands it on once everything is closed
        return
    finally:
        listener.close()
        session.close()


def server_for(session: ReviewSession, token: str, port: int) -> uvicorn.Server:
    """The server of one session."""
    config = uvicorn.Config(
        create_app(session, token, port), log_config=None, access_log=False, server_header=False, lifespan="off",
        loop="asyncio", http="h11", ws="none", interface="asgi3", timeout_graceful_shutdown=3,
    )  # fmt: skip
    # pictures that are still being drawn at the end are nobody's concern
    logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith("Cancel "))
    return uvicorn.Server(config)


def new_token() -> str:
    """A token that nobody guesses: 192 random bits."""
    return secrets.token_urlsafe(24)


def address(port: int, token: str) -> str:
    """Where the page is."""
    return f"http://{HOST}:{port}/{token}/"
