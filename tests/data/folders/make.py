#!/usr/bin/env python3
"""Makes a data folder with one of everything, by a released server that is killed in the midst of its work.

    python3 make.py HOOKTIDE NAME

runs the binary HOOKTIDE and writes NAME/data.tar.gz and NAME/expected.json here. README.md says what is in them.
"""

import atexit
import hashlib
import hmac
import http.client
import http.server
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# Where every webhook points, so that a test can listen there: an address of the loopback network that nobody else uses.
RECEIVER = ("127.18.1.1", 18181)
SLACK_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
GITHUB_SECRET = "It's a Secret to Everybody"
PARTNER_TOKEN = "test-token-of-a-partner-0001"


class Receiver(http.server.BaseHTTPRequestHandler):
    """Answers by path: 500 below /fails and /dies, never below /late, else 204."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path.startswith("/late"):
            time.sleep(3600)
        self.send_response(500 if self.path.startswith(("/fails", "/dies")) else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server:
    def __init__(self, binary, folder):
        settings = {
            "SERVER__LISTEN": "127.0.0.1:0",
            "SERVER__DATA_DIR": os.path.join(folder, "data"),
            "SERVER__PUBLIC_URL": "https://hooks.example.com",
            "EGRESS__ALLOW": '["127.0.0.0/8"]',
        }
        env = {f"HOOKTIDE_{key}": value for key, value in settings.items()}
        self.process = subprocess.Popen([binary, "serve"], env=env, cwd=folder, stdout=subprocess.PIPE)
        line = self.process.stdout.readline().decode()
        self.address = line.split("listen=")[1].split()[0].split(",")[0]
        with open(os.path.join(folder, "data", "admin.key"), encoding="ascii") as file:
            self.key = file.read().strip()

    def send(self, method, path, body=b"", headers=None, key=True):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        headers = dict(headers or {})
        if key:
            headers["Authorization"] = f"Bearer {self.key}"
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text) if text.startswith((b"{", b"[")) else {}

    def call(self, method, path, body=None):
        body = b"" if body is None else json.dumps(body).encode()
        return self.send(method, path, body, {"Content-Type": "application/json"})

    def publish(self, event_type, data, **more):
        return self.call("POST", "/api/v1/events", {"type": event_type, "data": data, **more})["id"]

    def until(self, path, satisfied):
        for _ in range(600):
            answer = self.call("GET", path)
            if satisfied(answer):
                return answer
            time.sleep(0.05)
        sys.exit(f"{path} stays {answer}")


def url(path):
    return f"http://{RECEIVER[0]}:{RECEIVER[1]}{path}"


def webhook(server, path, events, **more):
    return server.call("POST", "/api/v1/webhooks", {"url": url(path), "events": events, **more})["id"]


def make_registry(server):
    """Tenants, keys, event types, sources, and webhooks of which each does something of its own."""
    server.call("POST", "/api/v1/tenants", {"name": "acme", "profile": "epic", "visibility": "tenant"})
    server.call("POST", "/api/v1/keys", {"name": "shop", "role": "publisher"})
    gone = server.call("POST", "/api/v1/keys", {"name": "gone", "role": "viewer", "tenant": "acme"})
    server.call("POST", "/api/v1/keys", {"name": "team", "role": "member", "tenant": "acme"})
    server.call("DELETE", f"/api/v1/keys/{gone['id']}")
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    server.call("POST", "/api/v1/event-types", {"name": "order.created", "category": "orders", "schema": schema,
                                                "example": {"n": 1}})
    server.call("POST", "/api/v1/event-types", {"name": "order.old", "deprecated": True, "replaced_by": "order.created"})
    server.call("POST", "/api/v1/sources", {"name": "github", "kind": "github", "secrets": [GITHUB_SECRET]})
    server.call("POST", "/api/v1/sources", {"name": "slack", "kind": "slack", "secrets": [
        SLACK_SECRET, {"value": "another-secret-of-slack", "until": "2099-01-01T00:00:00Z"}]})
    server.call("POST", "/api/v1/sources", {"name": "supplier", "kind": "partner", "token": PARTNER_TOKEN,
                                            "description": "A partner"})
    removed = server.call("POST", "/api/v1/sources", {"name": "removed", "kind": "stripe", "secret": "whsec_test"})
    server.call("DELETE", f"/api/v1/sources/{removed['id']}")

    made = {"standard": webhook(server, "/standard", ["order.*"], name="Orders", metadata={"team": "a"})}
    for profile in ["raw", "homechef", "pyairtable", "epic"]:
        made[profile] = webhook(server, f"/{profile}", ["order.created"], profile=profile, uid=f"by-{profile}")
    made["guarded"] = webhook(
        server, "/guarded", ["order.created"], auth={"type": "basic", "username": "u", "password": "not-a-secret"},
        headers={"X-Team": "a"}, rate_limit_rps=50, max_in_flight=2, ordered_by="customer.id",
        filters={"conditions": {"field": "n", "operator": "greater_or_equal", "value": 0}})
    made["subscribed"] = webhook(server, "/subscribed", [])
    for resource in ["r1", None]:
        server.call("POST", f"/api/v1/webhooks/{made['subscribed']}/subscriptions",
                    {"event_type": "invoice.paid", "resource_id": resource, "is_active": resource is not None})
    made["rotated"] = webhook(server, "/rotated", ["order.created"])
    server.call("POST", f"/api/v1/webhooks/{made['rotated']}/regenerate-secret", {"overlap_seconds": 7_776_000})
    made["acme"] = webhook(server, "/acme", ["*"], tenant="acme", description="Of another tenant")
    made["providers"] = webhook(server, "/providers", ["github.*", "slack.*", "supplier.*"])
    made["paused"] = webhook(server, "/paused", ["order.created"], status="paused")
    made["inactive"] = webhook(server, "/inactive", ["order.created"], status="inactive")
    made["fails"] = webhook(server, "/fails", ["payment.*"], retry_policy={"schedule": [86_400, 86_400]})
    made["dies"] = webhook(server, "/dies", ["payment.*"], retry_policy={"schedule": []})
    made["late"] = webhook(server, "/late", ["late.*"], ordered=True)
    gone = webhook(server, "/gone", ["order.created"])
    server.call("DELETE", f"/api/v1/webhooks/{gone}")
    return made


def make_events(server):
    """Events of clients, of providers and of a partner."""
    made = [server.publish("order.created", {"n": n, "customer": {"id": f"c{n % 2}"}}, id=f"own-{n}", user_id="u1",
                           metadata={"m": n}) for n in range(4)]
    made.append(server.publish("invoice.paid", {"n": 9, "text": "ünïcode"}, resource_id="r1", workspace_id="w"))
    made.append(server.publish("order.created", {"n": 10}, tenant="acme"))
    made.append(server.publish("payment.failed", {"n": 11}))
    body = b'{"zen":"Keep it logically awesome.","hook_id":1}'
    mac = hmac.new(GITHUB_SECRET.encode(), body, hashlib.sha256).hexdigest()
    server.send("POST", "/api/v1/webhooks/github", body, {
        "Content-Type": "application/json", "X-GitHub-Event": "push", "X-GitHub-Delivery": "d-1",
        "X-Hub-Signature-256": f"sha256={mac}"}, key=False)
    # A form: the log keeps its raw body beside the data made of it.
    body, at = b"token=x&team_id=T1&command=%2Fweather&text=94070&trigger_id=1.2", str(int(time.time()))
    mac = hmac.new(SLACK_SECRET.encode(), b"v0:" + at.encode() + b":" + body, hashlib.sha256).hexdigest()
    server.send("POST", "/api/v1/webhooks/slack", body, {
        "Content-Type": "application/x-www-form-urlencoded", "X-Slack-Request-Timestamp": at,
        "X-Slack-Signature": f"v0={mac}"}, key=False)
    server.send("POST", f"/webhook/v1/{PARTNER_TOKEN}", json.dumps({"event": "supplier.shipped", "data": {"n": 1}}).encode(),
                {"Content-Type": "application/json"}, key=False)
    return made


def main():
    binary, name = os.path.abspath(sys.argv[1]), sys.argv[2]
    http.server.ThreadingHTTPServer.daemon_threads = True
    receiver = http.server.ThreadingHTTPServer(RECEIVER, Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(binary, folder)
        atexit.register(server.process.kill)
        webhooks = make_registry(server)
        make_events(server)

        def settled(answer):
            wanted = {"fails": "retrying", "dies": "failed", "paused": "pending"}
            wanted = {webhooks[which]: status for which, status in wanted.items()}
            return answer["data"] and all(
                delivery["status"] == wanted.get(delivery["webhook_id"], "delivered") for delivery in answer["data"])

        listed = server.until("/api/v1/webhooks/deliveries?limit=250", settled)["data"]
        replay = server.call("POST", "/api/v1/replays", {"types": ["invoice.paid"]})["id"]
        server.until(f"/api/v1/replays/{replay}", lambda answer: answer["status"] == "done")
        listed = server.until("/api/v1/webhooks/deliveries?limit=250", settled)["data"]

        of = lambda which: [delivery for delivery in listed if delivery["webhook_id"] == webhooks[which]]
        answers = {path: server.call("GET", path) for path in [
            "/api/v1/tenants", "/api/v1/keys", "/api/v1/event-types", "/api/v1/sources", "/api/v1/sources?deleted=true",
            "/api/v1/webhooks?limit=250", f"/api/v1/webhooks/{webhooks['subscribed']}/subscriptions",
            "/api/v1/dead-letters", "/api/v1/replays", "/api/v1/audit?limit=250"]}
        for event in server.call("GET", "/api/v1/events?limit=250")["data"]:
            path = f"/api/v1/events/{event['id']}"
            answers[path] = server.call("GET", path)
            answers[path].pop("deliveries", None)
        # A retry may be due by the time the folder is opened, so what waits for one is not compared.
        for delivery in (delivery for delivery in listed if delivery["status"] != "retrying"):
            path = f"/api/v1/deliveries/{delivery['id']}"
            answers[path] = server.call("GET", path)
        # Answered, and under way when the server dies: nobody has heard of the outcome.
        late = [server.publish("late.one", {"n": n}) for n in range(3)]
        time.sleep(0.3)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        expected = {
            "receiver": f"{RECEIVER[0]}:{RECEIVER[1]}",
            "answers": answers,
            "late": {"path": "/late", "events": late},
            "paused": {"webhook": webhooks["paused"], "path": "/paused",
                       "events": [delivery["event_id"] for delivery in of("paused")]},
            "retrying": {"path": "/fails", "events": [delivery["event_id"] for delivery in of("fails")],
                         "deliveries": [delivery["id"] for delivery in of("fails")]},
            "dead": {"webhook": webhooks["dies"], "path": "/dies",
                     "events": [delivery["event_id"] for delivery in of("dies")]},
        }
        out = os.path.join(HERE, name)
        os.makedirs(out, exist_ok=True)
        with open(os.path.join(out, "expected.json"), "w", encoding="utf-8") as file:
            json.dump(expected, file, indent=1, ensure_ascii=False, sort_keys=True)
            file.write("\n")

        def plain(member):
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            # Only reserves room on the disk.
            return None if os.path.basename(member.name) == "ballast" else member

        with tarfile.open(os.path.join(out, "data.tar.gz"), "w:gz", compresslevel=9) as archive:
            archive.add(os.path.join(folder, "data"), "data", filter=plain)


main()
