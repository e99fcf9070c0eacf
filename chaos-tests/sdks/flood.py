"""Many calls of actors at once over one gRPC channel, for proof.py: flood.py GRPC_PORT CALLS

Call n asks the actor `from<n>` to call the actor `to<n>`, which counts. Prints how long all of them took, or ends with 1.
"""

import asyncio
import json
import sys
import time

import grpc
from dapr.proto import api_service_v1, api_v1

TIME_MAX = 100


async def main(port, calls):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = api_service_v1.DaprStub(channel)

        async def one(n):
            body = json.dumps({"to": f"to{n}"}).encode()
            asked = api_v1.InvokeActorRequest(actor_type="Relay", actor_id=f"from{n}", method="Forward", data=body)
            return json.loads((await stub.InvokeActor(asked, timeout=TIME_MAX)).data)

        begun = time.monotonic()
        answers = await asyncio.gather(*(one(n) for n in range(calls)), return_exceptions=True)
        took = time.monotonic() - begun
    wrong = [answer for answer in answers if answer != 1]
    if wrong:
        print(f"{len(wrong)} of {calls} did not end well, the first: {wrong[0]!r}")
        sys.exit(1)
    print(f"all ended, in {took:.1f} s")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
