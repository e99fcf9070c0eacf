"""What Dapr's SDKs are promised, proven with the examples of examples/ on three real nodes: proof.py BINARY CACHE LANGUAGE...

For each language: three nodes with one bank each. Deposits over all nodes, a node is killed half-way, and the sum
of all accounts is what was acknowledged, also when it is back beside its bank, which has gone on. A method that fails
leaves nothing, also not with the next call. A bank that is killed alone is replaced by another one within 1.5 s. A
reminder goes on. Then three nodes with an order pipeline each: a node is killed half-way, and each order ends shipped or as
a dead letter; only what was unacknowledged comes again. With the Python SDK also: calls back into a waiting actor, and
2,000 calls at once over one gRPC channel.
Prints one line for each, then the sum as cargo's tests do, and ends with 1 when one of them is not so.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "examples"
NODES = 3
ACCOUNTS = 24
DEPOSITS = 600
CLIENTS = 6
READY_TIME_MAX = 90
FAILOVER_TIME_MAX = 1.5
REPEAT_TIME_MAX = 60
RELAYED = 2_000
RELAYED_TIME_MAX = 120
CHAIN_TIME_MAX = 20
ORDERS = 600
ORDERS_TIME_MAX = 90
# Of them, those that have ended before a node dies.
ORDERS_BEFORE = 100


def free_ports(count):
    """Ports that nobody has at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(what, time_max, look):
    """Looks again and again; the first answer that is not None."""
    end = time.monotonic() + time_max
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() >= end:
            raise AssertionError(f"{what}: not within {time_max} s")
        time.sleep(0.02)


def call(port, account, method, body=None, request_id=None, timeout=10, actor_type="Account"):
    """Status and answer of one call; None: there was no answer."""
    headers = {"content-type": "application/json"}
    if request_id:
        headers["Ghostlight-Request-Id"] = request_id
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1.0/actors/{actor_type}/{account}/method/{method}",
        data=json.dumps(body if body is not None else {}).encode(),
        headers=headers,
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (OSError, ValueError):
        return None


class Nodes:
    """Nodes with one application each, in a directory of their own."""

    def __init__(self, binary, cache, size, command, app="bank={}"):
        self.binary, self.cache, self.size, self.command, self.app_words = binary, cache, size, command, app
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="ghostlight-sdk-"))
        ports = free_ports(5 * size)
        self.peer, self.http, self.grpc, self.admin, self.app = (
            ports[n * size : (n + 1) * size] for n in range(5)
        )
        self.nodes, self.apps = {}, {}
        self.logs = []

    def log(self, name):
        file = open(self.directory / f"{name}.log", "ab")
        self.logs.append(file)
        return file

    def start_node(self, n):
        command = [
            self.binary, "start", "--data-dir", f"n{n}", "--partitions", "32",
            "--listen", f"127.0.0.1:{self.peer[n]}", "--http", f"127.0.0.1:{self.http[n]}",
            "--grpc", f"127.0.0.1:{self.grpc[n]}", "--admin", f"127.0.0.1:{self.admin[n]}",
            "--introduce", "none", "--app", self.app_words.format(self.app[n]),
        ]
        if n > 0:
            command += ["--join", f"127.0.0.1:{self.peer[0]}"]
        environment = {**os.environ, "HOME": str(self.directory)}
        self.nodes[n] = subprocess.Popen(
            command, cwd=self.directory, env=environment, stdout=self.log(f"n{n}"), stderr=subprocess.STDOUT
        )

    def start_app(self, n):
        self.apps[n] = self.beside(n, [*self.command, str(self.app[n])], self.log(f"app{n}"))

    def beside(self, n, command, log):
        """A program that speaks to a node."""
        environment = {
            **os.environ,
            "DAPR_HTTP_PORT": str(self.http[n]),
            "DAPR_GRPC_PORT": str(self.grpc[n]),
            "NODE_PATH": f"{self.cache}/javascript/node_modules",
        }
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def ask_admin(self, n, *words):
        """What a command of the binary prints about a node, read as JSON."""
        command = [self.binary, *words, "--json", "--node", f"http://127.0.0.1:{self.admin[n]}"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return json.loads(said.stdout) if said.returncode == 0 else None

    def __enter__(self):
        try:
            self.begin()
        except BaseException:
            self.__exit__(True)
            raise
        return self

    def begin(self):
        for n in range(self.size):
            self.start_node(n)
        status = [self.binary, "status", "--exit-when-healthy", "--node", f"http://127.0.0.1:{self.admin[0]}"]

        def all_there():
            seen = subprocess.run(status, capture_output=True, text=True, timeout=READY_TIME_MAX, check=False)
            return True if f"{self.size} of {self.size} members" in seen.stdout else None

        until("the nodes are healthy", READY_TIME_MAX, all_there)
        for n in range(self.size):
            self.start_app(n)

    def __exit__(self, failed, *_):
        for process in [*self.apps.values(), *self.nodes.values()]:
            process.kill()
            process.wait()
        for file in self.logs:
            file.close()
        if failed:
            print(f"logs are kept in {self.directory}", file=sys.stderr)
        else:
            shutil.rmtree(self.directory)


class Bank(Nodes):
    """Three nodes with a bank each."""

    def begin(self):
        super().begin()
        for n in range(self.size):
            until(f"every bank answers through node {n}", READY_TIME_MAX, lambda n=n: self.hosts_all(n))

    def hosts_all(self, n):
        """True when each of the three processes has some accounts."""
        pids = set()
        for account in range(ACCOUNTS):
            answer = call(self.http[n], f"a{account}", "Balance")
            if answer is None or answer[0] != 200:
                return None
            pids.add(answer[1]["pid"])
        return True if len(pids) == self.size else None

    def ask(self, account, method, body=None, request_id=None):
        """Repeats with the same id, at any node, until there is a 200: that is what the API allows."""
        end = time.monotonic() + REPEAT_TIME_MAX
        turn = hash(account)
        while time.monotonic() < end:
            alive = [n for n, node in self.nodes.items() if node.poll() is None]
            answer = call(self.http[alive[turn % len(alive)]], account, method, body, request_id)
            if answer is not None and answer[0] == 200:
                return answer[1]
            turn += 1
            time.sleep(0.05)
        raise AssertionError(f"{account}/{method} was not answered: {answer}")

    def total(self):
        return sum(self.ask(f"a{n}", "Balance")["balance"] for n in range(ACCOUNTS))


def deposits(bank):
    """Every acknowledged deposit counts once, through the death of a node."""
    acknowledged, errors, lock = [], [], threading.Lock()
    kill = threading.Event()

    def client(number):
        try:
            for n in range(number, DEPOSITS, CLIENTS):
                bank.ask(f"a{n % ACCOUNTS}", "Deposit", {"amount": n}, f"deposit-{n}")
                with lock:
                    acknowledged.append(n)
                    if len(acknowledged) >= DEPOSITS // 2:
                        kill.set()
        except AssertionError as error:
            errors.append(error)
            kill.set()

    clients = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for one in clients:
        one.start()
    kill.wait()
    bank.nodes[2].send_signal(signal.SIGKILL)
    bank.nodes[2].wait()
    for one in clients:
        one.join()
    assert not errors, errors[0]
    total = bank.total()
    assert total == sum(range(DEPOSITS)), f"{total} in all accounts, {sum(range(DEPOSITS))} was paid in"
    bank.start_node(2)
    until("the node is back", READY_TIME_MAX, lambda: bank.hosts_all(2))
    # Its bank has gone on, and its objects remember what was before.
    back = bank.total()
    assert back == total, f"{back} in all accounts when the node is back, {total} before"
    for n in range(ACCOUNTS):
        bank.ask(f"a{n}", "Deposit", {"amount": 1}, f"after-{n}")
    after = bank.total()
    assert after == total + ACCOUNTS, f"{after} in all accounts, {total + ACCOUNTS} was paid in"
    return f"{DEPOSITS} deposits through the death of a node: the accounts hold {total}"


def failing(bank):
    """What a failed method did to its object is gone, also with the next call."""
    for n in range(6):
        account = f"failing{n}"
        # The first call of its life fails for half of them.
        before = 0
        if n % 2 == 0:
            before = bank.ask(account, "Deposit", {"amount": 5})["balance"]
        answer = until("it is refused", READY_TIME_MAX, lambda a=account: call(bank.http[0], a, "Withdraw", {"amount": 100}))
        assert answer[0] == 500 and "ERR_ACTOR_INVOKE_METHOD" in answer[1], answer
        after = bank.ask(account, "Deposit", {"amount": 1})["balance"]
        assert after == before + 1, f"{account} had {before}, and {after} after a failed call and a deposit of 1"
    return "methods that fail leave nothing behind"


def lone_kill(bank):
    """A bank that is killed alone is replaced by another one."""
    longest = 0.0
    for n in range(bank.size):
        pid = bank.apps[n].pid
        account = next(
            f"a{a}" for a in range(ACCOUNTS) if bank.ask(f"a{a}", "Balance")["pid"] == pid
        )
        balance = bank.ask(account, "Balance")["balance"]
        bank.apps[n].send_signal(signal.SIGKILL)
        begun = time.monotonic()
        answer = until("another one answers", READY_TIME_MAX, lambda a=account: good(call(bank.http[(n + 1) % NODES], a, "Balance")))
        took = time.monotonic() - begun
        bank.apps[n].wait()
        assert answer["pid"] != pid and answer["balance"] == balance, (answer, balance)
        longest = max(longest, took)
        bank.start_app(n)
        until("it is back", READY_TIME_MAX, lambda: bank.hosts_all(0))
    assert longest <= FAILOVER_TIME_MAX, f"the next answer came after {longest:.2f} s"
    return f"banks killed alone: the next answer after {longest:.2f} s at most"


def good(answer):
    return answer[1] if answer is not None and answer[0] == 200 else None


def reminders(bank):
    """A reminder fires each second."""
    bank.ask("interest", "PayInterest")
    until("interest is paid", 15, lambda: True if bank.ask("interest", "Balance")["balance"] >= 2 else None)
    return "a reminder fires"


class Shop(Nodes):
    """Three nodes with the workers of an order pipeline each."""

    def begin(self):
        super().begin()
        for n in range(self.size):
            until(f"node {n} has its workers", READY_TIME_MAX, lambda n=n: self.subscribed(n))

    def subscribed(self, n):
        """True when the application of this node has both subscriptions."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http[n]}/v1.0/metadata", timeout=10) as answer:
                topics = {one["topic"] for one in json.load(answer)["subscriptions"]}
        except OSError:
            return None
        return True if topics == {"orders", "payments"} else None


class Reader:
    """What a topic holds, in the order in which it came."""

    def __init__(self, shop, topic):
        self.topic = topic
        admin = f"http://127.0.0.1:{shop.admin[0]}"
        command = [shop.binary, "subscribe", topic, "--from", "first", "--json", "--node", admin]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=shop.log(f"read-{topic}"), text=True)
        self.orders = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.orders.append(json.loads(json.loads(line)["text"]))

    def ids(self):
        return [order["id"] for order in self.orders]


def orders(shop):
    """Each order is shipped or a dead letter, through the death of a node; only what was unacknowledged comes again."""
    readers = shipped, rejected = [Reader(shop, topic) for topic in ("shipped", "rejected")]
    try:
        placed(shop, 1, ORDERS_BEFORE).wait(ORDERS_TIME_MAX)
        all_ended(shop, readers, ORDERS_BEFORE)
        known = [len(reader.orders) for reader in readers]
        service = placed(shop, ORDERS_BEFORE + 1, ORDERS)
        half = (ORDERS_BEFORE + ORDERS) // 2
        until("half of the orders are through", ORDERS_TIME_MAX, lambda: len(shipped.ids()) >= half or None)
        assert service.poll() is None, "all orders were placed before a node died"
        shop.nodes[2].send_signal(signal.SIGKILL)
        shop.nodes[2].wait()
        assert service.wait(ORDERS_TIME_MAX) == 0, "the order service failed"
        all_ended(shop, readers, ORDERS)
        late = {one for reader, seen in zip(readers, known) for one in reader.ids()[seen:]}
        before = late & {f"o{n}" for n in range(1, ORDERS_BEFORE + 1)}
        assert not before, f"acknowledged before the node died, and came again: {before}"
    finally:
        for reader in readers:
            reader.process.kill()
            reader.process.wait()
    return what_became(shipped, rejected)


def placed(shop, first, last):
    """The order service beside node 0, which stays alive."""
    command = [*shop.command[:-1], "place", str(first), str(last)]
    shop.apps["place"] = shop.beside(0, command, shop.log("place"))
    return shop.apps["place"]


def all_ended(shop, readers, last):
    """Waits until each order has ended, nothing is under way, and all that came of it was read."""
    wanted = {f"o{n}" for n in range(1, last + 1)}
    shipped, rejected = readers
    ended = lambda: set(shipped.ids()) | set(rejected.ids()) == wanted or None
    until("each order is shipped or a dead letter", ORDERS_TIME_MAX, ended)
    until("nothing is under way", ORDERS_TIME_MAX, lambda: settled(shop))
    for reader in readers:
        held = until("the topic is known", READY_TIME_MAX, lambda r=reader: held_by(shop, r.topic))
        until("all of it is read", READY_TIME_MAX, lambda r=reader, h=held: len(r.orders) >= h or None)


def what_became(shipped, rejected):
    """Those without an address are dead letters, all others are shipped, and the sum is what was ordered."""
    poor = {f"o{n}" for n in range(10, ORDERS + 1, 10)}
    assert set(rejected.ids()) == poor, f"dead letters: {sorted(set(rejected.ids()) ^ poor)} differ"
    assert not poor & set(shipped.ids()), f"both shipped and a dead letter: {poor & set(shipped.ids())}"
    amounts = {order["id"]: order["amount"] for order in [*shipped.orders, *rejected.orders]}
    again = len(shipped.orders) + len(rejected.orders) - len(amounts)
    total = sum(amounts.values())
    assert total == ORDERS * (ORDERS + 1) // 2, f"{total} in all, {ORDERS * (ORDERS + 1) // 2} was ordered"
    return (
        f"{ORDERS} orders through the death of a node: {len(set(shipped.ids()))} shipped, {len(poor)} dead letters, "
        f"{total} in all; {again} came again, none that was acknowledged"
    )


def settled(shop):
    """True when the workers have taken everything."""
    groups = shop.ask_admin(0, "subscriptions") or []
    left = [group["lag"] + group["in_flight"] for group in groups if group["group"] == "shop"]
    return True if left == [0, 0] else None


def held_by(shop, topic):
    """How many events a topic holds."""
    known = shop.ask_admin(0, "topics", topic)
    return known and known["events"]


def hosting(port, actor_type):
    """True when the application of this node hosts the type."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1.0/metadata", timeout=10) as answer:
            active = json.load(answer)["actorRuntime"].get("activeActors", [])
    except OSError:
        return None
    return True if any(one["type"] == actor_type for one in active) else None


def ring(nodes):
    """A call back into a waiting actor enters it, as deep as its type allows."""

    def ask(name, method, body):
        return call(nodes.http[0], name, method, body, timeout=CHAIN_TIME_MAX, actor_type="Ring")

    for n in range(nodes.size):
        until("every application is there", READY_TIME_MAX, lambda n=n: hosting(nodes.http[n], "Ring"))
    for n in range(10):
        one, other = f"one{n}", f"other{n}"
        answer = ask(one, "Begin", {"other": other})
        assert good(answer) == {"begun": other, "noted": other}, answer
        notes = ask(one, "Notes", {})
        assert good(notes) == [other, other, other], notes
    answer = ask("deep", "Deep", {"level": 1})
    assert answer is not None and answer[0] == 500 and "maximum stack depth exceeded" in answer[1], answer
    free = ask("deep", "Notes", {})
    assert good(free) == [None, None, None], free
    return "calls back into a waiting actor enter it, and no deeper than its type allows"


def relay(nodes):
    """Calls that call another actor, all at once: each of the two hops goes over one channel."""
    for n in range(nodes.size):
        until("every application is there", READY_TIME_MAX, lambda n=n: hosting(nodes.http[n], "Relay"))
    python = f"{nodes.cache}/python/bin/python"
    flood = subprocess.run(
        [python, str(HERE / "flood.py"), str(nodes.grpc[0]), str(RELAYED)],
        capture_output=True, text=True, timeout=RELAYED_TIME_MAX, check=False,
    )
    assert flood.returncode == 0, f"{flood.stdout}{flood.stderr[-2000:]}"
    return f"{RELAYED} calls at once over one channel, each of which calls on over another one: {flood.stdout.strip()}"


def example(cache, language, name):
    """How an example of a language is started, as setup.sh left it; its port follows."""
    return {
        "python": [f"{cache}/python/bin/python", str(EXAMPLES / f"python/{name}.py")],
        "javascript": ["node", str(EXAMPLES / f"javascript/{name}.js")],
        "java": ["java", "-cp", f"{cache}/java/classes:{cache}/java/lib/*", f"{name}.{name.capitalize()}"],
        "go": [f"{cache}/go/{name}"],
        "rust": [f"{cache}/rust/debug/{name}"],
    }[language]


def proofs(binary, cache, language):
    """Nodes with applications, and what is to be shown of them."""
    bank = Bank(binary, cache, NODES, example(cache, language, "bank"))
    yield bank, (failing, deposits, lone_kill, reminders)
    # The Rust SDK takes events over gRPC, the others over HTTP.
    app = "shop={},protocol=grpc" if language == "rust" else "shop={}"
    yield Shop(binary, cache, NODES, [*example(cache, language, "orders"), "work"], app), (orders,)
    if language == "python":
        chain = [f"{cache}/python/bin/python", str(HERE / "chain.py")]
        yield Nodes(binary, cache, NODES, chain), (ring, relay)


def prove(binary, cache, language, counts):
    setup = subprocess.run(
        ["bash", str(HERE / "setup.sh"), cache, language], capture_output=True, text=True, check=False
    )
    if setup.returncode == 75:
        print(f"{language}: skipped: {setup.stdout.strip()}")
        return
    if setup.returncode != 0:
        print(f"{language}: FAILED: its examples could not be made ready: {setup.stderr.strip()[-2000:]}")
        counts["failed"] += 1
        return
    for nodes, shown in proofs(binary, cache, language):
        try:
            with nodes:
                for proof in shown:
                    begun = time.monotonic()
                    print(f"{language}: {proof(nodes)} ({time.monotonic() - begun:.1f} s)", flush=True)
                    counts["passed"] += 1
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            print(f"{language}: FAILED: {error}", flush=True)
            counts["failed"] += 1


def main():
    binary, cache, *languages = sys.argv[1:]
    counts = {"passed": 0, "failed": 0}
    for language in languages:
        prove(binary, cache, language, counts)
    verdict = "FAILED" if counts["failed"] else "ok"
    print(f"test result: {verdict}. {counts['passed']} passed; {counts['failed']} failed;")
    sys.exit(1 if counts["failed"] else 0)


if __name__ == "__main__":
    main()
