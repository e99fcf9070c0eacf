package orders;

import io.dapr.client.DaprClient;
import io.dapr.client.DaprClientBuilder;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;

/**
 * An order pipeline with Dapr's Java SDK: topics, competing workers, a dead letter. See README.md.
 *
 * <p>{@code orders.Orders work PORT} has the two steps of an order, payment and shipping; as many of them as there are
 * share the work. {@code orders.Orders place FIRST LAST} is the order service.
 */
@SpringBootApplication
public class Orders {
  @Bean
  DaprClient client() {
    return new DaprClientBuilder().build();
  }

  /** Every tenth order has no address. An order that may not have been taken is placed again, under its name. */
  private static void place(DaprClient client, int first, int last) throws InterruptedException {
    for (int n = first; n <= last; n++) {
      Order order = new Order("o" + n, n, n % 10 == 0 ? "" : n + " Ghost Lane", false);
      while (true) {
        try {
          order.publish(client, "orders").block();
          break;
        } catch (RuntimeException error) {
          System.out.println(order.id() + " once more: " + error.getMessage());
          Thread.sleep(100);
        }
      }
    }
    System.out.println("orders " + first + " to " + last + " are placed");
  }

  public static void main(String[] args) throws Exception {
    if (args[0].equals("place")) {
      try (DaprClient client = new DaprClientBuilder().build()) {
        place(client, Integer.parseInt(args[1]), Integer.parseInt(args[2]));
      }
    } else {
      SpringApplication.run(Orders.class, "--server.address=127.0.0.1", "--server.port=" + args[1]);
    }
  }
}
