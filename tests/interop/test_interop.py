"""Against programs of others: promtool, Apicurio, Mailpit, Toxiproxy. Run by `make interop`, not by `make test`."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import aiohttp

from deploy.dev.broker import Broker
from schemas import codec
from schemas.names import State
from tests.interop.tools import apicurio, program, promtool, running
from tests.kafka.harness import ROOT, adds_up, free_port, installed, mail_event, now_ms
from tests.sandbox.smtp_server import SmtpServer

AVRO = ROOT / "schemas" / "avro"
JSON = {"Content-Type": "application/json"}


async def call(method: str, url: str, body: Any = None, *, status: int | None = 200) -> Any:
    """Call a JSON interface; return what it answers, with its status where none is wanted."""
    async with aiohttp.ClientSession() as session, session.request(method, url, json=body, headers=JSON) as answer:
        text = await answer.text()
        if status is None:
            return answer.status, text
        assert answer.status == status, text
        return json.loads(text) if text else None


async def test_promtool_finds_no_fault_in_the_metrics(broker: Broker, tmp_path: Path) -> None:
    tool = promtool()
    folder = ROOT / "deploy" / "prometheus"
    async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, partitions=2) as service:
        worker = service.start(0)
        await service.send(mail_event("one", now_ms()))
        await service.send_raw(b"{}", b"broken")
        await service.all_in(["one"], [State.SENT])
        await service.until_ready(worker)
        text = await service.get(worker, "/metrics")
    checks: list[tuple[list[str], str]] = [
        (["check", "metrics"], text),
        (["check", "rules", str(folder / "alerts.yml")], ""),
        (["check", "config", str(folder / "prometheus.yml")], ""),
    ]
    for words, given in checks:
        done = await asyncio.to_thread(
            subprocess.run, [str(tool), *words], input=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


async def test_apicurio_keeps_the_schemas_and_frames_events(broker: Broker, tmp_path: Path) -> None:
    """All released schemas and the present ones are FULL_TRANSITIVE to it; its ids in Confluent framing are read."""
    port = free_port()
    properties = ["-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={port}"]
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    command = [*apicurio(), *properties, "io.quarkus.runner.GeneratedMain"]
    with running(command, tmp_path / "apicurio.log", f"{url}/subjects"):
        await call("PUT", f"{url}/config", {"compatibility": "FULL_TRANSITIVE"})
        for current in sorted(AVRO.glob("*.avsc")):
            released = sorted((AVRO / "released").glob(f"{current.stem}.*.avsc"))
            for path in (*released, current):
                schema = {"schema": path.read_text()}
                known = await call("POST", f"{url}/subjects/{current.stem}-value/versions", schema)
        broken = json.loads((AVRO / "reminder_event.avsc").read_text())
        broken["fields"].append({"name": "needed", "type": "string"})
        subject = f"{url}/subjects/reminder_event-value/versions"
        status, said = await call("POST", subject, {"schema": json.dumps(broken)}, status=None)
        assert status == 409, said
        known = await call("POST", subject, {"schema": (AVRO / "reminder_event.avsc").read_text()})
        extra = {"SCHEMA_REGISTRY_URL": url}
        async with SmtpServer() as server, installed(broker.bootstrap, tmp_path, server.port, extra=extra) as service:
            service.start(0)
            value = codec.encode(mail_event("framed", now_ms()))[10:]
            await service.send_raw(b"\0" + known["id"].to_bytes(4, "big") + value, key=b"framed")
            await service.send_raw(b"\0" + (99_999).to_bytes(4, "big") + value, key=b"unknown")
            await service.all_in(["framed"], [State.SENT])
            (letter,) = await service.tap.until(service.dead_letters, 60, "the letter of an unknown id")
            assert letter["dlq-reason"] == "unknown_schema_id"


async def test_mailpit_behind_toxiproxy_gets_each_mail_once(broker: Broker, tmp_path: Path) -> None:
    """Slow, then cut in the mail's text, then well: what was cut before its end is sent again, and nothing twice."""
    mailpit, toxiproxy = program("mailpit"), program("toxiproxy")
    smtp, http, through, control = (free_port() for _ in range(4))
    mails, proxy = f"http://127.0.0.1:{http}", f"http://127.0.0.1:{control}"
    listens = [str(mailpit), "--listen", f"127.0.0.1:{http}", "--smtp", f"127.0.0.1:{smtp}"]
    bound = [str(toxiproxy), "-host", "127.0.0.1", "-port", str(control)]
    with (
        running(listens, tmp_path / "mailpit.log", f"{mails}/api/v1/info"),
        running(bound, tmp_path / "toxiproxy.log", f"{proxy}/version"),
    ):
        route = {"name": "smtp", "listen": f"127.0.0.1:{through}", "upstream": f"127.0.0.1:{smtp}", "enabled": True}
        await call("POST", f"{proxy}/proxies", route, status=201)
        toxics = f"{proxy}/proxies/smtp/toxics"
        async with installed(broker.bootstrap, tmp_path, through, partitions=2) as service:
            began = now_ms()
            service.start(0)
            slow = {"name": "slow", "type": "latency", "attributes": {"latency": 200, "jitter": 100}}
            await call("POST", toxics, slow)
            await service.send(*(mail_event(f"slow-{n}", now_ms()) for n in range(8)))
            await service.all_in([f"slow-{n}" for n in range(8)], [State.SENT])
            await call("DELETE", f"{toxics}/slow", status=204)
            # Behind the envelope, before the final dot.
            cut = {"name": "cut", "type": "limit_data", "stream": "upstream", "attributes": {"bytes": 400}}
            await call("POST", toxics, cut)
            await service.send(mail_event("cut", now_ms()))
            await service.tap.until(
                lambda: {State.FAILED, State.RETRY} & {e.to_state for e in service.audit("cut")}, 60, "what was cut"
            )
            await call("DELETE", f"{toxics}/cut", status=204)
            await service.all_in(["cut"], [State.SENT])
            await adds_up(service, began)
        found = await call("GET", f"{mails}/api/v1/messages?limit=100")
        to = sorted(mail["To"][0]["Address"].partition("@")[0] for mail in found["messages"])
        assert to == sorted(["cut", *(f"slow-{n}" for n in range(8))])
        one = await call("GET", f"{mails}/api/v1/message/{found['messages'][0]['ID']}")
        assert one["Subject"].startswith("Title ")
        assert "Bring your card." in one["Text"]
