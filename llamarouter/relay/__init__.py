"""The data path: the protocol at the door and the connections to the children."""
