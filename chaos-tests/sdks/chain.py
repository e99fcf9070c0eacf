"""Actors that call each other with Dapr's Python SDK, for proof.py: chain.py PORT

`Ring` is re-entrant, three deep: an actor calls another one, which calls back. `Relay` is not: it hands every call on
over the one gRPC channel of this process, as SDKs do that speak gRPC alone.
"""

import json
import os
import resource
import sys

import grpc
import uvicorn
from dapr.actor import Actor, ActorId, ActorInterface, ActorProxy, actormethod
from dapr.actor.runtime.config import ActorReentrancyConfig, ActorRuntimeConfig, ActorTypeConfig
from dapr.actor.runtime.runtime import ActorRuntime
from dapr.ext.fastapi import DaprActor
from dapr.proto import api_service_v1, api_v1
from fastapi import FastAPI

DEPTH = 3


class RingInterface(ActorInterface):
    @actormethod(name="Begin")
    async def begin(self, data: object) -> object: ...

    @actormethod(name="Back")
    async def back(self, data: object) -> object: ...

    @actormethod(name="Note")
    async def note(self, data: object) -> object: ...

    @actormethod(name="Deep")
    async def deep(self, data: object) -> object: ...

    @actormethod(name="Notes")
    async def notes(self) -> object: ...


class Ring(Actor, RingInterface):
    async def _read(self, name: str) -> object:
        known, value = await self._state_manager.try_get_state(name)
        return value if known else None

    async def _write(self, name: str, value: object) -> None:
        await self._state_manager.set_state(name, value)
        await self._state_manager.save_state()

    def _other(self, name: str):
        return ActorProxy.create("Ring", ActorId(name), RingInterface)

    async def begin(self, data: object) -> object:
        """Writes, and lets another one call back into this actor before it writes again."""
        await self._write("begun", data["other"])
        said = await self._other(data["other"]).Back({"to": str(self.id)})
        await self._write("ended", data["other"])
        return said

    async def back(self, data: object) -> object:
        return await self._other(data["to"]).Note({"from": str(self.id)})

    async def note(self, data: object) -> object:
        """Sees what the call has written that it entered."""
        await self._write("noted", data["from"])
        return {"begun": await self._read("begun"), "noted": data["from"]}

    async def deep(self, data: object) -> object:
        """Calls itself until it may not."""
        return await self._other(str(self.id)).Deep({"level": data["level"] + 1})

    async def notes(self) -> object:
        return [await self._read(name) for name in ("begun", "noted", "ended")]


class RelayInterface(ActorInterface):
    @actormethod(name="Forward")
    async def forward(self, data: object) -> object: ...

    @actormethod(name="Count")
    async def count(self) -> object: ...


class Relay(Actor, RelayInterface):
    channel = None

    async def forward(self, data: object) -> object:
        if Relay.channel is None:
            Relay.channel = grpc.aio.insecure_channel(f"127.0.0.1:{os.environ['DAPR_GRPC_PORT']}")
        stub = api_service_v1.DaprStub(Relay.channel)
        asked = api_v1.InvokeActorRequest(actor_type="Relay", actor_id=data["to"], method="Count")
        return json.loads((await stub.InvokeActor(asked)).data)

    async def count(self) -> object:
        known, count = await self._state_manager.try_get_state("count")
        count = (count if known else 0) + 1
        await self._state_manager.set_state("count", count)
        await self._state_manager.save_state()
        return count


app = FastAPI()
actors = DaprActor(app)


@app.on_event("startup")
async def startup() -> None:
    config = ActorRuntimeConfig()
    config.update_actor_type_configs(
        [ActorTypeConfig("Ring", reentrancy=ActorReentrancyConfig(enabled=True, maxStackDepth=DEPTH))]
    )
    ActorRuntime.set_actor_config(config)
    await actors.register_actor(Ring)
    await actors.register_actor(Relay)


if __name__ == "__main__":
    # Each call of the node has a connection.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", backlog=4096)
