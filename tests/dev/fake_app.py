"""Stands in for python -m app where only its surroundings are tested: same commands, environment and exit codes."""

import http.server
import os
import signal
import smtplib
import sys
import threading
import time
from email.message import EmailMessage

from deploy.dev.process import kafka_answers

#: So many questions in a row without an answer mean that the broker is gone.
MISSES = 10


def topics() -> int:
    return 0 if kafka_answers(os.environ["KAFKA_BOOTSTRAP"]) else 1


def worker() -> int:
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())

    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((os.environ["WEB_BIND"], int(os.environ["WEB_PORT"])), Ready)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("data in", os.environ["REMINDERS_DATA_DIR"], flush=True)
    at_work, missed = False, 0
    while not done.wait(0.2):
        answers = kafka_answers(os.environ["KAFKA_BOOTSTRAP"])
        # A broker that has just started may be too busy to answer once.
        missed = 0 if answers else missed + 1
        if missed == MISSES and not done.is_set():
            return 1
        if answers and not at_work:
            at_work = True
            print("at work", flush=True)
    print("ended in order", flush=True)
    return 0


def remind() -> int:
    name, address = sys.argv[2], sys.argv[sys.argv.index("--email") + 1]
    print(f"{name} SCHEDULED", flush=True)
    time.sleep(0.1)
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = os.environ["SMTP_FROM"], address, "Reminder"
    message.set_content(sys.argv[-1])
    with smtplib.SMTP(os.environ["SMTP_HOST"], int(os.environ["SMTP_PORT"])) as server:
        server.send_message(message)
    print(f"{name} SENT", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit({"topics": topics, "worker": worker, "remind": remind}[sys.argv[1]]())
