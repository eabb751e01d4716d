"""Will a network's features do for these images? Scores from cached features and labels, without training it.

Every score is called alike, `score(what the network gives, labels)`, and is one number: higher promises more.
Numbers of one score compare networks, or stages, on the same images; those of two scores share no unit.
`domain_distance` is of another kind: it looks at images without labels, and says how far they are.
"""

from .classes import gbc, h_score, transrate
from .domain import DomainDistance, domain_distance, similarity_border
from .logme import logme
from .neighbours import nearest_neighbour, parc
from .probes import depth_probe
from .source import leep, nce

__all__ = [
    "DomainDistance",
    "depth_probe",
    "domain_distance",
    "gbc",
    "h_score",
    "leep",
    "logme",
    "nce",
    "nearest_neighbour",
    "parc",
    "similarity_border",
    "transrate",
]
