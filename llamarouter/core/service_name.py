"""What the service of this machine is called, and where it is administered: for its unit, and for `lr` that looks."""

from __future__ import annotations

NAME = "llamarouter"  # of the units, the user, the group and the folders
ADMIN_SOCKET = f"/run/{NAME}-admin.sock"
