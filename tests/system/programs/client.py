"""Runs one member: python client.py OPTIONS, as JSON; everything that is no option of `Member` goes to `start_client`."""

import json
import sys

from member import Gates, Member

import umbel as fl


def main(
    name, address, gates, hold=(), form="numpy", anonymous=False, size=1000, raises=(), spoils=(), locks=None, **options
):
    points = Gates(gates, name, list(hold))
    member = Member(name, points, size=size, raises=list(raises), spoils=list(spoils), locks=locks)
    client = {
        "numpy": lambda: {"client": member},
        "client": lambda: {"client": member.to_client()},
        "cid": lambda: {"client_fn": lambda cid: _named(member, cid)},
        "context": lambda: {"client_fn": lambda context: _named(member, context.node_id).to_client()},
        "requests": lambda: {"client": Requests(member)},
    }[form]()
    fl.client.start_client(server_address=address, client_id=None if anonymous else name, **client, **options)
    print("start_client returned")


def _named(member, cid):
    if cid != member.name:
        raise ValueError(f"client_fn was given {cid!r}, not {member.name!r}")
    return member


class Requests(fl.client.Client):
    """The same member, speaking in requests and responses."""

    def __init__(self, member):
        self.member = member

    def fit(self, ins):
        arrays = fl.common.parameters_to_ndarrays(ins.parameters)
        arrays, examples, metrics = self.member.fit(arrays, ins.config)
        ok = fl.common.Status(fl.common.Code.OK, "")
        return fl.common.FitRes(ok, fl.common.ndarrays_to_parameters(arrays), examples, metrics)

    def evaluate(self, ins):
        loss, examples, metrics = self.member.evaluate(fl.common.parameters_to_ndarrays(ins.parameters), ins.config)
        return fl.common.EvaluateRes(fl.common.Status(fl.common.Code.OK, ""), loss, examples, metrics)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
