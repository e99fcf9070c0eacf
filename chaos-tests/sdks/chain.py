"""Actors that call each other with Dapr's Python SDK, for proof.py: chain.py PORT

`Relay` hands every call on over the one gRPC channel of this process, as SDKs do that speak gRPC alone.
"""

import json
import os
import resource
import sys

import grpc
import uvicorn
from dapr.actor import Actor, ActorInterface, actormethod
from dapr.ext.fastapi import DaprActor
from dapr.proto import api_service_v1, api_v1
from fastapi import FastAPI

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
    await actors.register_actor(Relay)


if __name__ == "__main__":
    # Each call of the node has a connection.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", backlog=4096)
