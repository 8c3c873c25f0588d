#!/usr/bin/env bash
# Two writers that create the same object at the same time are both told that they did, by moto's server of S3.
#
# moto 5.2.5 (moto_server), obstore 0.12.1. With If-None-Match: * a server of S3 creates an object only if there is none,
# so of any number of writers one succeeds and the others get 412. moto answers requests in threads, and looks whether
# there is an object and writes it in two steps. Seen: of 200 rounds in which 8 threads create one key, several have two
# or more winners, the last of which stays. One request at a time, each round has one.
# Why it matters: who tries a lock, a claim of work or the commit of a mask store against moto sees it fail now and then,
# or, with less luck, not at all, and takes the one for a fault of his own or the other for a proof. Let requests to the
# server through one at a time (a lock around its WSGI application).
#
# FINDINGS_PYTHON=/path/to/python takes that Python, if it has these versions.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python=${FINDINGS_PYTHON:-venv/bin/python}
if [ -z "${FINDINGS_PYTHON:-}" ]; then
    python3 -m venv venv && venv/bin/pip install -q --disable-pip-version-check \
        'moto[s3]==5.2.5' flask==3.1.3 flask-cors==6.0.5 obstore==0.12.1 || exit 2
fi
"$python" -c 'import sys
from importlib.metadata import version
sys.exit(0 if (version("moto"), version("obstore")) == ("5.2.5", "0.12.1") else 1)' || exit 2

"$python" - <<'PY'
import logging
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import obstore
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
ROUNDS, WRITERS = 200, 8


def one_at_a_time(app):
    lock = threading.Lock()

    def guarded(environ, start_response):
        with lock:
            return list(app(environ, start_response))

    return guarded


def rounds_with_several_winners(wrap) -> int:
    server = make_server("127.0.0.1", 0, wrap(DomainDispatcherApplication(create_backend_app)), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address, bucket = f"http://127.0.0.1:{server.port}", f"races-{server.port}"
    signed = "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none"
    request = urllib.request.Request(f"{address}/{bucket}", method="PUT", headers={"Authorization": signed})
    urllib.request.urlopen(request).close()
    store = S3Store(
        bucket, endpoint=address, region="us-east-1", access_key_id="k", secret_access_key="s",
        client_options={"allow_http": True},
    )
    several = 0
    with ThreadPoolExecutor(WRITERS) as pool:
        for number in range(ROUNDS):
            gate = threading.Barrier(WRITERS)

            def create(who: int) -> bool:
                gate.wait()
                try:
                    obstore.put(store, f"claim-{number}", str(who).encode(), mode="create")
                except AlreadyExistsError:
                    return False
                return True

            several += sum(pool.map(create, range(WRITERS))) > 1
    server.shutdown()
    return several


as_it_is, guarded = rounds_with_several_winners(lambda app: app), rounds_with_several_winners(one_at_a_time)
print(f"rounds of {ROUNDS} with more than one winner: {as_it_is}; one request at a time: {guarded}")
sys.exit(0 if as_it_is and not guarded else 1)
PY
