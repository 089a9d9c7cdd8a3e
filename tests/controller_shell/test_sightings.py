"""What siblings say in their sessions, as the controller takes it."""

from halftrack_controller.callers import Caller
from halftrack_controller.pushing import Pushing
from halftrack_controller.session import Session, Sessions


# invariant: O1
def test_what_an_earlier_session_says_late_of_siblings_is_not_taken() -> None:
    """It would stand for as long as the later one does, which has nothing new to say."""
    sessions = Sessions()
    earlier, later = (Session(Caller("host", "tank-b", "a key"), Pushing(1)) for _ in range(2))
    for session in (earlier, later):
        sessions.begin(session)
        sessions.look_for({"tank-b": ["tank-a"]})
    sessions.saw(earlier, ["tank-a"])
    assert sessions.sightings()["tank-a"].by == ""
    sessions.saw(later, ["tank-a"])
    assert sessions.sightings()["tank-a"].by == "tank-b"
