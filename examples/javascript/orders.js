// An order pipeline with Dapr's JavaScript SDK: topics, competing workers, a dead letter. See README.md.
//
// `orders.js work PORT` has the two steps of an order, payment and shipping; as many of them as there are share the work.
// `orders.js place FIRST LAST` is the order service. Each event is named after its order: published again, it is the same one.
"use strict";

const { CommunicationProtocolEnum, DaprClient, DaprPubSubStatusEnum, DaprServer } = require("@dapr/dapr");

const clientOptions = {
  daprHost: "127.0.0.1",
  daprPort: process.env.DAPR_HTTP_PORT,
  communicationProtocol: CommunicationProtocolEnum.HTTP,
};
const client = new DaprClient(clientOptions);

async function publish(topic, order) {
  const metadata = { "cloudevent.id": `${topic}-${order.id}`, partitionKey: order.id };
  const { error } = await client.pubsub.publish("pubsub", topic, order, { metadata });
  return error;
}

// What is not SUCCESS comes again. The SDK takes a step that throws for one that has succeeded.
async function published(topic, order) {
  return (await publish(topic, order)) ? DaprPubSubStatusEnum.RETRY : DaprPubSubStatusEnum.SUCCESS;
}

async function pay(order) {
  return published("payments", { ...order, paid: true });
}

// An order without an address fails each time, and becomes a dead letter.
async function ship(order) {
  if (!order.address) {
    console.log(`${order.id} has no address`);
    return DaprPubSubStatusEnum.RETRY;
  }
  return published("shipped", order);
}

async function work(port) {
  const server = new DaprServer({ serverHost: "127.0.0.1", serverPort: port, clientOptions });
  await server.pubsub.subscribeWithOptions("pubsub", "orders", { route: "/pay", callback: pay });
  await server.pubsub.subscribeWithOptions("pubsub", "payments", {
    route: "/ship",
    callback: ship,
    metadata: { maxDeliver: 3 },
    deadLetterTopic: "rejected",
  });
  await server.start();
}

// Every tenth order has no address. An order that may not have been taken is placed again, under its name.
async function place(first, last) {
  for (let n = first; n <= last; n++) {
    const order = { id: `o${n}`, amount: n, address: n % 10 === 0 ? "" : `${n} Ghost Lane` };
    while (await publish("orders", order)) {
      await new Promise((again) => setTimeout(again, 100));
    }
  }
  console.log(`orders ${first} to ${last} are placed`);
}

const [what, ...numbers] = process.argv.slice(2);
(what === "place" ? place(...numbers.map(Number)) : work(numbers[0])).catch((error) => {
  console.error(error);
  process.exit(1);
});
