"""Whether a folder lies on this machine's own disk, or on another machine's that is mounted here."""

import re
from pathlib import Path

MOUNTS = Path("/proc/mounts")
AWAY = {"9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs", "smb3", "smbfs"}


def away(folder: Path, mounts: Path = MOUNTS) -> bool:
    """Whether a folder is mounted from elsewhere; no, where the system does not say.

    Args:
        folder: that may not be there yet.
        mounts: the system's list of what is mounted: device, place, kind ...
    """
    try:
        listed = [line.split()[1:3] for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()]
    except OSError:
        return False
    kinds = {Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), place)): kind for place, kind in listed}
    real = folder.resolve()
    kind = next((kinds[place] for place in (real, *real.parents) if place in kinds), "")
    return kind in AWAY or kind.startswith("fuse.")
