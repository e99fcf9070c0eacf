package orders;

import io.dapr.Topic;
import io.dapr.client.DaprClient;
import io.dapr.client.domain.CloudEvent;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RestController;
import reactor.core.publisher.Mono;

/** The steps of an order. What fails comes again. */
@RestController
class Steps {
  private final DaprClient client;

  Steps(DaprClient client) {
    this.client = client;
  }

  @Topic(pubsubName = "pubsub", name = "orders")
  @PostMapping("/pay")
  Mono<Void> pay(@RequestBody CloudEvent<Order> event) {
    return event.getData().settled().publish(client, "payments");
  }

  /** An order without an address fails each time, and becomes a dead letter. */
  @Topic(pubsubName = "pubsub", name = "payments", deadLetterTopic = "rejected", metadata = "{\"maxDeliver\": \"3\"}")
  @PostMapping("/ship")
  Mono<Void> ship(@RequestBody CloudEvent<Order> event) {
    Order order = event.getData();
    if (order.address().isEmpty()) {
      throw new IllegalStateException(order.id() + " has no address");
    }
    return order.publish(client, "shipped");
  }
}
