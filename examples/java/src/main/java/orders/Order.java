package orders;

import io.dapr.client.DaprClient;
import java.util.Map;
import reactor.core.publisher.Mono;

record Order(String id, int amount, String address, boolean paid) {
  Order settled() {
    return new Order(id, amount, address, true);
  }

  /** Each event is named after its order: published again, it is the same one. */
  Mono<Void> publish(DaprClient client, String topic) {
    return client.publishEvent("pubsub", topic, this, Map.of("cloudevent.id", topic + "-" + id, "partitionKey", id));
  }
}
