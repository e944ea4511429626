"""What a page may ask for as a job, and whether it fits."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from inward.errors import CallError
from inward.methods.table import TABLE
from inward.server.forms import checked
from inward.server.jobs import Ask
from inward.server.state import Server
from inward.server.studying import STUDY, studied

ADDRESS = 400
"""Letters of an address."""


class Asked(BaseModel):
    """A job: a method on a network, of a picture, or of units."""

    model_config = ConfigDict(extra="forbid")

    method: str = Field(max_length=100, description="a name of GET /api/methods")
    network: int = Field(0, ge=0, le=1)
    image: str | None = Field(None, max_length=64, description="the id of a picture")
    addresses: list[Annotated[str, Field(min_length=1, max_length=ADDRESS)]] = Field([], max_length=64)
    options: dict[str, Any] = Field({}, description="see the schema of the method")
    video: bool = Field(False, description="film the picture on its way")
    background: bool = Field(False, description="after all that was asked for otherwise")


def ask_of(server: Server, asked: Asked) -> tuple[Ask, dict[str, str]]:
    """What is asked for, and what of it is there. Raises CallError for what does not fit."""
    row = next((row for row in (*TABLE, STUDY) if row.name == asked.method), None)
    if row is None:
        raise CallError("there is no such method; choose one that is listed")
    if row is STUDY:
        return _study(server, asked)
    net = server.look(asked.network).net
    if row.takes == "images" and asked.image is None:
        raise CallError(f"{row.name} needs a picture; choose one")
    if row.takes == "addresses" and not asked.addresses:
        raise CallError(f"{row.name} needs a unit; choose one")
    image = None if row.takes == "addresses" else server.picture(asked.image or "").id
    addresses = tuple(dict.fromkeys(asked.addresses)) if row.takes == "addresses" else ()
    if asked.video and len(addresses) > 1:
        raise CallError("one unit is filmed at a time; ask for each")
    options = checked(row, asked.options, lambda name: str(server.picture(name).file))
    for address in addresses:
        if " " not in address.strip():
            net.resolve(address)
    ask = Ask(row, asked.network, image, addresses, options, asked.options, asked.video, asked.background)
    return ask, server.work.known(ask)


def _study(server: Server, asked: Asked) -> tuple[Ask, dict[str, str]]:
    """The study of points, over the pictures of the folder. It has no options."""
    net = server.look(asked.network).net
    if asked.options or not asked.addresses:
        raise CallError("a study needs the name of a point, and has no options")
    points = tuple(dict.fromkeys(studied(net, point) for point in asked.addresses))
    ask = Ask(STUDY, asked.network, None, points, {}, {}, background=asked.background)
    return ask, server.work.known(ask)
