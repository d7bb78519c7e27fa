"""Benchmarks, load and the soak: on one machine, over loopback, with real OpenSSH clients.

From the command line down to the kernel:

    bench.py      `make bench`, the command line: which systems, which cases, in which order
    cases.py      the cases, their metrics and goals
    transfer.py   CPU per GiB: one random file to 1, 8 and 64 subscribers
    latency.py    the time until a 64-byte message has reached every subscriber
    logins.py     the server's CPU per login, and memory at start and per idle subscriber
    scale.py      what several workers cost: streams, messages, joins, logins, a death
    wires.py      a link between two workers alone, on each kind of wire
    servers.py    the systems under test: ours on both lanes and with workers, the relay, sshd
    relay.py      the plain asyncssh relay, written to be compared with
    swarm.py      a process of many light clients
    workspace.py  the temporary directory, the key, the payload files, the child processes
    procfs.py     CPU, memory and listening ports as the kernel counts them
    report.py     medians, ratios and goals as a table and as JSON
    hostile.py    an innocent user beside hostile peers: `make bench-hostile`
    locustfile.py what Locust reads, with the parts in load/: `make load`
    soak/         half an hour of mixed load with churn: `make soak`
"""
