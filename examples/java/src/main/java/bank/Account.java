package bank;

import io.dapr.actors.ActorMethod;
import io.dapr.actors.ActorType;
import reactor.core.publisher.Mono;

@ActorType(name = "Account")
public interface Account {
  record Amount(int amount) {}

  record Balance(int balance, long pid) {}

  @ActorMethod(name = "Deposit", returns = Balance.class)
  Mono<Balance> deposit(Amount data);

  @ActorMethod(name = "Withdraw", returns = Balance.class)
  Mono<Balance> withdraw(Amount data);

  @ActorMethod(name = "Balance", returns = Balance.class)
  Mono<Balance> balance();

  @ActorMethod(name = "PayInterest")
  Mono<Void> payInterest();
}
