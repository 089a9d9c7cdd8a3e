"""The museum: bugs that users of other systems have reported, planted into this one. Each must be found by the simulation or by a property.

An exhibit changes a deciding function for as long as it is shown; nothing of it is shipped. What is shown by the simulation is also in
`tests.sim.planted`; what is shown by a property names the test, which is the very one of the suite.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from halftrack_agent import core, cutoff, damping, health, ledger, reconcile, renewal
from halftrack_agent.backoff import Backoff, Rule
from halftrack_controller import services, sparing, standing
from halftrack_controller.pushing import Pushing
from tests.sim import certificates, planted, test_sights
from tests.sim.fleet import Fleet

Plant = Callable[[pytest.MonkeyPatch], None]
FLEETS = 40  # seeds of galaxies of services
Shown = tuple[bool, int]  # found, and after how many seeds or examples
FAILURES = (
    AssertionError,
    BaseExceptionGroup,
    pytest.fail.Exception,
)  # what else a plant raises is a plant that is wrong


@dataclass(frozen=True)
class Exhibit:
    """`bug` is where people met it, `by` what finds it here."""

    which: str
    bug: str
    by: str
    show: Callable[[], Shown]


def by_simulation(which: str, bug: str) -> Exhibit:
    """One of the faults that the simulation is held to."""
    _, plant, plan = planted.PLANTED[which]

    def show() -> Shown:
        with pytest.MonkeyPatch.context() as patch:
            plant(patch)
            violation, seeds = planted.first_violation(plan, planted.RARE.get(plant, 0))
        return bool(violation), seeds

    return Exhibit(which, bug, "simulation", show)


def by_fleet(which: str, bug: str, plant: Plant) -> Exhibit:
    """One that galaxies of services are held to."""

    def show() -> Shown:
        with pytest.MonkeyPatch.context() as patch:
            plant(patch)
            for seed in range(FLEETS):
                if Fleet(f"planted {seed}", days=0.3).run().violation:
                    return True, seed + 1
        return False, FLEETS

    return Exhibit(which, bug, "simulation", show)


def by_property(which: str, bug: str, test: str, plant: Plant) -> Exhibit:
    """One that a test of the suite finds: `module:function`, which takes no fixtures."""

    def show() -> Shown:
        module, _, name = test.partition(":")
        function = getattr(importlib.import_module(module), name)
        counted, count = _counting(function)
        with pytest.MonkeyPatch.context() as patch:
            plant(patch)
            try:
                counted()
            except FAILURES:
                return True, count()
        return False, count()

    return Exhibit(which, bug, test.replace(":", "."), show)


def _counting(function: Any) -> tuple[Callable[[], None], Callable[[], int]]:
    """The test, which counts its examples until the first that fails; a plain test is one example."""
    examples, failed = [0], [False]
    handle = getattr(function, "hypothesis", None)
    if handle is None:
        return function, lambda: 1
    inner = handle.inner_test

    def example(*args: Any, **kwargs: Any) -> None:
        examples[0] += not failed[0]
        try:
            inner(*args, **kwargs)
        except BaseException:
            failed[0] = True
            raise

    def run() -> None:
        handle.inner_test = example
        try:
            function()
        finally:
            handle.inner_test = inner

    return run, lambda: examples[0]


# ------------------------------------------------------------------------------------------------------------ the plants


def _forgets_its_plan(patch: pytest.MonkeyPatch) -> None:
    real = core.recovered
    patch.setattr(core, "recovered", lambda trust, entries, *rest: real(trust, (), *rest))


def _keeps_what_was_deleted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reconcile, "_unwanted", lambda name, instance, *_: (instance, []))


def _keeps_the_last_of_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sparing, "emptied", lambda *_: frozenset())


def _waits_for_the_dead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "any_visible", lambda *_: False)


def _resets_at_once(patch: pytest.MonkeyPatch) -> None:
    real = Backoff.failed
    patch.setattr(Backoff, "failed", lambda self, lasted_ms, uniform: real(self, lasted_ms and 10**9, uniform))


def _doubles_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Rule, "ceiling_ms", lambda self, attempt: self.base_ms << min(attempt, 200))


def _comes_back_in_step(patch: pytest.MonkeyPatch) -> None:
    real = Backoff.failed
    patch.setattr(Backoff, "failed", lambda self, lasted_ms, _: real(self, lasted_ms, lambda _low, high: high))


def _never_asks_without_a_session(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(renewal, "unanswered", lambda state: state)


def _refuses_to_renew_what_is_over(patch: pytest.MonkeyPatch) -> None:
    real = certificates.Certificate._proved
    patch.setattr(certificates.Certificate, "_proved", lambda self: self.good() and real(self))


def _drops_what_comes_meanwhile(patch: pytest.MonkeyPatch) -> None:
    real = Pushing.offered
    patch.setattr(Pushing, "offered", lambda self, push: (self, None) if self.sent else real(self, push))


def _believes_the_disk(patch: pytest.MonkeyPatch) -> None:
    """Entries are read by their lengths alone."""

    def trusting(data: bytes, at: int, previous: int) -> Any:
        if len(data) - at < ledger._PREFIX_BYTES:
            return ledger.End.TORN
        length, number = ledger._HEAD.unpack(data[at : at + ledger._HEAD.size])
        start = at + ledger._PREFIX_BYTES
        if start + length > len(data):
            return ledger.End.TORN
        return data[start : start + length], number, start + length

    patch.setattr(ledger, "_entry", trusting)


def _believes_every_flap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(damping, "after", lambda *_, **__: damping.CALM)


def _takes_a_boot_for_contact(patch: pytest.MonkeyPatch) -> None:
    real = cutoff.recovered

    def hopeful(noted: Any, boot_id: str, now_ms: int) -> Any:
        found = real(noted, boot_id, now_ms)
        return found if noted is None or noted.boot_id == boot_id else replace(found, before_ms=-now_ms)

    patch.setattr(cutoff, "recovered", hopeful)


def _takes_blindness_for_illness(patch: pytest.MonkeyPatch) -> None:
    real = health._settled
    patch.setattr(
        health,
        "_settled",
        lambda probe, seen, before: False if seen and seen.good is None else real(probe, seen, before),
    )


def _never_settles_who_stays(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(services, "_settle_pairs", lambda *_: None)


def _never_suspects_itself(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(services, "blind", lambda *_: False)


EXHIBITS = (
    by_simulation("a restart after each reconnect", "kubeedge#4048: pods are rebuilt when the link is back"),
    by_simulation("old plans taken again", "AWS, October 2025: a delayed enactor applied an old plan, 15 hours"),
    by_simulation("effects before the journal", "NATS JetStream 2.12.1: acknowledged before it was synced (Jepsen)"),
    by_simulation("blue drained too early", "FLINK-41074: the active side is retired on stale readiness"),
    by_simulation("green keeps the output in an abort", "flink-kubernetes-operator PR #1154: nothing runs after an abort"),
    by_simulation("an abort that does not wait for blue", "flagger#1898: the healthy side is scaled to zero after a failed promotion"),
    by_simulation("a cut before the other host has acknowledged it", "etcd's locks without fencing tokens (Jepsen)"),
    by_simulation("no fence margin, and a merge that applies late", "Flink's blue/green: duplicates while both run"),
    by_simulation("silence is failure", "Nomad before disconnect: a lost link is a lost host"),
    by_simulation("the controller takes silence for failure", "a rollback that is caused by a lost link (DESIGN.md section 1)"),
    by_simulation("artifacts fetched only when needed", "Zarf, openyurt#351: half an upgrade, and no link to finish it"),
    by_simulation("records taken from anybody", "a member of the site that speaks for another (Uptane's threat model)"),
    by_property("a cold boot without a link runs nothing", "nomad#24629, kubeedge#4210, k3s#1686",
                "tests.agent_core.test_core:test_any_prefix_of_the_journal_recovers_to_what_was_durable_then", _forgets_its_plan),
    by_property("what was deleted during a partition stays", "ankaios#358",
                "tests.agent_core.test_reconcile:test_faults_stop_and_it_converges_then_rests", _keeps_what_was_deleted),
    by_fleet("what is deleted stays where there is nothing else", "ankaios#358: and a host's last workload has no plan to be missing from",
             _keeps_the_last_of_it),
    by_property("one dead host stops the wave", "fleet#192",
                "tests.planner.test_services:test_a_dead_host_does_not_stop_a_release", _waits_for_the_dead),
    by_property("a newer plan is lost behind one that is under way", "nomad#14925: updates are not applied after a reconnect",
                "tests.controller_shell.test_sessions:test_pushing_sends_one_at_a_time_rising_and_ends_with_the_newest",
                _drops_what_comes_meanwhile),
    by_property("backoff is reset at once", "elastic-agent#13874: the fleet reconnects in step",
                "tests.agent_shell.test_outbox:test_only_a_success_that_lasts_begins_anew", _resets_at_once),
    by_property("backoff has no jitter", "elastic-agent#13874",
                "tests.agent_shell.test_outbox:test_a_hundred_hosts_do_not_come_back_at_once", _comes_back_in_step),
    by_property("backoff is capped after the exponent", "a backoff that has run for a month (DESIGN.md section 10, 11)",
                "tests.agent_shell.test_outbox:test_a_pause_is_capped_and_jittered_after_any_number_of_failures", _doubles_for_ever),
    by_property("an expired certificate blocks its own renewal", "spire#1562",
                "tests.agent_core.test_renewal:test_sessions_that_come_to_nothing_lead_to_renewal_whatever_is_known",
                _never_asks_without_a_session),
    by_fleet("a controller that renews only what is still good", "spire#1562: an agent that was away for long has to be enrolled again",
             _refuses_to_renew_what_is_over),
    by_fleet("who is not seen by its siblings is ill", "BlueChi, and load balancers that lose sight of each other",
             test_sights._takes_a_lost_sight_for_illness),
    by_fleet("a sighting by the wall clock", "a clock that is set, and heartbeats that are from the future", test_sights._by_the_wall_clock),
    by_property("what rotted on the disk is obeyed", "krops#369: a truncated file is taken for a whole one",
                "tests.agent_shell.test_ledger:test_a_flipped_bit_is_never_executed", _believes_the_disk),
    by_property("each flap of health is believed", "BlueChi, and load balancers that lose sight of each other",
                "tests.agent_core.test_probe_verdicts:test_who_flaps_is_unknown_until_it_is_steady", _believes_every_flap),
    by_property("a reboot counts as contact", "nomad#24629: what was to stop when cut off runs on after a boot",
                "tests.agent_core.test_cutoff:test_away_is_the_time_that_the_machine_was_on_since_it_was_last_in_step",
                _takes_a_boot_for_contact),
    by_property("who cannot look calls it ill", "unknown is not unhealthy (DESIGN.md section 5)",
                "tests.agent_core.test_probe_verdicts:test_a_host_that_cannot_look_knows_nothing", _takes_blindness_for_illness),
    by_property("the replaced and its replacement both run on", "Nomad: both allocations after a reconnect",
                "tests.planner.test_services:test_whatever_hosts_do_it_runs_where_it_can_and_only_once_when_all_are_back",
                _never_settles_who_stays),
    by_property("a controller that is cut off replaces everybody", "most of a site vanishes at once (DESIGN.md section 5)",
                "tests.planner.test_services:test_a_controller_that_sees_next_to_nobody_suspects_itself", _never_suspects_itself),
)  # fmt: skip
