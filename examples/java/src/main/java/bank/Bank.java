package bank;

import io.dapr.actors.runtime.ActorRuntime;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;

/** A bank with Dapr's Java SDK: one actor type, state, a reminder. Run it beside a Ghostlight node, see README.md. */
@SpringBootApplication
public class Bank {
  public static void main(String[] args) {
    ActorRuntime.getInstance().registerActor(AccountActor.class);
    SpringApplication.run(Bank.class, "--server.address=127.0.0.1", "--server.port=" + args[0]);
  }
}
