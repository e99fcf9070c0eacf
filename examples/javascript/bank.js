// A bank with Dapr's JavaScript SDK: one actor type, state, a reminder. Run it beside a Ghostlight node, see README.md.
"use strict";

const { AbstractActor, CommunicationProtocolEnum, DaprServer, Temporal } = require("@dapr/dapr");

class Account extends AbstractActor {
  async balanceNow() {
    const [known, value] = await this.getStateManager().tryGetState("balance");
    return known ? value : 0;
  }

  async add(amount) {
    const balance = (await this.balanceNow()) + amount;
    await this.getStateManager().setState("balance", balance);
    return balance;
  }

  async Deposit({ amount }) {
    return { balance: await this.add(amount), pid: process.pid };
  }

  async Balance() {
    return { balance: await this.balanceNow(), pid: process.pid };
  }

  // Takes first and looks afterwards: what fails leaves nothing.
  async Withdraw({ amount }) {
    const balance = await this.add(-amount);
    if (balance < 0) {
      throw new Error(`${-balance} missing`);
    }
    return { balance, pid: process.pid };
  }

  // One unit each second, from now on, whichever process has the account by then.
  async PayInterest() {
    const second = Temporal.Duration.from({ seconds: 1 });
    await this.registerActorReminder("interest", second, second);
    return {};
  }

  async receiveReminder() {
    await this.add(1);
  }
}

async function main() {
  const server = new DaprServer({
    serverHost: "127.0.0.1",
    serverPort: process.argv[2],
    clientOptions: {
      daprHost: "127.0.0.1",
      daprPort: process.env.DAPR_HTTP_PORT,
      communicationProtocol: CommunicationProtocolEnum.HTTP,
    },
  });
  await server.actor.init();
  await server.actor.registerActor(Account);
  await server.start();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
