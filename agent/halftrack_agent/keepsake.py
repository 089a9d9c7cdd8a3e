"""A copy of what makes this host itself, `STATE/identity/kept`, for the day on which a byte of it has changed: a host that is out of reach cannot enrol again.

Made when a host has enrolled, and whenever an agent starts and all of it is good; read only when something is not. Versions before know nothing of it, and need not.
"""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

from halftrack_agent import files, identity
from halftrack_agent.identity import KEPT, Identity
from halftrack_model import canonical
from halftrack_model.errors import HostFault, InvalidInput

_NAMES = ("trust.json", "key.pem", "curve.key", "ca.pem")  # a certificate is made again by itself

log = logging.getLogger("halftrack.agent")


def whole(folder: Path) -> Identity:
    """The identity in `folder`, mended where it is damaged and can be; raises what `identity.load` raises."""
    kept = _kept(folder)
    try:
        found = identity.load(folder)
    except HostFault as error:
        log.error("%s", error.message)
        if not _mended(folder, kept):
            raise
        found = identity.load(folder)
    good = found.ca_pem == kept.get("ca.pem") or identity.is_authority(found.ca_pem)  # the second is heavy
    if not good and _mended(folder, kept):
        found, good = identity.load(folder), True
    if good:
        _keep(folder, kept)
    return found


def _kept(folder: Path) -> Mapping[str, bytes]:
    """What the copy has; nothing where there is none, or it is damaged itself."""
    try:
        return canonical.decode(dict[str, bytes], files.unsummed((folder / KEPT).read_bytes()))
    except (OSError, InvalidInput):
        return {}


def _mended(folder: Path, kept: Mapping[str, bytes]) -> bool:
    """Put back what does not check; was there anything?"""
    mended = [name for name in _NAMES if name in kept and not _checks(folder, name)]
    for name in mended:
        files.replace(folder / name, kept[name])
        log.error("%s was damaged; its copy is used", folder / name)
    return bool(mended)


def _checks(folder: Path, name: str) -> bool:
    try:
        match name:
            case "trust.json":
                identity.membership(folder)
            case "key.pem":
                identity.own_key(folder / name)
            case "curve.key":  # after trust.json, which may have been put back just now
                return identity.own_curve_key(folder / name) == identity.membership(folder).curve_public
            case _:
                return identity.is_authority((folder / name).read_bytes())
    except (OSError, HostFault):
        return False
    return True


def _keep(folder: Path, kept: Mapping[str, bytes]) -> None:
    with contextlib.suppress(OSError, HostFault):  # without room there is no copy, or the one before
        content = {name: (folder / name).read_bytes() for name in _NAMES}
        if content != kept:
            files.replace(folder / KEPT, files.summed(canonical.encode(content)))
