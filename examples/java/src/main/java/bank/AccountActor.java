package bank;

import io.dapr.actors.ActorId;
import io.dapr.actors.runtime.AbstractActor;
import io.dapr.actors.runtime.ActorRuntimeContext;
import io.dapr.actors.runtime.Remindable;
import io.dapr.utils.TypeRef;
import java.time.Duration;
import reactor.core.publisher.Mono;

/** One object of an account; the SDK saves its state after each method that succeeds. */
public class AccountActor extends AbstractActor implements Account, Remindable<String> {

  public AccountActor(ActorRuntimeContext<AccountActor> context, ActorId id) {
    super(context, id);
  }

  private Mono<Integer> now() {
    return getActorStateManager().contains("balance").flatMap(known ->
        known ? getActorStateManager().get("balance", int.class) : Mono.just(0));
  }

  private Mono<Integer> add(int amount) {
    return now().flatMap(before ->
        getActorStateManager().set("balance", before + amount).thenReturn(before + amount));
  }

  private static Balance answer(int balance) {
    return new Balance(balance, ProcessHandle.current().pid());
  }

  @Override
  public Mono<Balance> deposit(Amount data) {
    return add(data.amount()).map(AccountActor::answer);
  }

  /** Takes first and looks afterwards: what fails leaves nothing. */
  @Override
  public Mono<Balance> withdraw(Amount data) {
    return add(-data.amount()).map(balance -> {
      if (balance < 0) {
        throw new IllegalStateException(-balance + " missing");
      }
      return answer(balance);
    });
  }

  @Override
  public Mono<Balance> balance() {
    return now().map(AccountActor::answer);
  }

  /** One unit each second, from now on, whichever process has the account by then. */
  @Override
  public Mono<Void> payInterest() {
    Duration second = Duration.ofSeconds(1);
    return registerReminder("interest", "", second, second);
  }

  @Override
  public TypeRef<String> getStateType() {
    return TypeRef.STRING;
  }

  @Override
  public Mono<Void> receiveReminder(String name, String state, Duration dueTime, Duration period) {
    return add(1).then();
  }
}
