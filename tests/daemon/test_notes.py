"""What programs beside the daemon want people to know."""

from pathlib import Path

from helpers.tracking import blobs, configuration, serving


def test_a_note_stands_where_people_look_until_it_is_taken_back(tmp_path: Path) -> None:
    film = blobs(tmp_path / "blobs.mp4")
    with serving(configuration(streams={"cam": {"url": str(film), "loop": True}})) as talk:
        talk.subscribe("events/cam/")
        talk.ask("server.note", name="fleet", message="NATS is gone")
        assert talk.receive_until(lambda m: m["event"] == "note")["message"] == "fleet: NATS is gone"
        assert talk.ask("server.info")["notes"] == {"fleet": "NATS is gone"}
        talk.ask("server.note", name="fleet")
        assert talk.receive_until(lambda m: m["event"] == "note")["message"] == "fleet: well again"
        assert talk.ask("server.info")["notes"] == {}


def test_there_are_bounds(tmp_path: Path) -> None:
    with serving(configuration(persist={"dir": str(tmp_path)})) as talk:
        for name, message in (("Fleet", "x"), ("fleet", ""), ("fleet", "x" * 257), ("fleet", "\x1b[2J")):
            assert talk.refused("server.note", name=name, message=message)[0] == "bad_request"
        for number in range(16):
            talk.ask("server.note", name=f"n{number}", message="x")
        assert talk.refused("server.note", name="more", message="x")[0] == "at_capacity"
        talk.ask("server.note", name="n3", message="y")
