#!/usr/bin/env python3
"""Records golden vectors from the installed Open vSwitch.

Lets the real `ovs-ofctl -O OpenFlow13` talk to a fake switch and writes down what it sends, what `ovs-ofctl ofp-print` makes
of it, and how a private ovs-vswitchd (dummy datapath, no root) takes it and prints it back. Usage: record.py DIRECTORY, which
gets flow-mods.jsonl and requests.jsonl. The inputs stand in flows.txt and requests.txt beside this file.
"""
import json, os, shutil, socket, struct, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
OFCTL = ["ovs-ofctl", "--no-names", "-O", "OpenFlow13"]


def ofp_print(message):
    out = subprocess.run(["ovs-ofctl", "--no-names", "ofp-print", message], capture_output=True, text=True)
    return out.stdout.rstrip("\n")


def without_xid(message):
    return message[:4] + b"\0\0\0\0" + message[8:]


class FakeSwitch:
    """Answers HELLO, ECHO, FEATURES, CONFIG, BARRIER, ROLE, bundles and multipart requests; keeps everything else."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "fake.sock")
        self.messages = []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.path)
        self.server.listen(4)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.server.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        connection.sendall(bytes.fromhex("0400000800000001"))
        data = b""
        while True:
            try:
                piece = connection.recv(65536)
            except OSError:
                return
            if not piece:
                return
            data += piece
            while len(data) >= 8 and len(data) >= struct.unpack(">H", data[2:4])[0]:
                length = struct.unpack(">H", data[2:4])[0]
                message, data = data[:length], data[length:]
                self.messages.append(message)
                answer = self.answer(message)
                if answer:
                    try:
                        connection.sendall(answer)
                    except OSError:
                        return

    @staticmethod
    def answer(m):
        version, kind, _, xid = struct.unpack(">BBHI", m[:8])
        reply = lambda kind, body=b"": struct.pack(">BBHI", version, kind, 8 + len(body), xid) + body
        if kind == 2:
            return reply(3, m[8:])
        if kind == 5:
            return reply(6, struct.pack(">QIBBHII", 1, 0, 254, 0, 0, 0x4F, 0))
        if kind == 7:
            return reply(8, bytes(4))
        if kind == 20:
            return reply(21)
        if kind == 24:
            return reply(25, m[8:])
        if kind == 18:
            return reply(19, m[8:10] + bytes(6) + (m[16:24] if m[8:10] == b"\xff\xff" else b""))
        if kind == 4 and m[8:16] == struct.pack(">II", 0x4F4E4600, 2300):
            return reply(4, m[8:20] + struct.pack(">H", struct.unpack(">H", m[20:22])[0] + 1) + m[22:])
        return None


SETUP = (0, 2, 3, 5, 6, 7, 8, 20, 21)


def sent(fake, argv, stdin=None):
    """What ovs-ofctl sends beyond the setup; what it complains of."""
    fake.messages.clear()
    try:
        run = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=3)
        refused = None if run.returncode == 0 else run.stderr.strip().replace("unix:" + fake.path, "SWITCH")
    except subprocess.TimeoutExpired:
        refused = None
    time.sleep(0.002)
    return [m for m in fake.messages if m[1] not in SETUP], refused


class PrivateSwitch:
    def __init__(self, directory):
        self.directory = directory
        self.env = dict(os.environ, OVS_RUNDIR=directory, OVS_LOGDIR=directory, OVS_DBDIR=directory)
        db = directory + "/conf.db"
        run = lambda *argv: subprocess.run(argv, env=self.env, check=True, capture_output=True)
        run("ovsdb-tool", "create", db, "/usr/share/openvswitch/vswitch.ovsschema")
        quiet = dict(env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes = [subprocess.Popen(["ovsdb-server", db, f"--remote=punix:{directory}/db.sock"], **quiet)]
        self.wait(directory + "/db.sock")
        vsctl = lambda *argv: run("ovs-vsctl", f"--db=unix:{directory}/db.sock", *argv)
        vsctl("--no-wait", "init")
        self.processes.append(subprocess.Popen(
            ["ovs-vswitchd", f"unix:{directory}/db.sock", "--enable-dummy=override", "--disable-system"], **quiet))
        ports = [word for n in range(1, 9) for word in
                 ("--", "add-port", "br0", f"p{n}", "--", "set", "interface", f"p{n}", "type=dummy", f"ofport_request={n}")]
        vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy", "protocols=OpenFlow13",
              "fail_mode=secure", *ports)
        self.wait(directory + "/br0.mgmt")

    @staticmethod
    def wait(path):
        for _ in range(500):
            if os.path.exists(path):
                return
            time.sleep(0.01)
        raise SystemExit(f"{path} does not appear")

    def ofctl(self, *argv, stdin=None):
        return subprocess.run(OFCTL + list(argv), env=self.env, input=stdin, capture_output=True, text=True)

    def talk(self, messages):
        """Sends raw messages and a barrier, gives what comes back."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.directory + "/br0.mgmt")
        connection.sendall(bytes.fromhex("04000010000000010001000800000010") + b"".join(messages)
                           + bytes.fromhex("0414000800abcdef"))
        data, replies = b"", []
        connection.settimeout(3)
        while True:
            data += connection.recv(1 << 20)
            while len(data) >= 8 and len(data) >= struct.unpack(">H", data[2:4])[0]:
                length = struct.unpack(">H", data[2:4])[0]
                message, data = data[:length], data[length:]
                if message[1] == 21 and message[4:8] == bytes.fromhex("00abcdef"):
                    connection.close()
                    return [m for m in replies if m[1] != 0]
                replies.append(message)

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()


def described(direction, message):
    return {"dir": direction, "type": message[1], "hex": message.hex(), "text": ofp_print(message.hex())}


def record_flows(fake, switch, out):
    for line in open(os.path.join(HERE, "flows.txt")):
        flow = line.strip()
        if not flow or flow.startswith("#"):
            continue
        messages, refused = sent(fake, OFCTL + ["add-flow", "unix:" + fake.path, flow])
        flow_mods = [without_xid(m) for m in messages if m[1] == 14]
        row = {"flow": flow, "bytes": flow_mods[0].hex() if flow_mods else None}
        if refused or not flow_mods:
            row["refused"] = refused
        else:
            row["text"] = ofp_print(row["bytes"])
            switch.ofctl("del-flows", "br0")
            errors = [m for m in switch.talk(flow_mods) if m[1] == 1]
            row["switch"] = ofp_print(errors[0].hex()).split("\n")[0].split(": ", 1)[-1] if errors else "accepted"
            dump = [m for m in switch.talk([bytes.fromhex(
                "041200380000000000010000000000000000000000000000ffffffff".replace("0000000000000000ffffffff", "")
                + "ff000000ffffffffffffffff00000000" + "00" * 16 + "0001000400000000")]) if m[1] == 19]
            row["dump_bytes"] = dump[0].hex() if dump else None
            lines = switch.ofctl("dump-flows", "br0", "--no-stats").stdout.strip().split("\n")
            row["dump"] = lines[-1].strip() if not errors else None
        out.write(json.dumps(row) + "\n")


def record_requests(fake, switch, out):
    """Lines `kind | stdin or - | command words`: SW stands for the switch."""
    for line in open(os.path.join(HERE, "requests.txt")):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        kind, stdin, command = [part.strip() for part in line.split(" | ", 2)]
        stdin = None if stdin == "-" else stdin.replace("\\n", "\n") + "\n"
        words = json.loads("[" + command + "]")
        argv = ["ovs-ofctl", "--no-names", "-O", "OpenFlow13"] + [w.replace("SW", "unix:" + fake.path) for w in words]
        messages, refused = sent(fake, argv, stdin)
        if words[0] == "monitor":
            refused = None
        row = {"kind": kind, "command": words, "text": stdin}
        one = [m for m in messages if m[1] not in (18,) or kind in ("stats", "monitor")]
        if len(one) == 1 and refused is None:
            row["bytes"] = without_xid(one[0]).hex()
            row["decoded"] = ofp_print(row["bytes"])
        elif one:
            row["bytes"] = None
            row["messages"] = [described("sent", m) for m in one]
        else:
            row["bytes"] = None
            row["rejected_by_ofctl"] = refused
        if one:
            replies = switch.talk(one)
            # A long statistics reply says nothing new after its first messages.
            row["replies"] = [described("received", m) for m in replies[:3]]
            errors = [m for m in replies if m[1] == 1]
            row["switch"] = "error" if errors else "accepted"
        out.write(json.dumps(row) + "\n")


def main():
    target = sys.argv[1]
    directory = tempfile.mkdtemp(prefix="record-")
    fake, switch = FakeSwitch(directory), PrivateSwitch(directory)
    try:
        with open(os.path.join(target, "flow-mods.jsonl"), "w") as out:
            record_flows(fake, switch, out)
        switch.ofctl("del-flows", "br0")
        with open(os.path.join(target, "requests.jsonl"), "w") as out:
            record_requests(fake, switch, out)
    finally:
        switch.stop()
        shutil.rmtree(directory)


main()
