"""The page's server: who is let in, what it answers, and that nothing that was said is lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.paths import on_disk
from tests.wilss_masks.review.sessions import BOX, FAILED, LAST, POT, SCREEN, SHEEP, SIZE, TWO, UNTAGGED, make_session
from tests.wilss_masks.stores import IMAGES
from wilss_masks.review.journal import Journal
from wilss_masks.review.runs import mask_of, runs_of
from wilss_masks.review.server import bound_socket, create_app
from wilss_masks.review.session import ReviewSession

TOKEN, PORT = "the-token", 8123
HERE = f"http://127.0.0.1:{PORT}"
ROOT = Path(__file__).parents[3]
DRAWN = np.zeros(SIZE, bool)
DRAWN[3:9, 5:20] = True


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ReviewSession]:
    session = make_session(tmp_path)
    yield session
    session.close()


@pytest.fixture
def client(session: ReviewSession) -> TestClient:
    return client_of(session)


def client_of(session: ReviewSession) -> TestClient:
    client = TestClient(create_app(session, TOKEN, PORT), base_url=f"{HERE}/{TOKEN}/")
    client.headers["origin"] = HERE
    return client


def say(client: TestClient, *changes: dict[str, Any], who: str = "w") -> Any:
    return client.post("api/correct", json={"who": who, "changes": list(changes)})


def verdict(image: int, category: int, verdict: str = "accepted", **more: Any) -> dict[str, Any]:
    return {"image": image, "category": category, "verdict": verdict, **more}


# -- who is let in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/index.html", "/api/index", "/other/api/index", f"/{TOKEN}x/", f"/{TOKEN}"])
def test_without_the_token_nothing_is_here(client: TestClient, path: str) -> None:
    answer = client.get(f"{HERE}{path}")
    assert answer.status_code == 404
    assert answer.content == b""


def test_a_name_that_was_pointed_here_is_refused(client: TestClient) -> None:
    for host in ("evil.example", f"evil.example:{PORT}", "127.0.0.1:1", ""):
        assert client.get("api/index", headers={"host": host}).status_code == 403
    assert client.get("api/index", headers={"host": f"localhost:{PORT}", "origin": ""}).status_code == 403
    del client.headers["origin"]
    assert client.get("api/index", headers={"host": f"localhost:{PORT}"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", f"https://127.0.0.1:{PORT}", None])
def test_another_page_cannot_say_anything(session: ReviewSession, client: TestClient, origin: str | None) -> None:
    del client.headers["origin"]
    headers = {} if origin is None else {"origin": origin}
    body = {"who": "w", "changes": [verdict(BOX, POT)]}
    assert client.post("api/correct", json=body, headers=headers).status_code == 403
    plain = client.post("api/correct", content=json.dumps(body), headers={"origin": HERE, "content-type": "text/plain"})
    assert plain.status_code == 415
    assert not session.changes.judged()


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    answer = client.get("")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "frame-ancestors 'none'" in policy
    assert "http://" not in answer.text.replace("http://www.w3.org", "")
    assert "https://" not in answer.text
    for name in ("main.js", "app.css", "viewer.js"):
        assert client.get(name).status_code == 200
        assert client.get(name).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["..%2fserver.py", "%2e%2e/server.py", "page/../server.py", "server.py", "files.js",
                                  "%2fetc%2fhostname", "app.css%00", "page%5Cmain.js"])  # fmt: skip
def test_only_the_files_of_the_page_are_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_it_listens_on_this_machine_alone() -> None:
    with bound_socket(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


# -- what it answers ----------------------------------------------------------------------------------------


def test_an_image_comes_with_all_that_is_known_of_it(client: TestClient) -> None:
    value = client.get(f"api/image/{TWO}").json()
    assert [one["category"] for one in value["classes"]] == [POT, SCREEN]
    first = value["classes"][0]
    truth = mask_of(first["truth"], value["height"], value["width"])
    np.testing.assert_array_equal(truth, IMAGES[TWO].labels == POT)
    assert first["maps"] == ["score", "attention"]
    assert first["state"] is None
    assert first["stored"] is None
    assert client.get(f"api/image/{FAILED}").json()["problem"].endswith("is truncated; copy it again.")


def test_an_image_without_masks_can_be_given_one(client: TestClient) -> None:
    height, width = IMAGES[UNTAGGED].size
    assert client.get(f"api/image/{UNTAGGED}").json()["classes"] == []
    assert say(client, verdict(UNTAGGED, POT, "corrected", runs=[3, 5, height * width - 8])).status_code == 200
    (one,) = client.get(f"api/image/{UNTAGGED}").json()["classes"]
    assert one["runs"] == [3, 5, height * width - 8]


@pytest.mark.parametrize("path", ["api/image/99", "image/99.jpg", "thumb/99-16.jpg", f"score/{BOX}-99.png",
                                  f"thumb/{BOX}-999.jpg", f"attention/{BOX}-17.png", "api/disagreement"])  # fmt: skip
def test_what_is_not_there_is_said_and_stops_nothing(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
    assert client.get("api/index").status_code == 200


def test_pictures_are_pictures(client: TestClient, session: ReviewSession, tmp_path: Path) -> None:
    assert client.get(f"image/{BOX}.jpg").content[:2] == b"\xff\xd8"
    assert client.get(f"score/{BOX}-16.png").content[1:4] == b"PNG"
    regions = client.get(f"api/regions/{BOX}").content
    assert tuple(np.frombuffer(regions[:8], "<i4")) == SIZE
    assert len(regions) == 8 + 4 * SIZE[0] * SIZE[1]
    before = client.get(f"thumb/{BOX}-16.jpg").content
    say(client, verdict(BOX, POT, "corrected", runs=runs_of(DRAWN)))
    assert client.get(f"thumb/{BOX}-16.jpg").content != before, "the mask that is seen is the corrected one"
    session.close()
    kept = {path.read_bytes() for path in (tmp_path / "cache").rglob("*.jpg")}
    assert before in kept
    assert len(kept) == 2


def test_an_image_that_has_changed_is_told(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "images" / f"{IMAGES[BOX].image_id}.png").write_bytes(b"no picture")
    answer = client.get(f"image/{BOX}.jpg")
    assert answer.status_code == 404
    assert IMAGES[BOX].image_id in answer.json()["error"]
    assert client.get(f"image/{TWO}.jpg").status_code == 200


# -- what is said -------------------------------------------------------------------------------------------


def test_a_verdict_and_a_mask_are_on_disk_when_it_answers(client: TestClient, session: ReviewSession) -> None:
    said = say(client, verdict(BOX, POT, "corrected", runs=runs_of(DRAWN)), verdict(LAST, SCREEN, "rejected")).json()
    assert [state["verdict"] for state in said["states"]] == ["corrected", "rejected"]
    journal = Journal.open(session.store.path)
    kept = {(one.image_id, one.category): one for one in journal.corrections()}
    mine = kept[IMAGES[BOX].image_id, POT]
    assert (mine.author, mine.origin, mine.verdict) == ("Ada", "page", "corrected")
    assert mine.mask is not None
    np.testing.assert_array_equal(mine.mask, DRAWN)
    assert kept[IMAGES[LAST].image_id, SCREEN].verdict == "rejected"


def test_what_is_taken_back_stands_no_more(client: TestClient) -> None:
    say(client, verdict(BOX, POT, "rejected"))
    events = say(client, verdict(BOX, POT, "corrected", runs=runs_of(DRAWN))).json()["events"]
    undone = client.post("api/undo", json={"who": "w", "events": events}).json()
    assert [state["verdict"] for state in undone["states"]] == ["rejected"]
    assert client.post("api/undo", json={"who": "w", "events": events}).json() == {"states": []}
    assert client.post("api/undo", json={"who": "w", "events": ["nobody:0"]}).status_code == 409


def test_a_class_is_added_and_removed(client: TestClient) -> None:
    say(client, verdict(BOX, SHEEP, "corrected", tag=True), verdict(BOX, POT, "corrected", tag=False))
    classes = {one["category"]: one for one in client.get(f"api/image/{BOX}").json()["classes"]}
    assert classes[POT]["runs"] == [SIZE[0] * SIZE[1]], "nothing is of a class that the image does not hold"
    assert classes[POT]["stored"] is not None
    assert classes[SHEEP]["state"]["tag"] is True


@pytest.mark.parametrize("change", [
    verdict(99, POT), verdict(BOX, 3), verdict(BOX, POT, "fine"), verdict(BOX, POT, "corrected"),
    verdict(BOX, POT, "corrected", runs=[1]), verdict(BOX, POT, "accepted", runs=runs_of(DRAWN)),
    verdict(BOX, POT, colour=1), verdict(BOX, POT, "corrected", runs=["0"]), verdict(BOX, 0), verdict(BOX, True),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(client: TestClient, session: ReviewSession, change: Any) -> None:
    answer = say(client, change)
    assert answer.status_code in (409, 422)
    assert answer.json()["error"].endswith(".")
    assert not session.changes.judged()
    assert client.post("api/correct", content=b"{", headers={"content-type": "application/json"}).status_code == 422


def test_one_browser_sees_what_another_says(client: TestClient, session: ReviewSession) -> None:
    number = client.get("api/changes?since=0").json()["number"]
    say(client, verdict(BOX, POT), who="first")
    changed = client.get(f"api/changes?since={number}").json()
    assert [(state["who"], state["verdict"]) for state in changed["states"]] == [("first", "accepted")]
    assert client.get(f"api/changes?since={changed['number']}").json()["states"] == []
    other = make_session(on_disk(session.store).parent)  # another program
    say(client_of(other), verdict(BOX, POT, "rejected"))
    seen = client.get(f"api/changes?since={changed['number']}").json()["states"]
    assert [(state["who"], state["verdict"]) for state in seen] == [("", "rejected")]
    assert client.get("api/changes?since=-1").status_code == 400
    other.close()


def test_many_who_write_at_once_lose_nothing(session: ReviewSession) -> None:
    """Eight browsers at 30 strokes each: the last of each class stands, all are in the journal."""
    clients = [client_of(session) for _ in range(8)]

    def strokes(number: int) -> list[str]:
        events = []
        for stroke in range(30):
            mask = np.zeros(SIZE, bool)
            mask[number, : stroke + 1] = True
            change = verdict(BOX, POT if number % 2 else SHEEP, "corrected", runs=runs_of(mask))
            events += say(clients[number], change, who=f"b{number}").json()["events"]
        return events

    with ThreadPoolExecutor(8) as pool:
        said = [event for events in pool.map(strokes, range(8)) for event in events]
    assert len(set(said)) == 240
    lines = [
        line for path in session.changes.journal.folder.glob("events-*.jsonl") for line in path.read_text().splitlines()
    ]
    assert len(lines) == 240
    stands = Journal.open(session.store.path).latest()
    for pair, event in stands.items():
        assert session.changes.standing(pair) == event


# -- names from strangers -----------------------------------------------------------------------------------


def test_names_travel_as_json_and_never_as_markup(client: TestClient) -> None:
    page = client.get("").text
    assert not [image for image in IMAGES if image.image_id in page]
    assert client.get("api/index").headers["content-type"] == "application/json"
    assert client.get("api/index").headers["x-content-type-options"] == "nosniff"


# -- killed, or ended ---------------------------------------------------------------------------------------

SERVE = """
import sys
from pathlib import Path
from tests.wilss_masks.review.sessions import make_session
from wilss_masks.review.server import address, bound_socket, serve
listener = bound_socket(0)
print(address(listener.getsockname()[1], "t"), flush=True)
serve(make_session(Path(sys.argv[1])), listener, "t", open_browser=False)
print("ended", flush=True)
"""


def start(folder: Path) -> tuple["subprocess.Popen[str]", str]:
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def post(address: str, change: dict[str, Any]) -> list[str]:
    origin = address.rsplit("/", 2)[0]
    body = json.dumps({"who": "w", "changes": [change]}).encode()
    headers = {"content-type": "application/json", "origin": origin}
    with urlopen(Request(f"{address}api/correct", body, headers), timeout=60) as answer:
        events: list[str] = json.load(answer)["events"]
    return events


@pytest.mark.wide
def test_a_kill_in_the_middle_costs_nothing_that_was_answered(session: ReviewSession, tmp_path: Path) -> None:
    process, address = start(tmp_path)
    answered: list[str] = []

    def strokes() -> None:
        for stroke in range(10_000):
            mask = np.zeros(SIZE, bool)
            mask[:, : 1 + stroke % 60] = True
            try:
                answered.extend(post(address, verdict(BOX, POT, "corrected", runs=runs_of(mask))))
            except (OSError, HTTPException):  # nobody answers any more, or not to the end
                return

    writer = threading.Thread(target=strokes)
    writer.start()
    while len(answered) < 20 and writer.is_alive():
        time.sleep(0.01)
    process.kill()
    writer.join()
    process.communicate()
    assert len(answered) >= 20
    journal = Journal.open(session.store.path)
    assert len(list(journal.corrections())) == 1
    for event in answered:
        assert journal.undo(event) is not None, "it is there, and can be taken back"


def test_ctrl_c_ends_it_cleanly(session: ReviewSession, tmp_path: Path) -> None:
    process, address = start(tmp_path)
    post(address, verdict(BOX, POT))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert out.strip().endswith("ended")
    assert process.returncode == 0
