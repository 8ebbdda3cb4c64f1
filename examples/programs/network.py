"""Over the network, with TLS: `network.py serve` on the server, `network.py join 3` at the owner with number 3."""

import sys

import umbel as fl
from digits import load, make, test, train

fed = fl.federate(make, train, test, data=load)
address, ca = "localhost:8443", "ca.pem"
if sys.argv[1] == "serve":
    certificates = (ca, "server.pem", "server.key")
    fed.serve(address, rounds=3, certificates=certificates, min_available_clients=2)
else:
    fed.join(address, client_id=sys.argv[2], root_certificates=ca)
