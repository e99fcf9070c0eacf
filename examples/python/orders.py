"""An order pipeline with Dapr's Python SDK: topics, competing workers, a dead letter. See README.md.

`orders.py work PORT` has the two steps of an order, payment and shipping; as many of them as there are share the work.
`orders.py place FIRST LAST` is the order service. Each event is named after its order: published again, it is the same one.
"""

import json
import sys
import time

import grpc
import uvicorn
from dapr.clients import DaprClient
from dapr.ext.fastapi import DaprApp
from fastapi import Body, FastAPI

app = FastAPI()
workers = DaprApp(app)
client = None


def publish(topic: str, order: dict) -> None:
    name = {"cloudevent.id": f"{topic}-{order['id']}", "partitionKey": order["id"]}
    client.publish_event("pubsub", topic, json.dumps(order), name, data_content_type="application/json")


@workers.subscribe("pubsub", "orders", route="/pay")
def pay(event: dict = Body()) -> dict:
    order = event["data"]
    publish("payments", {**order, "paid": True})
    return {"status": "SUCCESS"}


@workers.subscribe("pubsub", "payments", {"maxDeliver": "3"}, route="/ship", dead_letter_topic="rejected")
def ship(event: dict = Body()) -> dict:
    """An order without an address fails each time, and becomes a dead letter."""
    order = event["data"]
    if not order["address"]:
        print(f"{order['id']} has no address", flush=True)
        return {"status": "RETRY"}
    publish("shipped", order)
    return {"status": "SUCCESS"}


def place(first: int, last: int) -> None:
    """Every tenth order has no address. An order that may not have been taken is placed again, under its name."""
    for n in range(first, last + 1):
        order = {"id": f"o{n}", "amount": n, "address": "" if n % 10 == 0 else f"{n} Ghost Lane"}
        while True:
            try:
                publish("orders", order)
                break
            except grpc.RpcError as error:
                print(f"{order['id']} once more: {error.details()}", flush=True)
                time.sleep(0.1)
    print(f"orders {first} to {last} are placed", flush=True)


if __name__ == "__main__":
    client = DaprClient()
    if sys.argv[1] == "place":
        place(int(sys.argv[2]), int(sys.argv[3]))
    else:
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
