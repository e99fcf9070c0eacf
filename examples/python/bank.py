"""A bank with Dapr's Python SDK: one actor type, state, a reminder. Run it beside a Ghostlight node, see README.md."""

import datetime
import os
import sys

import uvicorn
from dapr.actor import Actor, ActorInterface, Remindable, actormethod
from dapr.ext.fastapi import DaprActor
from fastapi import FastAPI


class AccountInterface(ActorInterface):
    @actormethod(name="Deposit")
    async def deposit(self, data: object) -> object: ...

    @actormethod(name="Withdraw")
    async def withdraw(self, data: object) -> object: ...

    @actormethod(name="Balance")
    async def balance(self) -> object: ...

    @actormethod(name="PayInterest")
    async def pay_interest(self, data: object) -> object: ...


class Account(Actor, AccountInterface, Remindable):
    async def _get(self) -> int:
        known, value = await self._state_manager.try_get_state("balance")
        return value if known else 0

    async def _add(self, amount: int) -> int:
        balance = await self._get() + amount
        await self._state_manager.set_state("balance", balance)
        await self._state_manager.save_state()
        return balance

    async def deposit(self, data: object) -> object:
        return {"balance": await self._add(data["amount"]), "pid": os.getpid()}

    async def withdraw(self, data: object) -> object:
        """Takes first and looks afterwards: what fails leaves nothing."""
        balance = await self._get() - data["amount"]
        await self._state_manager.set_state("balance", balance)
        if balance < 0:
            raise ValueError(f"{-balance} missing")
        await self._state_manager.save_state()
        return {"balance": balance, "pid": os.getpid()}

    async def balance(self) -> object:
        return {"balance": await self._get(), "pid": os.getpid()}

    async def pay_interest(self, data: object) -> object:
        """One unit each second, from now on, whichever process has the account by then."""
        second = datetime.timedelta(seconds=1)
        await self.register_reminder("interest", b"", second, second)
        return {}

    async def receive_reminder(self, name, state, due_time, period, ttl=None) -> None:
        await self._add(1)


app = FastAPI()
actors = DaprActor(app)


@app.on_event("startup")
async def startup() -> None:
    await actors.register_actor(Account)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
