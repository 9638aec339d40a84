"""Other methods, with the face of the detector: fit on good pictures, then anomaly maps of any."""

from jaxsode.peers.protocol import Bar, Model, Peer
from jaxsode.peers.spade import Spade, SpadeModel
from jaxsode.peers.student import Student, StudentModel

PEERS: dict[str, type[Peer]] = {"spade": Spade, "student": Student}
"""Their settings by name; each checks itself when it is made."""

__all__ = ["PEERS", "Bar", "Model", "Peer", "Spade", "SpadeModel", "Student", "StudentModel"]
