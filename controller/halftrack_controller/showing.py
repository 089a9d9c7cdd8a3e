"""`Session.Show` over gRPC: frames that hosts show to operators who look. Who may speak for a host is checked as for its session."""

from halftrack_controller.callers import HOST, Context, Wire, answered, current_caller
from halftrack_controller.news import News
from halftrack_controller.session import Sessions, SessionService
from halftrack_controller.store_thread import StoreThread
from halftrack_controller.terms import Terms
from halftrack_controller.watching import Looks
from halftrack_proto import shown_codec
from halftrack_proto.v1 import session_pb2


class ShowingService(SessionService):
    """The session's service, with the call that brings frames."""

    def __init__(
        self, galaxy: str, sessions: Sessions, store: StoreThread, news: News, terms: Terms, looks: Looks
    ) -> None:
        super().__init__(galaxy, sessions, store, news, terms)
        self._looks = looks

    async def Show(self, requests: object, context: Context) -> Wire:  # noqa: N802 - gRPC's name
        """Frames for one look, until nobody looks any more."""

        async def take() -> None:
            caller = await current_caller(context, self._galaxy, (HOST,), self._store)
            async for message in requests:  # type: ignore[attr-defined]
                if not await self._looks.take(caller.name, shown_codec.shown_of(message)):
                    return

        await answered(context, take)
        return session_pb2.ShownEnd()
