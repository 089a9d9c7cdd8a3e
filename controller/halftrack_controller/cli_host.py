"""The verbs on hosts: `host list`, `host show` and `host token`."""

import click

from halftrack_controller import quantities, render
from halftrack_controller.cli_frame import DONE, Duration, Program, Terminal, verb


def declare(program: Program) -> None:
    """Add the verbs to the program."""

    @program.group("host")
    def group() -> None:
        """Look at hosts and enrol them."""

    @verb(group, "list", "halftrack host list", "halftrack host list --environment tank -o json")
    @click.option("--environment", default="", help="Only the hosts of this environment.")
    def list_(terminal: Terminal, environment: str) -> int:
        """List hosts: link, health (healthy, unhealthy or unknown), plan (accepted/newest revision), what is left of the certificate."""
        with terminal.client() as client:
            entries = client.hosts(environment)
        none = f"no host is registered in {environment}" if environment else "no host is registered"
        terminal.result(entries, render.host_table(entries) if entries else none)
        return DONE

    @verb(group, "show", "halftrack host show tank-a", "halftrack host show tank-a -o json")
    @click.argument("host")
    def show(terminal: Terminal, host: str) -> int:
        """Show one HOST in full: what runs, swaps, problems, and its latest reports."""
        with terminal.client() as client:
            detail = client.host(host)
        terminal.result(detail, *render.host_texts(detail))
        return DONE

    @verb(
        group,
        "token",
        "halftrack host token tank-a --ttl 1h",
        "halftrack-agent enrol --token $(halftrack host token tank-a)",
    )
    @click.argument("host")
    @click.option("--ttl", type=Duration(), default="1h", show_default=True, help="How long it may be used: 10m, 24h.")
    def token(terminal: Terminal, host: str, ttl: int) -> int:
        """Make a token with which HOST, and no other, may enrol. It is a secret, and shown only now."""
        with terminal.client() as client:
            reply = client.create_token(host, ttl)
        terminal.note(
            f"for {host}, valid for {quantities.age_text(ttl * 1000)}; on the host: halftrack-agent enrol --token …"
        )
        terminal.result({"host": host, "token": reply.token, "expires_ms": reply.expires_ms}, reply.token)
        return DONE
