"""Both ends of the connections that the tests make, cooked and raw."""

import contextlib
import fcntl
import itertools
import multiprocessing
import select
import selectors
import socket
import struct
import threading
import time
from typing import Callable, NamedTuple

import harness
import pcap
from harness import MARKER

SO_COOKIE = 57
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time


def payload(size):
    """So many bytes of the marker."""
    return (MARKER * (size // len(MARKER) + 1))[:size]


def cookie_of(sock):
    """The kernel's cookie of a socket."""
    return struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0]


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def endpoint(address, port):
    """An endpoint as pcap.Tcp has it."""
    return socket.inet_pton(family_of(address), address), port


def flow_of(sock):
    """The flow key of a connected socket."""
    return frozenset(endpoint(*name[:2]) for name in (sock.getsockname(), sock.getpeername()))


def listen(case, namespace, address, port=7000):
    """A listening socket in a namespace."""
    with namespace.entered():
        sock = socket.create_server((address, port), family=family_of(address), backlog=1024)
    case.addCleanup(sock.close)
    return sock


def unconnected(case, namespace, address, port=0):
    """A blocking TCP socket in a namespace, bound to an address there."""
    with namespace.entered():
        sock = socket.socket(family_of(address))
    case.addCleanup(sock.close)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.settimeout(10)
    sock.bind((address, port))
    return sock


def connect(case, namespace, address, listener, port=0):
    """Connects from address in a namespace to a listener; returns (client, accepted)."""
    client = unconnected(case, namespace, address, port)
    client.connect(listener.getsockname()[:2])
    accepted, _ = listener.accept()
    case.addCleanup(accepted.close)
    accepted.settimeout(10)
    return client, accepted


def receive(sock, size):
    """Reads size bytes, or all there is before the end of the stream."""
    while size > 0:
        data = sock.recv(min(size, 1 << 18))
        if not data:
            break
        size -= len(data)


class Pace:
    """At most so many turns a second."""

    def __init__(self, turns_a_second):
        self._between = 1 / turns_a_second
        self._due = time.monotonic()

    def wait(self):
        """For the next turn. Turns that come late are not made up for."""
        now = time.monotonic()
        time.sleep(max(0, self._due - now))
        self._due = max(self._due, now) + self._between


def exchange(one, other, size=2000):
    """Sends size bytes each way."""
    for sender, receiver in ((one, other), (other, one)):
        sender.sendall(payload(size))
        receive(receiver, size)


def fork(case, namespace, function, *arguments):
    """Runs function in a process of its own in a namespace; call the result for its value."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def body():
        namespace.enter()
        sender.send(function(*arguments))

    process = context.Process(target=body, daemon=True)
    process.start()
    sender.close()
    case.addCleanup(process.join)
    case.addCleanup(process.kill)
    case.addCleanup(receiver.close)

    def result(seconds=60):
        if not receiver.poll(seconds):
            raise AssertionError(f"{function.__name__}: no result within {seconds} s")
        try:
            return receiver.recv()
        except EOFError:
            raise AssertionError(f"{function.__name__} failed; its trace is above") from None
    return result


class Storm(NamedTuple):
    """
    Many short connections at once: where the clients are, where the server, how many, and what to
    call with each socket of the server, in its process and one at a time.
    """
    clients_in: harness.Namespace
    client_address: str
    server_in: harness.Namespace
    server_address: str
    connections: int
    on_accept: Callable = None

    CLIENTS = 8
    SIZE = 2000
    FIRST_PORT = 20000
    SERVER_PORT = 7000

    def run(self, case):
        """Makes them; returns ({cookie: flow key} of the clients, the same of the server)."""
        listener = listen(case, self.server_in, self.server_address, self.SERVER_PORT)
        server = fork(case, self.server_in, self._serve, listener)
        each = self.connections // self.CLIENTS
        clients = [fork(case, self.clients_in, self._call, self.FIRST_PORT + k * each, each)
                   for k in range(self.CLIENTS)]
        of_clients = {cookie: flow for client in clients for cookie, flow in client().items()}
        return of_clients, server()

    def _serve(self, listener):
        """Answers from as many threads as there are clients; every second one closes first."""
        cookies, lock, left = {}, threading.Lock(), threading.Semaphore(self.connections)

        def work():
            while left.acquire(blocking=False):
                sock, remote = listener.accept()
                with sock:
                    if self.on_accept:
                        with lock:
                            self.on_accept(sock)
                    receive(sock, self.SIZE)
                    with lock:
                        cookies[cookie_of(sock)] = flow_of(sock)
                    sock.sendall(payload(self.SIZE))
                    if remote[1] % 2:
                        sock.recv(1)  # the client's FIN

        workers = [threading.Thread(target=work) for _ in range(self.CLIENTS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return cookies

    def _call(self, first_port, count):
        """One client: connection after connection, each from a port of its own."""
        cookies = {}
        for port in range(first_port, first_port + count):
            with socket.socket(family_of(self.server_address)) as sock:
                sock.bind((self.client_address, port))
                sock.connect((self.server_address, self.SERVER_PORT))
                cookies[cookie_of(sock)] = flow_of(sock)
                sock.sendall(payload(self.SIZE))
                receive(sock, self.SIZE)
                if port % 2 == 0:
                    sock.recv(1)  # the server's FIN
        return cookies


class Load:
    """
    Connections without end from one namespace to the other: short ones, one after the other at up
    to 250 a second, each third of them reset, and a few that stay and talk in between.
    """

    PORT, SIZE, LASTING, PAUSE_S = 7100, 400, 4, 0.004

    def __init__(self, case, clients_in, server_in, address):
        self._address = address
        listener = listen(case, server_in, address, self.PORT)
        fork(case, server_in, self._serve, listener)
        fork(case, clients_in, self._call)

    def _serve(self, listener):
        """Sends back what comes."""
        selector = selectors.DefaultSelector()
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                    continue
                data = b""
                with contextlib.suppress(ConnectionError):
                    data = key.fileobj.recv(1 << 16)
                    key.fileobj.sendall(data)
                if not data:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()

    def _talk(self, sock):
        sock.sendall(payload(self.SIZE))
        receive(sock, self.SIZE)

    def _call(self):
        lasting = [socket.create_connection((self._address, self.PORT))
                   for _ in range(self.LASTING)]
        for number in itertools.count():
            with socket.create_connection((self._address, self.PORT)) as sock:
                self._talk(sock)
                if number % 3 == 0:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._talk(lasting[number % self.LASTING])
            time.sleep(self.PAUSE_S)


def checksum(data):
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class RawPeer:
    """
    A TCP peer of bare frames for one IPv4 tuple. The namespace it sends from needn't own its
    address: then nothing else answers what the host sends to it. tags are VLAN tags, outermost
    first, as (type, control) pairs.
    """

    def __init__(self, case, namespace, local, remote, tags=(), interface="peer0"):
        self._local, self._remote, self._tags = local, remote, tags
        with namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        case.addCleanup(self._socket.close)
        self._socket.bind((interface, 3))
        self._socket.settimeout(10)
        self._seq, self._ack = 1000, 0

    @property
    def flow(self):
        return frozenset((endpoint(*self._local), endpoint(*self._remote)))

    def send(self, flags, data=b"", seq=None):
        """Sends one segment and counts what it takes of the sequence space; or sends it at seq."""
        at = self._seq if seq is None else seq
        source, destination = (socket.inet_aton(end[0]) for end in (self._local, self._remote))
        tcp = struct.pack(">HHIIBBHHH", self._local[1], self._remote[1], at, self._ack,
                          5 << 4, flags, 65535, 0, 0)
        pseudo = source + destination + struct.pack(">HH", 6, len(tcp) + len(data))
        tcp = tcp[:16] + struct.pack(">H", checksum(pseudo + tcp + data)) + tcp[18:]
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + len(data), 0, 0x4000, 64, 6, 0, source,
                         destination)
        ip = ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:]
        tags = b"".join(struct.pack(">HH", *tag) for tag in self._tags)
        macs = bytes.fromhex((harness.HOST_MAC + harness.PEER_MAC).replace(":", ""))
        self._socket.send(macs + tags + b"\x08\x00" + ip + tcp + data)
        if seq is None:
            self._seq += len(data) + bool(flags & (pcap.SYN | pcap.FIN))

    def receive(self, flags):
        """Waits for a segment with these flags from the remote and takes note of its numbers."""
        while True:
            frame = self._socket.recv(65536)
            tcp = pcap.parse_tcp(pcap.LINK_ETHERNET, frame)
            if (tcp and tcp.source == endpoint(*self._remote)
                    and tcp.destination == endpoint(*self._local) and tcp.flags & flags == flags):
                self._ack = tcp.seq + len(frame) - tcp.end + bool(flags & (pcap.SYN | pcap.FIN))
                return

    def handshake(self):
        self.send(pcap.SYN)
        self.receive(pcap.SYN | pcap.ACK)
        self.send(pcap.ACK)


class TunPair:
    """Two L3 devices, one in each namespace, and a thread that is the cable between them."""

    _TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

    def __init__(self, case, ends):
        """ends: (namespace, device, address with prefix) twice."""
        self._files = [self._open(*end) for end in ends]
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._pump)
        self._thread.start()
        case.addCleanup(self._close)

    def _open(self, namespace, device, address):
        with namespace.entered():
            file = open("/dev/net/tun", "r+b", buffering=0)
            fcntl.ioctl(file, self._TUNSETIFF,
                        struct.pack("16sH22x", device.encode(), self._IFF_TUN | self._IFF_NO_PI))
        namespace.ip("addr", "add", address, "dev", device)
        namespace.ip("link", "set", device, "up")
        return file

    def _pump(self):
        other = dict(zip(self._files, reversed(self._files)))
        while True:
            readable, _, _ = select.select([*self._files, self._stopped], [], [])
            if self._stopped in readable:
                return
            for file in readable:
                packet = file.read(65536)
                if packet and packet[0] >> 4 in (4, 6):
                    other[file].write(packet)

    def _close(self):
        self._stop.send(b"x")
        self._thread.join()
        for closing in (*self._files, self._stop, self._stopped):
            closing.close()
