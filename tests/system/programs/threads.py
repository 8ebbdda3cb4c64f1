"""Two servers and four clients in one process: python threads.py ADDRESS ADDRESS FOLDER. Prints which threads are left."""

import sys
import threading

from member import Gates, Member, initial

import umbel as fl


def serve(address, histories):
    histories[address] = fl.server.start_server(
        server_address=address,
        config=fl.server.ServerConfig(num_rounds=2),
        strategy=fl.server.strategy.FedAvg(
            on_fit_config_fn=lambda number: {"round": number},
            on_evaluate_config_fn=lambda number: {"round": number},
            initial_parameters=fl.common.ndarrays_to_parameters(initial(1000)),
        ),
    )


def main(first, second, folder):
    before = set(threading.enumerate())
    histories = {}
    threads = [threading.Thread(target=serve, args=(address, histories)) for address in (first, second)]
    for address in (first, second):
        for name in ("a", "b"):
            member = Member(name, Gates(folder, name, []))
            options = {"server_address": address, "client": member, "client_id": name}
            threads.append(threading.Thread(target=fl.client.start_client, kwargs=options))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for address in (first, second):
        print("rounds", [number for number, _ in histories[address].losses_distributed])
    print("left", sorted(thread.name for thread in threading.enumerate() if thread not in before))

    strategy = fl.server.strategy.FedAvg(initial_parameters=fl.common.ndarrays_to_parameters(initial(10)))
    none = fl.server.ServerConfig(num_rounds=0)
    fl.server.start_server(server_address=first, config=none, strategy=strategy, store=None)
    print("main again", sorted(thread.name for thread in threading.enumerate() if thread not in before))


if __name__ == "__main__":
    main(*sys.argv[1:])
