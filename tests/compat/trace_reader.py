"""A reader of traces made from src/trace/FORMAT.md alone: `trace_reader.py FILE [IDENTITY]` prints one JSON line per exchange.

IDENTITY is a file with an age identity, for an encrypted trace. It reads from the front and does not use the index. Damage ends it with exit status 3, after what could be read; the parts
behind damage are found again as FORMAT.md section 2 says.
"""

import base64
import json
import struct
import sys
import zlib

import zstandard

MARKER, STARTS, LIMIT = b"\xb7RNB", 1 << 31, 16 << 20
ENVELOPE, ENVELOPE_LIMIT = b"\xb7RNE", 16 << 10
END = b"\x89RNCTE\r\n"
VERSIONS = ["1.0", "1.1", "2"]
SIDES = ["request", "response"]
OUTCOMES = ["complete", "failed", "cancelled"]
FAULT_SIDES = ["client", "local", "server"]
FAULT_KINDS = ["closed", "connect", "disconnected", "dns", "other", "protocol", "reset", "timeout", "tls"]
MASK = (1 << 64) - 1


class Fields:
    """Takes fields off the front of a record (sections 4 and 5)."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        if self.at + length > len(self.data):
            raise ValueError("a field is longer than its record")
        self.at += length
        return self.data[self.at - length : self.at]

    def u8(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def zigzag(self):
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def varints(self, count):
        return [self.varint() for _ in range(count)]

    def zigzags(self, count):
        return [self.zigzag() for _ in range(count)]

    # bincode

    def number(self):
        first = self.u8()
        size = {251: 2, 252: 4, 253: 8}.get(first)
        return first if size is None else int.from_bytes(self.take(size), "little")

    def signed(self):
        value = self.number()
        return (value >> 1) ^ -(value & 1)

    def bytes(self):
        return self.take(self.number())

    def string(self):
        return self.bytes().decode()

    def option(self, read):
        return read() if self.u8() else None

    def list(self, read):
        return [read() for _ in range(self.number())]

    def headers(self):
        return self.list(lambda: [self.string(), self.bytes().decode(errors="replace")])

    def passed(self):
        return [self.number() for _ in range(4)] + [self.u8()]


class Reader:
    def __init__(self):
        self.header = None
        self.exchanges = {}
        self.blobs = []
        self.bodies = {}
        self.done = []

    def block(self, raw, starts):
        """Reads the records of a block, then hands its frames out (section 4, order)."""
        fields, records = Fields(raw), []
        while fields.at < len(raw):
            code = fields.u8()
            records.append((code, Fields(fields.take(fields.varint()))))
        if starts:
            self.last = {}
        base = None
        for code, record in records:
            if code == 0x02:
                record.varint(), record.varint()
                self.next_blob = record.varint()
            elif code == 0x20:
                base = self.next_blob
                self.read_blobs(record)
        base = self.next_blob if base is None else base
        runs, bare, events, ended = [], [], [], []
        for code, record in records:
            if code == 0x01:
                self.read_header(record)
            elif code == 0x21:
                self.read_pieces(record, base)
            elif code == 0x22:
                runs = self.read_frames(record)
            elif code == 0x23:
                bare = self.read_bare(record)
            elif 0x10 <= code <= 0x15 or code == 0x24:
                events.append((code, record))
        seen = {}
        for exchange, side, frames in runs:
            before = seen[exchange, side] = seen.get((exchange, side), -1) + 1
            self.hand_out(bare, exchange, side, before)
            self.exchange(exchange)[SIDES[side] + "_frames"].extend(frames)
        for exchange, side, *_ in list(bare):
            self.hand_out(bare, exchange, side, MASK)
        for code, record in events:
            ended += self.event(code, record)
        for exchange in ended:
            self.last.pop((exchange, 0), None)
            self.last.pop((exchange, 1), None)

    def hand_out(self, bare, exchange, side, before):
        """Hands out the bare frames of a side that stand after at most so many of its runs."""
        while run := next((run for run in bare if run[:2] == (exchange, side) and run[2] <= before), None):
            bare.remove(run)
            self.exchange(exchange)[SIDES[side] + "_frames"].extend(run[3])

    def read_header(self, record):
        record.number()
        head = {"trace": record.take(16).hex(), "segment": record.number(), "anchor": record.signed()}
        head["tick_ns"], head["tool"], head["listen"] = record.number(), record.string(), record.string()
        head["upstreams"] = record.list(record.string)
        self.header = self.header or head

    def read_blobs(self, record):
        lengths = record.varints(record.varint())
        while len(self.blobs) < self.next_blob:
            self.blobs.append(None)
        for length in lengths:
            data = record.take(length >> 1)
            self.blobs.append(base64.b64encode(data) if length & 1 else data)
        self.next_blob += len(lengths)

    def read_pieces(self, record, base):
        exchange, tag, offset = record.varint(), record.u8(), record.varint()
        parts = self.bodies.setdefault((exchange, tag & 1), {})
        expected = base
        for _ in range(record.varint()):
            first = expected + record.zigzag()
            count = record.varint()
            expected = first + count
            for number in range(first, first + count):
                blob = self.blobs[number] if number < len(self.blobs) else None
                if blob is None:
                    return  # Lost, and so is where the rest of this record goes.
                parts[offset] = blob
                offset += len(blob)

    def read_frames(self, record):
        count = record.varint()
        exchange, keys = 0, []
        for delta in record.zigzags(count):
            exchange = (exchange + delta) & MASK
            keys.append(exchange)
        tags = record.take(count)
        counts = record.varints(count)
        in_pieces = [bool(tag & 2) for tag in tags]
        terminated = [bool(tag & 4) for tag in tags]
        offsets = [record.varint() if pieces else 0 for pieces in in_pieces]
        inline = [frames if not pieces else 0 for frames, pieces in zip(counts, in_pieces)]
        fronts = [record.zigzags(frames) for frames in inline]
        backs = [record.zigzags(frames) for frames in inline]
        lengths = [record.varints(frames) if not ends else None for frames, ends in zip(counts, terminated)]
        total = sum(counts)
        low, middle, high = record.take(total), record.take(total), record.zigzags(total)
        lags = record.varints(total)
        runs, nth, first = [], 0, 0
        for run in range(count):
            key = (keys[run], tags[run] & 1)
            last = self.last.setdefault(key, {"front": 0, "back": 0, "bytes": b"", "at": None})
            at = first if last["at"] is None else last["at"]
            frames = []
            for idx in range(counts[run]):
                at = (at + (high[nth] << 16) + (middle[nth] << 8) + low[nth]) & MASK
                first = at if idx == 0 else first
                if in_pieces[run]:
                    length = lengths[run][idx]
                    data = self.from_pieces(key, offsets[run], length)
                    offsets[run] += length
                else:
                    last["front"] += fronts[run][idx]
                    last["back"] += backs[run][idx]
                    data = None
                frames.append([at, lags[nth], data, last["front"], last["back"]])
                last["at"] = at
                nth += 1
            runs.append((key, frames, run))
        return [self.unfold(record, key, frames, terminated[run], lengths[run], in_pieces[run]) for key, frames, run in runs]

    def read_bare(self, record):
        count = record.varint()
        exchange, keys = 0, []
        for delta in record.zigzags(count):
            exchange = (exchange + delta) & MASK
            keys.append(exchange)
        tags = record.take(count)
        counts, afters = record.varints(count), record.varints(count)
        total = sum(counts)
        lengths = record.varints(total)
        low, middle, high = record.take(total), record.take(total), record.zigzags(total)
        lags = record.varints(total)
        tick = self.header["tick_ns"] if self.header else 1000
        runs, nth, first = [], 0, 0
        for run in range(count):
            at, frames = first, []
            for idx in range(counts[run]):
                at = (at + (high[nth] << 16) + (middle[nth] << 8) + low[nth]) & MASK
                first = at if idx == 0 else first
                frames.append([at * tick, (at + lags[nth]) * tick, b"", lengths[nth]])
                nth += 1
            runs.append((keys[run], tags[run] & 1, afters[run], frames))
        return runs

    def unfold(self, record, key, frames, terminated, lengths, in_pieces):
        """Puts inline frames together: their middles stand last in the record."""
        last, done, tick = self.last[key], [], self.header["tick_ns"] if self.header else 1000
        for idx, (at, lag, data, front, back) in enumerate(frames):
            if not in_pieces:
                if terminated:
                    end = record.data.index(0x1F, record.at)
                    middle = record.take(end - record.at)
                    record.take(1)
                else:
                    middle = record.take(lengths[idx])
                before = last["bytes"]
                data = before[:front] + middle + before[len(before) - back :]
                last["bytes"] = data
            if data is not None:
                done.append([at * tick, (at + lag) * tick, data])
        return key[0], key[1], done

    def from_pieces(self, key, offset, length):
        parts, data = self.bodies.get(key, {}), b""
        for start in sorted(parts):
            if start + len(parts[start]) > offset and start < offset + length:
                data += parts[start][max(0, offset - start) : offset + length - start]
        return data if len(data) == length else None

    def exchange(self, number):
        return self.exchanges.setdefault(number, {"request_frames": [], "response_frames": [], "interims": []})

    def event(self, code, record):
        number = record.number()
        found = self.exchange(number)
        if code == 0x10:
            found["exchange"], found["at_ns"], found["connection"] = number, record.number(), record.number()
            found["version"], found["method"] = VERSIONS[record.u8()], record.string()
            found["target"], found["authority"] = record.string(), record.option(record.string)
            found["request_headers"] = record.headers()
            upstream = record.number()
            names = self.header["upstreams"] if self.header else []
            found["upstream"] = names[upstream] if upstream < len(names) else None
        elif code == 0x11:
            at, connection, reused, version = record.number(), record.number(), bool(record.u8()), VERSIONS[record.u8()]
            found["link"] = {"at_ns": at, "connection": connection, "reused": reused, "version": version}
            found["link"] |= {"connect_ns": record.number(), "tls_ns": record.number()}
        elif code == 0x12:
            found["interims"].append({"at_ns": record.number(), "status": record.number(), "headers": record.headers()})
        elif code == 0x13:
            head = {"at_ns": record.number(), "version": VERSIONS[record.u8()], "status": record.number()}
            found["response"] = head | {"reason": record.option(record.string), "headers": record.headers()}
        elif code == 0x14:
            side = SIDES[record.u8()]
            record.number()
            found[side + "_trailers"] = record.headers()
        elif code == 0x24:
            record.number()
            prompt = {"bytes": record.number(), "block_bytes": record.number(), "blocks": record.list(record.number)}
            tokens = {name: record.option(record.number) for name in ("input_tokens", "output_tokens")}
            found["prompt"] = prompt | tokens
        elif code == 0x15:
            end = {"at_ns": record.number(), "outcome": OUTCOMES[record.u8()]}
            end["fault"] = record.option(
                lambda: {"side": FAULT_SIDES[record.u8()], "kind": FAULT_KINDS[record.u8()], "text": record.string()}
            )
            end["request_lost_bytes"], end["response_lost_bytes"] = record.passed()[2], record.passed()[2]
            found["end"] = end
            self.done.append(self.exchanges.pop(number))
            return [number]
        return []

    def lines(self):
        for found in self.done + [self.exchanges[number] for number in sorted(self.exchanges)]:
            if "exchange" not in found:
                continue
            for name in ("link", "response", "request_trailers", "response_trailers", "prompt", "end"):
                found.setdefault(name, None)
            for side in SIDES:
                body = b"".join(frame[2] for frame in found[side + "_frames"])
                found[side + "_frames"] = [
                    [*frame[:2], *([len(frame[2])] if len(frame) == 3 else [frame[3], "bare"])]
                    for frame in found[side + "_frames"]
                ]
                try:
                    found[side + "_body"] = body.decode()
                except UnicodeDecodeError:
                    found[side + "_body_base64"] = base64.b64encode(body).decode()
            yield json.dumps(found)


class Seal:
    """Opens what an encrypted segment holds (section 9)."""

    def __init__(self, data, identities):
        import pyrage  # Here, so that a trace that is not encrypted needs neither.
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        at = data.find(ENVELOPE)
        while at >= 0 and not self.envelope(data, at):
            at = data.find(ENVELOPE, at + 1)
        if at < 0:
            sys.exit("no envelope can be read")
        keys = [pyrage.x25519.Identity.from_str(line) for line in identities if not line.startswith("#")]
        self.aead = ChaCha20Poly1305(pyrage.decrypt(self.envelope(data, at), keys))
        self.next = 0

    @staticmethod
    def envelope(data, at):
        """Returns the age file in the envelope there, or None if it is damaged."""
        _, length, _, expected = struct.unpack_from("<4sIII", data.ljust(at + 16, b"\0"), at)
        wrapped = data[at + 16 : at + 16 + length]
        good = length <= ENVELOPE_LIMIT and len(wrapped) == length
        return wrapped if good and zlib.crc32(data[at + 4 : at + 12] + wrapped) == expected else None

    def block(self, front, payload, starts):
        """Returns the zstd bytes of a block, or None."""
        number = int.from_bytes(payload[:8], "little")
        if number < self.next or (number > self.next and not starts):
            return None
        plain = self.open(0, number, payload[8:], front)
        self.next = number + 1 if plain is not None else self.next
        return plain

    def open(self, kind, number, sealed, associated):
        from cryptography.exceptions import InvalidTag

        try:
            return self.aead.decrypt(struct.pack("<IQ", kind, number), sealed, associated)
        except InvalidTag:
            return None


def read(data, identities=()):
    """Returns the reader after all blocks, and the offsets at which something is damaged (section 2)."""
    if data[:5] != b"\x89RNCT" or data[6:8] != b"\r\n":
        sys.exit("not a trace")
    if data[5:6] not in b"12":
        sys.exit(f"format version {data[5:6].decode()}: this program reads versions 1 and 2")
    seal = Seal(data, identities) if data[5:6] == b"2" else None
    tail = 32 if seal else 16
    reader, at, crc, stream, damage = Reader(), 8, 0, None, []
    while at < len(data):
        if len(data) - at == tail and data[-8:] == END and (not seal or seal.open(1, 0, data[at:-8], None)):
            return reader, damage
        if seal and data[at : at + 4] == ENVELOPE and seal.envelope(data, at):
            at += 16 + len(seal.envelope(data, at))
            continue
        marker, stored, raw, expected = struct.unpack_from("<4sIII", data.ljust(at + 16, b"\0"), at)
        starts, stored = bool(stored & STARTS), stored & ~STARTS
        payload = data[at + 16 : at + 16 + stored]
        good = marker == MARKER and stored <= LIMIT and raw <= LIMIT and len(payload) == stored
        if starts:
            crc, stream = 0, zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        good = good and stream is not None and zlib.crc32(data[at + 4 : at + 12] + payload, crc) == expected
        if good and seal:
            payload = seal.block(data[at : at + 12], payload, starts)
            good = payload is not None
        if good:
            block = stream.decompress(payload)
            assert len(block) == raw, "a block does not decompress to its length"
            reader.block(block, starts)
            at, crc = at + 16 + stored, expected
        else:
            if not damage or stream is not None:
                damage.append(at)
            stream = None
            at = data.find(MARKER, at + 1)
            if at < 0:
                return reader, damage
    return reader, damage + [len(data)]


if __name__ == "__main__":
    names = []
    if len(sys.argv) > 2:
        with open(sys.argv[2]) as file:
            names = file.read().split("\n")
    with open(sys.argv[1], "rb") as file:
        found, lost = read(file.read(), [name for name in names if name])
    for line in found.lines():
        print(line)
    if lost:
        print(f"damaged or cut at byte {', '.join(map(str, lost))}", file=sys.stderr)
        sys.exit(3)
