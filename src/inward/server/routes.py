"""What may be asked below ``/api``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from pydantic import BaseModel

from inward import draw
from inward.errors import CallError
from inward.methods.method import Method
from inward.methods.table import TABLE
from inward.pictures import read
from inward.server import places
from inward.server.asking import ADDRESS, Asked, ask_of
from inward.server.forms import schema
from inward.server.jobs import ENDED, Ask, Job
from inward.server.library import Picture, thumbnail
from inward.server.state import MissingError, Server
from inward.version import VERSION

# At most so often is a page told of a job.
_PAUSE = 0.2
# For addresses that say of which weights (v=).
_KEEP = {"Cache-Control": "private, max-age=86400"}
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
_PICTURES = "feature-visualization"
# More of a point are not shown at once.
_MOST_UNITS = 4096


class Error(BaseModel):
    """What went wrong, in one sentence; of an option, its name."""

    error: str
    option: str | None = None


_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Error, "description": told}
    for status, told in {
        401: "The token is missing.",
        403: "The request comes from another site.",
        404: "There is no such thing.",
        413: "This is too large.",
        421: "The server is not called by this name.",
        422: "Something asked for does not fit.",
        429: "Too much waits.",
        507: "The disk is full, or cannot be written.",
    }.items()
}


def _server(request: Request) -> Server:
    return request.app.state.server


Here = Annotated[Server, Depends(_server)]
Id = Annotated[str, Path(pattern="^[A-Za-z0-9-]{1,96}$")]
Point = Annotated[str, Query(max_length=ADDRESS)]
ImageId = Annotated[str, Query(pattern="^[A-Za-z0-9]{1,64}$")]
ResultId = Annotated[str, Query(pattern="^[A-Za-z0-9-]{1,96}$")]
Number = Annotated[int, Path(ge=0, le=1)]
router = APIRouter(responses=_ERRORS)


@router.get("/session")
def session(server: Here) -> JSONResponse:
    """The networks and the bounds of this server."""
    settings = server.settings
    limits = {
        "upload_bytes": settings.upload_bytes,
        "upload_pixels": settings.upload_pixels,
        "waiting": settings.waiting,
    }
    told = {"version": VERSION, "folder": settings.folder is not None, "reading": False, "limits": limits}
    return JSONResponse(told | {"networks": [look.about for look in server.looks]})


@router.get("/networks/{number}/architecture")
def architecture(server: Here, number: Number) -> JSONResponse:
    """The points of a network, and which reads which."""
    return JSONResponse(server.look(number).architecture)


@router.get("/networks/{number}/times")
def times(server: Here, number: Number) -> JSONResponse:
    """What every node takes of one image on this machine, in seconds; empty for a network without a graph."""
    look = server.look(number)
    with server.computing():
        return JSONResponse(look.times)


@router.get("/networks/{number}/labels")
def labels(server: Here, number: Number) -> JSONResponse:
    """The names of the classes, where there are any."""
    names = server.look(number).net.labels
    return JSONResponse({"labels": None if names is None else list(names)})


@router.get("/networks/{number}/facts")
def facts(server: Here, number: Number, point: Point) -> JSONResponse:
    """All that is known of a point."""
    return JSONResponse(server.look(number).facts(point))


@router.get("/networks/{number}/filters.png", response_class=Response)
def filters(server: Here, number: Number, point: Point) -> Response:
    """The weights of a first layer, a picture each."""
    sheet = server.look(number).filters(point)
    return Response(draw.to_bytes(sheet), media_type="image/png", headers=_KEEP)


@router.get("/networks/{number}/answers")
def answers(server: Here, number: Number, image: ImageId) -> JSONResponse:
    """The five most probable classes of a picture."""
    look, picture = server.look(number), server.picture(image)
    with server.computing():
        return JSONResponse({"top": look.answers(picture.file)})


@router.get("/networks/{number}/activations")
def activations(server: Here, number: Number, image: ImageId, point: Point) -> JSONResponse:
    """Of every unit of a point the largest activation and the mean, on a picture."""
    look, picture = server.look(number), server.picture(image)
    with server.computing():
        return JSONResponse(look.activations(picture.file, point))


@router.get("/networks/{number}/maps.jpg", response_class=Response)
def maps(server: Here, number: Number, image: ImageId, point: Point) -> Response:
    """Where in a picture each unit of a point is active: maps over the picture, 16 in a row."""
    look, picture = server.look(number), server.picture(image)
    with server.computing():
        seen = look.image(picture.file)
        found = places.maps_of(look.net, seen, point)
    with server.drawing:
        drawn = places.to_jpeg(places.sheet(seen, found))
    return Response(drawn, media_type="image/jpeg", headers=_KEEP)


@router.get("/networks/{number}/map.png", response_class=Response)
def map_of_unit(server: Here, number: Number, image: ImageId, address: Point) -> Response:
    """Where in a picture a unit is active, with the scale."""
    look, picture = server.look(number), server.picture(image)
    with server.computing():
        seen = look.image(picture.file)
        found = places.map_of(look.net, seen, address)
    return Response(draw.to_bytes(places.over(seen, found)), media_type="image/png", headers=_KEEP)


@router.get("/networks/{number}/sensitivity")
def sensitivity(server: Here, number: Number, result: ResultId, point: Point) -> JSONResponse:
    """Of every unit of a point, how much an attack changed it: the mean absolute difference over its places."""
    look = server.look(number)
    try:
        pair = server.store.attacked(result, look.net)
    except CallError as error:
        raise MissingError(str(error)) from error
    with server.computing():
        return JSONResponse(look.sensitivity(pair, point))


@router.get("/networks/{number}/ablation")
def ablation(server: Here, number: Number, image: ImageId, address: Point) -> JSONResponse:
    """The answers to a picture with a unit, and without it."""
    look, picture = server.look(number), server.picture(image)
    with server.computing():
        return JSONResponse(look.ablation(picture.file, address))


@router.get("/networks/{number}/known")
def known(server: Here, number: Number, point: Point) -> JSONResponse:
    """The units of a point whose pictures are there, as visualize makes them: of each the result and the picture."""
    look = server.look(number)
    units = min(_MOST_UNITS, look.facts(point)["units"] or 0) if server.store.has_any(_PICTURES) else 0
    row = next(row for row in TABLE if row.name == _PICTURES)
    ask = Ask(row, number, None, tuple(f"{point}/{unit}" for unit in range(units)), {}, {})
    found = {address: (name, server.store.picture(name)) for address, name in server.work.keys(ask).items()}
    return JSONResponse({address: {"result": name, "picture": url} for address, (name, url) in found.items() if url})


@router.get("/networks/{number}/unit")
def unit(server: Here, number: Number, address: Point) -> JSONResponse:
    """What the pictures of the folder do to a unit, once a job of the method ``activations`` has looked."""
    return JSONResponse(server.studies.unit(server.look(number).number, address))


@router.get("/networks/{number}/example.png", response_class=Response)
def example(
    server: Here, number: Number, address: Point, rank: Annotated[int, Query(ge=0, le=99)], whole: bool = False
) -> Response:
    """What a unit saw where it was excited most, or all of that picture."""
    shown = server.studies.example(server.look(number).number, address, rank, whole=whole)
    return Response(draw.to_bytes(shown), media_type="image/png", headers=_KEEP)


@router.get("/methods")
def methods() -> JSONResponse:
    """The table of methods, each with the schema of its options."""
    return JSONResponse([_method(row) for row in TABLE])


def _method(row: Method) -> dict[str, Any]:
    return {
        "name": row.name,
        "command": row.command,
        "takes": row.takes,
        "of_classes": row.of_classes,
        "returns": row.returns.__name__.lower(),
        "question": row.question,
        "paper": row.paper,
        "summary": (row.function.__doc__ or "").splitlines()[0].replace("``", ""),
        "schema": schema(row),
    }


def _told(picture: Picture) -> dict[str, Any]:
    told = {"id": picture.id, "name": picture.name, "source": picture.source}
    return told | {"width": picture.width, "height": picture.height}


@router.get("/images")
def images(server: Here) -> JSONResponse:
    """The pictures that there are."""
    return JSONResponse([_told(picture) for picture in server.library.all()])


_BODY = {"requestBody": {"required": True, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}}


@router.post("/images", status_code=201, openapi_extra=_BODY)
async def add(server: Here, request: Request, name: Annotated[str, Query(max_length=400)] = "") -> JSONResponse:
    """Keeps a picture: the bytes of its file."""
    data = await request.body()
    picture = await asyncio.to_thread(server.library.add, data, name)
    return JSONResponse(_told(picture), status_code=201)


@router.get("/images/{name}/picture.png", response_class=Response)
def picture(server: Here, name: Id, network: Annotated[int | None, Query(ge=0, le=1)] = None) -> Response:
    """A picture as a network sees it; without one, at its own shape and small."""
    found = server.picture(name)
    if network is None:
        return Response(draw.to_bytes(thumbnail(found)), media_type="image/png", headers=_KEEP)
    seen = draw.to_picture(read([found.file], server.look(network).net)[0])
    return Response(draw.to_bytes(seen), media_type="image/png", headers=_KEEP)


@router.post("/jobs", status_code=202, responses={200: {"description": "All of it is known already."}})
def submit(server: Here, asked: Asked) -> JSONResponse:
    """Computes something; what is known already is there at once."""
    job = server.jobs.submit(*ask_of(server, asked))
    return JSONResponse(job.told(), status_code=200 if job.state == "done" else 202)


@router.get("/jobs")
def jobs(server: Here) -> JSONResponse:
    """All jobs, the newest first."""
    return JSONResponse([job.told() for job in server.jobs.all()])


def _job(server: Server, name: str) -> Job:
    found = server.jobs.get(name)
    if found is None:
        raise MissingError("there is no such job; the server may have been started again since")
    return found


@router.get("/jobs/{name}")
def job(server: Here, name: Id) -> JSONResponse:
    """One job."""
    return JSONResponse(_job(server, name).told())


@router.delete("/jobs/{name}")
def cancel(server: Here, name: Id) -> JSONResponse:
    """Stops a job."""
    found = _job(server, name)
    server.jobs.cancel(found)
    return JSONResponse(found.told())


@router.get("/jobs/{name}/events", response_class=StreamingResponse)
async def job_events(server: Here, name: Id) -> StreamingResponse:
    """The states of a job as server-sent events, to its end."""
    return _stream(server, _job(server, name))


@router.get("/events", response_class=StreamingResponse)
async def events(server: Here) -> StreamingResponse:
    """The states of all jobs as server-sent events."""
    return _stream(server, None)


def _stream(server: Server, only: Job | None) -> StreamingResponse:
    listener = server.jobs.listen()

    async def lines() -> AsyncIterator[str]:
        if only is not None:
            yield _event(only.told())
        if only is None or only.state not in ENDED:
            async for changed in listener.changes(_PAUSE):
                own = [told for told in changed if only is None or told["id"] == only.id]
                yield "".join(map(_event, own)) or ": nothing new\n\n"
                if only is not None and only.state in ENDED:
                    break
        server.jobs.leave(listener)

    return StreamingResponse(lines(), media_type="text/event-stream")


def _event(told: dict[str, Any]) -> str:
    return f"event: job\ndata: {json.dumps(told)}\n\n"


@router.get("/results/{name}")
def result(server: Here, name: Id) -> JSONResponse:
    """A result: what was found, the lines that make it again, its files."""
    try:
        return JSONResponse(server.store.told(name))
    except CallError as error:
        raise MissingError(str(error)) from error


@router.get("/results/{name}/files/{file}", response_class=FileResponse)
def result_file(server: Here, name: Id, file: Annotated[str, Path(max_length=100)]) -> FileResponse:
    """One of its files."""
    try:
        path, kind = server.store.file(name, file)
    except CallError as error:
        raise MissingError(str(error)) from error
    return FileResponse(path, media_type=kind, headers=_FOREVER)
